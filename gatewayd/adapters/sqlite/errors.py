"""What SQLite and the file system say, in the one error that callers know."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from firmware_proto.codes import Reason
from gatewayd.ports import StorageError

_PRIMARY: Final = 0xFF  # the low byte of an extended result code
DAMAGED: Final = "damaged; keep the file, it is evidence, and start with a new one"
_MEANINGS: Final = {
    sqlite3.SQLITE_BUSY: "in use by another process",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_FULL: "no space left on the disk",
    sqlite3.SQLITE_IOERR: "the disk reports an input/output error",
    sqlite3.SQLITE_NOTADB: "not a SQLite database",
    sqlite3.SQLITE_READONLY: "read-only",
}
_REASONS: Final = {
    sqlite3.SQLITE_FULL: Reason.LOG_FULL,
    sqlite3.SQLITE_IOERR: Reason.LOG_IO_ERROR,
    sqlite3.SQLITE_READONLY: Reason.LOG_READ_ONLY,
}
_OF_THE_DISK: Final = frozenset({*_REASONS, sqlite3.SQLITE_CANTOPEN})
_ERRNO_REASONS: Final = {
    errno.ENOSPC: Reason.LOG_FULL,
    errno.EDQUOT: Reason.LOG_FULL,
    errno.EFBIG: Reason.LOG_FULL,
    errno.EROFS: Reason.LOG_READ_ONLY,
    errno.EIO: Reason.LOG_IO_ERROR,
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
        reason = _REASONS.get(code & _PRIMARY, Reason.LOG_UNAVAILABLE)
        raise StorageError(f"{what}: {text}", reason=reason) from error
    except UnicodeDecodeError as error:  # SQLite quotes what it cannot read, and sqlite3 cannot
        raise StorageError(f"{what}: {DAMAGED}") from error
    except OSError as error:
        reason = _ERRNO_REASONS.get(error.errno or 0, Reason.LOG_UNAVAILABLE)
        raise StorageError(f"{what}: {error.strerror or error}", reason=reason) from error


def of_the_disk(error: StorageError) -> bool:
    """Whether the disk is to blame, and not what the file holds: it may be well again later."""
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & _PRIMARY in _OF_THE_DISK
    return isinstance(cause, OSError) and cause.errno in _ERRNO_REASONS
