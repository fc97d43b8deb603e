"""What outlives the process: the log towards its door, its cloud and its operator; small values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gatewayd.core.erasure import Erased, Run
from gatewayd.core.model import Asked, Command, CommandId, Fact, PastRequest
from gatewayd.core.reserve import Reserved


class AuditLog(Protocol):
    """The door's side of the log. Durable when a call returns."""

    async def append(
        self,
        fact: Fact,
        *,
        command: Command | None = None,
        asked: Asked | None = None,
        settles: CommandId | None = None,
    ) -> int:
        """Write one entry and return its seq; StorageError means that the entry does not exist.

        In the same transaction `command` is stored, `asked` is remembered (again,
        when it was before), and `settles` gets the verdict of `fact`.
        """
        ...

    async def past_request(self, request_key: bytes) -> PastRequest | None:
        """What became of a request; forgotten after 24 hours."""
        ...

    async def unsettled(self) -> Sequence[Command]:
        """Commands recorded but without outcome: the daemon stopped in between."""
        ...

    async def unresolved(self) -> Sequence[Command]:
        """Commands whose outcome is UNKNOWN and whose lock has not been asked since."""
        ...

    async def merge(self, records: Sequence[Reserved], upto: int, gap: Fact | None = None) -> None:
        """Take entries over from the reserve, then write `gap`; all or nothing.

        In the same transaction the log remembers that it has every number up to
        `upto`. What it has already is passed over: by number, and where a command is
        recorded or settled, or a request known. Takes as long as it takes.
        """
        ...


class Erasing(Protocol):
    """The log's side of being forgotten."""

    async def erase(self, order: bytes, runs: Sequence[Run], fact: Fact) -> Erased:
        """Take the bodies of these entries away, as far as they are of `erasure.ERASABLE` kinds.

        In the same transaction `fact` is written, with their number as what it is about,
        and the order's id remembered: the same order again changes nothing. ValueError for
        entries that the cloud has not said it keeps. Proofs verify as before.
        """
        ...


class Reserve(Protocol):
    """Room that was set aside for entries while the log takes none; see `core.reserve`."""

    async def read(self) -> Sequence[bytes]:
        """Every slot."""
        ...

    async def write(self, slot: int, data: bytes) -> None:
        """Durable when this returns; StorageError after half a second at most."""
        ...

    async def clear(self) -> None:
        """Forget them all."""
        ...


class LogReader(Protocol):
    """The uplink's side of the same log: reads, and the cursor."""

    async def size(self) -> int:
        """Number of entries."""
        ...

    async def leaves(self, start: int, max_bytes: int) -> Sequence[bytes]:
        """Encoded leaves from `start` on, at most `max_bytes` in all, but at least one if any.

        Of what was erased only the leaf's hash is there; no leaf is as short.
        """
        ...

    async def root(self, size: int) -> bytes:
        """RFC 9162 root over the first `size` entries."""
        ...

    async def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """RFC 9162 §2.1.4 proof."""
        ...

    async def acknowledged(self) -> int:
        """How many entries the cloud has said it keeps."""
        ...

    async def acknowledge(self, upto: int) -> int:
        """Raise the cursor to max(cursor, upto), never above the size; returns the cursor."""
        ...


class Memory(Protocol):
    """Small durable values (time floor, anchors), each replaced whole."""

    async def load(self, name: str) -> bytes | None:
        """The value, or None when never stored."""
        ...

    async def store(self, name: str, value: bytes) -> None:
        """Durable when this returns. StorageError otherwise."""
        ...
