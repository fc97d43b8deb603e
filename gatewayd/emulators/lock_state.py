"""The lock's mechanics as one pure table: bolt, latch, door leaf, mechanism, tamper, battery.

The vocabulary is that of Matter's Door Lock cluster. No clock, no motor, no
file: times in milliseconds come in, wishes to turn the motor go out. Every
stage in which something moves (or the latch is held) has a deadline, `due_ms`;
a jam stays until a commanded movement has succeeded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, Self

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

CONFIRMED: Final = Verdict(Outcome.CONFIRMED, Reason.OK)


class Part(Enum):
    """A part that the motor can move."""

    BOLT = "bolt"
    LATCH = "latch"


class Position(Enum):
    """Where a part's sensors show it; thrown keeps the door shut."""

    THROWN = "thrown"
    BETWEEN = "between"
    WITHDRAWN = "withdrawn"


class Turn(Enum):
    """One movement of the motor: the part, and where it ends."""

    UNLATCH = (Part.LATCH, Position.WITHDRAWN)
    RELEASE = (Part.LATCH, Position.THROWN)
    UNBOLT = (Part.BOLT, Position.WITHDRAWN)
    BOLT = (Part.BOLT, Position.THROWN)

    @property
    def part(self) -> Part:
        """What moves."""
        return self.value[0]

    @property
    def target(self) -> Position:
        """Where it is when the movement succeeded."""
        return self.value[1]


class Stage(Enum):
    """What the electronics are waiting for."""

    STILL = auto()
    UNBOLTING = auto()
    BOLTING = auto()
    WITHDRAWING = auto()  # the bolt goes first, then the latch
    UNLATCHING = auto()
    HOLDING = auto()  # the latch is held for the commanded time
    RELEASING = auto()


class Input(Enum):
    """What may happen to the mechanics."""

    UNLATCH = auto()
    UNLATCH_BOLTED = auto()  # unlatch while the bolt is not known to be withdrawn
    UNBOLT = auto()
    BOLT = auto()
    ALREADY = auto()  # the bolt is where the command wants it
    REACHED = auto()
    STALLED = auto()
    DUE = auto()


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in ms: how long one turn may take, and how long a door may stand open."""

    turn_ms: int = 4_000
    ajar_ms: int = 60_000


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


@dataclass(frozen=True, slots=True)
class Mechanics:
    """Everything the lock knows of its own body; `hold_ms` belongs to the running unlatch."""

    bolt: BoltState = BoltState.UNLOCKED
    latch: LatchState = LatchState.REST
    door: DoorState = DoorState.CLOSED
    mechanism: Mechanism = Mechanism.OK
    tamper: bool = False
    stage: Stage = Stage.STILL
    due_ms: int | None = None
    hold_ms: int = 0
    ajar_due_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Drive:
    """Turn the motor; REACHED or STALLED must follow before `within_ms`, else DUE."""

    turn: Turn
    within_ms: int


@dataclass(frozen=True, slots=True)
class Settle:
    """The running command has ended so. To be stored before the answer leaves."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Note:
    """Something for the lock's own event log."""

    kind: EventKind
    value: int


Effect = Drive | Settle | Note


@dataclass(frozen=True, slots=True)
class _Step:
    stage: Stage
    bolt: BoltState | None = None
    latch: LatchState | None = None
    mechanism: Mechanism | None = None
    drive: Turn | None = None
    verdict: Verdict | None = None


_JAM: Final = Verdict(Outcome.REFUSED, Reason.JAMMED)
_LOST: Final = Verdict(Outcome.UNKNOWN, Reason.LOCK_FAULT)
_NOT_BEGUN: Final = Verdict(Outcome.REFUSED, Reason.LOCK_FAULT)

# A missing key is a command that cannot be taken now: the caller answers BUSY.
_TABLE: Final[dict[tuple[Stage, Input], _Step]] = {
    (Stage.STILL, Input.ALREADY): _Step(Stage.STILL, verdict=CONFIRMED),
    (Stage.STILL, Input.UNLATCH): _Step(
        Stage.UNLATCHING, latch=LatchState.UNLATCHING, drive=Turn.UNLATCH
    ),
    (Stage.STILL, Input.UNLATCH_BOLTED): _Step(
        Stage.WITHDRAWING, bolt=BoltState.UNLOCKING, drive=Turn.UNBOLT
    ),
    (Stage.STILL, Input.UNBOLT): _Step(
        Stage.UNBOLTING, bolt=BoltState.UNLOCKING, drive=Turn.UNBOLT
    ),
    (Stage.STILL, Input.BOLT): _Step(Stage.BOLTING, bolt=BoltState.LOCKING, drive=Turn.BOLT),
    (Stage.WITHDRAWING, Input.REACHED): _Step(
        Stage.UNLATCHING,
        bolt=BoltState.UNLOCKED,
        latch=LatchState.UNLATCHING,
        drive=Turn.UNLATCH,
    ),
    (Stage.WITHDRAWING, Input.STALLED): _Step(
        Stage.STILL, bolt=BoltState.NOT_FULLY_LOCKED, mechanism=Mechanism.JAMMED, verdict=_JAM
    ),
    (Stage.WITHDRAWING, Input.DUE): _Step(
        Stage.STILL, bolt=BoltState.UNKNOWN, mechanism=Mechanism.JAMMED, verdict=_LOST
    ),
    (Stage.UNBOLTING, Input.REACHED): _Step(
        Stage.STILL, bolt=BoltState.UNLOCKED, mechanism=Mechanism.OK, verdict=CONFIRMED
    ),
    (Stage.UNBOLTING, Input.STALLED): _Step(
        Stage.STILL, bolt=BoltState.NOT_FULLY_LOCKED, mechanism=Mechanism.JAMMED, verdict=_JAM
    ),
    (Stage.UNBOLTING, Input.DUE): _Step(
        Stage.STILL, bolt=BoltState.UNKNOWN, mechanism=Mechanism.JAMMED, verdict=_LOST
    ),
    (Stage.BOLTING, Input.REACHED): _Step(
        Stage.STILL, bolt=BoltState.LOCKED, mechanism=Mechanism.OK, verdict=CONFIRMED
    ),
    (Stage.BOLTING, Input.STALLED): _Step(
        Stage.STILL, bolt=BoltState.NOT_FULLY_LOCKED, mechanism=Mechanism.JAMMED, verdict=_JAM
    ),
    (Stage.BOLTING, Input.DUE): _Step(
        Stage.STILL, bolt=BoltState.UNKNOWN, mechanism=Mechanism.JAMMED, verdict=_LOST
    ),
    (Stage.UNLATCHING, Input.REACHED): _Step(
        Stage.HOLDING, latch=LatchState.UNLATCHED, mechanism=Mechanism.OK, verdict=CONFIRMED
    ),
    (Stage.UNLATCHING, Input.STALLED): _Step(
        Stage.STILL, latch=LatchState.REST, mechanism=Mechanism.JAMMED, verdict=_JAM
    ),
    # Nobody knows how far it came, so the latch counts as drawn until it is home again.
    (Stage.UNLATCHING, Input.DUE): _Step(
        Stage.RELEASING,
        latch=LatchState.UNLATCHED,
        mechanism=Mechanism.JAMMED,
        drive=Turn.RELEASE,
        verdict=_LOST,
    ),
    (Stage.HOLDING, Input.DUE): _Step(Stage.RELEASING, drive=Turn.RELEASE),
    (Stage.HOLDING, Input.UNLATCH): _Step(Stage.HOLDING, verdict=CONFIRMED),
    (Stage.HOLDING, Input.ALREADY): _Step(Stage.HOLDING, verdict=CONFIRMED),
    (Stage.RELEASING, Input.UNLATCH): _Step(
        Stage.UNLATCHING, latch=LatchState.UNLATCHING, drive=Turn.UNLATCH
    ),
    (Stage.RELEASING, Input.ALREADY): _Step(Stage.RELEASING, verdict=CONFIRMED),
    # Going home is not what anybody asked for, so it does not clear a jam.
    (Stage.RELEASING, Input.REACHED): _Step(Stage.STILL, latch=LatchState.REST),
    (Stage.RELEASING, Input.STALLED): _Step(Stage.STILL, mechanism=Mechanism.JAMMED),
    (Stage.RELEASING, Input.DUE): _Step(Stage.STILL, mechanism=Mechanism.JAMMED),
}

_UNFIT: Final = {
    Mechanism.UNCALIBRATED: Verdict(Outcome.REFUSED, Reason.UNCALIBRATED),
    Mechanism.LOW_VOLTAGE: Verdict(Outcome.REFUSED, Reason.LOW_VOLTAGE),
}


class NotNowError(Exception):
    """The mechanics are busy with something that must end first; nothing has moved."""


def command(  # noqa: PLR0913 - what is wanted, of what, when
    state: Mechanics,
    battery: Battery,
    turn: Turn,
    now_ms: int,
    limits: Limits,
    *,
    hold_ms: int = 0,
) -> tuple[Mechanics, tuple[Effect, ...]]:
    """Somebody wants UNLATCH, UNBOLT or BOLT. NotNowError when another movement must end first.

    The effects hold a `Settle` when the command ended at once, else a `Drive`.
    """
    unfit = _UNFIT.get(shown_mechanism(state, battery))
    if unfit is not None:
        return state, (Settle(unfit),)
    wanted = _classify(state, turn)
    if (state.stage, wanted) not in _TABLE:
        raise NotNowError
    if turn is Turn.UNLATCH:
        state = replace(state, hold_ms=hold_ms)
    return advance(state, wanted, now_ms, limits)


def advance(
    state: Mechanics, happened: Input, now_ms: int, limits: Limits
) -> tuple[Mechanics, tuple[Effect, ...]]:
    """One step of the table; an input that means nothing in this stage changes nothing."""
    step = _TABLE.get((state.stage, happened))
    if step is None:
        return state, ()
    after = replace(
        state,
        stage=step.stage,
        bolt=state.bolt if step.bolt is None else step.bolt,
        latch=step.latch or state.latch,
        mechanism=step.mechanism or state.mechanism,
        due_ms=_due(step, state, now_ms, limits),
    )
    effects: list[Effect] = []
    if step.mechanism is Mechanism.JAMMED:
        effects.append(Note(EventKind.JAMMED, int(happened is Input.DUE)))
    if step.verdict is not None:
        effects.append(Note(EventKind.COMMAND, int(step.verdict.outcome)))
        effects.append(Settle(step.verdict))
    if step.drive is not None:
        effects.append(Drive(step.drive, limits.turn_ms))
    return after, tuple(effects)


def _classify(state: Mechanics, turn: Turn) -> Input:
    """A command, seen against where the bolt is."""
    if turn is Turn.UNLATCH:
        return Input.UNLATCH if state.bolt is BoltState.UNLOCKED else Input.UNLATCH_BOLTED
    target = {Turn.UNBOLT: BoltState.UNLOCKED, Turn.BOLT: BoltState.LOCKED}[turn]
    if state.bolt is target:
        return Input.ALREADY
    return Input.UNBOLT if turn is Turn.UNBOLT else Input.BOLT


def _due(step: _Step, state: Mechanics, now_ms: int, limits: Limits) -> int | None:
    if step.drive is not None:
        return now_ms + limits.turn_ms
    if step.stage is Stage.HOLDING:
        return now_ms + state.hold_ms
    if step.stage is state.stage:
        return state.due_ms
    return None


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


def shown_mechanism(state: Mechanics, battery: Battery) -> Mechanism:
    """What the lock reports: with empty cells nothing else matters."""
    return Mechanism.LOW_VOLTAGE if battery.critical else state.mechanism


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
    return _LOST if shown is Position.BETWEEN else _NOT_BEGUN
