"""The shell of `core.budget`: what one battery lock has left, and the clock.

Kept in memory: a restart of the daemon begins with full buckets.
"""

from __future__ import annotations

import logging
from typing import Final

from gatewayd.core.budget import BatteryBudget
from gatewayd.core.model import DoorId
from gatewayd.messages import Message, about
from gatewayd.ports.process import Clock

_log: Final = logging.getLogger(__name__)

SAY_EVERY_S: Final = 3600.0
"""How often the journal is told at most that a budget is used up."""


class Budget:
    """Of one door's battery lock; its door and its client share it."""

    def __init__(self, door: DoorId, clock: Clock) -> None:
        self.refused = 0
        """How many `Prepare`s it has refused."""
        self._door = door
        self._clock = clock
        self._left = BatteryBudget()
        self._said_s = float("-inf")

    def prepare(self, holder: bytes) -> bool:
        """May the lock be woken, or be kept awake, for this holder? Takes what that costs."""
        now_s = self._now_s()
        left = self._left.prepared(holder, now_s)
        if left is None:
            self.refused += 1
            if self._left.preparing.wait_s(now_s) and now_s - self._said_s >= SAY_EVERY_S:
                self._said_s = now_s
                _log.warning(
                    "door %s: battery budget used up, Prepare is refused",
                    self._door,
                    extra=about(Message.BATTERY_BUDGET, door=self._door),
                )
            return False
        self._left = left
        return True

    def opened(self, holder: bytes) -> None:
        """This holder opens: his `Prepare` was no waste."""
        self._left = self._left.opened(holder, self._now_s())

    def upkeep_s(self) -> float:
        """0: the gateway may wake the lock, and it is taken. Else how many seconds to wait."""
        now_s = self._now_s()
        left = self._left.upkept(now_s)
        if left is None:
            return self._left.upkeep.wait_s(now_s)
        self._left = left
        return 0.0

    def not_woken(self) -> None:
        """The lock did not answer the dial that `upkeep_s` allowed."""
        self._left = self._left.not_woken(self._now_s())

    def _now_s(self) -> float:
        return self._clock.instant().boottime_s
