"""The wire protocol between phones, gateways and locks: no clock, no randomness, no I/O.

PROTOCOL.md specifies it, protocol.cddl gives every message, vectors/ has a file
per scenario. What stands here is what an application needs; credentials,
records and the handshake itself are in the modules of those names.
"""

from __future__ import annotations

from firmware_proto.codes import (
    FAULTS,
    Action,
    Fault,
    FaultMeaning,
    KeyClass,
    Outcome,
    Presence,
    Reason,
)
from firmware_proto.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from firmware_proto.framing import Framing, GattFraming
from firmware_proto.lock_session import LockClientSession, LockServerSession
from firmware_proto.phone_session import GatewaySession, PhoneSession
from firmware_proto.resumption import ResumptionSecret
from firmware_proto.serial_framing import SerialFraming
from firmware_proto.session import (
    CredentialReceived,
    HelloReceived,
    MessageReceived,
    PeerRefused,
    SecretEstablished,
    Session,
    SessionEvent,
)
from firmware_proto.session_tables import SessionState

__all__ = [
    "FAULTS",
    "Action",
    "CredentialReceived",
    "Fault",
    "FaultMeaning",
    "Framing",
    "GatewaySession",
    "GattFraming",
    "HelloReceived",
    "KeyClass",
    "LocalProtocolError",
    "LockClientSession",
    "LockServerSession",
    "MessageReceived",
    "Outcome",
    "PeerRefused",
    "PhoneSession",
    "Presence",
    "ProtocolError",
    "Reason",
    "RemoteProtocolError",
    "ResumptionSecret",
    "SecretEstablished",
    "SerialFraming",
    "Session",
    "SessionEvent",
    "SessionState",
]
