"""Fragments at every MTU, and everything a hostile or broken peer can do to them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.codes import MAX_ATT_MTU, MAX_MESSAGE_BYTES, MIN_ATT_MTU, Fault
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.framing import UNASSIGNED_CHANNEL, GattFraming

CHANNEL = b"\xab\xcd"
MESSAGE = bytes(range(256)) * 8


def central(mtu: int = 23) -> GattFraming:
    return GattFraming(mtu, CHANNEL)


def peripheral(mtu: int = 23) -> GattFraming:
    return GattFraming(mtu, None)


def fault_of(framing: GattFraming, *fragments: bytes) -> Fault:
    """The fault that the last of these fragments is."""
    for fragment in fragments[:-1]:
        framing.receive(fragment)
    with pytest.raises(RemoteProtocolError) as caught:
        framing.receive(fragments[-1])
    return caught.value.fault


def test_every_mtu_carries_every_interesting_size_both_ways():
    for mtu in range(MIN_ATT_MTU, MAX_ATT_MTU + 1):
        near, far = central(mtu), peripheral(mtu)
        for size in (1, mtu - 8, mtu - 7, mtu, MAX_MESSAGE_BYTES):
            for sender, receiver in ((near, far), (far, near)):
                fragments = sender.cut(MESSAGE[:size])
                assert all(len(fragment) <= min(mtu - 3, 512) for fragment in fragments)
                assert [receiver.receive(fragment) for fragment in fragments] == [
                    *[[]] * (len(fragments) - 1),
                    [MESSAGE[:size]],
                ]
                assert receiver.held == 0


def test_known_fragments():
    assert central(23).cut(bytes(20)) == [
        CHANNEL + b"\x80\x00\x14" + bytes(15),
        CHANNEL + b"\x41" + bytes(5),
    ]


def test_an_mtu_that_grows_between_messages():
    near, far = central(23), peripheral(23)
    assert len(near.cut(bytes(100))) > 1
    near.mtu = 185
    (fragment,) = near.cut(bytes(100))
    assert near.mtu == 185
    for each in central(23).cut(bytes(100)):
        far.receive(each)
    assert far.receive(fragment) == [bytes(100)]  # its sequence number runs on
    for wrong in (MIN_ATT_MTU - 1, MAX_ATT_MTU + 1):
        with pytest.raises(LocalProtocolError):
            near.mtu = wrong
    assert near.mtu == 185


@pytest.mark.parametrize("size", [0, MAX_MESSAGE_BYTES + 1])
def test_sizes_that_cannot_be_sent(size):
    with pytest.raises(LocalProtocolError):
        central().cut(bytes(size))


@pytest.mark.parametrize("mtu", [0, MIN_ATT_MTU - 1, MAX_ATT_MTU + 1])
def test_mtu_out_of_bounds(mtu):
    with pytest.raises(LocalProtocolError):
        central(mtu)


@pytest.mark.parametrize("channel", [b"", b"\x01", b"\x01\x02\x03", UNASSIGNED_CHANNEL])
def test_channels_that_nobody_may_choose(channel):
    with pytest.raises(LocalProtocolError):
        GattFraming(23, channel)


def test_sequence_runs_on_over_messages_and_wraps():
    near, far = central(), peripheral()
    fragments = [fragment for _ in range(3) for fragment in near.cut(MESSAGE)]
    assert [fragment[2] & 0x3F for fragment in fragments] == [
        number % 64 for number in range(len(fragments))
    ]
    assert sum(far.receive(fragment) == [MESSAGE] for fragment in fragments) == 3


# --- channels -------------------------------------------------------------------------
def test_the_peripheral_adopts_the_first_channel_and_refuses_others():
    far = peripheral()
    far.receive(central().cut(b"x")[0])
    assert far.cut(b"y")[0][:2] == CHANNEL
    assert fault_of(far, b"\x00\x01\xc1\x00\x01x") is Fault.UNEXPECTED


def test_the_central_ignores_foreign_notifications_at_any_point():
    near, far = central(), peripheral()
    far.receive(near.cut(b"hello")[0])
    foreign = [
        *GattFraming(23, b"\x01\x01").cut(MESSAGE),
        b"",
        b"\xab",
        UNASSIGNED_CHANNEL + b"\xc0",
    ]
    got = []
    for fragment in far.cut(MESSAGE):
        for other in foreign:
            assert near.receive(other) == []
        got += near.receive(fragment)
    assert got == [MESSAGE]


def test_the_central_hears_an_unassigned_channel_only_before_it_spoke():
    near, far = central(), peripheral()
    assert near.receive(far.cut(b"Hello")[0]) == [b"Hello"]
    near.cut(b"x")
    assert near.receive(far.cut(b"late")[0]) == []


def test_a_central_without_a_channel_is_refused():
    assert fault_of(peripheral(), UNASSIGNED_CHANNEL + b"\xc0\x00\x01x") is Fault.MALFORMED


@pytest.mark.parametrize("fragment", [b"", b"\xab", CHANNEL, CHANNEL + b"\xc0"])
def test_a_fragment_without_data_is_malformed(fragment):
    assert fault_of(peripheral(), fragment) is Fault.MALFORMED


# --- order ----------------------------------------------------------------------------
def test_lost_repeated_and_swapped_fragments_are_noticed_at_once():
    fragments = central().cut(MESSAGE[:100])
    for index in range(len(fragments)):
        expected = Fault.OUT_OF_ORDER
        assert fault_of(peripheral(), *fragments[: index + 1], fragments[index]) is expected
        if index + 1 < len(fragments):
            assert fault_of(peripheral(), *fragments[:index], fragments[index + 1]) is expected


def test_interleaved_messages_are_refused():
    first = central().cut(MESSAGE[:40])
    near = central()
    near.cut(b"x")  # so that the sequence goes on
    second = near.cut(MESSAGE[:40])
    assert fault_of(peripheral(), first[0], second[0]) is Fault.UNEXPECTED


def test_a_continuation_without_a_beginning_is_refused():
    assert fault_of(peripheral(), CHANNEL + b"\x40" + b"x") is Fault.UNEXPECTED


# --- lengths --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("head", "data", "fault"),
    [
        (b"\xc0\x00\x00", b"x", Fault.MALFORMED),  # announces nothing
        (b"\xc0\x00", b"", Fault.MALFORMED),  # half a length
        (b"\xc0\x00\x01", b"", Fault.MALFORMED),  # no data
        (b"\xc0\x00\x02", b"x", Fault.MALFORMED),  # last, but too short
        (b"\xc0\x00\x01", b"xy", Fault.MALFORMED),  # too long
        (b"\x80\x00\x0f", bytes(15), Fault.MALFORMED),  # complete, but not marked as last
        (b"\x80\x00\x01", bytes(15), Fault.MALFORMED),
        (b"\x80\x08\x00", bytes(14), Fault.MALFORMED),  # not the last, and not full
        (b"\x80\x08\x01", bytes(15), Fault.TOO_LARGE),
        (b"\x80\xff\xff", bytes(15), Fault.TOO_LARGE),
    ],
)
def test_lengths_that_do_not_fit(head, data, fault):
    assert fault_of(peripheral(), CHANNEL + head + data) is fault


def test_a_fragment_longer_than_an_attribute_is_refused():
    whole = CHANNEL + b"\x80\x08\x00" + bytes(507)
    assert peripheral(517).receive(whole) == []
    assert fault_of(peripheral(517), whole + b"x") is Fault.MALFORMED


def test_tiny_fragments_cannot_be_used_to_wear_us_out():
    begun = CHANNEL + b"\x80\x08\x00" + bytes(15)
    assert fault_of(peripheral(), begun, CHANNEL + b"\x01" + bytes(16)) is Fault.MALFORMED


@given(st.lists(st.binary(max_size=40), max_size=12), st.booleans())
@settings(max_examples=150)
def test_arbitrary_fragments_only_ever_raise_remote_errors(fragments, is_central):
    framing = central() if is_central else peripheral()
    for fragment in fragments:
        try:
            for message in framing.receive(fragment):
                assert 1 <= len(message) <= MAX_MESSAGE_BYTES
        except RemoteProtocolError:
            break
        assert framing.held <= MAX_MESSAGE_BYTES


@given(st.integers(23, 517), st.lists(st.integers(1, MAX_MESSAGE_BYTES), max_size=4), st.data())
@settings(max_examples=60)
def test_any_change_of_order_is_noticed(mtu, sizes, data):
    near = central(mtu)
    fragments = list(itertools.chain(*(near.cut(MESSAGE[:size]) for size in sizes)))[:60]
    order = data.draw(st.permutations(fragments))
    far = peripheral(mtu)
    got = []
    try:
        for fragment in order:
            got += far.receive(fragment)
    except RemoteProtocolError:
        assert order != fragments
    else:
        assert order == fragments
        assert got == [MESSAGE[:size] for size in sizes][: len(got)]
