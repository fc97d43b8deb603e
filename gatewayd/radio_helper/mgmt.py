"""Packets of the kernel's Bluetooth management socket: the four commands used here, strictly.

Format and numbers: BlueZ doc/mgmt-protocol.rst. Every field is little endian,
and so are addresses. The kernel is trusted to mean what it says, yet a packet
that does not add up is an error and never half a result.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

NO_CONTROLLER: Final = 0xFFFF
MAX_PACKET_BYTES: Final = 6 + 0xFFFF
RSSI_UNKNOWN: Final = 127

_HEADER: Final = struct.Struct("<HHH")  # code, controller index, length of the rest
_RESULT: Final = struct.Struct("<HB")  # which command, how it ended
_ADDRESS: Final = struct.Struct("<6sB")
_CONNECTION: Final = struct.Struct("<6sBbbb")  # address, its type, RSSI, TX power, most TX power
_COUNT: Final = struct.Struct("<H")
_SETTINGS_BYTES: Final = 4
_INFORMATION_BYTES: Final = 280
"""Address, version, manufacturer, settings twice, class, name of 249 bytes, short name of 11."""

_COMPLETE: Final = 0x0001
_STATUS: Final = 0x0002


class Opcode(IntEnum):
    """The commands used here."""

    INDEX_LIST = 0x0003
    INFORMATION = 0x0004
    SET_POWERED = 0x0005
    CONNECTION = 0x0031


SUCCESS: Final = 0x00
NOT_CONNECTED: Final = 0x02
BUSY: Final = 0x0A
NOT_POWERED: Final = 0x0F
INVALID_INDEX: Final = 0x11


class MgmtError(Exception):
    """A packet that does not add up."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command to one controller, or to none."""

    opcode: Opcode
    index: int = NO_CONTROLLER
    parameters: bytes = b""

    def encode(self) -> bytes:
        """The packet."""
        return _HEADER.pack(self.opcode, self.index, len(self.parameters)) + self.parameters


@dataclass(frozen=True, slots=True)
class Reply:
    """How a command ended; `data` are its return parameters, empty where it only has a status."""

    status: int
    data: bytes = b""


# --- commands ----------------------------------------------------------------------
def index_list() -> Command:
    """Which controllers are there?"""
    return Command(Opcode.INDEX_LIST)


def information(index: int) -> Command:
    """What is known of this controller?"""
    return Command(Opcode.INFORMATION, index)


def set_powered(index: int, *, on: bool) -> Command:
    """Switch a controller on or off."""
    return Command(Opcode.SET_POWERED, index, bytes([on]))


def connection(index: int, peer: bytes, peer_type: int) -> Command:
    """What is known of the connection with this peer? `peer` is most significant byte first."""
    return Command(Opcode.CONNECTION, index, _ADDRESS.pack(peer[::-1], peer_type))


# --- replies -----------------------------------------------------------------------
def parse_reply(packet: bytes, command: Command) -> Reply | None:
    """The reply to `command` in one packet; None for an event about anything else. MgmtError."""
    if len(packet) < _HEADER.size:
        raise MgmtError("a packet without its header")
    code, index, length = _HEADER.unpack_from(packet)
    body = packet[_HEADER.size :]
    if len(body) != length:
        raise MgmtError("a packet whose length is not what it says")
    if code not in (_COMPLETE, _STATUS):
        return None
    if length < _RESULT.size:
        raise MgmtError("a result without its head")
    opcode, status = _RESULT.unpack_from(body)
    data = body[_RESULT.size :]
    if code == _STATUS and data:
        raise MgmtError("a status with data")
    if (opcode, index) != (command.opcode, command.index):
        return None
    if code == _STATUS and status == SUCCESS:
        raise MgmtError("a success without its result")
    return Reply(status, data)


def indexes(data: bytes) -> tuple[int, ...]:
    """The controllers in the return parameters of `index_list`. MgmtError."""
    if len(data) < _COUNT.size:
        raise MgmtError("a list without its count")
    (count,) = _COUNT.unpack_from(data)
    if len(data) != _COUNT.size * (1 + count):
        raise MgmtError("a list that does not hold what it says")
    return struct.unpack_from(f"<{count}H", data, _COUNT.size)


def address(data: bytes) -> bytes:
    """The address in the return parameters of `information`, most significant byte first."""
    if len(data) != _INFORMATION_BYTES:
        raise MgmtError("controller information of another length")
    return data[:6][::-1]


def check_settings(data: bytes) -> None:
    """MgmtError unless these can be the return parameters of `set_powered`."""
    if len(data) != _SETTINGS_BYTES:
        raise MgmtError("settings of another length")


def rssi_dbm(data: bytes, command: Command) -> int | None:
    """The RSSI in the return parameters of `connection`, None where nobody knows. MgmtError."""
    if len(data) != _CONNECTION.size:
        raise MgmtError("connection information of another length")
    if not data.startswith(command.parameters):
        raise MgmtError("connection information of another peer")
    rssi: int = _CONNECTION.unpack(data)[2]
    return None if rssi == RSSI_UNKNOWN else rssi
