"""What phones carry to a gateway, in pieces, and how much of it a gateway takes.

Anybody who ever had a key may carry, so this bounds what a hostile courier can
cost: memory by the size of one thing per connection, signatures and writes to
the disk by a quota. Who signed what is carried is not asked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.phone_messages import Deliver

PIECE_COSTS: Final = 1024
"""Beside its bytes, so that many small pieces are no way around the quota."""
OF_A_CONNECTION: Final = 512 * 1024
OF_A_HOLDER: Final = 1024 * 1024
OF_ALL: Final = 8 * 1024 * 1024
HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Parcel:
    """A thing that is being delivered over one connection; empty between two of them."""

    request: bytes = b""
    total: int = 0
    data: bytes = b""

    @property
    def is_whole(self) -> bool:
        """Nothing is missing."""
        return 0 < self.total == len(self.data)

    def with_piece(self, piece: Deliver) -> Parcel:
        """With the next piece, or begun anew by a first one of another request.

        RemoteProtocolError (UNEXPECTED) for a piece that does not follow.
        """
        before = self
        if piece.offset == 0 and piece.request != self.request:
            before = Parcel(piece.request, piece.total)
        if (before.request, before.total, len(before.data)) != (
            piece.request,
            piece.total,
            piece.offset,
        ):
            raise RemoteProtocolError(Fault.UNEXPECTED, "a piece that does not follow")
        data = before.data + piece.data
        if len(data) > piece.total:
            raise RemoteProtocolError(Fault.UNEXPECTED, "more than was announced")
        return Parcel(piece.request, piece.total, data)


def cost(piece: Deliver) -> int:
    """What a piece counts as."""
    return PIECE_COSTS + len(piece.data)


@dataclass(frozen=True, slots=True)
class Quota:
    """What was taken within an hour, of each holder and of all; never more than `OF_ALL`."""

    since_s: float = 0.0
    holders: Mapping[bytes, int] = field(default_factory=dict)

    def spent(self, holder: bytes, amount: int, now_s: float) -> Quota | None:
        """After one piece more; None when that would be too much."""
        fresh = not self.holders or now_s - self.since_s >= HOUR_S
        quota = Quota(now_s) if fresh else self
        his = quota.holders.get(holder, 0) + amount
        if his > OF_A_HOLDER or sum(quota.holders.values()) + amount > OF_ALL:
            return None
        return Quota(quota.since_s, {**quota.holders, holder: his})
