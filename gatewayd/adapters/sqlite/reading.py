"""The queries that only read, for the daemon's one connection and for read-only ones alike."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.adapters.sqlite.errors import storage_errors
from gatewayd.adapters.sqlite.schema import LOG, open_reader
from gatewayd.core.merkle import HASH_BYTES, completing_leaf
from gatewayd.ports import StorageError

_ROWS_AT_ONCE: Final = 1000


def tree_size(connection: sqlite3.Connection) -> int:
    """Number of entries; the same cost for any number."""
    (last,) = connection.execute("SELECT max(seq) FROM leaf").fetchone()
    return 0 if last is None else int(last) + 1


def tree_node(connection: sqlite3.Connection, level: int, index: int) -> bytes:
    """Hash of a perfect subtree; StorageError when the file does not hold it."""
    row = connection.execute(
        "SELECT substr(nodes, ?, ?) FROM leaf WHERE seq = ?",
        (level * HASH_BYTES + 1, HASH_BYTES, completing_leaf(level, index)),
    ).fetchone()
    if row is None or len(row[0]) != HASH_BYTES:
        raise StorageError(f"damaged: tree node {level}/{index} is missing")
    return bytes(row[0])


def cursor(connection: sqlite3.Connection) -> int:
    """How many entries the cloud has said it keeps."""
    (acknowledged,) = connection.execute("SELECT acknowledged FROM cursor").fetchone()
    return int(acknowledged)


def recall(connection: sqlite3.Connection, name: str) -> bytes | None:
    """A value of `ports.storage.Memory`."""
    row = connection.execute("SELECT value FROM memory WHERE name = ?", (name,)).fetchone()
    return None if row is None else bytes(row[0])


@dataclass(frozen=True, slots=True)
class StoredLeaf:
    """One row; `body` is None when pruned, `nodes` are the subtree hashes it completes."""

    seq: int
    body: bytes | None
    nodes: bytes


class LogFile:
    """A log as a file to look into, also while the daemon writes it. Use `open_log_file`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def size(self) -> int:
        """Number of entries now."""
        with storage_errors(str(self._path)):
            return tree_size(self._connection)

    def rows(self, start: int, end: int) -> Iterator[StoredLeaf]:
        """The rows that are there from `start` up to and without `end`, in order.

        Read in portions, so that a long look does not keep the daemon from
        shortening its write-ahead log.
        """
        while start < end:
            with storage_errors(str(self._path)):
                rows = self._connection.execute(
                    "SELECT seq, body, nodes FROM leaf WHERE seq >= ? AND seq < ?"
                    " ORDER BY seq LIMIT ?",
                    (start, end, _ROWS_AT_ONCE),
                ).fetchall()
            for row in rows:
                yield StoredLeaf(*row)
            start = rows[-1][0] + 1 if rows else end

    def acknowledged(self) -> int:
        """How many entries the cloud has said it keeps."""
        with storage_errors(str(self._path)):
            return cursor(self._connection)

    def load(self, name: str) -> bytes | None:
        """A value of `ports.storage.Memory`."""
        with storage_errors(str(self._path)):
            return recall(self._connection, name)


@contextmanager
def open_log_file(path: Path) -> Iterator[LogFile]:
    """Open a log to look into it. StorageError when it is missing or not a log."""
    connection = open_reader(path, LOG)
    try:
        yield LogFile(connection, path)
    finally:
        connection.close()
