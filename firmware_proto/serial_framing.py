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
LONGEST_FRAME: Final = MAX_MESSAGE_BYTES + _CRC_BYTES + (MAX_MESSAGE_BYTES // _LONGEST_BLOCK) + 1
"""Bytes between two zeros."""


class SerialFraming:
    """Both directions of one line. Chunks may be cut anywhere.

    Costs what its bytes cost, however they are cut and whatever they are, and
    keeps at most one frame.
    """

    def __init__(self) -> None:
        self._stuffed = bytearray()
        self._too_long = False

    @property
    def held(self) -> int:
        """Bytes kept of a frame not yet complete."""
        return len(self._stuffed)

    def cut(self, message: bytes) -> list[bytes]:
        """One frame for one message (1..2048 bytes)."""
        if not 1 <= len(message) <= MAX_MESSAGE_BYTES:
            raise LocalProtocolError(f"a message has 1..{MAX_MESSAGE_BYTES} bytes")
        # The leading zero ends whatever noise the other side has collected.
        return [b"\x00" + _stuff(message + _crc(message)) + b"\x00"]

    def receive(self, fragment: bytes) -> list[bytes]:
        """Messages completed by this chunk; damaged frames are skipped."""
        *ends, rest = fragment.split(b"\x00")
        complete = []
        for end in ends:
            if not (end or self._stuffed or self._too_long):
                continue  # a line held at zero is all ends
            self._keep(end)
            message = None if self._too_long else _message(bytes(self._stuffed))
            if message is not None:
                complete.append(message)
            self._stuffed.clear()
            self._too_long = False
        self._keep(rest)
        return complete

    def _keep(self, more: bytes) -> None:
        self._too_long = self._too_long or len(self._stuffed) + len(more) > LONGEST_FRAME
        if self._too_long:
            self._stuffed.clear()
        else:
            self._stuffed += more


def _message(stuffed: bytes) -> bytes | None:
    """What a frame carries; None where it is damaged, or empty."""
    data = _unstuff(stuffed)
    if data is None or len(data) <= _CRC_BYTES:
        return None
    message, crc = data[:-_CRC_BYTES], data[-_CRC_BYTES:]
    return message if crc == _crc(message) and len(message) <= MAX_MESSAGE_BYTES else None


def _crc(data: bytes) -> bytes:
    return crc_hqx(data, _CRC_START).to_bytes(_CRC_BYTES, "big")


def _stuff(data: bytes) -> bytes:
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


def _unstuff(stuffed: bytes) -> bytes | None:
    """The inverse of `_stuff`; None where the last block is not whole."""
    blocks = []
    at = 0
    while at < len(stuffed):
        after = at + stuffed[at]
        if after > len(stuffed):
            return None
        blocks.append(stuffed[at + 1 : after])
        if stuffed[at] <= _LONGEST_BLOCK and after < len(stuffed):
            blocks.append(b"\x00")
        at = after
    return b"".join(blocks)
