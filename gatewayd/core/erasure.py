"""Entries that are to be forgotten: which ones, and which orders were carried out.

Erasing takes an entry's body; its hash stays in the tree, so every checkpoint and
every proof verifies as before. What the daemon wrote about itself and about orders
is nobody's, and stays: a thief of the command key cannot erase what he ordered.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from firmware_proto import cbor
from firmware_proto.codes import ID_BYTES, Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.model import EntryKind

MAX_RUNS: Final = 64
MAX_ENTRIES: Final = 4096
"""Of one order: no door may wait longer for the log than for one slow write."""
MEMORY_NAME: Final = "erasures"
REMEMBERED: Final = 64
ERASABLE: Final = frozenset(
    {
        EntryKind.INTENT,
        EntryKind.OUTCOME,
        EntryKind.REFUSAL,
        EntryKind.JOINED,
        EntryKind.RESOLVED,
    }
)

_FORMAT: Final = 1
_MAX_NUMBER: Final = 2**63 - 1


class Run(NamedTuple):
    """Entries `first` to `last`, both included."""

    first: int
    last: int


class Erase(NamedTuple):
    """The body of an ERASE statement."""

    runs: tuple[Run, ...]

    def body(self) -> list[cbor.Value]:
        """For `Statement.body`."""
        return [[run.first, run.last] for run in self.runs]

    @classmethod
    def of(cls, body: cbor.Value) -> Erase:
        """The order in a body: runs that ascend. RemoteProtocolError (MALFORMED) otherwise."""
        if not isinstance(body, list) or not 0 < len(body) <= MAX_RUNS:
            raise _malformed()
        runs = tuple(map(_run, body))
        ascending = all(before.last < after.first for before, after in itertools.pairwise(runs))
        if not ascending or sum(run.last - run.first + 1 for run in runs) > MAX_ENTRIES:
            raise _malformed()
        return cls(runs)

    @property
    def entries(self) -> set[int]:
        """All that it names."""
        return {entry for run in self.runs for entry in range(run.first, run.last + 1)}

    @property
    def last(self) -> int:
        """The last entry that it names."""
        return self.runs[-1].last


class Erased(NamedTuple):
    """What became of an order, and the answer to it."""

    entries: int
    """How many bodies went; those that were gone already are not counted."""
    seq: int
    """The entry that says so."""
    clean: bool = False
    """The file has no older copy of them: nobody was reading it just then."""

    def body(self) -> list[cbor.Encodable]:
        """For `answers.sign`."""
        return [self.entries, self.seq, self.clean]

    @classmethod
    def of(cls, body: cbor.Value) -> Erased:
        """The answer in a body. RemoteProtocolError (MALFORMED) when it is none."""
        match body:
            case [entries, seq, bool(clean)] if _is_number(entries) and _is_number(seq):
                return cls(entries, seq, clean)  # type: ignore[arg-type] # as asked just before
            case _:
                raise _malformed()


# --- which were carried out ------------------------------------------------------------
class DamagedErasuresError(ValueError):
    """The stored value is not what `Erasures.encode` writes."""


@dataclass(frozen=True, slots=True)
class Erasures:
    """The last orders, by id: an order that was cut short is carried out once all the same."""

    done: Mapping[bytes, Erased] = field(default_factory=dict)

    def and_(self, order: bytes, erased: Erased) -> Erasures:
        """With one more; the oldest are forgotten first."""
        done = {**self.done, order: erased}
        return Erasures(dict(list(done.items())[-REMEMBERED:]))

    def encode(self) -> bytes:
        """For `Memory`: in the order of the entries, which is that of the orders."""
        told: list[cbor.Encodable] = [
            [order, each.entries, each.seq] for order, each in self.done.items()
        ]
        return cbor.encode([_FORMAT, told])

    @classmethod
    def decode(cls, data: bytes) -> Erasures:
        """What `encode` wrote. DamagedErasuresError for anything else."""
        try:
            stored = cbor.decode(data)
            match stored:
                case [_, list(told)]:
                    found = cls(dict(map(_done, told)))
                case _:
                    raise _malformed()
        except RemoteProtocolError as error:
            raise DamagedErasuresError(error.detail) from None
        if found.encode() != data:
            raise DamagedErasuresError("another format")
        return found


def _done(stored: cbor.Value) -> tuple[bytes, Erased]:
    match stored:
        case [bytes(order), *counted] if len(order) == ID_BYTES:
            return order, Erased.of([*counted, False])
        case _:
            raise _malformed()


def _run(stored: cbor.Value) -> Run:
    match stored:
        case [first, last] if _is_number(first) and _is_number(last) and first <= last:  # type: ignore[operator] # as asked just before
            return Run(first, last)  # type: ignore[arg-type] # likewise
        case _:
            raise _malformed()


def _is_number(value: cbor.Value) -> bool:
    return type(value) is int and 0 <= value <= _MAX_NUMBER


def _malformed() -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, "not an erasure")
