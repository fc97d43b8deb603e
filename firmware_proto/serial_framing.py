"""Messages on a serial line: COBS between zero bytes, with a CRC-16.

A frame is `00 | COBS(message | CRC) | 00`. What the line damages is dropped
without a word: sealed counters and deadlines notice what is missing, and noise
on a wire is nobody's fault.
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

from firmware_proto.codes import MAX_MESSAGE_BYTES
from firmware_proto.errors import LocalProtocolError

_CRC_BYTES: Final = 2
_CRC_START: Final = 0xFFFF  # CRC-16/IBM-3740: polynomial 1021, not reflected
_LONGEST_BLOCK: Final = 254
_LIMIT: Final = MAX_MESSAGE_BYTES + _CRC_BYTES


class SerialFraming:
    """Both directions of one line. Chunks may be cut anywhere."""

    def __init__(self) -> None:
        self._decoder = _CobsDecoder()

    @property
    def held(self) -> int:
        """Bytes kept of a message not yet complete."""
        return max(0, len(self._decoder.data) - _CRC_BYTES)

    def cut(self, message: bytes) -> list[bytes]:
        """One frame for one message (1..2048 bytes)."""
        if not 1 <= len(message) <= MAX_MESSAGE_BYTES:
            raise LocalProtocolError(f"a message has 1..{MAX_MESSAGE_BYTES} bytes")
        # The leading zero ends whatever noise the other side has collected.
        return [b"\x00" + _cobs(message + _crc(message)) + b"\x00"]

    def receive(self, fragment: bytes) -> list[bytes]:
        """Messages completed by this chunk; damaged frames are skipped."""
        complete = []
        for byte in fragment:
            frame = self._decoder.feed(byte)
            if frame is None or len(frame) <= _CRC_BYTES:
                continue
            message, crc = frame[:-_CRC_BYTES], frame[-_CRC_BYTES:]
            if crc == _crc(message):
                complete.append(message)
        return complete


class _CobsDecoder:
    """One byte at a time, never holding more than one frame."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._block_left = 0
        self._zero_due = False
        self._damaged = False

    def feed(self, byte: int) -> bytes | None:
        """The frame that this byte ends, if it is whole."""
        if byte == 0:
            frame = bytes(self.data) if self._block_left == 0 and not self._damaged else None
            self._begin()
            return frame
        if self._damaged:
            return None
        if self._block_left:
            self._block_left -= 1
            self.data.append(byte)
        else:
            if self._zero_due:
                self.data.append(0)
            self._block_left = byte - 1
            self._zero_due = byte <= _LONGEST_BLOCK
        if len(self.data) > _LIMIT:
            self._damaged = True
            self.data.clear()
        return None

    def _begin(self) -> None:
        self.data.clear()
        self._block_left = 0
        self._zero_due = False
        self._damaged = False


def _crc(data: bytes) -> bytes:
    return crc_hqx(data, _CRC_START).to_bytes(_CRC_BYTES, "big")


def _cobs(data: bytes) -> bytes:
    """Consistent overhead byte stuffing: no zero byte in the result."""
    result = bytearray()
    blocks = data.split(b"\x00")
    for block in blocks:
        rest = block
        while len(rest) >= _LONGEST_BLOCK:
            result += b"\xff" + rest[:_LONGEST_BLOCK]
            rest = rest[_LONGEST_BLOCK:]
        result += bytes([len(rest) + 1]) + rest
    return bytes(result)
