"""What a lock's contacts and sensors tell: door leaf, housing, battery, and all of them at start.

Pure, like `lock_state`, whose mechanics these functions change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from firmware_proto.codes import (
    BoltState,
    DoorState,
    EventKind,
    LatchState,
    Mechanism,
    Outcome,
    Reason,
)
from gatewayd.core.model import Verdict
from gatewayd.emulators.lock_battery import Battery
from gatewayd.emulators.lock_state import (
    CONFIRMED,
    LOST,
    Drive,
    Effect,
    Limits,
    Mechanics,
    Note,
    Part,
    Position,
    Stage,
    Turn,
)

_NOT_BEGUN: Final = Verdict(Outcome.REFUSED, Reason.LOCK_FAULT)


# --- door leaf, tamper contact, battery ------------------------------------
def door_moved(
    state: Mechanics, now_ms: int, limits: Limits, *, is_open: bool
) -> tuple[Mechanics, tuple[Effect, ...]]:
    """The door contact changed. A door that opens past a thrown bolt was forced."""
    if not is_open:
        shown = DoorState.CLOSED
    elif state.bolt is BoltState.LOCKED:
        shown = DoorState.FORCED
    else:
        shown = DoorState.OPEN
    if shown is state.door:
        return state, ()
    due = now_ms + limits.ajar_ms if is_open else None
    return replace(state, door=shown, ajar_due_ms=due), (Note(EventKind.DOOR, int(shown)),)


def door_waited(state: Mechanics, now_ms: int) -> tuple[Mechanics, tuple[Effect, ...]]:
    """A door that stands open past its time is ajar; forced stays forced."""
    if state.ajar_due_ms is None or now_ms < state.ajar_due_ms:
        return state, ()
    if state.door is not DoorState.OPEN:
        return replace(state, ajar_due_ms=None), ()
    after = replace(state, door=DoorState.AJAR, ajar_due_ms=None)
    return after, (Note(EventKind.DOOR, int(DoorState.AJAR)),)


def tampered(state: Mechanics, *, opened: bool) -> tuple[Mechanics, tuple[Effect, ...]]:
    """The housing contact changed."""
    if opened is state.tamper:
        return state, ()
    return replace(state, tamper=opened), (Note(EventKind.TAMPER, int(opened)),)


def drained(before: Battery, after: Battery) -> tuple[Effect, ...]:
    """The battery changed: the step to low is worth a line in the event log."""
    return (Note(EventKind.BATTERY_LOW, after.percent),) if after.low and not before.low else ()


# --- after a power loss --------------------------------------------------------------
_BOLT_SHOWN: Final = {
    Position.THROWN: BoltState.LOCKED,
    Position.BETWEEN: BoltState.NOT_FULLY_LOCKED,
    Position.WITHDRAWN: BoltState.UNLOCKED,
}


def awake(
    bolt: Position, latch: Position, mechanism: Mechanism, now_ms: int, limits: Limits
) -> tuple[Mechanics, tuple[Effect, ...]]:
    """The mechanics as the sensors show them at start; a drawn latch is let home at once."""
    state = Mechanics(
        bolt=_BOLT_SHOWN[bolt],
        latch=LatchState.REST if latch is Position.THROWN else LatchState.UNLATCHED,
        mechanism=mechanism,
    )
    if latch is Position.THROWN:
        return state, ()
    homing = replace(state, stage=Stage.RELEASING, due_ms=now_ms + limits.turn_ms)
    return homing, (Drive(Turn.RELEASE, limits.turn_ms),)


def interrupted(turn: Turn, bolt: Position, latch: Position) -> Verdict:
    """What became of a command during which the power went, by what the sensors show.

    Sound because the lock stores a command before it moves and stores its
    verdict before the latch goes home: a part found at its start never left it.
    """
    shown = latch if turn.part is Part.LATCH else bolt
    if shown is turn.target:
        return CONFIRMED
    return LOST if shown is Position.BETWEEN else _NOT_BEGUN
