"""Looks into a log as a person or an auditor would: shows entries, and computes it all again.

Composition root of `gatewayd log`: it opens the file for reading only, so it
may run beside the daemon, and on a copy from somewhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from gatewayd.adapters.sqlite import LogFile, StoredLeaf, open_log_file
from gatewayd.core import checkpoint as notes
from gatewayd.core.audit import Leaf
from gatewayd.core.checkpoint import Checkpoint, Note, Verifier
from gatewayd.core.merkle import HASH_BYTES, CompactRange, leaf_hash
from gatewayd.pulling import COSIGNED_NAME

MAX_FINDINGS: Final = 20
"""So many are described; all are counted."""

_CHECKPOINTS: Final = (notes.MEMORY_NAME, COSIGNED_NAME)
_PORTION: Final = 1000
_PROGRESS_STEP: Final = 10_000


def open_logbook(path: Path) -> AbstractContextManager[LogFile]:
    """A log to look into. StorageError when it is missing, damaged, newer or not a log."""
    return open_log_file(path)


# --- show --------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; `leaf` is None where the body was pruned or cannot be read (`unreadable`)."""

    seq: int
    leaf: Leaf | None
    unreadable: bool = False


def entries(
    file: LogFile, *, since: int = 0, door: str | None = None, last: int | None = None
) -> Iterator[Entry]:
    """Entries from `since` on, of one door if given, and only the last so many if given."""
    start, end = max(since, 0), file.size()
    if last is None:
        yield from _matching(file, start, end, door)
        return
    found: list[Entry] = []
    while start < end and len(found) < last:
        portion = max(start, end - _PORTION)
        found[:0] = _matching(file, portion, end, door)
        end = portion
    yield from found[max(len(found) - last, 0) :]


def _matching(file: LogFile, start: int, end: int, door: str | None) -> Iterator[Entry]:
    for row in file.rows(start, end):
        entry = _entry(row)
        if door is None or (entry.leaf is not None and entry.leaf.door == door):
            yield entry


def _entry(row: StoredLeaf) -> Entry:
    if row.body is None:
        return Entry(row.seq, None)
    try:
        return Entry(row.seq, Leaf.decode(row.body))
    except RemoteProtocolError:
        return Entry(row.seq, None, unreadable=True)


# --- verify ------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Held:
    """A checkpoint that the log was held against; `signed` is None when no key was given."""

    name: str
    size: int
    signed: bool | None


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of computing a whole log again. Sound when there are no findings."""

    size: int
    root: bytes
    pruned: int
    acknowledged: int
    checkpoints: tuple[Held, ...]
    findings: tuple[str, ...]
    finding_count: int

    @property
    def sound(self) -> bool:
        """Every entry is there, unaltered, in its place and as it was signed."""
        return self.finding_count == 0


@dataclass(slots=True)
class _Work:
    """A verification under way."""

    tree: CompactRange = field(default_factory=CompactRange)
    pruned: int = 0
    findings: list[str] = field(default_factory=list)
    finding_count: int = 0

    def found(self, text: str) -> None:
        self.finding_count += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(text)

    def take(self, row: StoredLeaf) -> None:
        """Check one row and let the tree grow by the hash that the file holds for it.

        An altered body is one finding, not one for every node above it.
        """
        stored = row.nodes[:HASH_BYTES]
        if row.body is None:
            self.pruned += 1
        else:
            if leaf_hash(row.body) != stored:
                self.found(f"entry {row.seq} has been altered")
            entry = _entry(row)
            if entry.leaf is None:
                self.found(f"entry {row.seq} cannot be read")
            elif entry.leaf.seq != row.seq:
                self.found(f"entry {row.seq} says that it is entry {entry.leaf.seq}")
        self.tree, nodes = self.tree.append(stored)
        if b"".join(nodes) != row.nodes:
            self.found(f"the tree above entry {row.seq} has been altered")


def verify(
    file: LogFile,
    log: Verifier | None = None,
    progress: Callable[[int, int], None] = lambda _done, _size: None,
) -> Verification:
    """Compute everything again from the leaves, and compare it with all that is stored.

    `log` is the key that must have signed the checkpoints. `progress` is told
    how many of how many entries are done, now and then.
    """
    work = _Work()
    # before the size: a daemon that goes on must not look ahead of itself
    checkpoints = _checkpoints(file, log, work)
    acknowledged = file.acknowledged()
    size = file.size()
    wanted = {checkpoint.size for _, checkpoint in checkpoints}
    roots = {0: work.tree.root()}
    for row in file.rows(0, size):
        if row.seq != work.tree.size:
            break
        work.take(row)
        if work.tree.size in wanted:
            roots[work.tree.size] = work.tree.root()
        if work.tree.size % _PROGRESS_STEP == 0:
            progress(work.tree.size, size)
    if work.tree.size != size:
        work.found(f"entry {work.tree.size} of {size} is missing; the rest was not looked at")
    elif acknowledged > size:
        work.found(f"the cloud keeps {acknowledged} entries, the log has {size}")
    for held, checkpoint in checkpoints:
        if checkpoint.size > size:
            work.found(f"the log ends at {size}, but its {held.name} says {checkpoint.size}")
        elif roots.get(checkpoint.size, checkpoint.root) != checkpoint.root:
            work.found(f"the first {checkpoint.size} entries are not those of its {held.name}")
    return Verification(
        size=size,
        root=work.tree.root(),
        pruned=work.pruned,
        acknowledged=acknowledged,
        checkpoints=tuple(held for held, _ in checkpoints),
        findings=tuple(work.findings),
        finding_count=work.finding_count,
    )


def _checkpoints(file: LogFile, log: Verifier | None, work: _Work) -> list[tuple[Held, Checkpoint]]:
    """The signed checkpoints kept beside the log, as far as they can be read."""
    found = []
    for name in _CHECKPOINTS:
        note = file.load(name)
        if note is None:
            continue
        try:
            if log is None:
                checkpoint, signed = Checkpoint.parse(Note.parse(note).text), None
            else:
                checkpoint, signed = notes.verify(note, log), True
                if checkpoint.origin != log.name:
                    work.found(f"the {name} is of another log")
        except RemoteProtocolError as error:
            work.found(f"the {name} is not good: {error.detail}")
        else:
            found.append((Held(name, checkpoint.size, signed), checkpoint))
    return found
