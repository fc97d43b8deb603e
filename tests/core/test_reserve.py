from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor
from firmware_proto.codes import Outcome, Reason
from gatewayd.core import reserve
from gatewayd.core.model import (
    Asked,
    ClockState,
    Command,
    CommandId,
    DoorId,
    EntryKind,
    Fact,
    TimeReading,
    Verdict,
)
from gatewayd.core.reserve import SLOT_BYTES, Reserved

SECRET = b"s" * 32
MINUTE = 1_800_000_000
TIME = TimeReading(ClockState.TRUSTED, MINUTE, float("inf"), 0)
STREET = DoorId("street")
ID = CommandId(b"c" * 16)
ASKED = Asked(b"k" * 32, b"h" * 32, ID)
INTENT = Fact(TIME, EntryKind.INTENT, STREET, Verdict(Outcome.UNKNOWN, Reason.OK))
DONE = Fact(TIME, EntryKind.OUTCOME, STREET, Verdict(Outcome.CONFIRMED, Reason.OK))
SHARED = replace(DONE, kind=EntryKind.JOINED)
MISSING = Fact(TIME, EntryKind.GAP, None, Verdict(Outcome.UNKNOWN, Reason.LOG_FULL), 7)
ENTRIES = [
    Reserved(1, INTENT, Command(ID, STREET), ASKED),
    Reserved(2, INTENT, Command(ID, STREET)),
    Reserved(3, DONE, settles=ID),
    Reserved(4, SHARED, asked=ASKED),
    Reserved(2**62, MISSING),
    Reserved(5, replace(INTENT, door=DoorId("d" * 32)), Command(ID, DoorId("d" * 32)), ASKED),
]


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_slot_holds_an_entry_whole(entry):
    slot = entry.encode(SECRET)
    assert len(slot) == SLOT_BYTES
    assert Reserved.decode(SECRET, slot) == entry
    assert Reserved.decode(b"t" * 32, slot) is None, "of another log"
    for end in range(SLOT_BYTES):
        assert Reserved.decode(SECRET, slot[:end]) is None
        torn = slot[:end] + bytes([slot[end] ^ 1]) + slot[end + 1 :]
        assert Reserved.decode(SECRET, torn) is None
    assert Reserved.decode(SECRET, slot + b"\0") is None


def test_it_tells_the_minute_and_no_more():
    exact = replace(INTENT, time=replace(TIME, now_s=MINUTE + 59))
    read = Reserved.decode(SECRET, Reserved(1, exact, Command(ID, STREET)).encode(SECRET))
    assert read.fact == INTENT


@pytest.mark.parametrize(
    "items",
    [
        None,
        [],
        [2, *range(11)],
        [1, 1, MINUTE, 1, 3, "street", 1, 0, 0, b"short", None, None],
        [1, 1, MINUTE, 1, 3, "street", 1, 0, 0, b"c" * 16, b"short", b"h" * 32],
        [1, 1, MINUTE, 9, 3, "street", 1, 0, 0, None, None, None],
        [1, True, MINUTE, 1, 3, "street", 1, 0, 0, None, None, None],
        [1, 1, MINUTE + 1, 1, 3, "street", 1, 0, 0, None, None, None],
        [1, 1, MINUTE, 1, 3, "street", 1, 0, 0, None, b"k" * 32, b"h" * 32],
    ],
)
def test_what_is_tagged_is_parsed_strictly_all_the_same(items):
    body = cbor.encode(items)
    padded = (len(body).to_bytes(2, "big") + body).ljust(SLOT_BYTES - 16, b"\0")
    assert Reserved.decode(SECRET, padded + reserve._tag(SECRET, padded)) is None


@given(st.binary(max_size=SLOT_BYTES - 16))
def test_nothing_else_comes_out_of_tagged_bytes(data):
    padded = data.ljust(SLOT_BYTES - 16, b"\0")
    slot = padded + reserve._tag(SECRET, padded)
    found = Reserved.decode(SECRET, slot)
    assert found is None or found.encode(SECRET) == slot


def test_what_the_log_has_is_not_found_again():
    slots = [entry.encode(SECRET) for entry in reversed(ENTRIES)] + [bytes(SLOT_BYTES)] * 3
    assert [each.number for each in reserve.found(SECRET, slots, 0)] == [1, 2, 3, 4, 5, 2**62]
    assert [each.number for each in reserve.found(SECRET, slots, 4)] == [5, 2**62]


def test_the_last_slots_are_for_emergencies_and_none_is_written_over():
    first = 5
    taken = {reserve.slot_of(number) for number in range(first, first + reserve.SLOTS)}
    assert len(taken) == reserve.SLOTS
    assert reserve.COUNT_SLOT not in taken
    for emergency, most in ((True, reserve.SLOTS), (False, reserve.SLOTS - 256)):
        assert reserve.room(first, first + most - 1, emergency=emergency)
        assert not reserve.room(first, first + most, emergency=emergency)
