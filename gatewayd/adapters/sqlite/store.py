"""The log in its file, for the one thread that may write it: entries, and what goes with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from gatewayd.adapters.sqlite import commands, erasing, reading
from gatewayd.adapters.sqlite.errors import DAMAGED, storage_errors
from gatewayd.core import erasure, merkle
from gatewayd.core.audit import COMMITMENT_BYTES, SALT_BYTES, Leaf
from gatewayd.core.erasure import Erased, Run
from gatewayd.core.model import Asked, Command, CommandId, Fact, PastRequest
from gatewayd.core.reserve import MERGED_NAME, Reserved
from gatewayd.ports import StorageError

_NUMBER_BYTES: Final = 8


class LogStore:
    """Reads and writes one log. Not for use by two threads; every method may raise StorageError.

    `writing` False: the connection cannot write.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        randomness: Callable[[int], bytes],
        *,
        writing: bool = True,
    ) -> None:
        self._connection = connection
        self._path = path
        self._randomness = randomness
        self._node = partial(reading.tree_node, connection)
        self._tree: merkle.CompactRange | None = None
        with self._errors():
            self._grown_tree()
            if writing and reading.recall(connection, erasure.MEMORY_NAME) is not None:
                erasing.scrub(connection)  # the power may have gone before that

    def close(self) -> None:
        """Close the file; nothing is pending, ever."""
        with self._errors():
            self._connection.close()

    # --- writing --------------------------------------------------------------
    def append(
        self,
        fact: Fact,
        command: Command | None,
        asked: Asked | None,
        settles: CommandId | None,
    ) -> int:
        """See `ports.storage.AuditLog.append`.

        ValueError, and nothing is written, when the command is already recorded,
        when `asked` names no command or was asked with other content or of another
        command, or when `settles` names no command that awaits a verdict.
        """
        with self._transaction():
            return self._write(fact, command, asked, settles)

    def merge(self, records: Sequence[Reserved], upto: int, gap: Fact | None) -> None:
        """See `ports.storage.AuditLog.merge`."""
        with self._transaction():
            merged = int.from_bytes(reading.recall(self._connection, MERGED_NAME) or b"", "big")
            for each in records:
                if each.number > merged and commands.lacks(self._connection, each):
                    self._write(each.fact, each.command, each.asked, each.settles)
            if gap is not None:
                self._write(gap, None, None, None)
            self._store(MERGED_NAME, max(merged, upto).to_bytes(_NUMBER_BYTES, "big"))

    def erase(self, order: bytes, runs: Sequence[Run], fact: Fact) -> Erased:
        """See `ports.storage.Erasing.erase`."""
        with self._transaction():
            done = erasing.carried_out(self._connection)
            erased = done.done.get(order)
            if erased is None:
                if runs[-1].last >= reading.cursor(self._connection):
                    raise ValueError("the cloud has not said that it keeps these entries")
                entries = erasing.prune(self._connection, runs)
                seq = self._write(replace(fact, about=entries), None, None, None)
                erased = Erased(entries, seq)
                self._store(erasure.MEMORY_NAME, done.and_(order, erased).encode())
        with self._errors():
            return erased._replace(clean=erasing.scrub(self._connection))

    def acknowledge(self, upto: int) -> int:
        """See `ports.storage.LogReader.acknowledge`."""
        cursor = self.acknowledged()
        raised = min(upto, self.size())
        if raised <= cursor:
            return cursor
        with self._transaction():
            self._connection.execute("UPDATE cursor SET acknowledged = ?", (raised,))
        return raised

    def store(self, name: str, value: bytes) -> None:
        """See `ports.storage.Memory.store`."""
        with self._transaction():
            self._store(name, value)

    # --- reading --------------------------------------------------------------
    def past_request(self, request_key: bytes) -> PastRequest | None:
        """See `ports.storage.AuditLog.past_request`."""
        with self._errors():
            return commands.past_request(self._connection, request_key)

    def unsettled(self) -> Sequence[Command]:
        """See `ports.storage.AuditLog.unsettled`."""
        with self._errors():
            return commands.recorded(self._connection)

    def unresolved(self) -> Sequence[Command]:
        """See `ports.storage.AuditLog.unresolved`."""
        with self._errors():
            return commands.unresolved(self._connection)

    def size(self) -> int:
        """See `ports.storage.LogReader.size`."""
        with self._errors():
            return self._grown_tree().size

    def leaves(self, start: int, max_bytes: int) -> Sequence[bytes]:
        """See `ports.storage.LogReader.leaves`."""
        bodies: list[bytes] = []
        with self._errors():
            for (body,) in self._connection.execute(
                "SELECT coalesce(body, substr(nodes, 1, 32)) FROM leaf WHERE seq >= ? ORDER BY seq",
                (max(start, 0),),
            ):
                if body is None:
                    raise StorageError(f"{self._path}: {DAMAGED}")
                max_bytes -= len(body)
                if bodies and max_bytes < 0:
                    break
                bodies.append(body)
        return bodies

    def root(self, size: int) -> bytes:
        """See `ports.storage.LogReader.root`. ValueError beyond the size."""
        with self._errors():
            self._check_size(size)
            return merkle.root(size, self._node)

    def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """See `ports.storage.LogReader.consistency`. ValueError beyond the size, for `old` = 0."""
        with self._errors():
            self._check_size(new)
            return merkle.consistency_proof(old, new, self._node)

    def inclusion(self, index: int, size: int) -> Sequence[bytes]:
        """RFC 9162 §2.1.3 proof. ValueError beyond the size."""
        with self._errors():
            self._check_size(size)
            return merkle.inclusion_proof(index, size, self._node)

    def acknowledged(self) -> int:
        """See `ports.storage.LogReader.acknowledged`."""
        with self._errors():
            return reading.cursor(self._connection)

    def load(self, name: str) -> bytes | None:
        """See `ports.storage.Memory.load`."""
        with self._errors():
            return reading.recall(self._connection, name)

    # --- inside ---------------------------------------------------------------
    def _errors(self) -> AbstractContextManager[None]:
        return storage_errors(str(self._path))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # what the file holds is asked again, never guessed
                self._tree = None
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def _grown_tree(self) -> merkle.CompactRange:
        if self._tree is None:
            size = reading.tree_size(self._connection)
            self._tree = merkle.CompactRange.load(size, self._node)
        return self._tree

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self._grown_tree().size:
            raise ValueError(f"the log does not have {size} entries")

    def _write(
        self,
        fact: Fact,
        command: Command | None,
        asked: Asked | None,
        settles: CommandId | None,
    ) -> int:
        """One entry, inside a transaction."""
        tree = self._grown_tree()
        if settles is not None:
            fact = replace(fact, about=commands.intent_of(self._connection, settles))
        leaf = Leaf.of(
            fact,
            seq=tree.size,
            salt=self._randomness(SALT_BYTES),
            commitment=self._randomness(COMMITMENT_BYTES),
        )
        body = leaf.encode()
        self._tree, nodes = tree.append(merkle.leaf_hash(body))
        self._connection.execute(
            "INSERT INTO leaf (seq, body, nodes) VALUES (?, ?, ?)",
            (leaf.seq, body, b"".join(nodes)),
        )
        commands.forget(self._connection, fact.time)
        if command is not None:
            commands.record(self._connection, command, leaf.seq, fact.time)
        if asked is not None:
            commands.remember(self._connection, asked, leaf.seq, fact)
        if settles is not None:
            commands.settle(self._connection, settles, leaf.seq, fact)
        return leaf.seq

    def _store(self, name: str, value: bytes) -> None:
        self._connection.execute(
            "INSERT INTO memory (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )
