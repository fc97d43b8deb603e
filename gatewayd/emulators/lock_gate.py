"""Limits how often strangers may make a lock compute; resumption passes freely.

A handshake costs a small controller most of a second and some charge, and
anybody in radio range can ask for one.
"""

from __future__ import annotations

from collections.abc import Callable

from firmware_proto.codes import Fault, FrameKind
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.framing import Framing


class TokenBucket:
    """`capacity` at once, then one per `refill_s` seconds. Times are any steady seconds."""

    def __init__(self, capacity: int, refill_s: float) -> None:
        self._capacity = capacity
        self._refill_s = refill_s
        self._level = float(capacity)
        self._at_s: float | None = None

    def take(self, now_s: float) -> bool:
        """One token, if there is one."""
        if self._at_s is not None:
            gained = (now_s - self._at_s) / self._refill_s
            self._level = min(float(self._capacity), self._level + gained)
        self._at_s = now_s
        if self._level < 1:
            return False
        self._level -= 1
        return True


class HandshakeGate:
    """A framing that lets a message_1 through only against a token."""

    def __init__(self, framing: Framing, bucket: TokenBucket, now_s: Callable[[], float]) -> None:
        self._framing = framing
        self._bucket = bucket
        self._now_s = now_s

    def cut(self, message: bytes) -> list[bytes]:
        """As the framing underneath."""
        return self._framing.cut(message)

    def receive(self, fragment: bytes) -> list[bytes]:
        """As the framing underneath; RemoteProtocolError BUSY for a message_1 too many."""
        received = self._framing.receive(fragment)
        for message in received:
            if message[0] == FrameKind.MESSAGE_1 and not self._bucket.take(self._now_s()):
                raise RemoteProtocolError(Fault.BUSY, "too many handshakes")
        return received

    @property
    def held(self) -> int:
        """As the framing underneath."""
        return self._framing.held
