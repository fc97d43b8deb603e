"""The leaf: one entry of the log as it is hashed into the tree, for good.

A leaf is the deterministic CBOR array `[version, seq, time, clock, kind, door,
outcome, reason, about, salt, commitment]`. It names nobody. The salt keeps a
pruned leaf from being guessed back out of its hash. The commitment hides
whether anything personal lies beside the leaf: where nothing does, it is
random. An entry about an order of the operator's has the order's name there: whoever has the
order finds the entry, and nobody else learns which it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

from firmware_proto import cbor
from firmware_proto.codes import MAX_DOOR_ID_BYTES, Fault, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.model import ClockState, DoorId, EntryKind, Fact, Verdict

LEAF_VERSION: Final = 1
SALT_BYTES: Final = 16
COMMITMENT_BYTES: Final = 32
TIME_STEP_S: Final = 60
"""Times are cut to this: order is told by `seq`, and a minute is all that anybody is owed."""

_ITEMS: Final = 11
_Code = TypeVar("_Code", bound=IntEnum)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One entry. `time_s` is in Unix seconds, a multiple of `TIME_STEP_S`."""

    seq: int
    time_s: int
    clock: ClockState
    kind: EntryKind
    door: DoorId | None
    verdict: Verdict
    about: int
    salt: bytes
    commitment: bytes

    @classmethod
    def of(cls, fact: Fact, *, seq: int, salt: bytes, commitment: bytes) -> Leaf:
        """The entry number `seq` that tells `fact`."""
        return cls(
            seq=seq,
            time_s=fact.time.now_s - fact.time.now_s % TIME_STEP_S,
            clock=fact.time.state,
            kind=fact.kind,
            door=fact.door,
            verdict=fact.verdict,
            about=fact.about,
            salt=salt,
            commitment=commitment if fact.order is None else fact.order,
        )

    def encode(self) -> bytes:
        """The bytes that are hashed."""
        return cbor.encode(
            [
                LEAF_VERSION,
                self.seq,
                self.time_s,
                int(self.clock),
                int(self.kind),
                self.door,
                int(self.verdict.outcome),
                int(self.verdict.reason),
                self.about,
                self.salt,
                self.commitment,
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> Leaf:
        """Parse a leaf; whatever parses encodes to the same bytes.

        RemoteProtocolError: UNSUPPORTED for another version, else MALFORMED.
        """
        items = cbor.decode(data)
        if not isinstance(items, list) or not items:
            raise _malformed("a leaf is an array")
        if number(items[0]) != LEAF_VERSION:
            raise RemoteProtocolError(Fault.UNSUPPORTED, "leaf of another version")
        if len(items) != _ITEMS:
            raise _malformed(f"a leaf has {_ITEMS} items")
        _, seq, time_s, clock, kind, door, outcome, reason, about, salt, commitment = items
        leaf = cls(
            seq=number(seq),
            time_s=number(time_s),
            clock=code(ClockState, clock),
            kind=code(EntryKind, kind),
            door=door_name(door),
            verdict=Verdict(code(Outcome, outcome), code(Reason, reason)),
            about=number(about),
            salt=fixed_bytes(salt, SALT_BYTES),
            commitment=fixed_bytes(commitment, COMMITMENT_BYTES),
        )
        if leaf.time_s % TIME_STEP_S:
            raise _malformed("the time tells more than the minute")
        return leaf


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, detail)


def number(value: cbor.Value) -> int:
    """A number from 0 on. RemoteProtocolError (MALFORMED), as all of these."""
    # bool is a subclass of int, and True is not a number here
    if type(value) is not int or value < 0:
        raise _malformed("not a non-negative number")
    return value


def code(codes: type[_Code], value: cbor.Value) -> _Code:
    """A member of an enum."""
    try:
        return codes(number(value))
    except ValueError:
        raise _malformed(f"unknown {codes.__name__}") from None


def door_name(value: cbor.Value) -> DoorId | None:
    """The name of a door, or none."""
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value.encode()) <= MAX_DOOR_ID_BYTES:
        raise _malformed("not the name of a door")
    return DoorId(value)


def fixed_bytes(value: cbor.Value, length: int) -> bytes:
    """Exactly so many bytes."""
    if not isinstance(value, bytes) or len(value) != length:
        raise _malformed(f"not {length} bytes")
    return value
