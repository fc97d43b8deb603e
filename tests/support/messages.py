"""Messages drawn from their own field tables, and the schema beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st
from pycddl import Schema

import firmware_proto
from firmware_proto import fields
from firmware_proto.fields import (
    Battery,
    BatteryRule,
    Boolean,
    Bytes,
    Enumeration,
    Field,
    Point,
    Text,
    Unsigned,
)
from firmware_proto.lock_messages import Hello, Resume
from firmware_proto.messages import SEALED

CDDL = (Path(firmware_proto.__file__).parent / "protocol.cddl").read_text(encoding="utf-8")
POINT = ec.derive_private_key(7, ec.SECP256R1()).public_key()
ALL_TYPES: tuple[type[Any], ...] = (*SEALED.values(), Hello, Resume)


def schema(rule: str) -> Schema:
    """The schema with one of its rules as the root.

    pycddl (cddl-rs) fails on ".cbor" within arrays: there the wrapped bytes are
    opaque, and tests check what they wrap against its own rule.
    """
    text = re.sub(r"(\w+: bstr) \.cbor [a-z-]+", r"\1", CDDL)
    return Schema(f"start = {rule}\n{text}")


def rows(cls: type[Any]) -> tuple[Field, ...]:
    return fields.table(cls)


def values(row: Field) -> st.SearchStrategy[Any]:
    """Everything that a field may hold."""
    match row.rule:
        case Unsigned(most, least):
            found: st.SearchStrategy[Any] = st.integers(least, most)
        case Boolean():
            found = st.booleans()
        case Bytes(least, most):
            found = st.binary(min_size=least, max_size=most)
        case Text(least, most):
            found = st.text(min_size=1, max_size=most).filter(
                lambda text: (
                    least <= len(text.encode("utf-8", "replace")) <= most and text.isprintable()
                )
            )
        case Enumeration(kind):
            found = st.sampled_from(list(kind))
        case Point():
            found = st.sampled_from([POINT])
        case BatteryRule():
            found = st.builds(Battery, st.integers(0, 65535), st.integers(0, 100), st.booleans())
        case _:
            raise AssertionError(row)
    return st.none() | found if row.optional else found


def of_type(cls: type[Any]) -> st.SearchStrategy[Any]:
    return st.builds(cls, **{row.name: values(row) for row in rows(cls)})


ANY_MESSAGE = st.sampled_from(list(SEALED.values())).flatmap(of_type)
ANY_PLAIN = st.sampled_from([Hello, Resume]).flatmap(of_type)


def example(cls: type[Any], *, full: bool = True) -> Any:
    """One message of a type, always the same; without its optional fields unless `full`."""
    return cls(
        **{row.name: _sample(row) if full or not row.optional else None for row in rows(cls)}
    )


def _sample(row: Field) -> Any:  # noqa: PLR0911 - a kind of field each
    match row.rule:
        case Unsigned(most):
            return min(most, 1000 + row.key)
        case Boolean():
            return False
        case Bytes(least):
            return bytes([row.key]) * least
        case Text():
            return f"text {row.key}"
        case Enumeration(kind):
            return list(kind)[-1]
        case Point():
            return POINT
        case _:
            return Battery(2950, 71, False)
