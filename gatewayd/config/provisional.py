"""Bindings that were made on site: they hold for a week, unless the operator confirms them.

An installer may bind doors where there is no network. Such doors go before
those of the same names in the configuration and in what the operator has
stated until then; whatever the operator states later ends them, because he
states all doors of a gateway. The week is counted once the time is known, and
by the time that has certainly passed: a clock that is set back prolongs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from firmware_proto import cbor
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.model import ClockState, TimeReading

MEMORY_NAME: Final = "provisional bindings"
HOLDS_S: Final = 7 * 86_400

_FORMAT: Final = 1


class DamagedBindingsError(ValueError):
    """The stored value is not what `Provisional.encode` writes."""


@dataclass(frozen=True, slots=True)
class Provisional:
    """Bindings made on site. `body` is as in a BINDINGS envelope (`config.stated`)."""

    body: bytes
    since_s: int | None
    """When they were made, Unix seconds; None while nobody knows the time."""
    stated: bytes | None
    """The operator's bindings when they were made; others end these."""

    @classmethod
    def made(cls, body: bytes, time: TimeReading, stated: bytes | None) -> Provisional:
        """At this moment."""
        return cls(body, None, stated).seen(time)

    def seen(self, time: TimeReading) -> Provisional:
        """The same, once the time is known: from then on the week is counted."""
        if self.since_s is not None or time.state is ClockState.UNKNOWN:
            return self
        return replace(self, since_s=time.now_s)

    def holds(self, time: TimeReading, stated: bytes | None) -> bool:
        """Whether they still do, now that the operator's bindings are `stated`."""
        if stated != self.stated:
            return False
        return self.since_s is None or time.floor_s < self.since_s + HOLDS_S

    def encode(self) -> bytes:
        """For `Memory`."""
        return cbor.encode([_FORMAT, self.body, self.since_s, self.stated])

    @classmethod
    def decode(cls, data: bytes) -> Provisional:
        """What `encode` wrote. DamagedBindingsError for anything else."""
        try:
            match cbor.decode(data):
                case [_, bytes(body), None | int() as since_s, None | bytes() as stated]:
                    found = cls(body, None if since_s is None else int(since_s), stated)
                case _:
                    raise DamagedBindingsError("other fields")
        except RemoteProtocolError as error:
            raise DamagedBindingsError(error.detail) from None
        if found.encode() != data:
            raise DamagedBindingsError("another format")
        return found
