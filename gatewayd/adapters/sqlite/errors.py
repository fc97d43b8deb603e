"""What SQLite and the file system say, in the one error that callers know."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gatewayd.ports import StorageError

_PRIMARY: Final = 0xFF  # the low byte of an extended result code
_MEANINGS: Final = {
    sqlite3.SQLITE_BUSY: "in use by another process",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_CORRUPT: "damaged; keep the file, it is evidence, and start with a new one",
    sqlite3.SQLITE_FULL: "no space left on the disk",
    sqlite3.SQLITE_IOERR: "the disk reports an input/output error",
    sqlite3.SQLITE_NOTADB: "not a SQLite database",
    sqlite3.SQLITE_READONLY: "read-only",
}


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into StorageError; `what` names the file."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        meaning = _MEANINGS.get(code & _PRIMARY)
        text = f"{meaning} ({error})" if meaning else str(error)
        raise StorageError(f"{what}: {text}") from error
    except OSError as error:
        raise StorageError(f"{what}: {error.strerror or error}") from error
