from collections.abc import Iterator
from typing import get_args

import pytest

from firmware_proto.codes import Outcome, Reason
from gatewayd.core import unlock
from gatewayd.core.model import EntryKind, Verdict
from gatewayd.core.unlock import (
    TABLE,
    Allowed,
    Event,
    Finished,
    IllegalTransitionError,
    LinkFailed,
    LinkReady,
    LogFailed,
    OutcomeNotRecorded,
    OutcomeRecorded,
    Phase,
    Prepared,
    Recorded,
    RecordFailed,
    Refused,
    Reserved,
    Unlock,
    Unrecorded,
    advance,
)

EVENTS = get_args(Event)
CONFIRMED = Verdict(Outcome.CONFIRMED, Reason.OK)
SILENT = Verdict(Outcome.UNKNOWN, Reason.LOCK_SILENT)
UNREACHABLE = Verdict(Outcome.REFUSED, Reason.LOCK_UNREACHABLE)
UNRECORDED = Verdict(Outcome.REFUSED, Reason.LOG_UNAVAILABLE)

ONE_OF_EACH: dict[type[Event], Event] = {
    Prepared: Prepared(),
    Allowed: Allowed(emergency=True),
    Refused: Refused(Reason.EXPIRED),
    LinkReady: LinkReady(),
    LinkFailed: LinkFailed(),
    Recorded: Recorded(7),
    RecordFailed: RecordFailed(),
    LogFailed: LogFailed(),
    Reserved: Reserved(),
    Unrecorded: Unrecorded(),
    Finished: Finished(CONFIRMED),
    OutcomeRecorded: OutcomeRecorded(9),
    OutcomeNotRecorded: OutcomeNotRecorded(),
}


def run(*events: Event) -> tuple[Unlock, list[unlock.Effect]]:
    state, done = Unlock(), []
    for event in events:
        state, effects = advance(state, event)
        done += effects
    return state, done


def walks() -> Iterator[list[tuple[Phase, type[Event], Phase]]]:
    """Every path from WAITING that takes no arrow twice."""
    stack: list[list[tuple[Phase, type[Event], Phase]]] = [[]]
    while stack:
        path = stack.pop()
        yield path
        here = path[-1][2] if path else Phase.WAITING
        stack += [
            [*path, (here, event, arrow.to)]
            for (phase, event), arrow in TABLE.items()
            if phase is here and (here, event, arrow.to) not in path
        ]


def test_there_is_one_of_each_event():
    assert set(ONE_OF_EACH) == set(EVENTS)


def test_every_way_to_actuating_passes_a_durable_record():
    reaching = [path for path in walks() if path and path[-1][2] is Phase.ACTUATING]
    assert len(reaching) >= 2
    for path in reaching:
        events = [event for _, event, _ in path]
        durable = next(event for event in events if event in {Recorded, Reserved, Unrecorded})
        assert events.index(Allowed) < events.index(durable)
        assert RecordFailed not in events


@pytest.mark.parametrize("link", [(), (LinkReady(),), (LinkFailed(),)], ids=["no", "up", "down"])
def test_only_an_emergency_has_an_arrow_past_the_disk(link):
    state, _ = run(Allowed(), *link, LogFailed())
    with pytest.raises(IllegalTransitionError, match="Unrecorded"):
        advance(state, Unrecorded())
    state, effects = run(Allowed(emergency=True), *link, LogFailed(), Unrecorded())
    assert effects[2] == unlock.Reserve()
    assert (unlock.Command() in effects) == (link == (LinkReady(),))
    assert state.intent_seq is None


@pytest.mark.parametrize("link", [(), (LinkReady(),), (LinkFailed(),)], ids=["no", "up", "down"])
def test_the_reserve_stands_for_the_log_and_gives_no_receipt(link):
    _, effects = run(Allowed(), *link, LogFailed(), Reserved(), *(() if link else (LinkReady(),)))
    if link == (LinkFailed(),):
        assert effects[-1] == unlock.RecordOutcome(EntryKind.OUTCOME, UNREACHABLE, None)
    else:
        assert effects[-1] == unlock.Command()


def test_the_reason_is_the_logs_own():
    _, effects = run(Allowed(), LogFailed(), RecordFailed(Reason.LOG_FULL))
    assert effects[-1] == unlock.Reply(Verdict(Outcome.REFUSED, Reason.LOG_FULL), None)


def test_a_command_is_sent_once_and_only_on_the_arrows_into_actuating():
    for path in walks():
        state, sent = Unlock(), 0
        for _, event, to in path:
            before = state.phase
            state, effects = advance(state, ONE_OF_EACH[event])
            commands = effects.count(unlock.Command())
            assert state.phase is to
            assert commands == (to is Phase.ACTUATING and before is not Phase.ACTUATING)
            if commands:
                recorded = Recorded in [each for _, each, _ in path]
                assert state.intent_seq == (7 if recorded else None)
            sent += commands
        assert sent <= 1


def test_every_walk_can_end_and_replies_exactly_once():
    ended = [path for path in walks() if path and path[-1][2] is Phase.CLOSED]
    for path in ended:
        _, effects = run(*(ONE_OF_EACH[event] for _, event, _ in path))
        assert len([effect for effect in effects if isinstance(effect, unlock.Reply)]) == 1
    assert {phase for path in ended for phase, _, _ in path} == set(Phase)


def test_every_other_pair_is_illegal():
    for phase in Phase:
        for event in EVENTS:
            if (phase, event) not in TABLE:
                with pytest.raises(IllegalTransitionError, match=phase.name):
                    advance(Unlock(phase, 7, CONFIRMED), ONE_OF_EACH[event])


def test_a_state_that_no_walk_reaches_is_illegal():
    with pytest.raises(IllegalTransitionError, match="no verdict"):
        advance(Unlock(Phase.SETTLING), OutcomeRecorded(1))


@pytest.mark.parametrize(
    "order", [(LinkReady(), Recorded(7)), (Recorded(7), LinkReady())], ids=["link", "record"]
)
def test_the_line_from_tap_to_receipt(order):
    state, effects = run(Prepared(), Allowed(), *order, Finished(CONFIRMED), OutcomeRecorded(9))
    assert effects == [
        unlock.Dial(),
        unlock.Record(),
        unlock.Dial(),
        unlock.Command(),
        unlock.RecordOutcome(EntryKind.OUTCOME, CONFIRMED, 7),
        unlock.Reply(CONFIRMED, 9),
    ]
    assert state == Unlock(Phase.CLOSED, 7, CONFIRMED)


def test_silence_is_unknown_and_nothing_is_sent_again():
    _, effects = run(
        Allowed(), Recorded(7), LinkReady(), Finished(SILENT), OutcomeRecorded(9), LinkReady()
    )
    assert effects.count(unlock.Command()) == 1
    assert effects[-1] == unlock.Reply(SILENT, 9)


@pytest.mark.parametrize(
    "order", [(LinkFailed(), Recorded(7)), (Recorded(7), LinkFailed())], ids=["link", "record"]
)
def test_an_unreachable_lock_was_certainly_not_moved(order):
    _, effects = run(Allowed(), *order, OutcomeRecorded(9))
    assert effects[2:] == [
        unlock.RecordOutcome(EntryKind.OUTCOME, UNREACHABLE, 7),
        unlock.Reply(UNREACHABLE, 9),
    ]


@pytest.mark.parametrize("link", [(), (LinkReady(),), (LinkFailed(),)], ids=["no", "up", "down"])
def test_without_a_record_the_door_stays_shut_and_no_receipt_is_given(link):
    state, effects = run(Allowed(), *link, RecordFailed())
    assert effects == [unlock.Record(), unlock.Dial(), unlock.Reply(UNRECORDED, None)]
    assert state.phase is Phase.CLOSED


def test_a_refusal_is_recorded_before_it_is_answered():
    refused = Verdict(Outcome.REFUSED, Reason.EXPIRED)
    _, effects = run(Refused(Reason.EXPIRED), OutcomeRecorded(9))
    assert effects == [
        unlock.RecordOutcome(EntryKind.REFUSAL, refused, None),
        unlock.Reply(refused, 9),
    ]


def test_an_outcome_that_cannot_be_recorded_is_still_told_without_receipt():
    _, effects = run(Allowed(), LinkReady(), Recorded(7), Finished(CONFIRMED), OutcomeNotRecorded())
    assert effects[-1] == unlock.Reply(CONFIRMED, None)


def test_a_late_answer_to_dial_changes_nothing_after_the_end():
    for last in (LinkReady(), LinkFailed()):
        state, effects = run(Allowed(), RecordFailed(), last)
        assert state.phase is Phase.CLOSED
        assert isinstance(effects[-1], unlock.Reply)
        state, effects = run(Prepared(), Refused(Reason.EXPIRED), last)
        assert state.phase is Phase.SETTLING


def test_a_lock_that_answers_before_the_tap_is_only_ready():
    for answer in (LinkReady(), LinkFailed()):
        state, effects = run(Prepared(), answer)
        assert (state, effects) == (Unlock(), [unlock.Dial()])
