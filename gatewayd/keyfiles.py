"""Key files: PEM as every tool knows it, strict about who may read them.

Private keys are PKCS #8 without a passphrase, mode 0600 or stricter; public
keys are SubjectPublicKeyInfo. A file may also hold the PKCS#11 URI of a private
key that never leaves its device (`core.key_uri`). What a person names is only ever
created; what enrolment keeps is replaced whole, so that a power cut leaves the
old or the new.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from gatewayd.core.key_uri import SCHEME, KeyUri
from gatewayd.device_keys import KeyDeviceError, KeyUse, OpenKey

MAX_FILE_BYTES: Final = 64 * 1024
PRIVATE_MODE: Final = 0o600
PUBLIC_MODE: Final = 0o644
_HANDED_OVER_MODE: Final = 0o440

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class KeyFileError(Exception):
    """A file cannot serve as what it was named for; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# --- reading -------------------------------------------------------------------
def read_file(path: Path, what: str, hint: str = "", *, private: bool = False) -> bytes:
    """The bytes of a small file, named `what` in the error.

    Raises:
        KeyFileError: missing, unreadable, empty, too large, or (`private`)
            readable by anybody but its owner.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if private and open_to_others(status):
                if b"PUBLIC KEY" in file.read(MAX_FILE_BYTES):
                    raise _public(path, what)
                mode = stat.S_IMODE(status.st_mode)
                raise KeyFileError(
                    f"{what} {path} can be read by others (mode {mode:04o})",
                    f"chmod 600 {path}; if others may have read it, make a new one",
                )
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise KeyFileError(
            f"{what} {path} does not exist", hint or f"is the name right? ls {path.parent}"
        ) from None
    except IsADirectoryError:
        raise KeyFileError(
            f"{what} {path} cannot be read: Is a directory", hint or f"name a file in it: ls {path}"
        ) from None
    except OSError as error:
        raise KeyFileError(
            f"{what} {path} cannot be read: {error.strerror}",
            f"sudo, or as the user that owns it: ls -l {path}",
        ) from None
    if not data:
        raise KeyFileError(f"{what} {path} is empty", "restore it from where it was made")
    if len(data) > MAX_FILE_BYTES:
        raise KeyFileError(f"{what} {path} is too large to be one", "is it the right file?")
    return data


def open_to_others(status: os.stat_result) -> bool:
    """Whether anybody but a file's owner can do anything with it.

    systemd hands credentials over as root's, with an access control list that
    names our user; the group's bits are then the list's mask, and mean nobody.
    """
    mode = stat.S_IMODE(status.st_mode)
    handed_over = (mode, status.st_uid, status.st_gid) == (_HANDED_OVER_MODE, 0, 0)
    return bool(mode & 0o077) and not handed_over


def read_private(path: Path, what: str) -> PrivateKey:
    """A private key of either kind. KeyFileError says what is wrong with the file."""
    key = _load_private(path, what, "")
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    return read_p256_private(path, what)


def read_public(path: Path, what: str) -> PublicKey:
    """A public key of either kind. KeyFileError says what is wrong with the file."""
    key = _load_public(path, what, "")
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    return read_p256_public(path, what)


def read_p256_private(path: Path, what: str, hint: str = "") -> ec.EllipticCurvePrivateKey:
    """A P-256 private key. KeyFileError says what is wrong with the file."""
    key = _load_private(path, what, hint)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise _wrong_type(path, what, "P-256", key)


def read_gateway_key(
    path: Path, what: str, use: KeyUse, open_key: OpenKey, hint: str = ""
) -> ec.EllipticCurvePrivateKey:
    """A P-256 private key, or one in a device that the file names. KeyFileError."""
    uri = device_uri(path, what, hint)
    if uri is None:
        return read_p256_private(path, what, hint)
    try:
        return open_key(uri, use)
    except KeyDeviceError as error:
        raise KeyFileError(f"{what} {path}: {error}", error.remedy) from None


def device_uri(path: Path, what: str, hint: str = "") -> KeyUri | None:
    """Where the key is, when the file holds no key but says so. KeyFileError."""
    data = read_file(path, what, hint, private=True)
    if not data.startswith(SCHEME.encode()):
        return None
    try:
        return KeyUri.parse(data.decode("utf-8").strip())
    except ValueError as error:  # UnicodeDecodeError is one
        raise KeyFileError(
            f"{what} {path} is no PKCS#11 URI: {error}", "see docs/setup.md, secure elements"
        ) from None


def read_ed25519_private(path: Path, what: str, hint: str = "") -> ed25519.Ed25519PrivateKey:
    """An Ed25519 private key. KeyFileError says what is wrong with the file."""
    key = _load_private(path, what, hint)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    raise _wrong_type(path, what, "Ed25519", key)


def read_p256_public(path: Path, what: str, hint: str = "") -> ec.EllipticCurvePublicKey:
    """A P-256 public key. KeyFileError says what is wrong with the file."""
    key = _load_public(path, what, hint)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise _wrong_type(path, what, "P-256", key)


def read_ed25519_public(path: Path, what: str, hint: str = "") -> ed25519.Ed25519PublicKey:
    """An Ed25519 public key. KeyFileError says what is wrong with the file."""
    key = _load_public(path, what, hint)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise _wrong_type(path, what, "Ed25519", key)


def _load_public(path: Path, what: str, hint: str) -> PublicKeyTypes:
    data = read_file(path, what, hint)
    try:
        return serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        other = "PRIVATE KEY" in data.decode("ascii", "replace")
        raise KeyFileError(
            f"{what} {path} is not a public key in PEM form, or is damaged",
            "it holds a private key: name the .pub.pem beside it" if other else hint,
        ) from None


def _load_private(path: Path, what: str, hint: str) -> PrivateKeyTypes:
    data = read_file(path, what, hint, private=True)
    try:
        return serialization.load_pem_private_key(data, password=None)
    except TypeError:
        raise KeyFileError(
            f"{what} {path} is locked with a passphrase",
            f"nobody can type it at start: openssl pkcs8 -topk8 -nocrypt -in {path}",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        if b"PUBLIC KEY" in data:
            raise _public(path, what) from None
        if data.startswith(SCHEME.encode()):
            raise KeyFileError(
                f"{what} {path} is in a secure element, and this one has to be in a file",
                "only the gateway's key and its receipt key can be in one",
            ) from None
        raise KeyFileError(
            f"{what} {path} is not a private key in PEM form, or is damaged",
            hint or "restore it from where it was made",
        ) from None


def _public(path: Path, what: str) -> KeyFileError:
    return KeyFileError(
        f"{what} {path} is not a private key but a public one",
        "name the .pem beside it, without .pub",
    )


def _wrong_type(
    path: Path, what: str, wanted: str, found: PrivateKeyTypes | PublicKeyTypes
) -> KeyFileError:
    if isinstance(found, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        kind = found.curve.name
    else:
        kind = type(found).__name__.lstrip("_").removesuffix("PrivateKey").removesuffix("PublicKey")
    return KeyFileError(
        f"{what} {path} holds a {kind} key where {wanted} is needed", "are two files swapped?"
    )


# --- writing -------------------------------------------------------------------
def private_pem(key: PrivateKey) -> bytes:
    """PKCS #8, no passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_pem(key: PublicKey) -> bytes:
    """SubjectPublicKeyInfo."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def create_files(files: Mapping[Path, bytes], *, mode: int = PRIVATE_MODE) -> None:
    """Create all of these files, durably, or none.

    Raises:
        KeyFileError: one exists already, or cannot be made; what was made
            before it is taken away again.
    """
    made: list[Path] = []
    try:
        for path, data in files.items():
            _create(path, data, mode, made)
        for directory in {path.parent for path in files}:
            _sync(directory)
    except FileExistsError as error:
        _remove(made)
        raise KeyFileError(
            f"{error.filename} exists already and is never overwritten",
            "choose another place, or move the old file away yourself",
        ) from None
    except OSError as error:
        _remove(made)
        raise _not_written(error) from None


def keep_file(path: Path, data: bytes, *, mode: int = PRIVATE_MODE) -> None:
    """As `replace_file`, for whom a KeyFileError says what is wrong."""
    try:
        replace_file(path, data, mode)
    except OSError as error:
        raise _not_written(error) from None


def remove_file(path: Path) -> None:
    """Take it away, durably; harmless when it is not there. KeyFileError."""
    try:
        path.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise _not_written(error) from None


def _not_written(error: OSError) -> KeyFileError:
    return KeyFileError(
        f"cannot write {error.filename}: {error.strerror}",
        "does the directory exist, may you write there (sudo), is the disk full?",
    )


def replace_file(path: Path, data: bytes, mode: int = PRIVATE_MODE) -> None:
    """Put `data` at `path`: written beside it, synced, renamed, the directory synced."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)  # left by a power loss; it never was the file
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _create(path: Path, data: bytes, mode: int, made: list[Path]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    made.append(path)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
