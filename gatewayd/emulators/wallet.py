"""A phone's wallet: a directory with one key, its token, and what the phone has learnt.

    key.pem        the phone's private P-256 key, mode 0600 (PKCS #8)
    token.cwt      the key token that an issuer signed for that key
    gateways.pem   the operator's gateways public key, pinned
    seen.json      the highest generation seen per door
    receipts/      one file per request: what a gateway signed about it

Loading is strict; nothing that cannot be understood is overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.codes import ID_BYTES
from gatewayd.core import keytoken
from gatewayd.core.claims import TokenRejected
from gatewayd.keyfiles import (
    KeyFileError,
    create_files,
    private_pem,
    public_pem,
    read_file,
    read_p256_private,
    read_p256_public,
    replace_file,
)

VERSION: Final = 1

_KEY: Final = "key.pem"
_TOKEN: Final = "token.cwt"  # noqa: S105 - a file name
_GATEWAYS: Final = "gateways.pem"
_SEEN: Final = "seen.json"
_RECEIPTS: Final = "receipts"
_MAKE: Final = "make the wallet first: gatewayd keys issue --wallet DIR"


class _Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    generations: dict[str, int] = {}


class _Versioned(msgspec.Struct, frozen=True):
    version: int


@dataclass(slots=True)
class Wallet:
    """One key of one phone. `generations` only rise."""

    path: Path
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    token: bytes = field(repr=False)
    gateways_key: ec.EllipticCurvePublicKey = field(repr=False)
    generations: dict[str, int] = field(default_factory=dict)

    @classmethod
    def create(
        cls,
        path: Path,
        key: ec.EllipticCurvePrivateKey,
        token: bytes,
        gateways_key: ec.EllipticCurvePublicKey,
    ) -> Self:
        """Make the directory and fill it. KeyFileError when it already is a wallet."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_files(
            {
                path / _KEY: private_pem(key),
                path / _TOKEN: token,
                path / _GATEWAYS: public_pem(gateways_key),
                path / _SEEN: msgspec.json.encode(_Seen(VERSION)),
            }
        )
        return cls(path, key, token, gateways_key)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it all. KeyFileError names the first file that is not as it must be."""
        key = read_p256_private(path / _KEY, "wallet key", _MAKE)
        token = read_file(path / _TOKEN, "key token", _MAKE)
        _check_token(path / _TOKEN, token, key)
        gateways_key = read_p256_public(
            path / _GATEWAYS, "operator's gateways key", "ask the operator for it"
        )
        return cls(path, key, token, gateways_key, _generations(path / _SEEN))

    @property
    def group(self) -> str:
        """The door group that the token is for."""
        return keytoken.unverified(self.token).claims.audience

    def raise_generation(self, door: str, generation: int) -> None:
        """Remember a higher generation, durably before anything is sent on the strength of it."""
        if generation <= self.generations.get(door, 0):
            return
        raised = {**self.generations, door: generation}
        replace_file(self.path / _SEEN, msgspec.json.encode(_Seen(VERSION, raised)))
        self.generations = raised

    def keep_receipt(self, request: bytes, receipt: bytes) -> Path:
        """Store what a gateway signed about a request (16 bytes); returns the file."""
        if len(request) != ID_BYTES:
            raise ValueError(f"a request id has {ID_BYTES} bytes")
        folder = self.path / _RECEIPTS
        folder.mkdir(mode=0o700, exist_ok=True)
        file = folder / f"{request.hex()}.cose"
        replace_file(file, receipt)
        return file

    def receipt(self, request: bytes) -> bytes | None:
        """What a gateway signed about this request, if anything."""
        file = self.path / _RECEIPTS / f"{request.hex()}.cose"
        return file.read_bytes() if file.exists() else None


def _check_token(path: Path, token: bytes, key: ec.EllipticCurvePrivateKey) -> None:
    """Whether it is a token for this key; whether it is genuine, the gateway says."""
    try:
        held = keytoken.unverified(token).key
    except TokenRejected as error:
        raise KeyFileError(
            f"key token {path} is damaged or none", "ask the issuer for the token again"
        ) from error
    if held != key.public_key():
        raise KeyFileError(f"key token {path} is for another key", "are two wallets mixed up?")


def _generations(path: Path) -> dict[str, int]:
    hint = "restore it: without it an old gateway cannot be told from a new one"
    data = read_file(path, "list of generations", hint)
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version != VERSION:
            raise KeyFileError(
                f"{path} has version {version}, this program knows {VERSION}",
                "use the program that wrote it",
            )
        return msgspec.json.decode(data, type=_Seen).generations
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path} is damaged", hint) from error
