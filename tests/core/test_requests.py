from itertools import product

from firmware_proto.codes import Action, Outcome, Presence, Reason
from gatewayd.core.model import CommandId, DoorId, PastRequest, Verdict
from gatewayd.core.requests import (
    Busy,
    Confirmed,
    Conflict,
    InFlight,
    Join,
    New,
    NoOp,
    Replay,
    admit,
    request,
    request_key,
)

SECRET = bytes(range(32))
ALICE, BOB = b"a" * 32, b"b" * 32
RUNNING = CommandId(b"c" * 16)
CONFIRMED = Verdict(Outcome.CONFIRMED, Reason.OK)


def ask(who=ALICE, number=1, action=Action.OPEN, presence=Presence.TAP, door="front"):
    return request(
        SECRET, who, bytes([number]) * 16, door=DoorId(door), action=action, presence=presence
    )


def answer(asked, past=None, in_flight=None, last=None, now_s=100.0):
    return admit(asked, past=past, in_flight=in_flight, last_confirmed=last, now_s=now_s)


def test_a_request_is_named_by_token_and_id_alone():
    assert ask().key == request_key(SECRET, ALICE, b"\x01" * 16)
    assert len({ask().key, ask(who=BOB).key, ask(number=2).key}) == 3
    assert ask().key == ask(action=Action.BOLT, presence=Presence.ARRIVAL, door="yard").key


def test_another_gateway_names_it_differently():
    other = request(
        bytes(32),
        ALICE,
        b"\x01" * 16,
        door=DoorId("front"),
        action=Action.OPEN,
        presence=Presence.TAP,
    )
    assert other.key != ask().key
    assert other.content != ask().content


def test_content_is_door_action_and_presence():
    contents = {
        ask(action=action, presence=presence, door=door).content
        for action, presence, door in product(Action, Presence, ("front", "yard"))
    }
    assert len(contents) == 12
    assert ask(who=BOB, number=2).content == ask().content


def test_the_first_is_new():
    assert answer(ask()) == New()


def test_the_same_again_gets_the_same_verdict():
    for verdict in (CONFIRMED, Verdict(Outcome.REFUSED, Reason.JAMMED)):
        past = PastRequest(ask().content, verdict)
        busy = InFlight(ask(who=BOB, action=Action.BOLT), RUNNING)
        assert answer(ask(), past, busy) == Replay(verdict)


def test_the_same_id_with_other_content_is_a_fault():
    past = PastRequest(ask().content, CONFIRMED)
    assert answer(ask(action=Action.BOLT), past) == Conflict()
    assert answer(ask(action=Action.BOLT), None, InFlight(ask(), RUNNING)) == Conflict()


def test_the_same_again_while_it_runs_joins_itself_recorded_or_not():
    running = InFlight(ask(), RUNNING)
    assert answer(ask(), None, running) == Join(RUNNING)
    assert answer(ask(), PastRequest(ask().content, None), running) == Join(RUNNING)


def test_a_request_cut_short_is_unknown_and_never_tried_again():
    past = PastRequest(ask().content, None)
    interrupted = Replay(Verdict(Outcome.UNKNOWN, Reason.RESTARTED))
    assert answer(ask(), past) == interrupted
    assert answer(ask(), past, InFlight(ask(who=BOB), CommandId(b"d" * 16))) == interrupted


def test_the_same_action_joins_and_another_finds_the_door_busy():
    running = InFlight(ask(who=BOB), RUNNING)
    assert answer(ask(), None, running) == Join(RUNNING)
    assert answer(ask(action=Action.UNBOLT), None, running) == Busy()


def test_opening_an_open_door_is_a_success_without_movement():
    last = Confirmed(Action.OPEN, until_s=100.0)
    assert answer(ask(), last=last, now_s=99.9) == NoOp()
    assert answer(ask(), last=last, now_s=100.0) == New()


def test_only_opening_is_idempotent():
    assert answer(ask(action=Action.BOLT), last=Confirmed(Action.BOLT, 1e9)) == New()
    assert answer(ask(), last=Confirmed(Action.UNBOLT, 1e9)) == New()
    assert answer(ask(action=Action.UNBOLT), last=Confirmed(Action.OPEN, 1e9)) == New()
