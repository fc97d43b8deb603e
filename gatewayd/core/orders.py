"""Which numbered orders were carried out, and which are missing.

Numbers ascend by one per addressee. What comes out of order is carried out all
the same; what is passed over is a hole, and told until it is filled: somebody
may have kept an order from us. Ids are remembered until the floor has passed
their order's expiry; from then on nobody can repeat it.

When the command key changes, counting begins anew where the new key begins: what
numbers a thief used does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from firmware_proto import cbor
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.envelope import Statement

MAX_REMEMBERED: Final = 256
MAX_HOLES: Final = 16
"""Runs of missing numbers that are remembered; the oldest are let go of first."""

_FORMAT: Final = 1


class DamagedOrdersError(ValueError):
    """The stored value is not what `Orders.encode` writes."""


class Hole(NamedTuple):
    """Numbers that were passed over: `first` to `last`, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Count:
    """The numbering to one addressee."""

    introduced: int
    """The bundle serial that introduced the signer."""
    highest: int = 0
    holes: tuple[Hole, ...] = ()

    def counted(self, number: int) -> Count:
        """With this number. RemoteProtocolError (ID_REUSED) when it was there before."""
        if number > self.highest:
            missing = (Hole(self.highest + 1, number - 1),) if number > self.highest + 1 else ()
            holes = (*self.holes, *missing)[-MAX_HOLES:]
            return replace(self, highest=number, holes=holes)
        for at, hole in enumerate(self.holes):
            if hole.first <= number <= hole.last:
                parts = (Hole(hole.first, number - 1), Hole(number + 1, hole.last))
                left = tuple(part for part in parts if part.first <= part.last)
                holes = (*self.holes[:at], *left, *self.holes[at + 1 :])[-MAX_HOLES:]
                return replace(self, holes=holes)
        raise _refused(Fault.ID_REUSED, "another order had this number")


@dataclass(frozen=True, slots=True)
class Orders:
    """The memory for orders. Methods return the next; none changes this one."""

    seen: Mapping[bytes, int] = field(default_factory=dict)
    """Ids, with the second from which nobody can repeat them."""
    counts: Mapping[str, Count] = field(default_factory=dict)
    """By addressee."""

    def carried_out(self, order: Statement, introduced: int, floor_s: int) -> Orders:
        """Remember a numbered order, verified and checked, before it takes effect.

        Raises RemoteProtocolError: REPLAYED (it was carried out), ID_REUSED
        (another one had its number), UNEXPECTED (of a key that has had its
        time), BUSY (no room: a thief's doing, or a floor that stands still).
        """
        if order.id in self.seen:
            raise _refused(Fault.REPLAYED, "it was carried out")
        seen = {each: expires for each, expires in self.seen.items() if expires > floor_s}
        if len(seen) >= MAX_REMEMBERED:
            raise _refused(Fault.BUSY, "no room to remember another")
        number = order.number or 0
        count = self.counts.get(order.addressee, Count(introduced))
        if introduced < count.introduced:
            raise _refused(Fault.UNEXPECTED, "of an older key than the one before")
        if introduced > count.introduced:
            count = Count(introduced, number - 1)
        counts = {**self.counts, order.addressee: count.counted(number)}
        return Orders({**seen, order.id: order.expires}, counts)

    @property
    def holes(self) -> tuple[Hole, ...]:
        """What may have been kept from us."""
        return tuple(hole for count in self.counts.values() for hole in count.holes)

    # --- storing ---------------------------------------------------------------------
    def encode(self) -> bytes:
        """For `Memory`."""
        counts: dict[str, cbor.Encodable] = {
            addressee: [count.introduced, count.highest, count.holes]
            for addressee, count in self.counts.items()
        }
        return cbor.encode([_FORMAT, self.seen, counts])

    @classmethod
    def decode(cls, data: bytes) -> Orders:
        """What `encode` wrote. DamagedOrdersError for anything else."""
        try:
            stored = cbor.decode(data)
        except RemoteProtocolError as error:
            raise DamagedOrdersError(error.detail) from None
        match stored:
            case [_, dict(seen), dict(counts)]:
                found = cls(
                    {
                        key: at
                        for key, at in seen.items()
                        if isinstance(key, bytes) and isinstance(at, int)
                    },
                    {
                        name: _count(count)
                        for name, count in counts.items()
                        if isinstance(name, str)
                    },
                )
            case _:
                raise DamagedOrdersError("other fields")
        if found.encode() != data:
            raise DamagedOrdersError("another format")
        return found


def _count(stored: cbor.Value) -> Count:
    match stored:
        case [int(introduced), int(highest), list(holes)]:
            return Count(int(introduced), int(highest), tuple(map(_hole, holes)))
        case _:
            raise DamagedOrdersError("another form of count")


def _hole(stored: cbor.Value) -> Hole:
    match stored:
        case [int(first), int(last)]:
            return Hole(int(first), int(last))
        case _:
            raise DamagedOrdersError("another form of hole")


def _refused(fault: Fault, detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(fault, f"order: {detail}")
