"""The operator's store of pulled logs in one SQLite file: `cloud.store.CloudStore`.

Synchronous, for a command that does one thing at a time. Leaves, size and
cosigned checkpoint change in one transaction, so a process killed anywhere
finds either all of a batch or none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from firmware_proto import cbor
from firmware_proto.errors import RemoteProtocolError
from gatewayd.adapters.sqlite.errors import storage_errors
from gatewayd.adapters.sqlite.schema import Schema, open_writer
from gatewayd.cloud.store import Closed, Erasing, Held, OutrunError
from gatewayd.core.audit import Leaf
from gatewayd.core.erasure import Erase
from gatewayd.core.merkle import HASH_BYTES, CompactRange
from gatewayd.core.model import EntryKind
from gatewayd.core.pull import Alarm, LogAlarmError, Verified, hash_of
from gatewayd.ports import StorageError

_FIRST: Final = """
CREATE TABLE logs (
    origin TEXT PRIMARY KEY,
    size   INTEGER NOT NULL CHECK (size >= 0),
    hashes BLOB NOT NULL, -- perfect subtrees, largest first, 32 bytes each
    note   BLOB NOT NULL  -- checkpoint of exactly this size, signed and cosigned
) STRICT, WITHOUT ROWID;

CREATE TABLE leaves (
    origin   TEXT NOT NULL,
    seq      INTEGER NOT NULL CHECK (seq >= 0),
    leaf     BLOB NOT NULL,
    hash     BLOB NOT NULL CHECK (length(hash) = 32),
    readable INTEGER NOT NULL CHECK (readable IN (0, 1)), -- 0: of a newer gateway
    PRIMARY KEY (origin, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE alarms (
    id     INTEGER PRIMARY KEY,
    origin TEXT NOT NULL,
    time_s INTEGER NOT NULL, -- Unix seconds of our clock
    alarm  TEXT NOT NULL,
    note   BLOB NOT NULL     -- what the gateway signed, as evidence
) STRICT;
"""

_SECOND: Final = """
CREATE TABLE closed (
    origin TEXT PRIMARY KEY,
    kept   INTEGER NOT NULL CHECK (kept >= 0), -- entries when its gateway was retired
    time_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

_THIRD: Final = """
CREATE TABLE erasings ( -- orders to erase that were sent and, as far as we know, not carried out
    origin    TEXT NOT NULL,
    name      BLOB NOT NULL CHECK (length(name) = 32), -- of the order, as the log names it
    number    INTEGER NOT NULL,
    ordered_s INTEGER NOT NULL, -- Unix seconds of our clock
    wanted    BLOB NOT NULL,    -- the order's body
    PRIMARY KEY (origin, name)
) STRICT, WITHOUT ROWID;
"""

SCHEMA: Final = Schema(0x67_77_63_31, (_FIRST, _SECOND, _THIRD))


@contextmanager
def open_cloud(path: Path) -> Iterator[SqliteCloud]:
    """Open the store, or make it. StorageError when the file is anything else, left untouched."""
    with closing(open_writer(path, SCHEMA)) as connection:
        yield SqliteCloud(connection, path)


class SqliteCloud:
    """See `cloud.store.CloudStore`; StorageError when the file does not obey. Use `open_cloud`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def held(self, origin: str) -> Held:
        """See `CloudStore`."""
        with storage_errors(str(self._path)):
            return self._held(origin)

    def keep(self, origin: str, verified: Verified, note: bytes) -> int:
        """See `CloudStore`."""
        with self._transaction():
            kept = self._held(origin).range
            size = kept.size
            start = verified.held.size - len(verified.leaves)
            if start > size:
                raise OutrunError(f"{origin}: leaves from {start} on, but only {size} are kept")
            for seq, leaf in enumerate(verified.leaves[: size - start], start):
                self._compare(origin, seq, leaf, note)
            if verified.held.size < size:
                return 0  # an older answer, wholly known
            added = verified.leaves[size - start :]
            for leaf in added:
                kept, _ = kept.append(hash_of(leaf))
            if kept != verified.held:
                raise LogAlarmError(Alarm.FORKED, note)
            self._insert(origin, size, added, verified.unreadable)
            self._carried_out(origin, added)
            self._connection.execute(
                "INSERT INTO logs VALUES (?, ?, ?, ?) ON CONFLICT (origin) DO UPDATE"
                " SET size = excluded.size, hashes = excluded.hashes, note = excluded.note",
                (origin, verified.held.size, b"".join(verified.held.hashes), note),
            )
            return len(added)

    def alarm(self, origin: str, error: LogAlarmError, time_s: int) -> None:
        """See `CloudStore`."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO alarms (origin, time_s, alarm, note) VALUES (?, ?, ?, ?)",
                (origin, time_s, error.alarm.name, error.note),
            )

    def erase(self, erasing: Erasing) -> int:
        """Keep no more of these than their hashes; how many went. Redelivery brings none back.

        That the gateway was told is kept until it has done so: by an answer (`erased`) or an entry.
        """
        origin, name, number, ordered_s, wanted = erasing
        with self._transaction():
            gone = sum(
                self._connection.execute(
                    "UPDATE leaves SET leaf = hash"
                    " WHERE origin = ? AND seq BETWEEN ? AND ? AND leaf <> hash",
                    (origin, *run),
                ).rowcount
                for run in wanted.runs
            )
            self._connection.execute(
                "INSERT INTO erasings VALUES (?, ?, ?, ?, ?)",
                (origin, name, number, ordered_s, cbor.encode(wanted.body())),
            )
        with storage_errors(str(self._path)):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def erased(self, origin: str, name: bytes) -> None:
        """The gateway has carried this order out, and so each that asked for no more."""
        with self._transaction():
            self._erased(origin, name)

    def erasings(self) -> list[Erasing]:
        """Those that were not carried out yet, of the logs that are not closed; oldest first."""
        with storage_errors(str(self._path)):
            rows = self._connection.execute(
                "SELECT origin, name, number, ordered_s, wanted FROM erasings"
                " WHERE origin NOT IN (SELECT origin FROM closed) ORDER BY ordered_s, number"
            ).fetchall()
        return [
            Erasing(origin, name, number, ordered_s, self._wanted(body))
            for origin, name, number, ordered_s, body in rows
        ]

    def close(self, origin: str, kept: int, time_s: int) -> None:
        """See `CloudStore`. What was declared first stands."""
        with self._transaction():
            self._connection.execute(
                "INSERT OR IGNORE INTO closed VALUES (?, ?, ?)", (origin, kept, time_s)
            )

    def closed(self, origin: str) -> Closed | None:
        """See `CloudStore`."""
        with storage_errors(str(self._path)):
            row = self._connection.execute(
                "SELECT kept, time_s FROM closed WHERE origin = ?", (origin,)
            ).fetchone()
        return None if row is None else Closed(*row)

    def leaves(self, origin: str) -> Iterator[bytes]:
        """All kept leaves of a log in order."""
        rows = self._connection.execute(
            "SELECT leaf FROM leaves WHERE origin = ? ORDER BY seq", (origin,)
        )
        return (leaf for (leaf,) in rows)

    def alarms(self, origin: str) -> list[tuple[int, str, bytes]]:
        """Time, name and evidence of each alarm, oldest first."""
        return self._connection.execute(
            "SELECT time_s, alarm, note FROM alarms WHERE origin = ? ORDER BY id", (origin,)
        ).fetchall()

    def _held(self, origin: str) -> Held:
        row = self._connection.execute(
            "SELECT size, hashes, note FROM logs WHERE origin = ?", (origin,)
        ).fetchone()
        if row is None:
            return Held()
        size, joined, note = row
        hashes = tuple(joined[i : i + HASH_BYTES] for i in range(0, len(joined), HASH_BYTES))
        return Held(CompactRange(size, hashes), note)

    def _carried_out(self, origin: str, added: Sequence[bytes]) -> None:
        asked = self._connection.execute(
            "SELECT name FROM erasings WHERE origin = ?", (origin,)
        ).fetchall()
        for leaf in added if asked else ():
            name = _order_erased(leaf)
            if (name,) in asked:
                self._erased(origin, name)

    def _erased(self, origin: str, name: bytes | None) -> None:
        rows = self._connection.execute(
            "SELECT name, wanted FROM erasings WHERE origin = ?", (origin,)
        ).fetchall()
        wanted = {each: self._wanted(body).entries for each, body in rows}
        done = wanted.get(name, set())
        over = [(origin, each) for each, entries in wanted.items() if entries <= done]
        self._connection.executemany("DELETE FROM erasings WHERE origin = ? AND name = ?", over)

    def _wanted(self, body: bytes) -> Erase:
        try:
            return Erase.of(cbor.decode(body))
        except RemoteProtocolError as error:
            raise StorageError(f"{self._path}: damaged: {error.detail}") from error

    def _compare(self, origin: str, seq: int, leaf: bytes, note: bytes) -> None:
        (kept,) = self._connection.execute(
            "SELECT hash FROM leaves WHERE origin = ? AND seq = ?", (origin, seq)
        ).fetchone()
        if kept != hash_of(leaf):
            raise LogAlarmError(Alarm.FORKED, note)

    def _insert(
        self, origin: str, start: int, leaves: tuple[bytes, ...], unreadable: tuple[int, ...]
    ) -> None:
        self._connection.executemany(
            "INSERT INTO leaves VALUES (?, ?, ?, ?, ?)",
            (
                (origin, seq, leaf, hash_of(leaf), int(seq not in unreadable))
                for seq, leaf in enumerate(leaves, start)
            ),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with storage_errors(str(self._path)):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise


def _order_erased(leaf: bytes) -> bytes | None:
    """The name of the order that this entry says was carried out."""
    try:
        told = Leaf.decode(leaf)
    except RemoteProtocolError:  # erased itself, or of a newer gateway
        return None
    return told.commitment if told.kind is EntryKind.ERASED else None
