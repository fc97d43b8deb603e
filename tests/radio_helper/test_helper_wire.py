"""Requests and answers between the daemon and its radio helper: strict in both directions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.radio_helper.wire import (
    MAX_ANSWER_BYTES,
    MAX_REQUEST_BYTES,
    AddressType,
    Answer,
    Request,
    Restart,
    Status,
    Strength,
    WireError,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)

ADAPTER, PHONE = bytes(range(6)), bytes(range(6, 12))
STRENGTH = Strength(ADAPTER, PHONE, AddressType.RANDOM)
RESTART = Restart(ADAPTER)

addresses = st.binary(min_size=6, max_size=6)
requests = st.one_of(
    st.builds(Restart, addresses),
    st.builds(Strength, addresses, addresses, st.sampled_from(AddressType)),
)


def test_the_bytes_are_these() -> None:
    assert encode_request(STRENGTH).hex() == "01000102030405060708090a0b02"
    assert encode_request(RESTART).hex() == "02000102030405"
    assert encode_answer(Answer(Status.OK, -63)).hex() == "00c1"
    assert encode_answer(Answer(Status.TOO_SOON)).hex() == "04"


@given(requests)
def test_requests_survive_the_journey(request: Request) -> None:
    packet = encode_request(request)
    assert len(packet) <= MAX_REQUEST_BYTES
    assert decode_request(packet) == request


@given(st.binary(max_size=20))
def test_whatever_is_no_request_is_refused(packet: bytes) -> None:
    try:
        request = decode_request(packet)
    except WireError:
        return
    assert encode_request(request) == packet


@pytest.mark.parametrize("request_", [STRENGTH, RESTART])
def test_a_request_cut_or_grown_is_none(request_: Request) -> None:
    packet = encode_request(request_)
    for cut in range(len(packet)):
        with pytest.raises(WireError):
            decode_request(packet[:cut])
    with pytest.raises(WireError):
        decode_request(packet + b"\0")
    with pytest.raises(WireError):
        decode_request(b"\x07" + packet[1:])


@pytest.mark.parametrize("kind", [0, 3, 255])
def test_an_address_of_no_known_type_is_refused(kind: int) -> None:
    with pytest.raises(WireError):
        decode_request(encode_request(STRENGTH)[:-1] + bytes([kind]))


@pytest.mark.parametrize(
    "request_",
    [Restart(b"short"), Strength(b"short", PHONE, AddressType.PUBLIC),
     Strength(ADAPTER, bytes(7), AddressType.PUBLIC)],
)  # fmt: skip
def test_an_address_that_is_none_is_not_sent(request_: Request) -> None:
    with pytest.raises(WireError, match="6 bytes"):
        encode_request(request_)


@given(st.integers(-128, 127))
def test_readings_survive_the_journey(rssi: int) -> None:
    packet = encode_answer(Answer(Status.OK, rssi))
    assert len(packet) == MAX_ANSWER_BYTES
    assert decode_answer(packet, STRENGTH) == Answer(Status.OK, rssi)


@pytest.mark.parametrize("status", Status)
def test_statuses_survive_the_journey(status: Status) -> None:
    packet = encode_answer(Answer(status))
    assert decode_answer(packet, RESTART) == Answer(status)
    if status is not Status.OK:
        assert decode_answer(packet, STRENGTH) == Answer(status)


@pytest.mark.parametrize(
    ("packet", "request_"),
    [(b"", RESTART), (b"\x63", RESTART), (b"\x00\x00", RESTART), (b"\x00", STRENGTH),
     (b"\x03\x00", STRENGTH), (b"\x00\x00\x00", STRENGTH)],
)  # fmt: skip
def test_whatever_is_no_answer_to_this_is_refused(packet: bytes, request_: Request) -> None:
    with pytest.raises(WireError):
        decode_answer(packet, request_)


def test_a_reading_that_is_none_is_not_sent() -> None:
    with pytest.raises(WireError):
        encode_answer(Answer(Status.OK, 200))
