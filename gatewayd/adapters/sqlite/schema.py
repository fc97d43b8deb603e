"""Creates, recognises, opens and migrates a database file, and never overwrites one.

A schema is a sequence of SQL scripts, one per version; version `n` of a file
is what the first `n` scripts made. A script runs in one transaction together
with the change of the version number.
"""

from __future__ import annotations

import errno
import os
import pkgutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from gatewayd.adapters.sqlite.errors import storage_errors
from gatewayd.ports import StorageError

_MAX_WAL_BYTES: Final = 4 * 1024 * 1024
_CACHE_KIB: Final = 256
"""Instead of SQLite's 2 MB, into which a daemon grows over weeks; the system keeps them anyway."""
_BUSY_S: Final = 5.0
_FILE_MODE: Final = 0o600
_ROOM_BYTES: Final = 128 * 1024
_STRANDED: Final = {True: "vfs=unix-none", False: "immutable=1"}
"""By whether there is a write-ahead log. SQLite would make one, where there is none."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What a file must be: its SQLite application id, and the script of every version."""

    application_id: int
    scripts: Sequence[str]

    @property
    def version(self) -> int:
        """The newest version."""
        return len(self.scripts)


def load_scripts(package: str, folder: str = "versions") -> tuple[str, ...]:
    """The files `1.sql`, `2.sql` … of a package's folder, without gaps."""
    return tuple(_scripts(package, folder))


def _scripts(package: str, folder: str) -> Iterator[str]:
    """One after the other. Not through importlib.resources, which loads half a megabyte."""
    for number in count(1):
        try:
            script = pkgutil.get_data(package, f"{folder}/{number}.sql")
        except FileNotFoundError:
            return
        yield (script or b"").decode()


LOG: Final = Schema(0x67_77_64_31, load_scripts("gatewayd.adapters.sqlite"))


def open_writer(path: Path, schema: Schema) -> sqlite3.Connection:
    """The connection for the only writer; creates or migrates the file when that is needed.

    StorageError when the file is of a newer version, of another application,
    damaged or not a database: it is left exactly as it was.
    """
    with storage_errors(str(path)):
        if not path.exists():
            _create(path, schema)
        with closing(open_reader(path, schema, migrated=False)) as reader:
            version = _pragma(reader, "user_version")
        connection = _connect(f"{path.absolute().as_uri()}?mode=rw")
        try:
            _configure_writer(connection)
            if version < schema.version:
                migrate(connection, path, schema)
            # last: a migration may have to rebuild a table that others refer to
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection


def open_reader(path: Path, schema: Schema, *, migrated: bool = True) -> sqlite3.Connection:
    """A connection that cannot write. StorageError as for `open_writer`, and for a missing file.

    `migrated=False` also accepts the versions that `open_writer` would migrate.
    """
    with storage_errors(str(path)):
        if not path.is_file():
            raise StorageError(f"{path}: {'not a' if path.exists() else 'no such'} file")
        connection = _connect(f"{path.absolute().as_uri()}?{_reading_mode(path)}")
        try:
            _recognise(connection, path, schema, migrated=migrated)
            connection.execute(f"PRAGMA cache_size = {-_CACHE_KIB}")
        except BaseException:
            connection.close()
            raise
        return connection


def open_stranded(path: Path, schema: Schema) -> sqlite3.Connection:
    """A connection that cannot write and needs no other file, for a disk that takes none.

    Only for whoever holds the lock of all writers: it takes no locks. What is in the write-ahead
    log counts; where that lies is kept in memory (SQLite "Write-Ahead Logging", section 7).
    StorageError as for `open_reader`.
    """
    with storage_errors(str(path)):
        wal = path.with_name(path.name + "-wal").exists()
        connection = _connect(f"{path.absolute().as_uri()}?mode=ro&{_STRANDED[wal]}")
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            _recognise(connection, path, schema, migrated=True)
            connection.execute(f"PRAGMA cache_size = {-_CACHE_KIB}")
        except BaseException:
            connection.close()
            raise
        return connection


def check_disk(path: Path) -> None:
    """StorageError on a disk that is read-only or full, before SQLite maps its index there.

    It asks for the last byte of each page only; where blocks are smaller and there is no room,
    writing to the others ends the process (SIGBUS).
    """
    with storage_errors(str(path)):
        disk = os.statvfs(path.parent)
        if disk.f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if disk.f_blocks and disk.f_bavail * disk.f_frsize < _ROOM_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def migrate(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    """Bring a file up to the newest version, all steps or none.

    Until it is done, the old state also lies beside the file in full, as
    `<name>.backup`; a copy that stayed would outlive what must be forgotten.
    """
    backup = path.with_name(path.name + ".backup")
    backup.unlink(missing_ok=True)
    _touch(backup)
    with closing(sqlite3.connect(backup)) as copy:
        connection.backup(copy)
    version = _pragma(connection, "user_version")
    try:
        connection.execute("BEGIN IMMEDIATE")
        for number, script in enumerate(schema.scripts[version:], version + 1):
            _run(connection, script, number)
        _check_references(connection, path)
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    backup.unlink()


def _create(path: Path, schema: Schema) -> None:
    """Make a new file under another name and give it its own when it is complete.

    So whatever bears the name was once a whole database: an empty or
    half-made file is damage, and is never taken for a new one.
    """
    remains = [path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")]
    for file in remains:
        if file.exists():
            raise StorageError(f"{path}: missing, but its journal {file.name} is here")
    new = path.with_name(path.name + ".new")
    for file in (new, new.with_name(new.name + "-wal"), new.with_name(new.name + "-shm")):
        file.unlink(missing_ok=True)
    _touch(new)
    with closing(_connect(f"{new.absolute().as_uri()}?mode=rw")) as connection:
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        for number, script in enumerate(schema.scripts, 1):
            _run(connection, script, number)
        connection.execute("COMMIT")
    new.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _reading_mode(path: Path) -> str:
    """Even to read, SQLite wants to make files for its locks; on evidence it cannot and need not.

    Only a file that nobody can be writing is read without locks: its directory
    is closed to us and holds no write-ahead log.
    """
    closed = not os.access(path.parent, os.W_OK, effective_ids=True)
    wal = path.with_name(path.name + "-wal")
    return "mode=ro&immutable=1" if closed and not wal.exists() else "mode=ro"


def _touch(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _FILE_MODE))


def _connect(uri: str) -> sqlite3.Connection:
    # isolation_level None: transactions begin and end where the code says so
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_S)


def _configure_writer(connection: sqlite3.Connection) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError(f"write-ahead log refused: journal mode is {mode}")
    # FULL: NORMAL may lose the last commits at a power cut, and a commit means "recorded"
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute(f"PRAGMA journal_size_limit = {_MAX_WAL_BYTES}")
    connection.execute(f"PRAGMA cache_size = {-_CACHE_KIB}")
    # On a read-only file system SQLite opens what was to be written for reading, without a word,
    # and begins no transaction to write; this one writes nothing.
    connection.execute("PRAGMA incremental_vacuum(0)")


def _recognise(
    connection: sqlite3.Connection, path: Path, schema: Schema, *, migrated: bool
) -> None:
    application_id = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    if application_id != schema.application_id or version < 1:
        raise StorageError(f"{path}: not a database of this kind; nothing was changed")
    if version > schema.version:
        raise StorageError(
            f"{path}: written by a newer gatewayd (schema {version}, this one knows "
            f"{schema.version}); install that version again; nothing was changed"
        )
    if migrated and version < schema.version:
        raise StorageError(
            f"{path}: schema {version} is older than {schema.version}; start the daemon once"
        )


def _run(connection: sqlite3.Connection, script: str, version: int) -> None:
    """Run one script inside the open transaction; `executescript` would commit it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    if statement.strip():
        raise StorageError(f"schema {version} ends inside a statement")
    connection.execute(f"PRAGMA user_version = {version}")


def _check_references(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA foreign_key_check").fetchone():
        raise StorageError(f"{path}: migration left rows that refer to nothing")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value = connection.execute(f"PRAGMA {name}").fetchone()[0]
    assert isinstance(value, int)  # noqa: S101 - SQLite says so; for the type checker
    return value
