"""What a broker may send, judged on the bytes before anything is kept.

The MQTT library below trusts its broker: it would buffer one packet of 256 MB,
keep QoS 2 messages until they are released, and queue acknowledgements that the
broker never reads. A malicious broker could so fill the memory of a door. The
guard reads only the fixed header of each packet (MQTT 3.1.1 and 5, section 2.1)
and ends the session, which costs the broker our back-off and us nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_PUBLISH: Final = 3
_LENGTH_DIGITS: Final = 4
_WINDOW_S: Final = 60.0


class BrokerMisbehavedError(ConnectionError):
    """The broker overstepped a limit; the connection is to be dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what one session may bring."""

    packet_bytes: int = 64 * 1024
    """Longest single packet, without its fixed header."""
    packets_per_minute: int = 6_000
    bytes_per_minute: int = 16 * 1024 * 1024
    unread_acknowledgements: int = 256
    """QoS 1 messages received since the broker last took a byte from us."""


class BrokerGuard:
    """Follows one connection. Call `received` with every byte read, in any slices."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._header: int | None = None
        self._length = 0
        self._length_digits = 0
        self._body_left = 0
        self._window_start_s = 0.0
        self._packets = 0
        self._bytes = 0
        self._unread = 0

    def sent(self) -> None:
        """The broker took bytes from us."""
        self._unread = 0

    def received(self, data: bytes, now_s: float) -> None:
        """Judge bytes just read. BrokerMisbehavedError when a limit is overstepped."""
        if now_s - self._window_start_s >= _WINDOW_S:
            self._window_start_s, self._packets, self._bytes = now_s, 0, 0
        self._bytes += len(data)
        if self._bytes > self._limits.bytes_per_minute:
            raise BrokerMisbehavedError("more bytes a minute than allowed")
        position = 0
        while position < len(data):
            if self._body_left:
                step = min(self._body_left, len(data) - position)
                self._body_left -= step
                position += step
            else:
                self._header_byte(data[position])
                position += 1

    def _header_byte(self, byte: int) -> None:
        if self._header is None:
            self._start_packet(byte)
            return
        self._length |= (byte & 0x7F) << (7 * self._length_digits)
        self._length_digits += 1
        if self._length > self._limits.packet_bytes or self._length_digits > _LENGTH_DIGITS:
            raise BrokerMisbehavedError("a packet longer than allowed")
        if not byte & 0x80:
            self._header, self._body_left = None, self._length

    def _start_packet(self, byte: int) -> None:
        self._header, self._length, self._length_digits = byte, 0, 0
        self._packets += 1
        if self._packets > self._limits.packets_per_minute:
            raise BrokerMisbehavedError("more packets a minute than allowed")
        if byte >> 4 != _PUBLISH:
            return
        quality = byte >> 1 & 3
        if quality > 1:
            raise BrokerMisbehavedError("QoS 2 was never subscribed to")
        self._unread += quality
        if self._unread > self._limits.unread_acknowledgements:
            raise BrokerMisbehavedError("does not read our acknowledgements")
