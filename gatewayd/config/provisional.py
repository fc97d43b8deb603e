"""Bindings that were made on site: each holds for a week, unless the operator confirms it.

An installer may bind doors where there is no network. Such a door goes before the
one of the same name in the configuration and in what the operator has stated
until then; whatever the operator states later ends them all, because he states all
doors of a gateway. A week is over when a daemon has run for one, or when
signed time says so: no clock that somebody sets makes it longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from firmware_proto import cbor
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.model import ClockState, TimeReading

MEMORY_NAME: Final = "provisional bindings"
HOLDS_S: Final = 7 * 86_400

_FORMAT: Final = 2


class DamagedBindingsError(ValueError):
    """The stored value is not what `Provisional.encode` writes."""


@dataclass(frozen=True, slots=True)
class OneDoor:
    """A door as it was bound on site. `body` is as in a BINDINGS envelope (`config.stated`)."""

    name: str
    body: bytes
    since_s: int | None = None
    """When it was bound, Unix seconds, by signed time; None while there is none."""
    ran_s: int = 0
    """How long daemons have run with it: not less has passed."""

    def seen(self, time: TimeReading, ran_s: int) -> OneDoor:
        """The same, after a daemon has run for `ran_s` more."""
        since_s, ran_s = self.since_s, self.ran_s + ran_s
        if since_s is None and time.state is ClockState.TRUSTED:
            since_s = max(time.now_s - ran_s, 0)
        return replace(self, since_s=since_s, ran_s=ran_s)

    def holds(self, time: TimeReading) -> bool:
        """Whether its week is not over yet."""
        if self.ran_s >= HOLDS_S:
            return False
        return self.since_s is None or time.floor_s < self.since_s + HOLDS_S


@dataclass(frozen=True, slots=True)
class Provisional:
    """All that was bound on site."""

    doors: tuple[OneDoor, ...] = ()
    stated: bytes | None = None
    """The operator's bindings when they were made; others end these."""

    def bound(
        self, name: str, body: bytes | None, time: TimeReading, stated: bytes | None
    ) -> Provisional:
        """With this door bound so, or not at all. What holds already goes on as it was."""
        kept = self.holding(time, stated)
        if any((each.name, each.body) == (name, body) for each in kept):
            return Provisional(kept, stated)
        others = tuple(each for each in kept if each.name != name)
        new = () if body is None else (OneDoor(name, body).seen(time, 0),)
        return Provisional((*others, *new), stated)

    def seen(self, time: TimeReading, ran_s: int) -> Provisional:
        """The same, after a daemon has run for `ran_s` more."""
        return replace(self, doors=tuple(each.seen(time, ran_s) for each in self.doors))

    def holding(self, time: TimeReading, stated: bytes | None) -> tuple[OneDoor, ...]:
        """Those that still do, now that the operator's bindings are `stated`."""
        if stated != self.stated:
            return ()
        return tuple(each for each in self.doors if each.holds(time))

    def encode(self) -> bytes:
        """For `Memory`."""
        doors = {each.name: [each.body, each.since_s, each.ran_s] for each in self.doors}
        return cbor.encode([_FORMAT, doors, self.stated])

    @classmethod
    def decode(cls, data: bytes) -> Provisional:
        """What `encode` wrote. DamagedBindingsError for anything else."""
        try:
            match cbor.decode(data):
                case [_, dict(doors), None | bytes() as stated]:
                    found = cls(_doors(doors), stated)
                case _:
                    raise DamagedBindingsError("other fields")
        except RemoteProtocolError as error:
            raise DamagedBindingsError(error.detail) from None
        if found.encode() != data:
            raise DamagedBindingsError("another format")
        return found


def _doors(stored: Mapping[int | bytes | str, cbor.Value]) -> tuple[OneDoor, ...]:
    doors = []
    for name, values in stored.items():
        match name, values:
            case str(), [bytes(body), None | int() as since_s, int(ran_s)]:
                known = None if since_s is None else int(since_s)  # to Python true is one, too
                doors.append(OneDoor(name, body, known, int(ran_s)))
            case _:
                raise DamagedBindingsError("another form of door")
    return tuple(doors)
