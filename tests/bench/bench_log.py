"""What it costs to record an opening for good, and that this does not grow with the log."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from gatewayd.adapters.sqlite import SqliteLog, open_log
from gatewayd.adapters.sqlite.store import LogStore
from gatewayd.core import merkle
from gatewayd.core.model import Command, CommandId, DoorId
from tests.bench.number import Bar, Number
from tests.support.log_child import INTENT

ROUNDS = 600
SIZES = (10, 1_000, 1_000_000)
RATIO_BAR = Bar("<=", 1.3)
FLAT_BAR = Bar("<=", 1.5)
BODY_BYTES = 85
NODES_BYTES = 64


def run() -> list[Number]:
    """Ratios to a bare commit, and to a short log."""
    # not /tmp, which is memory on many systems, where a commit costs nothing
    build = Path("build")
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as directory:
        return [
            *asyncio.run(commit_ratios(Path(directory))),
            *asyncio.run(cost_by_size(Path(directory))),
        ]


async def commit_ratios(directory: Path) -> list[Number]:
    """Appends and bare commits in turn, so that a busy disk slows both."""
    bare, entries, intents = [], [], []
    async with open_log(directory / "ratio.db") as log:
        with closing(_bare(directory / "bare.db")) as connection:
            for number in range(ROUNDS):
                bare.append(await _timed(lambda at=number: _bare_commit(connection, at)))
                entries.append(await _timed(lambda: log.append(INTENT)))
                intents.append(await _timed(lambda: log.append(INTENT, command=_command())))
    base = statistics.median(bare)
    how = (
        f"medians of {ROUNDS}, in turn in one run; bare: one insert of the same bytes, WAL, "
        f"synchronous=FULL, called directly, {base * 1e6:.0f} us"
    )
    ratio = statistics.median(entries) / base
    with_command = statistics.median(intents) / base
    return [
        Number("durable append with tree / bare SQLite FULL commit", ratio, "", how, RATIO_BAR),
        Number(
            "durable append with tree and command / bare SQLite FULL commit",
            with_command,
            "",
            f"{how}; writes the command, its two unique keys and two indexes too",
        ),
        Number("durable append with tree", statistics.median(entries) * 1e3, "ms", how),
    ]


async def cost_by_size(directory: Path) -> list[Number]:
    """Logs of three sizes, used in turn."""
    paths = {size: directory / f"{size}.db" for size in SIZES}
    appends: dict[int, list[float]] = {size: [] for size in SIZES}
    opens: dict[int, list[float]] = {size: [] for size in SIZES}
    async with AsyncExitStack() as stack:
        logs = {size: await stack.enter_async_context(open_log(paths[size])) for size in SIZES}
        for size, log in logs.items():
            await log._call(_fill, size)
        for _ in range(ROUNDS // 2):
            for size, log in logs.items():
                appends[size].append(
                    await _timed(lambda at=log: at.append(INTENT, command=_command()))
                )
    for _ in range(30):
        for size, path in paths.items():
            opens[size].append(await _timed(lambda at=path: _open_and_close(at)))
    return [*_flat("append (with command)", appends), *_flat("open and close", opens)]


def _flat(what: str, seconds: dict[int, list[float]]) -> list[Number]:
    medians = {size: statistics.median(values) for size, values in seconds.items()}
    each = ", ".join(f"{size}: {value * 1e3:.3f} ms" for size, value in medians.items())
    return [
        Number(
            f"{what}: largest / smallest log",
            medians[SIZES[-1]] / medians[SIZES[0]],
            "",
            f"medians at {each} (entries), in turn in one run",
            FLAT_BAR,
        )
    ]


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    began = perf_counter()
    await work()
    return perf_counter() - began


async def _open_and_close(path: Path) -> None:
    async with open_log(path) as log:
        assert isinstance(log, SqliteLog)


def _command() -> Command:
    return Command(CommandId(os.urandom(16)), DoorId("a"))


def _bare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE row (seq INTEGER PRIMARY KEY, body BLOB, nodes BLOB) STRICT")
    return connection


async def _bare_commit(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    row = (number, bytes(BODY_BYTES), bytes(NODES_BYTES))
    connection.execute("INSERT INTO row (seq, body, nodes) VALUES (?, ?, ?)", row)
    connection.execute("COMMIT")


def _fill(store: LogStore, size: int) -> None:
    """Real tree nodes over bodies of the right length, which nobody decodes here."""

    def rows() -> Any:
        tree = merkle.CompactRange()
        while True:
            body = tree.size.to_bytes(BODY_BYTES, "big")
            seq = tree.size
            tree, nodes = tree.append(merkle.leaf_hash(body))
            yield seq, body, b"".join(nodes)

    connection = store._connection
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO leaf VALUES (?, ?, ?)", islice(rows(), size))
    connection.execute("COMMIT")
    store._tree = None
