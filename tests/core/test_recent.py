"""What a run remembers of requests while the log cannot be read."""

from __future__ import annotations

from firmware_proto.codes import Outcome, Reason
from gatewayd.core import recent
from gatewayd.core.model import (
    Asked,
    ClockState,
    CommandId,
    DoorId,
    EntryKind,
    Fact,
    PastRequest,
    Record,
    TimeReading,
    Verdict,
)
from gatewayd.core.recent import RecentRequests

OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
RUNNING = Verdict(Outcome.UNKNOWN, Reason.OK)
TIME = TimeReading(ClockState.TRUSTED, 1000, 1, 900)
DOOR = DoorId("street")


def asked(key: bytes, command: bytes = b"command") -> Asked:
    return Asked(key, b"content of " + key, CommandId(command))


def fact(kind: EntryKind, verdict: Verdict, door: DoorId | None = DOOR) -> Fact:
    return Fact(TIME, kind, door, verdict)


def test_an_opening_is_known_while_it_runs_and_when_it_has_ended() -> None:
    held = RecentRequests()
    held.remember(fact(EntryKind.INTENT, RUNNING), asked(b"one"), None, 7)
    assert held.past(b"one") == PastRequest(b"content of one")
    held.remember(fact(EntryKind.OUTCOME, OPENED), None, CommandId(b"another"), 8)
    assert held.past(b"one") == PastRequest(b"content of one")
    held.remember(fact(EntryKind.OUTCOME, OPENED), None, CommandId(b"command"), 9)
    ended = PastRequest(b"content of one", OPENED, Record(9, DOOR, TIME.now_s))
    assert held.past(b"one") == ended
    held.remember(fact(EntryKind.OUTCOME, RUNNING), None, CommandId(b"command"), 10)
    assert held.past(b"one") == ended, "the first verdict is the one"


def test_a_joiner_has_his_answer_at_once() -> None:
    held = RecentRequests()
    held.remember(fact(EntryKind.JOINED, OPENED), asked(b"one"), None, 7)
    assert held.past(b"one") == PastRequest(b"content of one", OPENED, Record(7, DOOR, TIME.now_s))


def test_without_an_entry_or_a_door_there_is_no_record() -> None:
    held = RecentRequests()
    held.remember(fact(EntryKind.JOINED, OPENED), asked(b"one"), None, None)
    held.remember(fact(EntryKind.JOINED, OPENED, door=None), asked(b"two"), None, 7)
    for key in (b"one", b"two"):
        past = held.past(key)
        assert past is not None
        assert past.verdict == OPENED
        assert past.record is None


def test_the_oldest_is_forgotten_and_one_that_was_asked_again_is_not_the_oldest() -> None:
    held = RecentRequests()
    keys = [number.to_bytes(4, "big") for number in range(recent.MOST)]
    for key in keys:
        held.put(asked(key), PastRequest(key))
    held.put(asked(keys[0]), PastRequest(keys[0]))
    held.put(asked(b"new"), PastRequest(b"new"))
    assert held.past(keys[1]) is None
    assert held.past(keys[0]) is not None
    assert held.past(keys[2]) is not None
    assert held.past(b"new") is not None


def test_a_lower_bound_drops_as_many_as_it_needs() -> None:
    held = RecentRequests()
    for key in (b"one", b"two", b"three"):
        held.remember(fact(EntryKind.INTENT, RUNNING), asked(key), None, 7, most=3)
    held.remember(fact(EntryKind.INTENT, RUNNING), asked(b"four"), None, 8, most=2)
    known = [key for key in (b"one", b"two", b"three", b"four") if held.past(key)]
    assert known == [b"three", b"four"]
