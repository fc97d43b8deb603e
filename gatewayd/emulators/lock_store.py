"""A lock's memory as one JSON file, replaced whole and atomically.

Written to a temporary file beside it, synced, renamed, and the directory
synced: after a power loss there is the old memory or the new one. The file
holds private keys, so its mode is 0600 and anything wider is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.claiming import NOBODYS
from firmware_proto.codes import EventKind, Outcome, Reason
from firmware_proto.errors import LocalProtocolError
from firmware_proto.resumption import ResumptionSecret
from gatewayd.core.model import Verdict
from gatewayd.emulators.lock_battery import Battery
from gatewayd.emulators.lock_memory import LockMemory, StoredCommand, StoredEvent
from gatewayd.emulators.lock_state import Turn
from gatewayd.keyfiles import KeyFileError, read_file, replace_file

VERSION: Final = 2
_READABLE: Final = (1, VERSION)
"""Version 1 knew no claims: what it lacks has the values of a lock that was made claimed."""
_DAMAGE: Final = (
    msgspec.DecodeError,
    ValueError,
    KeyError,
    UnsupportedAlgorithm,
    LocalProtocolError,
)


class _Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: bytes
    content: bytes
    turn: str
    outcome: Outcome | None
    reason: Reason | None


class _Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    index: int
    clock_ms: int
    kind: EventKind
    value: int


class _Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    session: bytes
    secret: bytes


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. Byte strings are base64, keys DER."""

    version: int
    private_key: bytes
    key_id: bytes
    door: str
    gateways_key: bytes | None
    generation: int
    epoch: int
    secret: _Secret | None
    commands: list[_Command]
    events: list[_Event]
    next_index: int
    clock_ms: int
    offset_ms: int | None
    charge_uah: int
    jammed: bool
    claim_secret: bytes | None = None
    root_key: bytes | None = None
    command_key: bytes | None = None
    serial: int = 0
    ajar_ms: int | None = None


class _Versioned(msgspec.Struct, frozen=True):
    version: int


class LockStore:
    """Reads and writes one lock's memory at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, memory: LockMemory) -> None:
        """Write the first memory. KeyFileError when there is one already."""
        if self.path.exists():
            raise KeyFileError(
                f"lock memory {self.path} exists already and is never overwritten",
                "choose another path",
            )
        self.save(memory)

    def save(self, memory: LockMemory) -> None:
        """Durable when this returns."""
        replace_file(self.path, msgspec.json.encode(_document(memory)))

    def load(self) -> LockMemory:
        """KeyFileError when missing, damaged, of another version or readable by others."""
        data = read_file(self.path, "lock memory", "make the lock first", private=True)
        try:
            version = msgspec.json.decode(data, type=_Versioned).version
            if version not in _READABLE:
                raise KeyFileError(
                    f"lock memory {self.path} has version {version}, this program knows {VERSION}",
                    "use the program that wrote it",
                )
            return _memory(msgspec.json.decode(data, type=_Document))
        except _DAMAGE as error:
            raise KeyFileError(
                f"lock memory {self.path} is damaged", "restore it, or make the lock anew"
            ) from error


def _document(memory: LockMemory) -> _Document:
    secret = memory.secret
    return _Document(
        version=VERSION,
        private_key=memory.key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        key_id=memory.key_id,
        door=memory.door,
        gateways_key=_der(memory.gateways_key),
        generation=memory.generation,
        epoch=memory.epoch,
        secret=_Secret(secret.session, secret.secret) if secret else None,
        commands=[
            _Command(
                known.id,
                known.content,
                known.turn.name,
                known.verdict.outcome if known.verdict else None,
                known.verdict.reason if known.verdict else None,
            )
            for known in memory.commands
        ],
        events=[_Event(e.index, e.clock_ms, e.kind, e.value) for e in memory.events],
        next_index=memory.next_index,
        clock_ms=memory.clock_ms,
        offset_ms=memory.offset_ms,
        charge_uah=memory.battery.charge_uah,
        jammed=memory.jammed,
        claim_secret=memory.claim_secret,
        root_key=_der(memory.root_key),
        command_key=_der(memory.command_key),
        serial=memory.serial,
        ajar_ms=memory.ajar_ms,
    )


def _der(key: ec.EllipticCurvePublicKey | None) -> bytes | None:
    if key is None:
        return None
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _public(der: bytes | None) -> ec.EllipticCurvePublicKey | None:
    key = None if der is None else serialization.load_der_public_key(der)
    if key is None or isinstance(key, ec.EllipticCurvePublicKey):
        return key
    raise ValueError("a key of the wrong kind")


def _memory(document: _Document) -> LockMemory:
    key = serialization.load_der_private_key(document.private_key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("a key of the wrong kind")  # noqa: TRY004 - joins the other damage
    if (document.door == NOBODYS) is not (document.gateways_key is None):
        raise ValueError("a door and no operator, or the other way round")
    secret = document.secret
    return LockMemory(
        key=key,
        key_id=document.key_id,
        door=document.door,
        gateways_key=_public(document.gateways_key),
        generation=document.generation,
        epoch=document.epoch,
        secret=ResumptionSecret(secret.session, secret.secret) if secret else None,
        commands=tuple(_command(known) for known in document.commands),
        events=tuple(StoredEvent(e.index, e.clock_ms, e.kind, e.value) for e in document.events),
        next_index=document.next_index,
        clock_ms=document.clock_ms,
        offset_ms=document.offset_ms,
        battery=Battery(document.charge_uah),
        jammed=document.jammed,
        claim_secret=document.claim_secret,
        root_key=_public(document.root_key),
        command_key=_public(document.command_key),
        serial=document.serial,
        ajar_ms=document.ajar_ms,
    )


def _command(known: _Command) -> StoredCommand:
    if known.outcome is None or known.reason is None:
        return StoredCommand(known.id, known.content, Turn[known.turn])
    return StoredCommand(
        known.id, known.content, Turn[known.turn], Verdict(known.outcome, known.reason)
    )
