"""The lock's mechanics as one pure table: bolt, latch, door leaf, mechanism, tamper, battery.

The vocabulary is that of Matter's Door Lock cluster. No clock, no motor, no
file: times in milliseconds come in, wishes to turn the motor go out. Every
stage in which something moves (or the latch is held) has a deadline, `due_ms`;
a jam stays until a commanded movement has succeeded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
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
LOST: Final = Verdict(Outcome.UNKNOWN, Reason.LOCK_FAULT)

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
        Stage.STILL, bolt=BoltState.UNKNOWN, mechanism=Mechanism.JAMMED, verdict=LOST
    ),
    (Stage.UNBOLTING, Input.REACHED): _Step(
        Stage.STILL, bolt=BoltState.UNLOCKED, mechanism=Mechanism.OK, verdict=CONFIRMED
    ),
    (Stage.UNBOLTING, Input.STALLED): _Step(
        Stage.STILL, bolt=BoltState.NOT_FULLY_LOCKED, mechanism=Mechanism.JAMMED, verdict=_JAM
    ),
    (Stage.UNBOLTING, Input.DUE): _Step(
        Stage.STILL, bolt=BoltState.UNKNOWN, mechanism=Mechanism.JAMMED, verdict=LOST
    ),
    (Stage.BOLTING, Input.REACHED): _Step(
        Stage.STILL, bolt=BoltState.LOCKED, mechanism=Mechanism.OK, verdict=CONFIRMED
    ),
    (Stage.BOLTING, Input.STALLED): _Step(
        Stage.STILL, bolt=BoltState.NOT_FULLY_LOCKED, mechanism=Mechanism.JAMMED, verdict=_JAM
    ),
    (Stage.BOLTING, Input.DUE): _Step(
        Stage.STILL, bolt=BoltState.UNKNOWN, mechanism=Mechanism.JAMMED, verdict=LOST
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
        verdict=LOST,
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


def shown_mechanism(state: Mechanics, battery: Battery) -> Mechanism:
    """What the lock reports: with empty cells nothing else matters."""
    return Mechanism.LOW_VOLTAGE if battery.critical else state.mechanism
