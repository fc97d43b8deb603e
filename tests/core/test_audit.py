"""The leaf: one form only, nothing finer than a minute, nobody named."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto import cbor
from firmware_proto.codes import Fault, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.audit import COMMITMENT_BYTES, SALT_BYTES, TIME_STEP_S, Leaf
from gatewayd.core.model import ClockState, DoorId, EntryKind, Fact, TimeReading, Verdict

LEAF = Leaf(
    seq=7,
    time_s=1_800_000_000,
    clock=ClockState.TRUSTED,
    kind=EntryKind.OUTCOME,
    door=DoorId("street"),
    verdict=Verdict(Outcome.CONFIRMED, Reason.OK),
    about=6,
    salt=bytes(range(SALT_BYTES)),
    commitment=bytes(COMMITMENT_BYTES),
)

NUMBERS = st.integers(0, 2**64 - 1)
LEAVES = st.builds(
    Leaf,
    seq=NUMBERS,
    time_s=st.integers(0, (2**64 - 1) // 60).map(lambda minutes: minutes * 60),
    clock=st.sampled_from(ClockState),
    kind=st.sampled_from(EntryKind),
    door=st.none() | st.text(min_size=1, max_size=8).map(DoorId),
    verdict=st.builds(Verdict, st.sampled_from(Outcome), st.sampled_from(Reason)),
    about=NUMBERS,
    salt=st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES),
    commitment=st.binary(min_size=COMMITMENT_BYTES, max_size=COMMITMENT_BYTES),
)


def items(**changes):
    """The array of LEAF with items replaced by position, as `i3=...`."""
    values = cbor.decode(LEAF.encode())
    for name, value in changes.items():
        values[int(name[1:])] = value
    return values


def test_the_format_that_is_hashed_is_this_for_good():
    assert LEAF.encode().hex() == (
        "8b"  # array of 11
        "01"  # version
        "07"  # seq
        "1a6b49d200"  # time
        "01"  # clock: trusted
        "03"  # kind: outcome
        "66737472656574"  # door: street
        "01"  # outcome: confirmed
        "00"  # reason: ok
        "06"  # about
        "50000102030405060708090a0b0c0d0e0f"  # salt
        "5820" + "00" * 32  # commitment
    )


@settings(max_examples=100, deadline=None)
@given(LEAVES)
def test_a_leaf_survives_its_encoding(leaf):
    assert Leaf.decode(leaf.encode()) == leaf


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_either_re_encode_alike_or_are_refused(data):
    try:
        leaf = Leaf.decode(data)
    except RemoteProtocolError:
        return
    assert leaf.encode() == data


@pytest.mark.parametrize("now_s", [0, 59, 60, 119, 1_800_000_059])
def test_the_time_is_cut_to_the_minute(now_s):
    time = TimeReading(ClockState.HOLDOVER, now_s, 3.0, 0)
    fact = Fact(time, EntryKind.STRANGERS, None, Verdict(Outcome.REFUSED, Reason.STRANGER), 3)
    leaf = Leaf.of(fact, seq=1, salt=bytes(16), commitment=bytes(32))
    assert leaf.time_s == now_s // TIME_STEP_S * TIME_STEP_S
    assert leaf == Leaf(
        seq=1,
        time_s=leaf.time_s,
        clock=ClockState.HOLDOVER,
        kind=EntryKind.STRANGERS,
        door=None,
        verdict=fact.verdict,
        about=3,
        salt=bytes(16),
        commitment=bytes(32),
    )
    assert Leaf.decode(leaf.encode()) == leaf


def test_a_leaf_has_no_room_for_a_name():
    assert {field.name for field in fields(Leaf)} == {
        "seq", "time_s", "clock", "kind", "door", "verdict", "about", "salt", "commitment",
    }  # fmt: skip


def test_truncated_anywhere_and_with_bytes_behind():
    data = LEAF.encode()
    for end in range(len(data)):
        with pytest.raises(RemoteProtocolError) as caught:
            Leaf.decode(data[:end])
        assert caught.value.fault is Fault.MALFORMED
    with pytest.raises(RemoteProtocolError):
        Leaf.decode(data + b"\x00")


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        1,
        [1],
        items()[:-1],
        [*items(), 0],
        items(i1=-1),
        items(i1=True),
        items(i1="7"),
        items(i2=1_800_000_001),
        items(i2=None),
        items(i3=0),
        items(i3=4),
        items(i3=True),
        items(i4=0),
        items(i4=99),
        items(i5=""),
        items(i5="d" * 33),
        items(i5="é" * 17),
        items(i5=b"street"),
        items(i6=0),
        items(i6=4),
        items(i7=15),
        items(i8=-1),
        items(i9=bytes(15)),
        items(i9=bytes(17)),
        items(i9="0123456789abcdef"),
        items(i10=bytes(31)),
        items(i10=None),
    ],
    ids=str,
)
def test_what_is_not_a_leaf(value):
    with pytest.raises(RemoteProtocolError) as caught:
        Leaf.decode(cbor.encode(value))
    assert caught.value.fault is Fault.MALFORMED


@pytest.mark.parametrize("version", [0, 2, 2**32])
def test_another_version_is_told_apart_from_nonsense(version):
    for value in (items(i0=version), [version], [version, "new", {}]):
        with pytest.raises(RemoteProtocolError) as caught:
            Leaf.decode(cbor.encode(value))
        assert caught.value.fault is Fault.UNSUPPORTED


def test_the_longest_door_name_fits():
    leaf = replace(LEAF, door=DoorId("d" * 32))
    assert Leaf.decode(leaf.encode()) == leaf
