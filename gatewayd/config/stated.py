"""Doors as the operator states them: the tables of a configuration, sent in an envelope.

The body of BINDINGS is the text of [[door]] tables and the public keys that it
names; these doors take the place of those in the configuration. The body of
SETTINGS is [[door]] tables with id and policy, for doors of a gateway or of
many: they take the place of the policies of the same doors. The same decoder
and the same checks as for a configuration read both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Meta, Struct
from msgspec.structs import replace

from firmware_proto import cbor
from firmware_proto.codes import Fault
from firmware_proto.cose import public_key_from_point
from firmware_proto.errors import RemoteProtocolError
from gatewayd import keyfiles
from gatewayd.config import checks, encode
from gatewayd.config.decode import Problem, Report, decode
from gatewayd.config.model import Door, Name
from gatewayd.config.policy import Policy
from gatewayd.core.model import DoorId
from gatewayd.keyfiles import KeyFileError

MAX_TEXT_BYTES: Final = 48 * 1024

_FORMAT: Final = 1
_Tables = TypeVar("_Tables", bound=Struct)
Point = bytes
"""A P-256 public key as an uncompressed point."""


class DoorTables(Struct, frozen=True, kw_only=True):
    """The doors of one gateway."""

    door: Annotated[tuple[Door, ...], Meta(min_length=1, description="at least one [[door]]")]


class PolicyTable(Struct, frozen=True, kw_only=True):
    """What one door decides."""

    id: Name
    policy: Policy


class PolicyTables(Struct, frozen=True, kw_only=True):
    """What several doors decide."""

    door: Annotated[
        tuple[PolicyTable, ...], Meta(min_length=1, description="at least one [[door]]")
    ]


@dataclass(frozen=True, slots=True)
class Bindings:
    """Doors, and the keys of their locks."""

    doors: tuple[Door, ...]
    lock_keys: Mapping[DoorId, ec.EllipticCurvePublicKey]


# --- on the gateway -------------------------------------------------------------------
def bindings(body: bytes) -> Bindings:
    """What a body of BINDINGS says. RemoteProtocolError (MALFORMED) with the first problem."""
    text, points = _unpack(body)
    tables, report = decode(text, DoorTables, Path())
    doors = _good(tables, report).door
    checks.check_doors(doors, report)
    keys = {path: public_key_from_point(point) for path, point in points.items()}
    named = {DoorId(door.id): str(door.lock.key) for door in doors if door.lock is not None}
    if set(named.values()) != keys.keys():
        raise _malformed("not the keys that its doors name")
    _good(tables, report)
    return Bindings(doors, {door: keys[path] for door, path in named.items()})


def settings(body: bytes) -> dict[str, Policy]:
    """What a body of SETTINGS says, by door. RemoteProtocolError (MALFORMED)."""
    text, points = _unpack(body)
    if points:
        raise _malformed("keys in settings")
    tables, report = decode(text, PolicyTables, Path())
    policies = {table.id: table.policy for table in _good(tables, report).door}
    if len(policies) != len(_good(tables, report).door):
        raise _malformed("one door twice")
    return policies


def _good(tables: _Tables | None, report: Report) -> _Tables:
    if tables is None or report.problems:
        raise _malformed(min(report.problems).message)
    return tables


# --- at the operator ------------------------------------------------------------------
def pack_bindings(path: Path) -> bytes | list[Problem]:
    """The body made of a description on file; every problem when there are any.

    KeyFileError for a file that cannot be read.
    """
    text = _read(path)
    tables, report = decode(text, DoorTables, Path())
    if tables is None:
        return sorted(report.problems)
    checks.check_doors(tables.door, report)
    points: dict[str, ec.EllipticCurvePublicKey] = {}
    for index, door in enumerate(tables.door):
        if door.lock is None:
            continue
        try:
            key = keyfiles.read_p256_public(path.parent / door.lock.key, "lock key")
        except KeyFileError as error:
            report.add(("door", index, "lock", "key"), error.message, error.hint)
        else:
            points[str(door.lock.key)] = key
    return sorted(report.problems) or packed(text, points)


def pack_settings(path: Path) -> bytes | list[Problem]:
    """Likewise."""
    text = _read(path)
    _, report = decode(text, PolicyTables, Path())
    return sorted(report.problems) or packed(text, {})


def _read(path: Path) -> str:
    data = keyfiles.read_file(path, "description of doors", "see docs/operator.md")
    return data.decode("utf-8", "replace")


def body(doors: Sequence[Door], keys: Mapping[DoorId, ec.EllipticCurvePublicKey]) -> bytes:
    """A body of BINDINGS for these doors."""
    named = {key_name(door.id): keys[DoorId(door.id)] for door in doors if door.lock is not None}
    return packed(tables(doors), named)


def tables(doors: Sequence[Door]) -> str:
    """The text of these doors; the keys of their locks are called by names of our own."""
    text = ""
    for each in doors:
        lock = each.lock
        named = None if lock is None else replace(lock, key=Path(key_name(each.id)))
        text += f"[[door]]\n{encode.table(replace(each, lock=named), Path())}"
    return text


def key_name(door: str) -> str:
    """What the file of a lock's public key is called, beside the tables that name it."""
    return f"lock-{door}.pub.pem"


def packed(text: str, keys: Mapping[str, ec.EllipticCurvePublicKey]) -> bytes:
    """A body of tables and the keys that they name."""
    points = {
        name: key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        for name, key in keys.items()
    }
    return cbor.encode([_FORMAT, text, points])


def _unpack(body: bytes) -> tuple[str, dict[str, Point]]:
    match cbor.decode(body):
        case [version, str(text), dict(points)] if (
            version == _FORMAT and version is not True and len(text.encode()) <= MAX_TEXT_BYTES
        ):
            found = {
                path: point
                for path, point in points.items()
                if isinstance(path, str) and isinstance(point, bytes)
            }
            if len(found) == len(points):
                return text, found
    raise _malformed("other fields")


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"doors as stated: {detail}")
