"""The shell of `core.lock_condition`: one record per door, the clock, and the journal."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from firmware_proto.codes import DoorState
from firmware_proto.lock_messages import State
from gatewayd.core.lock_condition import LockCondition, Movements, Trouble
from gatewayd.core.model import DoorId
from gatewayd.messages import Message, about
from gatewayd.ports.process import Clock

_log: Final = logging.getLogger(__name__)

TEXTS: Final = {
    Trouble.TAMPERED: "lock tampered with",
    Trouble.FORCED: "door forced",
    Trouble.LOW_BATTERY: "lock battery low",
    Trouble.JAMMED: "lock jammed",
    Trouble.UNCALIBRATED: "lock not calibrated",
    Trouble.LOW_VOLTAGE: "lock too weak to turn",
}
"""Stable: whoever watches the journal may look for them."""
MESSAGES: Final = {
    Trouble.TAMPERED: Message.LOCK_TAMPERED,
    Trouble.FORCED: Message.DOOR_FORCED,
    Trouble.LOW_BATTERY: Message.LOCK_BATTERY_LOW,
    Trouble.JAMMED: Message.LOCK_JAMMED,
    Trouble.UNCALIBRATED: Message.LOCK_UNCALIBRATED,
    Trouble.LOW_VOLTAGE: Message.LOCK_TOO_WEAK,
}


class Conditions:
    """Of all doors of a gateway. Locks and relays tell it; status and journal hear of it."""

    def __init__(self, doors: Iterable[DoorId], clock: Clock) -> None:
        self._clock = clock
        self._known = {door: LockCondition() for door in doors}
        self._moved = dict.fromkeys(self._known, Movements())

    def heard(self, door: DoorId, state: State) -> None:
        """The lock told its state, asked or unasked."""
        self._update(door, self._known[door].heard(state, self._now_s()))

    def contact(self, door: DoorId, leaf: DoorState) -> None:
        """The contact of a door without a lock told where its leaf is: only the journal hears it.

        The first few movements in a minute are told, the others are counted.
        """
        before = self._moved[door]
        now = self._moved[door] = before.moved(self._now_s())
        if now.count == 1 and before.untold:
            _log.info("door %s: its contact moved %d times more", door, before.untold)
        if not now.untold:
            _log.info("door %s: its contact says %s", door, leaf.name.lower())
        elif now.untold == 1:
            _log.warning(
                "door %s: its contact moves too often to be told: is it loose?",
                door,
                extra=about(Message.LOOSE_CONTACT, door=door),
            )

    def dialled(self, door: DoorId, reached: bool) -> None:
        """The lock was dialled; `reached` says whether it can be commanded now."""
        self._update(door, self._known[door].dialled(reached=reached))

    def report(self) -> dict[str, object]:
        """For the operator's status; see `LockCondition.report`."""
        return {door: known.report(self._now_s()) for door, known in self._known.items()}

    def __str__(self) -> str:
        troubles = ((door, str(known)) for door, known in self._known.items())
        return "; ".join(f"{door}: {trouble}" for door, trouble in troubles if trouble)

    def _update(self, door: DoorId, known: LockCondition) -> None:
        self._known[door], news = known.news(self._now_s())
        for each in news:
            if each.over:
                _log.info("door %s: %s: over", door, TEXTS[each.trouble])
            else:
                _log.warning(
                    "door %s: %s",
                    door,
                    TEXTS[each.trouble],
                    extra=about(MESSAGES[each.trouble], door=door),
                )

    def _now_s(self) -> float:
        return self._clock.instant().boottime_s
