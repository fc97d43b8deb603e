"""Checkpoints: a signed statement of the size and the root of a log.

Formats of C2SP (c2sp.org): `tlog-checkpoint` in a `signed-note`, signed by the
log with Ed25519, and cosigned by witnesses with Ed25519 `cosignature/v1` of
`tlog-cosignature`. All are text, so that a person can read and mail them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.merkle import HASH_BYTES

MEMORY_NAME: Final = "checkpoint"
"""Under this name the last checkpoint that the gateway signed is kept in `ports.storage.Memory`."""

MAX_NOTE_BYTES: Final = 16384
MAX_SIGNATURES: Final = 32  # a verifier must accept at least 16

_KEY_ID_BYTES: Final = 4
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_TIMESTAMP_BYTES: Final = 8
_MAX_SIZE: Final = 2**63 - 1
_DASH: Final = "\u2014 "


class SignatureType(IntEnum):
    """First byte of the key material; the only two that are used here."""

    ED25519 = 1
    COSIGNATURE_V1 = 4


@dataclass(frozen=True, slots=True)
class Verifier:
    """Whose signature is looked for: a name, a kind of signature, and a raw Ed25519 key."""

    name: str
    key: bytes
    type: SignatureType = SignatureType.ED25519

    @property
    def key_id(self) -> bytes:
        """The four bytes that, with the name, find the signature line."""
        material = self.name.encode() + b"\n" + bytes([self.type]) + self.key
        return sha256(material).digest()[:_KEY_ID_BYTES]

    def encode(self) -> str:
        """The `vkey`: name, key id and key in one word."""
        material = base64.b64encode(bytes([self.type]) + self.key).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """Read a `vkey`. RemoteProtocolError (MALFORMED, or UNSUPPORTED key types)."""
        name, _, rest = vkey.partition("+")
        key_id, _, encoded = rest.partition("+")
        material = _from_base64(encoded)
        if not _is_key_name(name) or not material:
            raise _malformed("not a verifier key")
        if material[0] not in set(SignatureType) or len(material) != 1 + _KEY_BYTES:
            raise RemoteProtocolError(Fault.UNSUPPORTED, "verifier key of an unknown type")
        verifier = cls(name, material[1:], SignatureType(material[0]))
        if verifier.key_id.hex() != key_id:
            raise _malformed("the key id does not belong to the key")
        return verifier


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`size` leaves of the log `origin` have the root `root`."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def encode(self) -> str:
        """The text that is signed, with its final newline."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode())
        return "".join(f"{line}\n" for line in (*lines, *self.extensions))

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the text of a note. RemoteProtocolError (MALFORMED)."""
        _check_text(text)
        lines = text[:-1].split("\n")
        if len(lines) < 3 or not all(lines):  # noqa: PLR2004 - origin, size, root
            raise _malformed("a checkpoint has at least three lines, none of them empty")
        origin, size, root, *extensions = lines
        digits = size.isascii() and size.isdecimal()
        if not digits or len(size) > len(str(_MAX_SIZE)) or str(int(size)) != size:
            raise _malformed("not a tree size")
        if int(size) > _MAX_SIZE:
            raise _malformed("tree size beyond 2^63-1")
        root_hash = _from_base64(root)
        if len(root_hash) != HASH_BYTES:
            raise _malformed("the root is not 32 bytes long")
        return cls(origin, int(size), root_hash, tuple(extensions))


@dataclass(frozen=True, slots=True)
class Note:
    """A text and the signature lines under it: `(name, key id and signature)`."""

    text: str
    signatures: tuple[tuple[str, bytes], ...]

    def encode(self) -> bytes:
        """The note as it is stored and sent."""
        lines = (
            f"{_DASH}{name} {base64.b64encode(blob).decode()}\n" for name, blob in self.signatures
        )
        return f"{self.text}\n{''.join(lines)}".encode()

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Read a note without believing any of it. RemoteProtocolError (MALFORMED, TOO_LARGE)."""
        if len(data) > MAX_NOTE_BYTES:
            raise RemoteProtocolError(Fault.TOO_LARGE, "note beyond its limit")
        try:
            decoded = data.decode()
        except UnicodeDecodeError:
            raise _malformed("a note is UTF-8") from None
        _check_text(decoded)
        # the text itself may hold empty lines: the last one divides
        head, separator, tail = decoded.rpartition("\n\n")
        lines = tail[:-1].split("\n")
        if not separator or len(lines) > MAX_SIGNATURES:
            raise _malformed("a note ends with 1 to 32 signature lines")
        return cls(head + "\n", tuple(_signature_line(line) for line in lines))

    def find(self, verifier: Verifier) -> list[bytes]:
        """The signatures that claim to be of this key, each without its key id."""
        return [
            blob[_KEY_ID_BYTES:]
            for name, blob in self.signatures
            if name == verifier.name and blob[:_KEY_ID_BYTES] == verifier.key_id
        ]


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> bytes:
    """The signed note; the key bears the name of the origin, as C2SP recommends.

    ValueError when the origin or an extension would not survive `verify`.
    """
    text = checkpoint.encode()
    verifier = Verifier(checkpoint.origin, key.public_key().public_bytes_raw())
    try:
        readable = Checkpoint.parse(text) == checkpoint and _is_key_name(checkpoint.origin)
    except RemoteProtocolError:
        readable = False
    if not readable:
        raise ValueError("not a well-formed checkpoint")
    return Note(text, ((verifier.name, verifier.key_id + key.sign(text.encode())),)).encode()


def verify(data: bytes, log: Verifier) -> Checkpoint:
    """The checkpoint in a note that `log` signed.

    RemoteProtocolError: MALFORMED, or AUTHENTICATION_FAILED when the signature
    of this key is missing or wrong. Lines of unknown keys are ignored.
    """
    note = Note.parse(data)
    signatures = note.find(log)
    if not signatures or log.type is not SignatureType.ED25519:
        raise _unauthentic("the log did not sign this checkpoint")
    for signature in signatures:
        _check_signature(log, signature, note.text.encode())
    return Checkpoint.parse(note.text)


def cosign(data: bytes, name: str, key: Ed25519PrivateKey, time_s: int) -> bytes:
    """The note with one more line: the witness `name` saw this checkpoint at `time_s` (Unix).

    The caller has verified the checkpoint and its consistency before.
    ValueError for a name or time that no verifier would accept.
    """
    note = Note.parse(data)
    if not _is_key_name(name) or not 0 <= time_s <= _MAX_SIZE:
        raise ValueError("not a witness name or not a time")
    witness = Verifier(name, key.public_key().public_bytes_raw(), SignatureType.COSIGNATURE_V1)
    signature = key.sign(_cosigned(note.text, time_s))
    blob = witness.key_id + time_s.to_bytes(_TIMESTAMP_BYTES, "big") + signature
    return Note(note.text, (*note.signatures, (name, blob))).encode()


def verify_cosignature(data: bytes, witness: Verifier) -> int:
    """When `witness` says it saw the checkpoint in a note, in Unix seconds.

    RemoteProtocolError as for `verify`. Where it signed more than once, the latest time.
    """
    note = Note.parse(data)
    signatures = note.find(witness)
    if not signatures or witness.type is not SignatureType.COSIGNATURE_V1:
        raise _unauthentic("the witness did not sign this checkpoint")
    times = []
    for signature in signatures:
        time_s = int.from_bytes(signature[:_TIMESTAMP_BYTES], "big")
        _check_signature(witness, signature[_TIMESTAMP_BYTES:], _cosigned(note.text, time_s))
        times.append(time_s)
    if max(times) > _MAX_SIZE:
        raise _malformed("the time is beyond 2^63-1")
    return max(times)


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def _check_signature(verifier: Verifier, signature: bytes, message: bytes) -> None:
    if len(signature) != _SIGNATURE_BYTES:
        raise _malformed("a signature is not 64 bytes long")
    try:
        Ed25519PublicKey.from_public_bytes(verifier.key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise _unauthentic("a signature is wrong") from None


def _signature_line(line: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    blob = _from_base64(encoded)
    if not line.startswith(_DASH) or not _is_key_name(name) or len(blob) <= _KEY_ID_BYTES:
        raise _malformed("not a signature line")
    return name, blob


def _is_key_name(name: str) -> bool:
    return bool(name) and not any(
        character == "+" or character.isspace() or "\ud800" <= character <= "\udfff"
        for character in name
    )


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise _malformed("the last line does not end")
    if any(character < " " and character != "\n" for character in text):
        raise _malformed("control characters in a note")


def _from_base64(encoded: str) -> bytes:
    """Standard alphabet with padding, and only the one canonical form."""
    try:
        decoded = base64.b64decode(encoded.encode(), validate=True)
    except ValueError:
        raise _malformed("not base64") from None
    if base64.b64encode(decoded).decode() != encoded:
        raise _malformed("not canonical base64")
    return decoded


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, detail)


def _unauthentic(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.AUTHENTICATION_FAILED, detail)
