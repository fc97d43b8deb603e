"""The recovery ladder of a radio: which rung to take, as a table. Pure.

A rung is tried only when the one below has not helped, and none more often than
its own limit: a remedy that is repeated without effect is a fault of its own.
What one lock or phone does never climbs the ladder; what the adapter does, may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final


class Rung(IntEnum):
    """What may be done about a radio that does not work, mildest first."""

    AGAIN = 1
    """Try the same once more."""
    POWER_CYCLE = 2
    """Through bluetoothd."""
    RESTART_ADAPTER = 3
    """Past bluetoothd, which may be what hangs: needs the radio helper."""
    RESTART_BLUETOOTHD = 4
    GIVE_UP = 5
    """End loudly: whoever supervises starts everything again."""


@dataclass(frozen=True, slots=True)
class Limit:
    """after: failures in a row before this rung. every_s: least time between two uses."""

    after: int
    every_s: float


LIMITS: Final[Mapping[Rung, Limit]] = {
    Rung.AGAIN: Limit(1, 0.0),
    Rung.POWER_CYCLE: Limit(4, 300.0),
    Rung.RESTART_ADAPTER: Limit(6, 600.0),
    Rung.RESTART_BLUETOOTHD: Limit(8, 1800.0),
    Rung.GIVE_UP: Limit(16, 0.0),
}


@dataclass(frozen=True, slots=True)
class Ladder:
    """Where one adapter stands. `used_s`: when each rung was taken last.

    lacking: rungs that this machine does not have.
    """

    lacking: frozenset[Rung] = frozenset()
    failures: int = 0
    used_s: Mapping[Rung, float] = field(default_factory=dict)

    @classmethod
    def straight_to(cls, rung: Rung) -> Ladder:
        """For faults that lasted long before they were told: no other rung but `AGAIN`."""
        return cls(frozenset(Rung) - {Rung.AGAIN, rung}, LIMITS[rung].after - 1)

    def failed(self, now_s: float) -> tuple[Ladder, Rung]:
        """One more failure in a row, and the highest rung that is due."""
        failures = self.failures + 1
        rung = max(
            rung
            for rung, limit in LIMITS.items()
            if rung not in self.lacking
            and failures >= limit.after
            and self._rested(rung, limit, now_s)
        )
        used_s = self.used_s if rung is Rung.AGAIN else {**self.used_s, rung: now_s}
        return replace(self, failures=failures, used_s=used_s), rung

    def worked(self) -> Ladder:
        """It works: the row of failures ends, but what was done and when is remembered."""
        return replace(self, failures=0)

    def _rested(self, rung: Rung, limit: Limit, now_s: float) -> bool:
        used_s = self.used_s.get(rung)
        return used_s is None or now_s - used_s >= limit.every_s
