"""What is known of a door's lock, since when, and what is wrong with it.

A lock reports its state when it is asked and when something changes. Here the
last words are kept, troubles are told from them, and what may leave the building
is chosen: how the lock is, never where bolt, latch and leaf are, for these move
when somebody comes or goes, and a broker shall not learn when.

All times are seconds of a clock that never steps (`Instant.boottime_s`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from firmware_proto.codes import DoorState, Mechanism
from firmware_proto.fields import Battery
from firmware_proto.lock_messages import State

TELL_EVERY_S: Final = 60.0
"""The least time between two news of one lock: a loose contact must not fill the journal."""
MOST_MOVEMENTS: Final = 10
"""Of a door's contact that are told one by one in as long."""
BATTERY_STEP_PERCENT: Final = 5
"""How far a battery must have come for its reading to be reported anew: a voltage dips at
every turn of the motor, and would tell the minute of every opening."""
_DAY_S: Final = 86_400.0


class Trouble(Enum):
    """What somebody should look after; the value is its name in the status."""

    TAMPERED = "tampered"
    FORCED = "forced"
    LOW_BATTERY = "low_battery"
    JAMMED = "jammed"
    UNCALIBRATED = "uncalibrated"
    LOW_VOLTAGE = "low_voltage"


_SIGNS: Final[Mapping[Trouble, Callable[[State], bool]]] = {
    Trouble.TAMPERED: lambda state: state.tamper,
    Trouble.FORCED: lambda state: state.door_state is DoorState.FORCED,
    Trouble.LOW_BATTERY: lambda state: state.battery.low,
    Trouble.JAMMED: lambda state: state.mechanism is Mechanism.JAMMED,
    Trouble.UNCALIBRATED: lambda state: state.mechanism is Mechanism.UNCALIBRATED,
    Trouble.LOW_VOLTAGE: lambda state: state.mechanism is Mechanism.LOW_VOLTAGE,
}


@dataclass(frozen=True, slots=True)
class News:
    """A trouble began, or is over."""

    trouble: Trouble
    over: bool


@dataclass(frozen=True, slots=True)
class LockCondition:
    """Of one door. Every method returns the next condition.

    state, heard_s: the lock's last words, and when; None while it has said nothing.
    reached: whether the last dial succeeded; None before the first one.
    battery: as reported upstream. troubles: what is wrong, and since when.
    told, told_s: which of it the journal has, and when it was last told.
    """

    state: State | None = None
    heard_s: float | None = None
    reached: bool | None = None
    battery: Battery | None = None
    troubles: Mapping[Trouble, float] = field(default_factory=dict)
    told: frozenset[Trouble] = frozenset()
    told_s: float | None = None

    def heard(self, state: State, now_s: float) -> LockCondition:
        """The lock told its state."""
        return replace(
            self,
            state=state,
            heard_s=now_s,
            battery=self._reading(state.battery),
            troubles={
                trouble: self.troubles.get(trouble, now_s)
                for trouble, shows in _SIGNS.items()
                if shows(state)
            },
        )

    def dialled(self, *, reached: bool) -> LockCondition:
        """The lock was dialled."""
        return replace(self, reached=reached)

    def news(self, now_s: float) -> tuple[LockCondition, tuple[News, ...]]:
        """What the journal does not have yet, if it may be told now."""
        differing = self.told ^ self.troubles.keys()
        if not differing or (self.told_s is not None and now_s - self.told_s < TELL_EVERY_S):
            return self, ()
        return replace(self, told=frozenset(self.troubles), told_s=now_s), tuple(
            News(trouble, over=trouble in self.told) for trouble in Trouble if trouble in differing
        )

    def report(self, now_s: float) -> dict[str, object]:
        """What goes upstream: JSON types only, nothing that follows people through the door."""
        known: dict[str, object] = {"troubles": [each.value for each in self._standing]}
        if self.reached is not None:
            known["reached"] = self.reached
        if self.state is not None and self.heard_s is not None:
            known["model"] = self.state.model
            known["firmware"] = self.state.firmware
            known["heard_days"] = int((now_s - self.heard_s) / _DAY_S)
        if self.battery is not None:
            known["battery_percent"] = self.battery.percent
            known["battery_mv"] = self.battery.millivolts
        return known

    def __str__(self) -> str:
        return ", ".join(each.value.replace("_", " ") for each in self._standing)

    @property
    def _standing(self) -> tuple[Trouble, ...]:
        return tuple(trouble for trouble in Trouble if trouble in self.troubles)

    def _reading(self, now: Battery) -> Battery:
        before = self.battery
        near = before is not None and abs(now.percent - before.percent) < BATTERY_STEP_PERCENT
        return before if before is not None and near and now.low == before.low else now


@dataclass(frozen=True, slots=True)
class Movements:
    """Of a door's contact, from the first of a minute on. It may be loose."""

    count: int = 0
    since_s: float = 0.0

    def moved(self, now_s: float) -> Movements:
        """Once more; after a minute counting begins anew."""
        if self.count and now_s - self.since_s < TELL_EVERY_S:
            return replace(self, count=self.count + 1)
        return Movements(1, now_s)

    @property
    def untold(self) -> int:
        """How many of them are only counted."""
        return max(self.count - MOST_MOVEMENTS, 0)
