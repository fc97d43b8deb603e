"""What the daemon and the helper say to each other: one packet asks, one packet answers.

Every request and every answer has one fixed length; anything else is refused.

    request   operation (1) | adapter (6) [| peer (6) | peer's address type (1)]
    answer    status (1) [| RSSI in dBm (1, signed)]

Addresses are written as people write them, most significant byte first.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

ADDRESS_BYTES: Final = 6
MAX_REQUEST_BYTES: Final = 14
MAX_ANSWER_BYTES: Final = 2

_STRENGTH: Final = struct.Struct(">B6s6sB")
_RESTART: Final = struct.Struct(">B6s")
_STATUS: Final = struct.Struct(">B")
_READING: Final = struct.Struct(">Bb")


class Operation(IntEnum):
    """Everything that can be asked for."""

    STRENGTH = 1
    RESTART = 2


class AddressType(IntEnum):
    """As mgmt-protocol numbers them; there is no BR/EDR here."""

    PUBLIC = 1
    RANDOM = 2


class Status(IntEnum):
    """How it ended. Only OK to STRENGTH is followed by a reading."""

    OK = 0
    MALFORMED = 1  # the request is none
    NO_ADAPTER = 2  # no adapter has this address
    NOT_CONNECTED = 3  # the peer is not, or the adapter is off
    TOO_SOON = 4  # this adapter was restarted a moment ago
    NO_ANSWER = 5  # the kernel did not say in time
    FAILED = 6  # the kernel refused, or has no Bluetooth


class WireError(ValueError):
    """Bytes that are no request, or no answer."""


@dataclass(frozen=True, slots=True)
class Strength:
    """How strongly is this connected peer received?"""

    adapter: bytes
    peer: bytes
    peer_type: AddressType


@dataclass(frozen=True, slots=True)
class Restart:
    """Switch this adapter off and on. Everybody connected to it is disconnected."""

    adapter: bytes


Request = Strength | Restart


@dataclass(frozen=True, slots=True)
class Answer:
    """`rssi_dbm` is present exactly when a STRENGTH was OK."""

    status: Status
    rssi_dbm: int | None = None


def encode_request(request: Request) -> bytes:
    """The packet that asks. WireError for an address that is none."""
    if len(request.adapter) != ADDRESS_BYTES:
        raise WireError("an address has 6 bytes")
    if isinstance(request, Restart):
        return _RESTART.pack(Operation.RESTART, request.adapter)
    if len(request.peer) != ADDRESS_BYTES:
        raise WireError("an address has 6 bytes")
    return _STRENGTH.pack(Operation.STRENGTH, request.adapter, request.peer, request.peer_type)


def decode_request(packet: bytes) -> Request:
    """The request in a packet. WireError for anything that is not exactly one."""
    if len(packet) == _RESTART.size and packet[0] == Operation.RESTART:
        return Restart(packet[1:])
    if len(packet) == _STRENGTH.size and packet[0] == Operation.STRENGTH:
        _, adapter, peer, kind = _STRENGTH.unpack(packet)
        try:
            return Strength(adapter, peer, AddressType(kind))
        except ValueError as error:
            raise WireError(str(error)) from None
    raise WireError("not a request")


def encode_answer(answer: Answer) -> bytes:
    """The packet that answers. WireError for a reading that is no RSSI."""
    if answer.rssi_dbm is None:
        return _STATUS.pack(answer.status)
    try:
        return _READING.pack(answer.status, answer.rssi_dbm)
    except struct.error as error:
        raise WireError(str(error)) from None


def decode_answer(packet: bytes, request: Request) -> Answer:
    """The answer to `request`. WireError for anything that is not exactly one."""
    try:
        status = Status(packet[0])
    except (IndexError, ValueError):
        raise WireError("not an answer") from None
    reading = status is Status.OK and isinstance(request, Strength)
    if len(packet) != (_READING.size if reading else _STATUS.size):
        raise WireError("not the answer to this request")
    return Answer(status, _READING.unpack(packet)[1] if reading else None)
