"""COBS and CRC-16 on a line that may cut, add and damage bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.codes import MAX_MESSAGE_BYTES
from firmware_proto.errors import LocalProtocolError
from firmware_proto.serial_framing import SerialFraming

MESSAGES = st.one_of(
    st.binary(min_size=1, max_size=600),
    st.integers(1, MAX_MESSAGE_BYTES).map(bytes),
    st.integers(1, MAX_MESSAGE_BYTES).map(lambda size: b"\x5a" * size),
)


def test_published_frame():
    # CRC-16/IBM-3740 over "123456789" is 29B1.
    assert SerialFraming().cut(b"123456789") == [b"\x00\x0c123456789\x29\xb1\x00"]


@given(MESSAGES)
@settings(max_examples=60)
def test_a_message_survives_any_cutting_and_holds_no_zero(message):
    (frame,) = SerialFraming().cut(message)
    assert 0 not in frame[1:-1]
    assert SerialFraming().receive(frame) == [message]
    line = SerialFraming()
    got = [found for byte in frame for found in line.receive(bytes([byte]))]
    assert got == [message]
    assert line.held == 0


@pytest.mark.parametrize("size", [252, 253, 254, 255, 256, 506, 508, 509, MAX_MESSAGE_BYTES])
def test_block_boundaries(size):
    for message in (b"\x01" * size, bytes(size), b"\x01" * (size - 1) + b"\x00"):
        assert SerialFraming().receive(SerialFraming().cut(message)[0]) == [message]


def test_every_truncation_is_dropped_and_the_next_frame_arrives():
    sender = SerialFraming()
    (frame,) = sender.cut(b"first\x00message")
    (following,) = sender.cut(b"second")
    for length in range(len(frame) - 1):
        assert SerialFraming().receive(frame[:length] + following) == [b"second"]


@given(st.data())
@settings(max_examples=60)
def test_a_changed_byte_never_yields_another_message(data):
    message = data.draw(st.binary(min_size=1, max_size=60))
    frame = bytearray(SerialFraming().cut(message)[0])
    at = data.draw(st.integers(1, len(frame) - 2))
    frame[at] ^= data.draw(st.integers(1, 255))
    found = SerialFraming().receive(bytes(frame))
    # A change to a zero byte ends the frame early; pieces have no right CRC but
    # by a chance of 1 in 65536.
    assert message not in found


def test_an_endless_frame_is_forgotten_not_collected():
    line = SerialFraming()
    for _ in range(40):
        assert line.receive(b"\xff" * 512) == []
        assert line.held <= MAX_MESSAGE_BYTES
    assert line.receive(SerialFraming().cut(b"after")[0]) == [b"after"]


@given(st.binary(max_size=400))
@settings(max_examples=60)
def test_noise_raises_nothing_and_hides_no_message(noise):
    line = SerialFraming()
    line.receive(noise)
    assert line.receive(SerialFraming().cut(b"after the noise")[0])[-1] == b"after the noise"


@pytest.mark.parametrize("size", [0, MAX_MESSAGE_BYTES + 1])
def test_sizes_that_cannot_be_sent(size):
    with pytest.raises(LocalProtocolError):
        SerialFraming().cut(bytes(size))
