"""Pieces of a delivery and the quota: whatever comes, memory and costs have their bounds."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.codes import MAX_CARRIED_BYTES, MAX_PIECE_BYTES, Fault
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.phone_messages import Deliver
from gatewayd.core.carrying import HOUR_S, OF_A_HOLDER, OF_ALL, PIECE_COSTS, Parcel, Quota, cost

ONE, OTHER = b"1" * 16, b"2" * 16


def pieces(data: bytes, size: int, request: bytes = ONE) -> list[Deliver]:
    return [
        Deliver(request, offset, len(data), data[offset : offset + size])
        for offset in range(0, len(data), size)
    ]


def refused(parcel: Parcel, piece: Deliver) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parcel.with_piece(piece)
    assert caught.value.fault is Fault.UNEXPECTED


@given(st.binary(min_size=1, max_size=5000), st.integers(1, MAX_PIECE_BYTES))
def test_pieces_become_what_they_were(data, size):
    parcel = Parcel()
    for piece in pieces(data, size):
        assert not parcel.is_whole
        parcel = parcel.with_piece(piece)
    assert parcel.is_whole
    assert parcel.data == data
    refused(parcel, pieces(data, size)[-1])


def test_the_largest_thing():
    parcel = Parcel()
    for piece in pieces(bytes(MAX_CARRIED_BYTES), MAX_PIECE_BYTES):
        parcel = parcel.with_piece(piece)
    assert parcel.is_whole
    assert len(parcel.data) == MAX_CARRIED_BYTES


def test_a_piece_that_does_not_follow():
    first, second, third = pieces(b"abcdefgh", 3)
    begun = Parcel().with_piece(first)
    for parcel, wrong in (
        (Parcel(), second),
        (begun, first),
        (begun, third),
        (begun, replace(second, total=9)),
        (begun, replace(second, request=OTHER)),
        (begun, replace(second, data=b"123456")),
        (Parcel(), replace(first, total=2)),
    ):
        refused(parcel, wrong)


def test_another_thing_begins_anew():
    begun = Parcel().with_piece(pieces(b"abcdefgh", 3)[0])
    (other,) = pieces(b"xy", 3, OTHER)
    assert begun.with_piece(other) == Parcel(OTHER, 2, b"xy")


@given(
    st.lists(
        st.builds(
            Deliver,
            st.sampled_from([ONE, OTHER]),
            st.integers(0, 12),
            st.integers(1, 12),
            st.binary(min_size=1, max_size=6),
        )
    )
)
def test_whatever_comes_is_held_within_what_was_announced(many):
    parcel = Parcel()
    for piece in many:
        try:
            parcel = parcel.with_piece(piece)
        except RemoteProtocolError:
            parcel = Parcel()
        assert len(parcel.data) <= parcel.total


def test_small_pieces_are_no_way_around_the_quota():
    assert cost(Deliver(ONE, 0, 1, b"x")) == PIECE_COSTS + 1


def test_a_holder_has_his_share_and_an_hour_later_again():
    quota = Quota().spent(b"anna", OF_A_HOLDER, 10.0)
    assert quota is not None
    assert quota.spent(b"anna", 1, 20.0) is None
    assert quota.spent(b"bo", 1, 20.0) is not None
    assert quota.spent(b"anna", 1, 10.0 + HOUR_S - 1) is None
    later = quota.spent(b"anna", 1, 10.0 + HOUR_S)
    assert later == Quota(10.0 + HOUR_S, {b"anna": 1})


def test_all_together_have_theirs():
    quota = Quota()
    for number in range(OF_ALL // OF_A_HOLDER):
        quota = quota.spent(bytes([number]), OF_A_HOLDER, 0.0)
        assert quota is not None
    assert quota.spent(b"one more", 1, 1.0) is None
    assert quota.spent(b"one more", 1, HOUR_S) is not None
    assert Quota().spent(b"anna", OF_A_HOLDER + 1, 0.0) is None
