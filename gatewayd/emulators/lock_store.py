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

from firmware_proto.codes import EventKind, Outcome, Reason
from firmware_proto.errors import LocalProtocolError
from firmware_proto.resumption import ResumptionSecret
from gatewayd.core.model import Verdict
from gatewayd.emulators.lock_battery import Battery
from gatewayd.emulators.lock_memory import LockMemory, StoredCommand, StoredEvent
from gatewayd.emulators.lock_state import Turn
from gatewayd.files import replace_file
from gatewayd.keyfiles import KeyFileError, read_file

VERSION: Final = 1
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
    gateways_key: bytes
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
            if version != VERSION:
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
        gateways_key=memory.gateways_key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
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
    )


def _memory(document: _Document) -> LockMemory:
    key = serialization.load_der_private_key(document.private_key, password=None)
    gateways_key = serialization.load_der_public_key(document.gateways_key)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(
        gateways_key, ec.EllipticCurvePublicKey
    ):
        raise ValueError("a key of the wrong kind")  # noqa: TRY004 - joins the other damage
    secret = document.secret
    return LockMemory(
        key=key,
        key_id=document.key_id,
        door=document.door,
        gateways_key=gateways_key,
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
    )


def _command(known: _Command) -> StoredCommand:
    if known.outcome is None or known.reason is None:
        return StoredCommand(known.id, known.content, Turn[known.turn])
    return StoredCommand(
        known.id, known.content, Turn[known.turn], Verdict(known.outcome, known.reason)
    )
