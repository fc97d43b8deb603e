"""What is left in a lock's cells, and what that means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class Battery:
    """What is left in the cells, in microampere-hours."""

    charge_uah: int = 2_000_000

    CAPACITY_UAH = 2_000_000
    TURN_UAH = 150
    CONNECTION_UAH = 10
    _FULL_MV = 6_000
    _EMPTY_MV = 4_400
    _LOW_PERCENT = 15
    _CRITICAL_PERCENT = 3

    @property
    def percent(self) -> int:
        """0..100, rounded down."""
        return self.charge_uah * 100 // self.CAPACITY_UAH

    @property
    def millivolts(self) -> int:
        """A straight line is near enough for a lithium pack."""
        span = self._FULL_MV - self._EMPTY_MV
        return self._EMPTY_MV + span * self.charge_uah // self.CAPACITY_UAH

    @property
    def low(self) -> bool:
        """Time to change the cells; everything still works."""
        return self.percent <= self._LOW_PERCENT

    @property
    def critical(self) -> bool:
        """Too little to be sure that a turn can be finished: none is begun."""
        return self.percent <= self._CRITICAL_PERCENT

    def drained(self, uah: int) -> Self:
        """After something that costs `uah`."""
        return replace(self, charge_uah=max(0, self.charge_uah - uah))
