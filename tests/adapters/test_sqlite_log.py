"""The log in its file: durable, one writer, honest about every failure."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from firmware_proto.codes import Outcome, Reason
from gatewayd.adapters.sqlite import open_log, open_log_file
from gatewayd.adapters.sqlite.store import LogStore
from gatewayd.core import merkle
from gatewayd.core.audit import Leaf
from gatewayd.core.model import (
    ClockState,
    Command,
    CommandId,
    DoorId,
    EntryKind,
    Fact,
    TimeReading,
    Verdict,
)
from gatewayd.ports import StorageError
from tests.support.bulk_log import fill_in_bulk

ROOT = Path(__file__).parents[2]
TIME = TimeReading(ClockState.TRUSTED, 1_800_000_000, 1.0, 1_800_000_000)
FACT = Fact(TIME, EntryKind.INTENT, DoorId("street"), Verdict(Outcome.UNKNOWN, Reason.OK))
DONE = Fact(TIME, EntryKind.OUTCOME, DoorId("street"), Verdict(Outcome.CONFIRMED, Reason.OK))


def command(number):
    return Command(CommandId(number.to_bytes(16, "big")), DoorId("street"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


async def fill(path, count):
    async with open_log(path) as log:
        for _ in range(count):
            await log.append(FACT)
        return await log.root(count)


def verified_leaves(path):
    """All leaves of a file, after every stored hash was computed again."""
    leaves, tree = [], merkle.CompactRange()
    with open_log_file(path) as file:
        for row in file.rows(0, file.size()):
            leaves.append(Leaf.decode(row.body))
            tree, nodes = tree.append(merkle.leaf_hash(row.body))
            assert b"".join(nodes) == row.nodes
    assert [leaf.seq for leaf in leaves] == list(range(len(leaves)))
    return leaves


# --- the file ---------------------------------------------------------------------------------
async def test_everything_is_there_after_closing(path):
    async with open_log(path) as log:
        for number in range(5):
            await log.append(FACT, command=command(number))
        await log.append(DONE, settles=command(3).id)
        await log.acknowledge(4)
        await log.store("floor", b"17")
        root = await log.root(6)
    async with open_log(path) as log:
        assert await log.size() == 6
        assert await log.root(6) == root
        assert await log.acknowledged() == 4
        assert await log.load("floor") == b"17"
        assert [each.id[-1] for each in await log.unsettled()] == [0, 1, 2, 4]
        assert await log.append(FACT) == 6
    assert len(verified_leaves(path)) == 7


async def test_the_file_is_for_its_owner_only(path):
    async with open_log(path) as log:
        await log.append(FACT)
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes) == {"log.db", "log.db-wal", "log.db-shm", "log.db.lock"}
    assert set(modes.values()) == {0o600}


async def test_how_the_connection_is_set(path):
    async with open_log(path) as log:

        def pragmas(store):
            names = (
                "journal_mode", "synchronous", "secure_delete", "foreign_keys", "trusted_schema",
            )  # fmt: skip
            return [store._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        assert await log._call(pragmas) == ["wal", 2, 1, 1, 0]


async def test_only_one_process_writes(path):
    async with open_log(path) as log:
        await log.append(FACT)
        with pytest.raises(StorageError, match="another gatewayd"):
            async with open_log(path):
                pytest.fail("a second writer was let in")
        assert await log.append(FACT) == 1
    async with open_log(path) as log:
        assert await log.size() == 2


async def test_a_reader_looks_while_the_daemon_writes(path):
    async with open_log(path) as log:
        await log.append(FACT)
        with open_log_file(path) as file:
            assert file.size() == 1
            await log.append(FACT)
            await log.acknowledge(1)
            await log.store("floor", b"9")
            assert file.size() == 2
            assert [row.seq for row in file.rows(0, 9)] == [0, 1]
            assert [row.seq for row in file.rows(1, 2)] == [1]
            assert file.acknowledged() == 1
            assert file.load("floor") == b"9"
            assert file.load("ceiling") is None
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                file._connection.execute("DELETE FROM leaf")


async def test_a_reader_reads_in_portions(path):
    async with open_log(path) as log:
        await log._call(fill_in_bulk, 2100)
    with open_log_file(path) as file:
        assert [row.seq for row in file.rows(50, 2100)] == list(range(50, 2100))


async def test_a_closed_log_says_so(path):
    async with open_log(path) as log:
        await log.append(FACT)
    with pytest.raises(StorageError, match="closed"):
        await log.append(FACT)
    with pytest.raises(StorageError, match="closed"):
        await log.size()


async def test_a_call_that_waits_while_the_log_closes_is_answered(path):
    async with open_log(path) as log:
        entered = asyncio.Event()
        loop = asyncio.get_running_loop()
        release = threading.Event()

        def hold(_store):
            loop.call_soon_threadsafe(entered.set)
            release.wait(10)

        holding = asyncio.create_task(log._call(hold))
        await entered.wait()
        waiting = asyncio.create_task(log.append(FACT))
        await asyncio.sleep(0)
        release.set()
    await holding
    assert await waiting == 0, "it was asked before the log closed"


async def test_of_the_pruned_nothing_but_the_hash_is_given_out(path):
    await fill(path, 3)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE leaf SET body = NULL WHERE seq = 1")
    async with open_log(path) as log:
        lengths = [len(leaf) for leaf in await log.leaves(0, 1 << 20)]
        assert (lengths[1], len(lengths)) == (merkle.HASH_BYTES, 3)
        assert min(lengths[0], lengths[2]) > merkle.HASH_BYTES
        assert await log.root(3), "a pruned body leaves every proof as it was"
        assert await log.inclusion(1, 3)


# --- cost ---------------------------------------------------------------------------------------
def bytes_read_so_far():
    """By this process, from files, cached or not."""
    return int(Path("/proc/self/io").read_text().split()[1])


async def test_opening_and_appending_read_the_same_however_long_the_log(path):
    read = {}
    for size in (100, 20_000):
        async with open_log(path) as log:
            await log._call(fill_in_bulk, size)
        before = bytes_read_so_far()
        async with open_log(path) as log:
            await log.append(FACT)
            assert await log.size() == size + 1
        read[size] = bytes_read_so_far() - before
    assert path.stat().st_size > 2_500_000
    assert read[20_000] < read[100] + 200_000, "any look at all entries would read all of the file"


# --- failures -----------------------------------------------------------------------------------
async def test_a_full_disk_refuses_and_recovers(path):
    async with open_log(path) as log:
        await log.append(FACT)

        def limit(pages):
            def set_limit(store):
                used = store._connection.execute("PRAGMA page_count").fetchone()[0]
                store._connection.execute(f"PRAGMA max_page_count = {pages or used}")

            return log._call(set_limit)

        await limit(0)
        before = await log.size()
        with suppress(StorageError):
            for number in range(500):
                before = await log.append(FACT, command=command(number)) + 1
        refused = command(before - 1)
        with pytest.raises(StorageError, match="no space left") as caught:
            await log.append(FACT, command=refused)
        assert not caught.value.may_have_happened
        assert await log.size() == before
        assert refused.id not in {each.id for each in await log.unsettled()}
        await limit(1 << 30)
        assert await log.append(FACT) == before
    assert len(verified_leaves(path)) == before + 1


def disk_child(how, path):
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.disk_child", how, path],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_real_quota_of_the_system(path):
    count, text = disk_child("quota", path).split(" ", 1)
    assert int(count) > 5
    assert "input/output" in text or "no space" in text
    assert len(verified_leaves(path)) == int(count) + 1


def test_a_file_that_may_only_be_read():
    directory = Path(tempfile.mkdtemp(prefix="gatewayd-readonly-"))  # pytest's own are private
    try:
        path = directory / "log.db"
        asyncio.run(fill(path, 1))
        path.with_name("log.db.lock").unlink()
        path.chmod(0o400)
        directory.chmod(0o500)
        before = path.read_bytes()
        refused, read = disk_child("readonly", path).splitlines()
        assert "Permission denied" in refused
        assert read == "read 1 of 1", "an auditor can, as on a medium that nobody can write"
        assert path.read_bytes() == before
    finally:
        directory.chmod(0o700)
        shutil.rmtree(directory)


async def test_a_connection_that_may_not_write(path):
    await fill(path, 2)
    async with open_log(path) as log:
        await log._call(lambda store: store._connection.execute("PRAGMA query_only = ON"))
        with pytest.raises(StorageError, match="read-only"):
            await log.append(FACT)
        with pytest.raises(StorageError, match="read-only"):
            await log.store("floor", b"")
        with pytest.raises(StorageError, match="read-only"):
            await log.acknowledge(1)
        assert await log.size() == 2
        assert await log.acknowledged() == 0
        await log._call(lambda store: store._connection.execute("PRAGMA query_only = OFF"))
        assert await log.append(FACT) == 2
    assert len(verified_leaves(path)) == 3


async def test_a_second_writer_that_ignores_the_lock_is_noticed(path):
    """An entry slipped in behind our back may not end up under two hashes."""
    async with open_log(path) as log:
        await log.append(FACT)
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("INSERT INTO leaf VALUES (1, x'00', zeroblob(64))")
        with pytest.raises(StorageError, match="UNIQUE"):
            await log.append(FACT)


# --- cancellation -------------------------------------------------------------------------------
async def test_a_cancelled_append_is_whole_or_absent(path):
    chance = random.Random(1)
    acknowledged, cancelled = [], 0
    async with open_log(path) as log:

        async def one(number):
            acknowledged.append((await log.append(FACT, command=command(number)), number))

        for number in range(120):
            task = asyncio.create_task(one(number))
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(chance.random() * 0.001)
            task.cancel()
            cancelled += isinstance(
                (await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError
            )
        size = await log.size()
        recorded = {
            each.intent_seq: int.from_bytes(each.id, "big") for each in await log.unsettled()
        }
        assert await log.append(FACT) == size
    assert cancelled, "else this test showed nothing"
    assert len(verified_leaves(path)) == size + 1
    assert set(recorded) == set(range(size)), "every entry has its command"
    assert all(recorded[seq] == number for seq, number in acknowledged)


async def test_cancelled_while_it_opens_the_file_is_free_again(path):
    for delay_s in (0, 0.0005, 0.002, 0.01):

        async def use():
            async with open_log(path):
                await asyncio.sleep(60)

        task = asyncio.create_task(use())
        await asyncio.sleep(delay_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with open_log(path) as log:
            await log.append(FACT)
    assert len(verified_leaves(path)) == 4


# --- the plug -----------------------------------------------------------------------------------
def test_killed_at_random_moments_nothing_acknowledged_is_lost(path):
    chance = random.Random(2)
    acknowledged: list[tuple[str, int, str]] = []
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.support.log_child", path],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        ) as child:  # fmt: skip
            assert child.stdout.readline() == "open\n"
            for _ in range(chance.randrange(1, 40)):
                kind, seq, id_ = child.stdout.readline().split()
                acknowledged.append((kind, int(seq), id_))
            threading.Event().wait(chance.random() * 0.01)
            child.kill()
            for line in child.stdout.read().split("\n")[:-1]:
                kind, seq, id_ = line.split()
                acknowledged.append((kind, int(seq), id_))
    leaves = verified_leaves(path)
    seqs = [seq for _, seq, _ in acknowledged]
    assert len(seqs) == len(set(seqs)), "no place was given twice"
    for kind, seq, _ in acknowledged:
        assert leaves[seq].kind is EntryKind[kind.upper()]
    asyncio.run(_check_commands(path, leaves, acknowledged))


async def _check_commands(path, leaves, acknowledged):
    async with open_log(path) as log:
        waiting = {each.id.hex(): each.intent_seq for each in await log.unsettled()}
        assert await log.append(FACT) == len(leaves)
    settled = {id_ for kind, _, id_ in acknowledged if kind == "outcome"}
    intents = {id_: seq for kind, seq, id_ in acknowledged if kind == "intent"}
    assert not settled & set(waiting), "an outcome that was acknowledged is known"
    told = {leaf.about for leaf in leaves if leaf.kind is EntryKind.OUTCOME}
    assert all((seq in told) != (id_ in waiting) for id_, seq in intents.items())
    assert all(leaves[seq].kind is EntryKind.INTENT for seq in waiting.values())


def test_a_store_on_a_connection_that_breaks_reports_it(path):
    asyncio.run(fill(path, 1))
    connection = sqlite3.connect(path, isolation_level=None)
    store = LogStore(connection, path, bytes)
    store.close()
    appends = partial(store.append, FACT, None, None, None)
    for broken in (store.unsettled, store.acknowledged, appends):
        with pytest.raises(StorageError, match="closed"):
            broken()
