"""How often a battery lock may be woken for something else than an opening.

A lock's cells pay for every connection, and a key would otherwise buy any number
of them: `Prepare` opens nothing and leaves no entry. So each `Prepare` that no
`Open` of the same holder follows costs something of what the lock has for them,
and what the gateway does of itself (keeping a link, asking what became of a
command, looking after the battery) has a share of its own, so that neither can use
up the other's. `Open` costs nothing and waits for nothing here: whoever opens
leaves an entry, and the motor is dearer than the connection.

The figures are chosen, not measured. With 10 uAh for a connection and the seconds
that it is kept afterwards (what `emulators.lock_battery` takes it for), 96 of them
are 1 mAh a day, of cells of 2 Ah a sixth in a year.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

MOST_HOLDERS: Final = 1024


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: `most` at once, and one more every `every_s` seconds.

    Times are seconds of a clock that never steps (`Instant.boottime_s`).
    """

    most: int
    every_s: float
    taken: float = 0.0
    at_s: float = 0.0

    def missing(self, now_s: float) -> float:
        """How many are missing now; 0 when the bucket is full."""
        return max(0.0, self.taken - (now_s - self.at_s) / self.every_s)

    def wait_s(self, now_s: float) -> float:
        """How long until one can be taken; 0 for now."""
        return max(0.0, (self.missing(now_s) - self.most + 1) * self.every_s)

    def take(self, now_s: float) -> Bucket:
        """With one less. For who has asked `wait_s`."""
        return replace(self, taken=self.missing(now_s) + 1, at_s=now_s)

    def give_back(self, count: float, now_s: float) -> Bucket:
        """With `count` more, but never more than `most`."""
        return replace(self, taken=max(0.0, self.missing(now_s) - count), at_s=now_s)


OF_THE_LOCK: Final = Bucket(24, 30 * 60.0)
"""For everybody's `Prepare` together: 48 a day. As much again for the gateway's own wishes."""
OF_A_HOLDER: Final = Bucket(6, 2 * 3600.0)
"""A quarter of that, so that one phone that never opens does not slow down all the others."""


@dataclass(frozen=True, slots=True)
class BatteryBudget:
    """What is left for one lock. Every method returns the next state.

    A holder is known by the digest of his token's identity; those beyond
    `MOST_HOLDERS` are forgotten, the longest silent one first.
    """

    preparing: Bucket = OF_THE_LOCK
    upkeep: Bucket = OF_THE_LOCK
    holders: Mapping[bytes, Bucket] = field(default_factory=dict)

    def prepared(self, holder: bytes, now_s: float) -> BatteryBudget | None:
        """`holder` wants the lock to be ready; None when he, or the lock, has none left."""
        own = self._of(holder)
        if own.wait_s(now_s) or self.preparing.wait_s(now_s):
            return None
        return self._with(holder, own.take(now_s), self.preparing.take(now_s))

    def opened(self, holder: bytes, now_s: float) -> BatteryBudget:
        """`holder` opens: what he took for preparing was no waste, one `Prepare` for one `Open`."""
        own = self._of(holder)
        back = min(1.0, own.missing(now_s))
        if not back:
            return self
        return self._with(holder, own.give_back(back, now_s), self.preparing.give_back(back, now_s))

    def upkept(self, now_s: float) -> BatteryBudget | None:
        """The gateway itself wakes the lock; None while it may not (`upkeep.wait_s`)."""
        if self.upkeep.wait_s(now_s):
            return None
        return replace(self, upkeep=self.upkeep.take(now_s))

    def not_woken(self, now_s: float) -> BatteryBudget:
        """It tried, but the lock was not there: that cost the lock nothing."""
        return replace(self, upkeep=self.upkeep.give_back(1, now_s))

    def _of(self, holder: bytes) -> Bucket:
        return self.holders.get(holder, OF_A_HOLDER)

    def _with(self, holder: bytes, own: Bucket, preparing: Bucket) -> BatteryBudget:
        holders = {other: bucket for other, bucket in self.holders.items() if other != holder}
        holders[holder] = own
        if len(holders) > MOST_HOLDERS:
            del holders[next(iter(holders))]
        return replace(self, preparing=preparing, holders=holders)
