"""The tables alone, walked without a session; then both ends of a relation against each other."""

from __future__ import annotations

from collections import deque

import pytest

from firmware_proto import session_tables as tables
from firmware_proto.codes import FrameKind
from firmware_proto.session_tables import FRAMES, OUR_TURN, Input, SessionState

S = SessionState
LOCAL = {
    Input.BEGIN,
    Input.CHOOSE_RESUME,
    Input.CHOOSE_HANDSHAKE,
    Input.TRUST,
    Input.SEND,
    Input.REFUSE,
    Input.FAIL,
}
ENDS = {
    "phone": (tables.PHONE, tables.PHONE_DEADLINES, S.START),
    "gateway": (tables.GATEWAY, tables.GATEWAY_DEADLINES, S.AWAITING_MESSAGE_1),
    "lock client": (tables.LOCK_CLIENT, tables.LOCK_CLIENT_DEADLINES, S.AWAITING_HELLO),
    "lock server": (tables.LOCK_SERVER, tables.LOCK_SERVER_DEADLINES, S.START),
    "line lock server": (tables.LINE_LOCK_SERVER, tables.LOCK_SERVER_DEADLINES, S.START),
}
every_end = pytest.mark.parametrize("end", ENDS)


def reachable(table: tables.Table, start: SessionState, without: set[Input]) -> set[SessionState]:
    """States reached from `start` when some inputs never come."""
    seen, todo = {start}, [start]
    while todo:
        for given, target in table[todo.pop()].items():
            if given not in without and target not in seen:
                seen.add(target)
                todo.append(target)
    return seen


@every_end
def test_every_state_is_reachable_and_has_a_deadline_entry(end):
    table, deadlines, start = ENDS[end]
    assert reachable(table, start, set()) == set(table) == set(deadlines)


@every_end
def test_every_open_state_can_fail_and_be_refused_and_nothing_leaves_closed(end):
    table, _, _ = ENDS[end]
    assert table[S.CLOSED] == {}
    for state, row in table.items():
        if state is not S.CLOSED:
            assert row[Input.FAIL] is row[Input.REFUSE] is S.CLOSED


@every_end
def test_no_record_and_no_sending_before_keys(end):
    table, _, start = ENDS[end]
    for state in reachable(table, start, {Input.TRUST, Input.CHOOSE_RESUME, Input.RESUME}):
        assert Input.SEND not in table[state]
        assert Input.RECORD not in table[state]


@every_end
def test_established_means_that_records_went_both_ways(end):
    table, _, start = ENDS[end]
    assert S.ESTABLISHED not in reachable(table, start, {Input.SEND})
    assert S.ESTABLISHED not in reachable(table, start, {Input.RECORD})


@every_end
def test_a_handshake_frame_moves_on_so_that_it_cannot_come_twice(end):
    table, _, _ = ENDS[end]
    handshake = {
        *(Input.HELLO, Input.RESUME),
        *(Input.MESSAGE_1, Input.MESSAGE_2, Input.MESSAGE_3),
    }
    for state, row in table.items():
        for given in handshake & row.keys():
            later = reachable(table, row[given], set())
            assert state not in later
            assert all(given not in table[other] for other in later)


@every_end
def test_an_error_in_the_clear_ends_nothing_that_is_established(end):
    table, _, _ = ENDS[end]
    assert Input.ERROR not in table[S.ESTABLISHED]
    for state, row in table.items():
        assert row.get(Input.ERROR, S.CLOSED) is S.CLOSED
        if state not in {S.ESTABLISHED, S.CLOSED} | OUR_TURN:
            assert Input.ERROR in row


@every_end
def test_nothing_of_the_peer_is_taken_while_our_caller_decides(end):
    table, deadlines, _ = ENDS[end]
    for state in OUR_TURN & set(table):
        assert set(table[state]) <= LOCAL
        assert deadlines[state] == (None, None)


@every_end
def test_whoever_waits_before_authentication_has_a_deadline(end):
    table, deadlines, start = ENDS[end]
    for state in reachable(table, start, {Input.TRUST}):
        waits = set(table[state]) - LOCAL - {Input.ERROR}
        if waits and state is not S.ESTABLISHED and Input.SEND not in table[state]:
            # the line is there whether or not anybody attaches
            expected = state is not S.HEARD and waits != {Input.ATTACH}
            assert (deadlines[state].idle_s is not None) is expected


def test_a_lock_drops_a_silent_gateway_in_time():
    deadlines = tables.LOCK_SERVER_DEADLINES
    assert deadlines[S.AWAITING_CHOICE].idle_s == 2
    waits = (S.AWAITING_CHOICE, S.AWAITING_MESSAGE_3, S.KEYED)
    assert sum(deadlines[state].idle_s or 0 for state in waits) <= 8
    assert tables.GATEWAY_DEADLINES[S.AWAITING_MESSAGE_3].idle_s == 3


def test_attach_comes_only_before_the_choice_and_only_on_a_line():
    for end, (table, _, _) in ENDS.items():
        allowed = {state for state, row in table.items() if Input.ATTACH in row}
        assert allowed == ({S.START, S.AWAITING_CHOICE} if end == "line lock server" else set())
    assert Input.BEGIN not in tables.LINE_LOCK_SERVER[S.START]


def test_frames_are_those_of_the_codes():
    assert set(FRAMES) == set(FrameKind) - {FrameKind.MESSAGE_4}
    assert set(FRAMES.values()) == set(Input) - LOCAL


# --- both ends together -------------------------------------------------------------------
# What a local decision, or a frame taken, puts on the wire.
SAYS = {
    Input.CHOOSE_RESUME: Input.RESUME,
    Input.CHOOSE_HANDSHAKE: Input.MESSAGE_1,
    Input.MESSAGE_1: Input.MESSAGE_2,
    Input.SEND: Input.RECORD,
    Input.ATTACH: Input.HELLO,
}
FIRST_WORDS = {"phone": Input.MESSAGE_1, "lock server": Input.HELLO}


def walk(initiator: str, responder: str, *first: Input) -> set[tuple[SessionState, SessionState]]:
    """Every pair of states of two ends that behave, with at most two frames under way.

    `first`: what the transport itself has sent to the responder. Asserts on the
    way that no frame ever arrives that the other end does not allow.
    """
    begun = (ENDS[initiator][2], ENDS[responder][2], first, ())
    seen, todo = {begun}, deque([begun])
    while todo:
        here = todo.popleft()
        for there in steps(here, (initiator, responder)):
            if there not in seen:
                seen.add(there)
                todo.append(there)
    return {(one, other) for one, other, _, _ in seen}


def steps(here, names):
    for side in (0, 1):
        table = ENDS[names[side]][0]
        state, outgoing, incoming = here[side], here[2 + side], here[3 - side]
        for given in LOCAL & set(table[state]) - {Input.FAIL, Input.REFUSE}:
            said = FIRST_WORDS.get(names[side]) if given is Input.BEGIN else SAYS.get(given)
            if given is Input.TRUST and side == 0:
                said = Input.MESSAGE_3
            if len(outgoing) < 2:
                yield moved(here, side, table[state][given], said, incoming)
        if incoming and state not in OUR_TURN:
            assert incoming[0] in table[state], (names[side], state, incoming)
            said = SAYS.get(incoming[0])
            yield moved(here, side, table[state][incoming[0]], said, incoming[1:])


def moved(here, side, state, said, incoming):
    """One end takes a step; `said` is put on its way."""
    outgoing = here[2 + side] + (() if said is None else (said,))
    states = (state, here[1]) if side == 0 else (here[0], state)
    return (*states, outgoing, incoming) if side == 0 else (*states, incoming, outgoing)


@pytest.mark.parametrize(
    ("initiator", "responder", "first"),
    [
        ("phone", "gateway", ()),
        ("lock client", "lock server", ()),
        ("lock client", "line lock server", (Input.ATTACH,)),
    ],
)
def test_joint_rules(initiator, responder, first):
    pairs = walk(initiator, responder, *first)
    assert (S.ESTABLISHED, S.ESTABLISHED) in pairs
    for ours, theirs in pairs:
        # The initiator is established only when the responder heard and answered it.
        if ours is S.ESTABLISHED:
            assert theirs is S.ESTABLISHED
        # The responder speaks only to somebody from whom it has heard.
        if theirs in {S.HEARD, S.ESTABLISHED}:
            assert ours in {S.SPOKEN, S.ESTABLISHED}
        # The responder has keys only when the initiator trusts it, or both remember a secret.
        if theirs in {S.KEYED, S.HEARD, S.ESTABLISHED}:
            assert ours in {S.KEYED, S.SPOKEN, S.ESTABLISHED}
