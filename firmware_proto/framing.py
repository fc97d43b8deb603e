"""Cut messages into GATT values and put them together again, for every ATT MTU from 23 to 517.

A fragment is `channel (2) | flags and sequence (1) | data`; in the first
fragment of a message the data begins with the total length (2, big-endian).
PROTOCOL.md, "Transport", explains every rule that is enforced here.
"""

from __future__ import annotations

from typing import Final, Protocol

from firmware_proto.codes import MAX_ATT_MTU, MAX_MESSAGE_BYTES, MIN_ATT_MTU, Fault
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError

CHANNEL_BYTES: Final = 2
UNASSIGNED_CHANNEL: Final = b"\x00\x00"
"""What the peripheral writes while it cannot know the channel that the central chose."""

_FIRST: Final = 0x80
_LAST: Final = 0x40
_SEQUENCE: Final = 0x3F
_HEADER_BYTES: Final = CHANNEL_BYTES + 1
_LENGTH_BYTES: Final = 2
_ATT_OVERHEAD: Final = 3  # opcode and handle of a write or a notification
_MAX_VALUE_BYTES: Final = 512  # an attribute value is no longer, whatever the MTU
_MIN_VALUE_BYTES: Final = MIN_ATT_MTU - _ATT_OVERHEAD


class Framing(Protocol):
    """What a session needs of a transport's framing."""

    def cut(self, message: bytes) -> list[bytes]:
        """Fragments of one message, in the order in which they must be written."""
        ...

    def receive(self, fragment: bytes) -> list[bytes]:
        """Messages completed by this fragment. RemoteProtocolError is final."""
        ...

    @property
    def held(self) -> int:
        """Bytes kept of messages not yet complete."""
        ...


class WholeFrames:
    """No framing: for a transport that carries whole frames itself, as a serial line does."""

    held: int = 0

    def cut(self, message: bytes) -> list[bytes]:
        """The message (1..2048 bytes), as it is."""
        if not 1 <= len(message) <= MAX_MESSAGE_BYTES:
            raise LocalProtocolError(f"a message has 1..{MAX_MESSAGE_BYTES} bytes")
        return [message]

    def receive(self, fragment: bytes) -> list[bytes]:
        """The frame, as it is."""
        if not 1 <= len(fragment) <= MAX_MESSAGE_BYTES:
            raise RemoteProtocolError(Fault.MALFORMED, f"a frame of {len(fragment)} bytes")
        return [fragment]


class GattFraming:
    """Both directions of one connection.

    `mtu` is the ATT MTU in force; it may grow while connected. `channel` is
    what the central drew at random for this connection (2 bytes, not 0000);
    None is the peripheral side, which adopts the channel of the first fragment
    that it receives.
    """

    def __init__(self, mtu: int, channel: bytes | None) -> None:
        self.mtu = mtu
        if channel is not None and (len(channel) != CHANNEL_BYTES or channel == UNASSIGNED_CHANNEL):
            raise LocalProtocolError("a channel has two bytes and is not 0000")
        self._central = channel is not None
        self._channel = channel
        self._spoke = False
        self._next_out = 0
        self._next_in = 0
        self._total = 0
        self._data = bytearray()

    @property
    def mtu(self) -> int:
        """The ATT MTU that messages are cut for from now on. LocalProtocolError beyond 23..517."""
        return self._mtu

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        if not MIN_ATT_MTU <= mtu <= MAX_ATT_MTU:
            raise LocalProtocolError(f"ATT MTU {mtu} is not within {MIN_ATT_MTU}..{MAX_ATT_MTU}")
        self._mtu = mtu

    @property
    def held(self) -> int:
        """Bytes kept of a message not yet complete."""
        return len(self._data)

    def cut(self, message: bytes) -> list[bytes]:
        """Fragments of one message (1..2048 bytes), each at most MTU - 3 and 512 bytes long."""
        if not 1 <= len(message) <= MAX_MESSAGE_BYTES:
            raise LocalProtocolError(f"a message has 1..{MAX_MESSAGE_BYTES} bytes")
        self._spoke = True
        channel = self._channel or UNASSIGNED_CHANNEL
        rest = len(message).to_bytes(_LENGTH_BYTES, "big") + message
        room = min(self._mtu - _ATT_OVERHEAD, _MAX_VALUE_BYTES) - _HEADER_BYTES
        pieces = [rest[at : at + room] for at in range(0, len(rest), room)]
        fragments = []
        for number, piece in enumerate(pieces):
            flags = (_FIRST if number == 0 else 0) | (_LAST if number == len(pieces) - 1 else 0)
            fragments.append(channel + bytes([flags | self._next_out]) + piece)
            self._next_out = (self._next_out + 1) & _SEQUENCE
        return fragments

    def receive(self, fragment: bytes) -> list[bytes]:
        """The message that this fragment completes, if any.

        A fragment of a foreign channel is nothing to the central side: a
        BlueZ gateway cannot keep a notification from reaching a second
        phone (bluez issue 1106). On the peripheral side it is a fault.
        """
        if not self._is_ours(fragment[:CHANNEL_BYTES]):
            return []
        if not _HEADER_BYTES < len(fragment) <= _MAX_VALUE_BYTES:
            raise RemoteProtocolError(Fault.MALFORMED, "fragment without data or too long")
        flags = fragment[CHANNEL_BYTES]
        if flags & _SEQUENCE != self._next_in:
            raise RemoteProtocolError(Fault.OUT_OF_ORDER, "fragment lost, repeated or reordered")
        self._next_in = (self._next_in + 1) & _SEQUENCE
        if not flags & _LAST and len(fragment) < _MIN_VALUE_BYTES:
            # Bounds the number of fragments of a message, whatever the peer does.
            raise RemoteProtocolError(Fault.MALFORMED, "short fragment that is not the last")
        data = self._opened(fragment) if flags & _FIRST else self._continued(fragment)
        self._data += data
        complete = len(self._data) == self._total
        if len(self._data) > self._total or complete != bool(flags & _LAST):
            raise RemoteProtocolError(Fault.MALFORMED, "data does not fill the announced length")
        if not complete:
            return []
        message = bytes(self._data)
        self._data.clear()
        self._total = 0
        return [message]

    def _is_ours(self, channel: bytes) -> bool:
        if len(channel) < CHANNEL_BYTES:
            if self._central:
                return False
            raise RemoteProtocolError(Fault.MALFORMED, "fragment without a channel")
        if self._central:
            # Until we have spoken, the peripheral cannot know our channel.
            return channel == self._channel or (channel == UNASSIGNED_CHANNEL and not self._spoke)
        if channel == UNASSIGNED_CHANNEL:
            raise RemoteProtocolError(Fault.MALFORMED, "the central chose no channel")
        if self._channel is None:
            self._channel = channel
        if channel != self._channel:
            raise RemoteProtocolError(Fault.UNEXPECTED, "fragment of a foreign channel")
        return True

    def _opened(self, fragment: bytes) -> bytes:
        if self._total:
            raise RemoteProtocolError(Fault.UNEXPECTED, "message begun within a message")
        start = _HEADER_BYTES + _LENGTH_BYTES
        if len(fragment) <= start:
            raise RemoteProtocolError(Fault.MALFORMED, "first fragment without data")
        total = int.from_bytes(fragment[_HEADER_BYTES:start], "big")
        if total > MAX_MESSAGE_BYTES:
            raise RemoteProtocolError(Fault.TOO_LARGE, "message announced above the limit")
        self._total = total
        return fragment[start:]

    def _continued(self, fragment: bytes) -> bytes:
        if not self._total:
            raise RemoteProtocolError(Fault.UNEXPECTED, "continuation without a beginning")
        return fragment[_HEADER_BYTES:]
