"""For properties of parsers: parse, or be refused with the one exception that is allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from firmware_proto.errors import RemoteProtocolError

Parsed = TypeVar("Parsed")
REFUSED: Final = object()


def parsed_or_refused(parse: Callable[[bytes], Parsed], data: bytes) -> Parsed | object:
    """What `parse` makes of `data`, or REFUSED; any other exception is the test's failure."""
    try:
        return parse(data)
    except RemoteProtocolError:
        return REFUSED
