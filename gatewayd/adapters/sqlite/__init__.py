"""The log in a SQLite file: write-ahead log, synchronous=FULL, one writer."""

from __future__ import annotations

from gatewayd.adapters.sqlite.log import SqliteLog, open_log
from gatewayd.adapters.sqlite.reading import LogFile, StoredLeaf, open_log_file

__all__ = ["LogFile", "SqliteLog", "StoredLeaf", "open_log", "open_log_file"]
