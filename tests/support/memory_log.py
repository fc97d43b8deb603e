"""The log kept in memory: a whole second implementation of the log's three ports.

It stands under the same contract suite as the SQLite log, so that what is
tested over it holds over the file too. `failing` and `gate` are for tests of
what the callers do when the disk is full or slow.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from firmware_proto.codes import Outcome
from gatewayd.core import merkle
from gatewayd.core.audit import COMMITMENT_BYTES, SALT_BYTES, Leaf
from gatewayd.core.erasure import ERASABLE, Erased, Run
from gatewayd.core.model import (
    Asked,
    ClockState,
    Command,
    CommandId,
    EntryKind,
    Fact,
    PastRequest,
    Record,
    TimeReading,
    Verdict,
)
from gatewayd.core.reserve import MERGED_NAME, Reserved
from gatewayd.ports import StorageError

_DAY_S = 24 * 60 * 60


def counted_randomness() -> Callable[[int], bytes]:
    """Bytes that never repeat and are the same in every run."""
    counter = itertools.count()
    return lambda length: sha256(next(counter).to_bytes(8, "big")).digest()[:length]


@dataclass(slots=True)
class _Kept:
    command: Command
    recorded_s: int | None
    verdict: Verdict | None = None
    record: Record | None = None
    ended: bool = False


@dataclass(slots=True)
class _Remembered:
    asked: Asked
    recorded_s: int | None
    verdict: Verdict | None
    record: Record | None


@dataclass(slots=True)
class MemoryLog:
    """`ports.storage.AuditLog`, `LogReader` and `Memory`, gone when the object is."""

    randomness: Callable[[int], bytes] = field(default_factory=counted_randomness)
    failing: bool = False
    """Every call that writes raises StorageError."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Writes wait until it is set, as it is at first."""

    _bodies: list[bytes] = field(default_factory=list)
    _nodes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _tree: merkle.CompactRange = field(default_factory=merkle.CompactRange)
    _kept: list[_Kept] = field(default_factory=list)
    _remembered: dict[bytes, _Remembered] = field(default_factory=dict)
    _memory: dict[str, bytes] = field(default_factory=dict)
    _cursor: int = 0
    _erased: dict[bytes, Erased] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def entries(self) -> list[Leaf]:
        """All that was written, decoded."""
        return [Leaf.decode(body) for body in self._bodies if len(body) > merkle.HASH_BYTES]

    # --- ports.storage.AuditLog -------------------------------------------------------
    async def append(
        self,
        fact: Fact,
        *,
        command: Command | None = None,
        asked: Asked | None = None,
        settles: CommandId | None = None,
    ) -> int:
        await self._ready_to_write()
        before = (
            [replace(kept) for kept in self._kept],
            {key: replace(each) for key, each in self._remembered.items()},
        )
        try:
            self._forget(fact.time)
            settled = None if settles is None else self._awaiting(settles)
            if settled is not None:
                fact = replace(fact, about=settled.command.intent_seq)
            if command is not None:
                self._check_new(command)
            if asked is not None:
                self._check_asked(asked, command)
        except ValueError:
            self._kept, self._remembered = before
            raise
        leaf = Leaf.of(
            fact,
            seq=len(self._bodies),
            salt=self.randomness(SALT_BYTES),
            commitment=self.randomness(COMMITMENT_BYTES),
        )
        body = leaf.encode()
        self._tree, nodes = self._tree.append(merkle.leaf_hash(body))
        for level, node in enumerate(nodes):
            self._nodes[level, leaf.seq >> level] = node
        self._bodies.append(body)
        known_s = None if fact.time.state is ClockState.UNKNOWN else fact.time.now_s
        if command is not None:
            self._kept.append(_Kept(replace(command, intent_seq=leaf.seq), known_s))
        if asked is not None:
            self._remember(asked, leaf.seq, fact, known_s)
        if settled is not None:
            settled.verdict = fact.verdict
            settled.record = Record(leaf.seq, settled.command.door, fact.time.now_s)
            was_asked = fact.kind is EntryKind.RESOLVED
            settled.ended = was_asked or fact.verdict.outcome is not Outcome.UNKNOWN
        return leaf.seq

    async def past_request(self, request_key: bytes) -> PastRequest | None:
        remembered = self._remembered.get(request_key)
        if remembered is None:
            return None
        kept = self._of(remembered.asked.command)
        return PastRequest(
            remembered.asked.content,
            remembered.verdict or kept.verdict,
            remembered.record or kept.record,
        )

    async def unsettled(self) -> Sequence[Command]:
        return [kept.command for kept in self._kept if kept.verdict is None]

    async def unresolved(self) -> Sequence[Command]:
        return [kept.command for kept in self._kept if kept.verdict and not kept.ended]

    async def merge(self, records: Sequence[Reserved], upto: int, gap: Fact | None = None) -> None:
        await self._ready_to_write()
        merged = int.from_bytes(self._memory.get(MERGED_NAME, b""), "big")
        for each in records:
            if each.number > merged and self._lacks(each):
                await self.append(
                    each.fact, command=each.command, asked=each.asked, settles=each.settles
                )
        if gap is not None:
            await self.append(gap)
        self._memory[MERGED_NAME] = max(merged, upto).to_bytes(8, "big")

    def _lacks(self, each: Reserved) -> bool:
        known = {kept.command.id: kept for kept in self._kept}
        if each.command is not None:
            return each.command.id not in known
        if each.asked is not None:
            return each.asked.key not in self._remembered and each.asked.command in known
        if each.settles is None:
            return True
        kept = known.get(each.settles)
        again = each.fact.verdict.outcome is Outcome.UNKNOWN
        return kept is not None and not kept.ended and not (kept.verdict and again)

    # --- ports.storage.Erasing ---------------------------------------------------------
    async def erase(self, order: bytes, runs: Sequence[Run], fact: Fact) -> Erased:
        if order in self._erased:
            return self._erased[order]
        if runs[-1].last >= self._cursor:
            raise ValueError("the cloud has not said that it keeps these entries")
        gone = 0
        for run in runs:
            for seq in range(run.first, run.last + 1):
                body = self._bodies[seq]
                if len(body) > merkle.HASH_BYTES and Leaf.decode(body).kind in ERASABLE:
                    self._bodies[seq] = merkle.leaf_hash(body)
                    gone += 1
        seq = await self.append(replace(fact, about=gone))
        self._erased[order] = Erased(gone, seq, clean=True)
        return self._erased[order]

    # --- ports.storage.LogReader ------------------------------------------------------
    async def size(self) -> int:
        return len(self._bodies)

    async def leaves(self, start: int, max_bytes: int) -> Sequence[bytes]:
        taken: list[bytes] = []
        for body in self._bodies[max(start, 0) :]:
            max_bytes -= len(body)
            if taken and max_bytes < 0:
                break
            taken.append(body)
        return taken

    async def root(self, size: int) -> bytes:
        self._check_size(size)
        return merkle.root(size, self._node)

    async def consistency(self, old: int, new: int) -> Sequence[bytes]:
        self._check_size(new)
        return merkle.consistency_proof(old, new, self._node)

    async def inclusion(self, index: int, size: int) -> Sequence[bytes]:
        self._check_size(size)
        return merkle.inclusion_proof(index, size, self._node)

    async def acknowledged(self) -> int:
        return self._cursor

    async def acknowledge(self, upto: int) -> int:
        await self._ready_to_write()
        self._cursor = max(self._cursor, min(upto, len(self._bodies)))
        return self._cursor

    # --- ports.storage.Memory ---------------------------------------------------------
    async def load(self, name: str) -> bytes | None:
        return self._memory.get(name)

    async def store(self, name: str, value: bytes) -> None:
        await self._ready_to_write()
        self._memory[name] = value

    # --- inside ---------------------------------------------------------------
    async def _ready_to_write(self) -> None:
        await self.gate.wait()
        if self.failing:
            raise StorageError("told to fail")

    def _node(self, level: int, index: int) -> bytes:
        return self._nodes[level, index]

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= len(self._bodies):
            raise ValueError(f"the log does not have {size} entries")

    def _awaiting(self, command: CommandId) -> _Kept:
        for kept in self._kept:
            if kept.command.id == command and not kept.ended:
                return kept
        raise ValueError("no such command awaits a verdict")

    def _check_new(self, command: Command) -> None:
        if any(kept.command.id == command.id for kept in self._kept):
            raise ValueError("this command is already recorded")

    def _check_asked(self, asked: Asked, command: Command | None) -> None:
        before = self._remembered.get(asked.key)
        if before is not None and before.asked != asked:
            raise ValueError("this request was asked with other content or of another command")
        if command is None or command.id != asked.command:
            self._of(asked.command)

    def _of(self, command: CommandId) -> _Kept:
        for kept in self._kept:
            if kept.command.id == command:
                return kept
        raise ValueError("this request has no command")

    def _remember(self, asked: Asked, seq: int, fact: Fact, known_s: int | None) -> None:
        if asked.key in self._remembered:
            self._remembered[asked.key].recorded_s = known_s
            return
        shares = fact.kind is EntryKind.JOINED
        certain = fact.verdict.outcome is not Outcome.UNKNOWN
        door = self._of(asked.command).command.door
        self._remembered[asked.key] = _Remembered(
            asked,
            known_s,
            fact.verdict if shares and certain else None,
            Record(seq, door, fact.time.now_s) if shares else None,
        )

    def _forget(self, time: TimeReading) -> None:
        if time.state is ClockState.UNKNOWN:
            return
        for each in (*self._kept, *self._remembered.values()):
            if each.recorded_s is None:
                each.recorded_s = time.now_s
        limit = time.now_s - _DAY_S
        self._remembered = {
            key: each for key, each in self._remembered.items() if (each.recorded_s or 0) > limit
        }
        named = {each.asked.command for each in self._remembered.values()}
        self._kept = [
            kept
            for kept in self._kept
            if (kept.recorded_s or 0) > limit or not kept.ended or kept.command.id in named
        ]
