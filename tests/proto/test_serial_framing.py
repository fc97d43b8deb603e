"""COBS and CRC-16 on a line that may cut, add and damage bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.codes import MAX_MESSAGE_BYTES
from firmware_proto.errors import LocalProtocolError
from firmware_proto.serial_framing import LONGEST_FRAME, SerialFraming, _stuff

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
        assert line.held <= LONGEST_FRAME
    assert line.receive(SerialFraming().cut(b"after")[0]) == [b"after"]


@given(st.binary(max_size=400))
@settings(max_examples=60)
def test_noise_raises_nothing_and_hides_no_message(noise):
    line = SerialFraming()
    line.receive(noise)
    assert line.receive(SerialFraming().cut(b"after the noise")[0])[-1] == b"after the noise"


# --- against a decoder that is slow and simple -------------------------------------------------
def crc16(data: bytes) -> int:
    """CRC-16/IBM-3740, bit by bit."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (0x1021 if crc & 0x8000 else 0)
        crc &= 0xFFFF
    return crc


def simply_unstuffed(stuffed: bytes) -> bytes | None:
    """COBS, byte by byte, as its inventors describe it."""
    data, left, zero_due = bytearray(), 0, False
    for byte in stuffed:
        if left:
            data.append(byte)
            left -= 1
        else:
            if zero_due:
                data.append(0)
            left, zero_due = byte - 1, byte < 255
    return bytes(data) if left == 0 else None


def simply_received(line: bytes) -> list[bytes]:
    found = []
    for stuffed in line.split(b"\x00")[:-1]:
        data = simply_unstuffed(stuffed)
        if data is None or not 3 <= len(data) <= MAX_MESSAGE_BYTES + 2:
            continue
        if crc16(data[:-2]) == int.from_bytes(data[-2:], "big"):
            found.append(data[:-2])
    return found


PIECES = st.one_of(
    st.binary(max_size=30),
    st.binary(min_size=1, max_size=300).map(lambda data: SerialFraming().cut(data)[0]),
    st.sampled_from(
        [b"\xff" * 254, b"\x01" * 40, b"\x00", b"\x00\x00", b"\xff", b"\x02", b"\x05\x00"]
    ),
    st.sampled_from([254, 255, 508, 2047, 2048]).map(
        lambda size: SerialFraming().cut(b"\x07" * size)[0]
    ),
    st.sampled_from([b"\x08" * 2049, b"\x08" * 2060]).map(
        # well-formed, and too long
        lambda data: b"\x00" + _stuff(data + crc16(data).to_bytes(2, "big")) + b"\x00"
    ),
)


@given(st.lists(PIECES, max_size=6), st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_comes_however_it_is_cut(pieces, data):
    line = b"".join(pieces)
    if line:
        changed = bytearray(line)
        for _ in range(data.draw(st.integers(0, 2))):
            changed[data.draw(st.integers(0, len(line) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        line = bytes(changed)
    expected = simply_received(line)
    assert SerialFraming().receive(line) == expected
    by_bytes, held = SerialFraming(), 0
    got = []
    for at in range(len(line)):
        got += by_bytes.receive(line[at : at + 1])
        held = max(held, by_bytes.held)
    assert got == expected
    assert held <= LONGEST_FRAME
    at = data.draw(st.integers(0, len(line)))
    halves = SerialFraming()
    assert halves.receive(line[:at]) + halves.receive(line[at:]) == expected


def test_every_single_bit_of_a_frame_matters():
    (frame,) = SerialFraming().cut(b"\x05 open \x00 the door")
    for at in range(1, len(frame) - 1):
        for bit in range(8):
            changed = bytearray(frame)
            changed[at] ^= 1 << bit
            assert SerialFraming().receive(bytes(changed)) == []


@pytest.mark.parametrize("size", [0, MAX_MESSAGE_BYTES + 1])
def test_sizes_that_cannot_be_sent(size):
    with pytest.raises(LocalProtocolError):
        SerialFraming().cut(bytes(size))
