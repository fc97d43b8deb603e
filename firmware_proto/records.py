"""Sealed records after a handshake: untagged COSE_Encrypt0, strictly in order.

`[<<{1: 30}>>, {6: partial IV}, ciphertext]` with AES-CCM-16-128-128 and one key
per direction. The counters start at 0 and each record must carry exactly the
next one: the links below keep order, so anything else is somebody's doing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from firmware_proto import cbor
from firmware_proto.codes import MAX_MESSAGE_BYTES, Fault
from firmware_proto.edhoc import Completed
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError

KEY_BYTES: Final = 16
IV_BYTES: Final = 13
TAG_BYTES: Final = 16

MAX_OVERHEAD_BYTES: Final = 33
"""What sealing adds at most: 9 for the headers, up to 5 for the counter, 3 + 16 for the text."""

MAX_PLAINTEXT_BYTES: Final = MAX_MESSAGE_BYTES - 1 - MAX_OVERHEAD_BYTES  # 1: kind of frame

# EDHOC_Exporter labels, private use (RFC 9528 §10.1)
LABEL_KEY_INITIATOR: Final = 32768
LABEL_KEY_RESPONDER: Final = 32769
LABEL_IV_INITIATOR: Final = 32770
LABEL_IV_RESPONDER: Final = 32771

CONTEXT: Final = "gatewayd record"
"""First item of external_aad, so that no key is of use for anything else."""

_PARTIAL_IV = 6  # RFC 9052 §3.1
_MAX_COUNTER: Final = 2**40 - 1  # five bytes, as in RFC 8613 §5.2
_PROTECTED: Final = cbor.encode({1: 30})  # AES-CCM-16-128-128
_ITEMS: Final = 3


class Direction(IntEnum):
    """Second item of external_aad."""

    INITIATOR_TO_RESPONDER = 0
    RESPONDER_TO_INITIATOR = 1


@dataclass(slots=True)
class _Channel:
    """One direction: its key, its IV, the counter of its next record."""

    cipher: AESCCM = field(repr=False)
    iv: bytes = field(repr=False)
    associated: bytes
    counter: int = 0

    def nonce(self) -> bytes:
        """IV xor counter (RFC 9052 §3.1 "Partial IV"), 13 bytes."""
        return (int.from_bytes(self.iv, "big") ^ self.counter).to_bytes(IV_BYTES, "big")


class Records:
    """Both directions of one connection. After any failure it neither seals nor opens."""

    __slots__ = ("_receiving", "_sending", "_usable")

    def __init__(self, sending: _Channel, receiving: _Channel) -> None:
        self._sending = sending
        self._receiving = receiving
        self._usable = True

    @classmethod
    def from_keys(
        cls,
        *,
        key_i2r: bytes,
        key_r2i: bytes,
        iv_i2r: bytes,
        iv_r2i: bytes,
        initiator: bool,
    ) -> Records:
        """Keys of 16 and IVs of 13 bytes; i2r is what the initiator sends with."""
        i2r = _channel(key_i2r, iv_i2r, Direction.INITIATOR_TO_RESPONDER)
        r2i = _channel(key_r2i, iv_r2i, Direction.RESPONDER_TO_INITIATOR)
        return cls(i2r, r2i) if initiator else cls(r2i, i2r)

    def seal(self, plaintext: bytes) -> bytes:
        """The next record; LocalProtocolError when it grows too large or after a failure."""
        self._check_usable()
        channel = self._sending
        if channel.counter > _MAX_COUNTER:
            raise LocalProtocolError("this connection has sent as many records as it may")
        if len(plaintext) > MAX_PLAINTEXT_BYTES:
            raise LocalProtocolError("the record grows too large")
        ciphertext = channel.cipher.encrypt(channel.nonce(), plaintext, channel.associated)
        partial_iv = encode_counter(channel.counter)
        channel.counter += 1
        return cbor.encode([_PROTECTED, {_PARTIAL_IV: partial_iv}, ciphertext])

    def open(self, data: bytes) -> bytes:
        """The plaintext of the peer's next record; any RemoteProtocolError is final.

        REPLAYED or OUT_OF_ORDER for another counter than the next,
        AUTHENTICATION_FAILED for a bad tag, TOO_LARGE, MALFORMED.
        """
        self._check_usable()
        self._usable = False
        counter, ciphertext = _parse(data)
        channel = self._receiving
        if counter < channel.counter:
            raise RemoteProtocolError(Fault.REPLAYED, "record: an old one")
        if counter > channel.counter:
            raise RemoteProtocolError(Fault.OUT_OF_ORDER, "record: one is missing")
        try:
            plaintext = channel.cipher.decrypt(channel.nonce(), ciphertext, channel.associated)
        except InvalidTag:
            raise RemoteProtocolError(
                Fault.AUTHENTICATION_FAILED, "record: not authentic"
            ) from None
        channel.counter += 1
        self._usable = True
        return plaintext

    def _check_usable(self) -> None:
        if not self._usable:
            raise LocalProtocolError("these records ended with a failure")


def derive(completed: Completed, *, initiator: bool) -> Records:
    """The records that follow a handshake, seen from one side."""
    return Records.from_keys(
        key_i2r=completed.export(LABEL_KEY_INITIATOR, b"", KEY_BYTES),
        key_r2i=completed.export(LABEL_KEY_RESPONDER, b"", KEY_BYTES),
        iv_i2r=completed.export(LABEL_IV_INITIATOR, b"", IV_BYTES),
        iv_r2i=completed.export(LABEL_IV_RESPONDER, b"", IV_BYTES),
        initiator=initiator,
    )


def encode_counter(counter: int) -> bytes:
    """A Partial IV: as few bytes as hold the counter, but one at least."""
    return counter.to_bytes(max(1, (counter.bit_length() + 7) // 8), "big")


def _channel(key: bytes, iv: bytes, direction: Direction) -> _Channel:
    if len(key) != KEY_BYTES or len(iv) != IV_BYTES:
        raise LocalProtocolError("record keys have 16 bytes, IVs 13")
    external_aad = cbor.encode([CONTEXT, direction])
    associated = cbor.encode(["Encrypt0", _PROTECTED, external_aad])  # RFC 9052 §5.3
    return _Channel(AESCCM(key, TAG_BYTES), iv, associated)


def _parse(data: bytes) -> tuple[int, bytes]:
    """Counter and ciphertext."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise RemoteProtocolError(Fault.TOO_LARGE, "record: too large")
    items = cbor.decode(data)
    if not isinstance(items, list) or len(items) != _ITEMS:
        raise _malformed("not three items")
    protected, unprotected, ciphertext = items
    if protected != _PROTECTED:
        raise _malformed("another protected header")
    if not isinstance(unprotected, dict) or unprotected.keys() != {_PARTIAL_IV}:
        raise _malformed("another unprotected header")
    if not isinstance(ciphertext, bytes):
        raise _malformed("the ciphertext is no byte string")
    return _parse_counter(unprotected[_PARTIAL_IV]), ciphertext


def _parse_counter(partial_iv: cbor.Value) -> int:
    if not isinstance(partial_iv, bytes):
        raise _malformed("the partial IV is no byte string")
    counter = int.from_bytes(partial_iv, "big")
    if counter > _MAX_COUNTER or encode_counter(counter) != partial_iv:
        raise _malformed("the partial IV is not as short as can be, or too large")
    return counter


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"record: {detail}")
