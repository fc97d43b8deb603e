"""Takes bodies of entries out of the file for good; each function runs on the log's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from gatewayd.adapters.sqlite import reading
from gatewayd.core.audit import Leaf
from gatewayd.core.erasure import ERASABLE, MEMORY_NAME, DamagedErasuresError, Erasures, Run
from gatewayd.ports import StorageError

_BUSY_MS: Final = 200
"""How long a door may wait for somebody who reads the log meanwhile."""


def carried_out(connection: sqlite3.Connection) -> Erasures:
    """The orders that were. StorageError when what is stored is damaged."""
    stored = reading.recall(connection, MEMORY_NAME)
    try:
        return Erasures() if stored is None else Erasures.decode(stored)
    except DamagedErasuresError as error:
        raise StorageError(f"the erasures are damaged: {error}") from error


def prune(connection: sqlite3.Connection, runs: Sequence[Run]) -> int:
    """Inside a transaction; how many bodies went."""
    gone = 0
    for run in runs:
        rows = connection.execute(
            "SELECT seq, body FROM leaf WHERE seq BETWEEN ? AND ? AND body IS NOT NULL", run
        ).fetchall()
        of_persons = [(seq,) for seq, body in rows if _erasable(body)]
        connection.executemany("UPDATE leaf SET body = NULL WHERE seq = ?", of_persons)
        gone += len(of_persons)
    return gone


def _erasable(body: bytes) -> bool:
    try:
        return Leaf.decode(body).kind in ERASABLE
    except RemoteProtocolError:  # a newer gateway's: nobody here knows what is in it
        return True


def scrub(connection: sqlite3.Connection) -> bool:
    """Bring everything into the file proper, where deleted content is overwritten; was it done?

    The write-ahead log has older pages until then. `secure_delete` overwrites what SQLite frees;
    flash may keep blocks that nobody can address.
    """
    (before,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    try:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(before)}")
    return not busy
