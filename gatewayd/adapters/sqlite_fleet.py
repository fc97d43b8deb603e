"""What `gatewayd cloud fleet` remembers between two looks, in one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from gatewayd.adapters.sqlite.errors import storage_errors
from gatewayd.adapters.sqlite.schema import Schema, open_writer
from gatewayd.cloud.fleet import Report
from gatewayd.core.model import GatewayId
from gatewayd.ports import StorageError

_FIRST: Final = """
CREATE TABLE gateway (
    id     TEXT PRIMARY KEY,
    report BLOB NOT NULL -- cloud.fleet.Report as JSON
) STRICT, WITHOUT ROWID;
"""

SCHEMA: Final = Schema(0x67_77_66_31, (_FIRST,))
_decoder: Final = msgspec.json.Decoder(Report)


@contextmanager
def open_fleet(path: Path) -> Iterator[SqliteFleet]:
    """Open the file, or make it. StorageError when it is anything else, left untouched."""
    with closing(open_writer(path, SCHEMA)) as connection:
        yield SqliteFleet(connection, path)


class SqliteFleet:
    """StorageError when the file does not obey. Use `open_fleet`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def load(self) -> dict[GatewayId, Report]:
        """All that was kept."""
        with storage_errors(str(self._path)):
            rows = self._connection.execute("SELECT id, report FROM gateway").fetchall()
        try:
            return {GatewayId(id_): _decoder.decode(report) for id_, report in rows}
        except msgspec.DecodeError as error:
            raise StorageError(f"{self._path}: damaged: {error}") from error

    def keep(self, reports: Mapping[GatewayId, Report]) -> None:
        """Replace all that is kept, or nothing."""
        rows = [(id_, msgspec.json.encode(report)) for id_, report in reports.items()]
        with storage_errors(str(self._path)), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("DELETE FROM gateway")
            self._connection.executemany("INSERT INTO gateway VALUES (?, ?)", rows)
