"""The mechanics table, walked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from gatewayd.emulators import lock_senses, lock_state
from gatewayd.emulators.lock_battery import Battery
from gatewayd.emulators.lock_state import (
    CONFIRMED,
    Drive,
    Input,
    Limits,
    Mechanics,
    Note,
    NotNowError,
    Position,
    Settle,
    Stage,
    Turn,
)

LIMITS = Limits(turn_ms=1_000, ajar_ms=5_000)
FULL = Battery()
MOVING_BOLT = {BoltState.LOCKING, BoltState.UNLOCKING}
COMMANDS = (Turn.UNLATCH, Turn.UNBOLT, Turn.BOLT)


def order(state: Mechanics, turn: Turn, now_ms: int = 0, battery: Battery = FULL):
    return lock_state.command(state, battery, turn, now_ms, LIMITS, hold_ms=3_000)


def happen(state: Mechanics, happened: Input, now_ms: int = 0):
    return lock_state.advance(state, happened, now_ms, LIMITS)


def verdicts(effects) -> list[Verdict]:
    return [effect.verdict for effect in effects if isinstance(effect, Settle)]


def drives(effects) -> list[Turn]:
    return [effect.turn for effect in effects if isinstance(effect, Drive)]


def test_unlatch_holds_and_goes_home() -> None:
    state, effects = order(Mechanics(), Turn.UNLATCH, 100)
    assert (state.latch, state.due_ms) == (LatchState.UNLATCHING, 1_100)
    assert drives(effects) == [Turn.UNLATCH]
    state, effects = happen(state, Input.REACHED, 400)
    assert (state.latch, state.due_ms) == (LatchState.UNLATCHED, 3_400)
    assert verdicts(effects) == [CONFIRMED]
    state, effects = happen(state, Input.DUE, 3_400)
    assert (state.stage, drives(effects)) == (Stage.RELEASING, [Turn.RELEASE])
    state, effects = happen(state, Input.REACHED, 3_700)
    assert state == replace(Mechanics(), hold_ms=3_000)
    assert verdicts(effects) == []


def test_a_thrown_bolt_goes_first() -> None:
    state, effects = order(Mechanics(bolt=BoltState.LOCKED), Turn.UNLATCH)
    assert drives(effects) == [Turn.UNBOLT]
    assert state.bolt is BoltState.UNLOCKING
    state, effects = happen(state, Input.REACHED)
    assert drives(effects) == [Turn.UNLATCH]
    assert (state.bolt, state.latch) == (BoltState.UNLOCKED, LatchState.UNLATCHING)
    assert verdicts(effects) == []
    assert verdicts(happen(state, Input.REACHED)[1]) == [CONFIRMED]


@pytest.mark.parametrize(
    ("start", "turn", "transit", "end"),
    [
        (BoltState.UNLOCKED, Turn.BOLT, BoltState.LOCKING, BoltState.LOCKED),
        (BoltState.LOCKED, Turn.UNBOLT, BoltState.UNLOCKING, BoltState.UNLOCKED),
        (BoltState.UNKNOWN, Turn.BOLT, BoltState.LOCKING, BoltState.LOCKED),
        (BoltState.NOT_FULLY_LOCKED, Turn.UNBOLT, BoltState.UNLOCKING, BoltState.UNLOCKED),
    ],
)
def test_the_bolt(start: BoltState, turn: Turn, transit: BoltState, end: BoltState) -> None:
    state, effects = order(Mechanics(bolt=start), turn)
    assert (state.bolt, drives(effects)) == (transit, [turn])
    state, effects = happen(state, Input.REACHED)
    assert (state.bolt, verdicts(effects), state.due_ms) == (end, [CONFIRMED], None)


@pytest.mark.parametrize(
    ("bolt", "turn"), [(BoltState.LOCKED, Turn.BOLT), (BoltState.UNLOCKED, Turn.UNBOLT)]
)
def test_a_bolt_already_there_does_not_move(bolt: BoltState, turn: Turn) -> None:
    state, effects = order(Mechanics(bolt=bolt), turn)
    assert (state, verdicts(effects), drives(effects)) == (Mechanics(bolt=bolt), [CONFIRMED], [])


def test_a_second_unlatch_while_held_extends_the_hold() -> None:
    state, _ = order(Mechanics(), Turn.UNLATCH)
    state, _ = happen(state, Input.REACHED, 300)
    state, effects = order(state, Turn.UNLATCH, 2_000)
    assert (state.due_ms, verdicts(effects), drives(effects)) == (5_000, [CONFIRMED], [])


@pytest.mark.parametrize("turn", COMMANDS)
@pytest.mark.parametrize("stage", [Stage.UNLATCHING, Stage.WITHDRAWING, Stage.BOLTING])
def test_a_movement_must_end_before_the_next(stage: Stage, turn: Turn) -> None:
    with pytest.raises(NotNowError):
        order(Mechanics(stage=stage, bolt=BoltState.UNKNOWN), turn)


def _under_way(bolt: BoltState, turn: Turn) -> Mechanics:
    return order(Mechanics(bolt=bolt), turn)[0]


MOVEMENTS = [
    _under_way(BoltState.UNLOCKED, Turn.UNLATCH),
    _under_way(BoltState.LOCKED, Turn.UNLATCH),
    _under_way(BoltState.LOCKED, Turn.UNBOLT),
    _under_way(BoltState.UNLOCKED, Turn.BOLT),
]


@pytest.mark.parametrize("moving", MOVEMENTS, ids=lambda state: state.stage.name)
def test_a_stall_is_a_jam_that_stays_until_a_good_movement(moving: Mechanics) -> None:
    state, effects = happen(moving, Input.STALLED)
    assert state.mechanism is Mechanism.JAMMED
    assert verdicts(effects) == [Verdict(Outcome.REFUSED, Reason.JAMMED)]
    assert Note(EventKind.JAMMED, 0) in effects
    assert (state.stage, state.due_ms) == (Stage.STILL, None)
    state, _ = order(state, Turn.UNLATCH)
    assert state.mechanism is Mechanism.JAMMED
    while state.stage is not Stage.HOLDING:
        state, _ = happen(state, Input.REACHED)
    assert state.mechanism is Mechanism.OK


@pytest.mark.parametrize("moving", MOVEMENTS, ids=lambda state: state.stage.name)
def test_a_motor_that_never_reports_leaves_the_outcome_unknown(moving: Mechanics) -> None:
    state, effects = happen(moving, Input.DUE, 1_000)
    assert state.mechanism is Mechanism.JAMMED
    assert verdicts(effects) == [Verdict(Outcome.UNKNOWN, Reason.LOCK_FAULT)]


def test_a_latch_that_does_not_come_home_is_a_jam() -> None:
    state = Mechanics(stage=Stage.RELEASING, latch=LatchState.UNLATCHED, due_ms=5)
    for happened in (Input.STALLED, Input.DUE):
        after, effects = happen(state, happened, 5)
        assert (after.stage, after.mechanism) == (Stage.STILL, Mechanism.JAMMED)
        assert verdicts(effects) == []


def test_going_home_does_not_clear_a_jam() -> None:
    state = Mechanics(stage=Stage.RELEASING, mechanism=Mechanism.JAMMED, due_ms=5)
    assert happen(state, Input.REACHED)[0].mechanism is Mechanism.JAMMED


def test_unfit_locks_refuse() -> None:
    empty = Battery(Battery.CAPACITY_UAH * 3 // 100)
    state = Mechanics()
    assert order(state, Turn.UNLATCH, battery=empty) == (
        state,
        (Settle(Verdict(Outcome.REFUSED, Reason.LOW_VOLTAGE)),),
    )
    assert lock_state.shown_mechanism(state, empty) is Mechanism.LOW_VOLTAGE
    state = Mechanics(mechanism=Mechanism.UNCALIBRATED)
    assert verdicts(order(state, Turn.BOLT)[1]) == [Verdict(Outcome.REFUSED, Reason.UNCALIBRATED)]


def test_inputs_without_meaning_change_nothing() -> None:
    assert happen(Mechanics(), Input.REACHED) == (Mechanics(), ())
    assert happen(Mechanics(), Input.DUE) == (Mechanics(), ())


# --- door leaf, tamper, battery ---------------------------------------------------------
def test_the_door_leaf() -> None:
    state, effects = lock_senses.door_moved(Mechanics(), 0, LIMITS, is_open=True)
    assert (state.door, effects) == (
        DoorState.OPEN,
        (Note(EventKind.DOOR, int(DoorState.OPEN)),),
    )
    assert lock_senses.door_moved(state, 0, LIMITS, is_open=True) == (state, ())
    assert lock_senses.door_waited(state, 4_999) == (state, ())
    ajar, effects = lock_senses.door_waited(state, 5_000)
    assert (ajar.door, ajar.ajar_due_ms, len(effects)) == (DoorState.AJAR, None, 1)
    closed, _ = lock_senses.door_moved(ajar, 0, LIMITS, is_open=False)
    assert closed.door is DoorState.CLOSED
    assert lock_senses.door_waited(closed, 10**9) == (closed, ())


def test_a_door_that_opens_past_a_thrown_bolt_was_forced_and_stays_so() -> None:
    locked = Mechanics(bolt=BoltState.LOCKED)
    state, _ = lock_senses.door_moved(locked, 0, LIMITS, is_open=True)
    assert state.door is DoorState.FORCED
    state, effects = lock_senses.door_waited(state, 5_000)
    assert (state.door, state.ajar_due_ms, effects) == (DoorState.FORCED, None, ())


def test_tamper() -> None:
    state, effects = lock_senses.tampered(Mechanics(), opened=True)
    assert (state.tamper, effects) == (True, (Note(EventKind.TAMPER, 1),))
    assert lock_senses.tampered(state, opened=True) == (state, ())


def test_the_battery() -> None:
    assert (FULL.percent, FULL.millivolts, FULL.low, FULL.critical) == (100, 6_000, False, False)
    low = Battery(Battery.CAPACITY_UAH * 15 // 100)
    assert (low.percent, low.low, low.critical) == (15, True, False)
    assert Battery(5).drained(10) == Battery(0)
    assert Battery(0).millivolts == 4_400
    assert lock_senses.drained(FULL, low) == (Note(EventKind.BATTERY_LOW, 15),)
    assert lock_senses.drained(low, low) == ()


# --- after a power loss ------------------------------------------------------------------
@pytest.mark.parametrize("latch", Position)
@pytest.mark.parametrize("bolt", Position)
def test_waking_shows_what_the_sensors_show(bolt: Position, latch: Position) -> None:
    state, effects = lock_senses.awake(bolt, latch, Mechanism.OK, 7, LIMITS)
    home = latch is Position.THROWN
    assert (state.latch is LatchState.REST) == home
    assert drives(effects) == ([] if home else [Turn.RELEASE])
    assert state.due_ms == (None if home else 1_007)
    assert state.bolt not in MOVING_BOLT


@pytest.mark.parametrize("turn", COMMANDS)
def test_an_interrupted_command_is_judged_by_where_its_part_stands(turn: Turn) -> None:
    elsewhere = Position.BETWEEN

    def shown(position: Position) -> Outcome:
        on_bolt = turn.part is lock_state.Part.BOLT
        at = (position, elsewhere) if on_bolt else (elsewhere, position)
        return lock_senses.interrupted(turn, *at).outcome

    start = Position.THROWN if turn.target is Position.WITHDRAWN else Position.WITHDRAWN
    assert shown(turn.target) is Outcome.CONFIRMED
    assert shown(Position.BETWEEN) is Outcome.UNKNOWN
    assert shown(start) is Outcome.REFUSED


# --- properties ---------------------------------------------------------------------------
STEPS = st.lists(
    st.tuples(st.one_of(st.sampled_from(COMMANDS), st.sampled_from(Input)), st.integers(0, 900)),
    max_size=40,
)


@settings(max_examples=200)
@given(STEPS, st.sampled_from([BoltState.LOCKED, BoltState.UNLOCKED, BoltState.UNKNOWN]))
def test_whatever_happens(steps: list[tuple[Turn | Input, int]], bolt: BoltState) -> None:
    state, now_ms, open_commands = Mechanics(bolt=bolt), 0, 0
    for what, later_ms in steps:
        now_ms += later_ms
        if isinstance(what, Turn):
            if open_commands:
                continue  # the body takes one command at a time
            try:
                state, effects = order(state, what, now_ms)
            except NotNowError:
                continue
            open_commands += 1
        elif what in {Input.REACHED, Input.STALLED, Input.DUE}:
            state, effects = happen(state, what, now_ms)
        else:
            continue
        settled = len(verdicts(effects))
        open_commands -= settled
        assert 0 <= open_commands <= 1, "every command ends exactly once"
        assert (state.due_ms is None) == (state.stage is Stage.STILL), "movement has a deadline"
        assert len(drives(effects)) <= 1
        if open_commands == 0:
            assert state.bolt not in MOVING_BOLT
            assert state.latch is not LatchState.UNLATCHING
