"""Openings that the operator's helpdesk orders: which order is a good one, and which came before.

An order opens where the gateway's own configuration says that a helpdesk may, and
nowhere else: who has stolen a command key must not find every door enabled, nor
enable one by an envelope. It lives for a minute at most, by a clock that is TRUSTED,
and what became of it is decided once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from firmware_proto import cbor
from firmware_proto.codes import ID_BYTES, MAX_DOOR_ID_BYTES, Fault, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.envelope import LATEST_S, Statement
from gatewayd.core.model import ClockState, DoorId, TimeReading

LIVES_S: Final = 60
MOST_A_MINUTE: Final = 6
"""Orders for one door; a helpdesk that needs more has another problem."""
MAX_SEEN: Final = 64

_FORMAT: Final = 1


class Open(NamedTuple):
    """The body of an OPEN statement: this door, as of `issued_s`."""

    door: DoorId
    issued_s: int

    def body(self) -> list[cbor.Value]:
        """For `Statement.body`."""
        return [self.door, self.issued_s]

    @classmethod
    def of(cls, order: Statement) -> Open:
        """The opening in an order. RemoteProtocolError (MALFORMED), also if it lived too long."""
        match order.body:
            case [str(door), issued_s] if (
                0 < len(door.encode()) <= MAX_DOOR_ID_BYTES
                and type(issued_s) is int
                and 0 < issued_s < order.expires <= min(issued_s + LIVES_S, LATEST_S)
            ):
                return cls(DoorId(door), issued_s)
            case _:
                raise RemoteProtocolError(Fault.MALFORMED, "not an order to open")


# --- is it a good one? ----------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the gateway knows. `recent`: orders for this door in the minute before this one."""

    time: TimeReading
    served: bool
    enabled: bool
    recent: int = 0
    log: Reason = Reason.OK


Rule = Callable[[Open, int, Circumstances], bool]

RULES: Final[tuple[tuple[Reason, Rule], ...]] = (
    (Reason.TIME_UNKNOWN, lambda _, __, now: now.time.state is not ClockState.TRUSTED),
    (Reason.EXPIRED, lambda _, expires, now: now.time.now_s >= expires),
    (Reason.NOT_YET_VALID, lambda order, _, now: early(order, now.time)),
    (Reason.UNKNOWN_DOOR, lambda _, __, now: not now.served),
    (Reason.ACTION_NOT_GRANTED, lambda _, __, now: not now.enabled),
    (Reason.RATE_LIMITED, lambda _, __, now: now.recent >= MOST_A_MINUTE),
)
"""In the order in which they are asked. HOLDOVER is no time to open by: it may be an hour off."""


def judge(order: Open, expires: int, now: Circumstances) -> Reason:
    """OK, or the one reason to refuse it."""
    for reason, refuses in RULES:
        if refuses(order, expires, now):
            return reason
    return now.log


def early(order: Open, time: TimeReading, more_s: int = 0) -> bool:
    """Was it issued in what is the future even if our clock is as wrong as it may be?"""
    return order.issued_s > time.now_s + time.bound_s + more_s


# --- did it come before? ----------------------------------------------------------------
class DamagedSeenError(ValueError):
    """The stored value is not what `Seen.encode` writes."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Ids of orders that were decided on, until the floor has passed their expiry."""

    ids: Mapping[bytes, int] = field(default_factory=dict)

    def __contains__(self, id_: bytes) -> bool:
        return id_ in self.ids

    def and_(self, id_: bytes, expires: int, floor_s: int) -> Seen | None:
        """With one more; None when there is no room, as after a flood of orders."""
        ids = {each: until for each, until in self.ids.items() if until > floor_s}
        return None if len(ids) >= MAX_SEEN else Seen({**ids, id_: expires})

    def encode(self) -> bytes:
        """For `Memory`."""
        return cbor.encode([_FORMAT, self.ids])

    @classmethod
    def decode(cls, data: bytes) -> Seen:
        """What `encode` wrote. DamagedSeenError for anything else."""
        try:
            stored = cbor.decode(data)
        except RemoteProtocolError as error:
            raise DamagedSeenError(error.detail) from None
        match stored:
            case [_, dict(ids)]:
                seen = cls(
                    {
                        id_: until
                        for id_, until in ids.items()
                        if isinstance(id_, bytes) and len(id_) == ID_BYTES and type(until) is int
                    }
                )
            case _:
                raise DamagedSeenError("other fields")
        if seen.encode() != data:
            raise DamagedSeenError("another format")
        return seen
