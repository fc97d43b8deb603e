"""How one dataclass field travels in a CBOR map: its key, its rule, whether it may be absent.

A rule knows both directions and raises ValueError or TypeError either way; the
codec turns that into LocalProtocolError (our value) or RemoteProtocolError (the peer's).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag
from typing import Any, Final, NamedTuple, Protocol, TypeVar, get_args, get_type_hints

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_proto import cose
from firmware_proto.codes import ID_BYTES, MAX_DOOR_ID_BYTES, Fault, Key, Outcome, Reason
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError

SAFE_INTEGER: Final = 2**53 - 1
"""The largest whole number that every language holds exactly."""

_T = TypeVar("_T")


class Rule(Protocol):
    """Converts one value; ValueError or TypeError when it is not allowed."""

    def to_wire(self, value: object) -> object:
        """The CBOR value."""
        ...

    def from_wire(self, wire: object) -> object:
        """The Python value."""
        ...


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A whole number, `least`..`most`."""

    most: int
    least: int = 0

    def to_wire(self, value: object) -> int:
        """Exactly an int: neither a bool nor an enum."""
        if type(value) is not int or not self.least <= value <= self.most:
            raise ValueError(f"not a whole number of {self.least}..{self.most}")
        return value

    from_wire = to_wire


@dataclass(frozen=True, slots=True)
class Boolean:
    """true or false."""

    def to_wire(self, value: object) -> bool:
        """Exactly a bool."""
        if type(value) is not bool:
            raise ValueError("neither true nor false")
        return value

    from_wire = to_wire


@dataclass(frozen=True, slots=True)
class Bytes:
    """A byte string of `least`..`most` bytes."""

    least: int
    most: int

    def to_wire(self, value: object) -> bytes:
        """Exactly bytes."""
        if type(value) is not bytes or not self.least <= len(value) <= self.most:
            raise ValueError(f"not a byte string of {self.least}..{self.most} bytes")
        return value

    from_wire = to_wire


@dataclass(frozen=True, slots=True)
class Text:
    """A text string of `least`..`most` bytes of UTF-8."""

    least: int
    most: int

    def to_wire(self, value: object) -> str:
        """Exactly a str. A lone surrogate is a UnicodeEncodeError, hence a ValueError."""
        if type(value) is not str or not self.least <= len(value.encode()) <= self.most:
            raise ValueError(f"not a text of {self.least}..{self.most} bytes")
        return value

    from_wire = to_wire


@dataclass(frozen=True, slots=True)
class Point:
    """A P-256 public key: x and y, 64 bytes; a point that is not on the curve is refused."""

    def to_wire(self, value: object) -> bytes:
        """Both coordinates, 32 bytes each."""
        if not isinstance(value, ec.EllipticCurvePublicKey):
            raise TypeError("not a public key")
        cose.check_curve(value)
        return value.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]

    def from_wire(self, wire: object) -> ec.EllipticCurvePublicKey:
        """The key."""
        return ec.EllipticCurvePublicKey.from_encoded_point(
            ec.SECP256R1(), _UNCOMPRESSED + _COORDINATES.to_wire(wire)
        )


@dataclass(frozen=True, slots=True)
class Enumeration:
    """A number with a name. Of a flag, exactly one bit."""

    kind: type[IntEnum | IntFlag]

    def to_wire(self, value: object) -> int:
        """The number of a member."""
        if type(value) is not self.kind:
            raise ValueError(f"not a member of {self.kind.__name__}")
        return int(self.from_wire(int(value)))

    def from_wire(self, wire: object) -> IntEnum | IntFlag:
        """The member. Python would build a flag of any bits, so only named ones count."""
        if type(wire) is not int or wire not in self.kind.__members__.values():
            raise ValueError(f"no number of {self.kind.__name__}")
        return self.kind(wire)


class Battery(NamedTuple):
    """State of a lock's battery; `low` is the lock's own judgement."""

    millivolts: int
    percent: int
    low: bool


@dataclass(frozen=True, slots=True)
class BatteryRule:
    """The one array among the fields: [millivolts, percent, low]."""

    def to_wire(self, value: object) -> list[int | bool]:
        """The array; an error when the battery is out of bounds."""
        if not isinstance(value, tuple):
            raise TypeError("not a battery")
        millivolts, percent, low = value
        return [_MILLIVOLTS.to_wire(millivolts), _PERCENT.to_wire(percent), _LOW.to_wire(low)]

    def from_wire(self, wire: object) -> Battery:
        """The battery; an error when it is not exactly such an array."""
        if not isinstance(wire, list):
            raise TypeError("not an array")
        millivolts, percent, low = wire
        return Battery(
            _MILLIVOLTS.from_wire(millivolts), _PERCENT.from_wire(percent), _LOW.from_wire(low)
        )


_UNCOMPRESSED: Final = b"\x04"  # SEC 1 §2.3.3
_COORDINATES: Final = Bytes(64, 64)
_MILLIVOLTS: Final = Unsigned(0xFFFF)
_PERCENT: Final = Unsigned(100)
_LOW: Final = Boolean()

# --- what many messages have -------------------------------------------------------
INTEGER: Final = Unsigned(SAFE_INTEGER)
ID: Final = Bytes(ID_BYTES, ID_BYTES)
DOOR: Final = Text(1, MAX_DOOR_ID_BYTES)
OUTCOME: Final = Enumeration(Outcome)
REASON: Final = Enumeration(Reason)


@dataclass(frozen=True, slots=True)
class Wire:
    """Stands in a field's `Annotated` type: the key it travels under, and its rule."""

    key: Key
    rule: Rule


class Field(NamedTuple):
    """One row of a message's table; an `optional` field is None when its key is absent."""

    name: str
    key: int
    rule: Rule
    optional: bool


def table(cls: type[Any]) -> tuple[Field, ...]:
    """The rows of a dataclass whose fields are annotated with `Wire`."""
    hints = get_type_hints(cls, include_extras=True)
    rows = []
    for item in fields(cls):
        plain, wire = get_args(hints[item.name])
        rows.append(Field(item.name, int(wire.key), wire.rule, type(None) in get_args(plain)))
    return tuple(rows)


def to_map(rows: tuple[Field, ...], value: object) -> dict[int, Any]:
    """The CBOR map of a dataclass. LocalProtocolError names the field that is wrong."""
    result: dict[int, Any] = {}
    for row in rows:
        item = getattr(value, row.name)
        if item is None and row.optional:
            continue
        try:
            result[row.key] = row.rule.to_wire(item)
        except (ValueError, TypeError) as error:
            raise LocalProtocolError(f"{type(value).__name__}.{row.name}: {error}") from None
    return result


def from_map(cls: type[_T], rows: tuple[Field, ...], data: Mapping[Any, Any]) -> _T:
    """The dataclass of a CBOR map with exactly the known keys, else MALFORMED."""
    values: dict[str, Any] = {}
    taken = 0
    for row in rows:
        if row.key not in data:
            if not row.optional:
                raise RemoteProtocolError(Fault.MALFORMED, f"{cls.__name__} lacks {row.name}")
            values[row.name] = None
            continue
        taken += 1
        try:
            values[row.name] = row.rule.from_wire(data[row.key])
        except (ValueError, TypeError) as error:
            raise RemoteProtocolError(
                Fault.MALFORMED, f"{cls.__name__}.{row.name}: {error}"
            ) from None
    if taken != len(data):
        raise RemoteProtocolError(Fault.MALFORMED, f"{cls.__name__} has unknown keys")
    return cls(**values)
