"""The file in which an issuer keeps one status list: who has which place, and what is taken back.

A place is given to one key and never to another one, not even when the key has
ended, and the file has it on the disk before anybody has the key. Commands that
change the file wait for each other.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.cose import key_id
from gatewayd.core import statuslist
from gatewayd.core.claims import MAX_NAME_BYTES, MAX_NUMBER, MAX_URI_BYTES, StatusReference
from gatewayd.core.statuslist import StatusList
from gatewayd.keyfiles import PRIVATE_MODE, KeyFileError, create_files, replace_file

MAX_PLACES: Final = 8 * statuslist.MAX_ARRAY_BYTES
_MAX_FILE_BYTES: Final = 256 * 2**20
_VERSION: Final = 1
_AHEAD_S: Final = 3600
"""A list may be dated later than now by as much: it is signed twice within a second."""
_HINT: Final = "restore it from a copy; without it nobody knows which place belongs to whom"
_MAKE: Final = "gatewayd keys new-list makes one"

_Time = Annotated[int, msgspec.Meta(ge=0, lt=MAX_NUMBER)]


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose it is, when the key ends, and when it was taken back. Unix seconds."""

    index: Annotated[int, msgspec.Meta(ge=0, lt=MAX_PLACES)]
    holder: Annotated[str, msgspec.Meta(max_length=MAX_NAME_BYTES)]
    expires: _Time
    revoked: _Time | None = None


class ListFile(msgspec.Struct, forbid_unknown_fields=True):
    """What is in the file. Times are Unix seconds."""

    version: int
    issuer: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_BYTES)]
    uri: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_URI_BYTES)]
    size: Annotated[int, msgspec.Meta(ge=8, le=MAX_PLACES, multiple_of=8)]
    signed: _Time = 0
    """The `iat` of the last list that was signed; the next one is later."""
    untold: bool = False
    """Something was taken back since."""
    places: list[Place] = []

    def allocate(self, holder: str, expires: int, choose: Callable[[int], int]) -> StatusReference:
        """A place that nobody ever had, at random: its number then says nothing of its holder.

        `choose` draws from 0 to one less than its argument. KeyFileError when the list is full.
        """
        taken = {each.index for each in self.places}
        free = [index for index in range(self.size) if index not in taken]
        if not free:
            raise KeyFileError(f"all {self.size} places of {self.uri} are taken", _MAKE)
        index = free[choose(len(free))]
        self.places.append(Place(index, holder, expires))
        return StatusReference(index, self.uri)

    def revoke(self, chosen: Callable[[Place], bool], now_s: int) -> Sequence[Place]:
        """Take back what is chosen; returns what was not taken back before."""
        news = [each for each in self.places if each.revoked is None and chosen(each)]
        gone = {each.index for each in news}
        self.untold |= bool(news)
        self.places = [
            msgspec.structs.replace(each, revoked=now_s) if each.index in gone else each
            for each in self.places
        ]
        return news

    def sign(self, key: ec.EllipticCurvePrivateKey, now_s: int, lifetime_s: int) -> bytes:
        """The list as gateways take it, newer than any before. KeyFileError when it cannot be."""
        if self.signed > now_s + _AHEAD_S:
            raise KeyFileError(
                f"{self.uri} was last signed in the future, at {self.signed}",
                "is this machine's clock right? gateways take no list that is older than the last",
            )
        self.signed, self.untold = max(now_s, self.signed + 1), False
        statuses = bytearray(self.size // 8)
        for each in self.places:
            if each.revoked is not None:
                statuses[each.index // 8] |= statuslist.INVALID << each.index % 8
        said = StatusList(
            issuer=self.issuer,
            uri=self.uri,
            issued_at=self.signed,
            expires=self.signed + lifetime_s,
            bits=1,
            statuses=bytes(statuses),
            signer=key_id(key.public_key()),
        )
        try:
            return statuslist.sign(said, key)
        except ValueError as error:
            raise KeyFileError(f"no gateway could hold this list: {error}", _MAKE) from None


def create(path: Path, issuer: str, uri: str, size: int) -> ListFile:
    """A new one, empty. KeyFileError, also when the file exists."""
    made = _checked(path, msgspec.json.encode(ListFile(_VERSION, issuer, uri, size)))
    create_files({path: _encode(made)}, mode=PRIVATE_MODE)
    return made


def read(path: Path) -> ListFile:
    """What it holds. KeyFileError."""
    try:
        with path.open("rb") as file:
            return _checked(path, file.read(_MAX_FILE_BYTES + 1))
    except OSError as error:
        raise _unreadable(path, error) from None


@contextmanager
def editing(path: Path) -> Iterator[ListFile]:
    """The list, to be changed; kept when the block ends well, as it was otherwise. KeyFileError."""
    try:
        descriptor = _locked(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        held = read(path)
        yield held
        try:
            replace_file(path, _encode(_checked(path, _encode(held))))
        except OSError as error:
            raise KeyFileError(
                f"cannot write {path}: {error.strerror}", "nothing has changed; is the disk full?"
            ) from None
    finally:
        os.close(descriptor)


def _locked(path: Path) -> int:
    """A descriptor that holds the lock of what is at `path` now, and not of what it replaced."""
    while True:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _encode(held: ListFile) -> bytes:
    return msgspec.json.format(msgspec.json.encode(held), indent=1) + b"\n"


def _checked(path: Path, data: bytes) -> ListFile:
    if len(data) > _MAX_FILE_BYTES:
        raise KeyFileError(f"list {path} is too large to be one", "is it the right file?")
    try:
        held = msgspec.json.decode(data, type=ListFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeyFileError(f"list {path} is damaged, or none: {error}", _HINT) from None
    if held.version != _VERSION:
        raise KeyFileError(
            f"{path} has version {held.version}, this program knows {_VERSION}",
            "use the program that wrote it",
        )
    indexes = {each.index for each in held.places}
    if len(indexes) != len(held.places) or max(indexes, default=0) >= held.size:
        raise KeyFileError(f"list {path} is damaged: a place is taken twice, or is none", _HINT)
    return held


def _unreadable(path: Path, error: OSError) -> KeyFileError:
    hint = _MAKE if isinstance(error, FileNotFoundError) else f"ls -l {path}"
    return KeyFileError(f"list {path} cannot be read: {error.strerror}", hint)
