"""Entries are forgotten: on both logs, through power cuts, and with every proof intact."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_proto.codes import Fault, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd import logbook, retirement
from gatewayd.adapters.sqlite import open_log
from gatewayd.core import merkle
from gatewayd.core.audit import Leaf
from gatewayd.core.envelope import Kind, Retire, Statement
from gatewayd.core.erasure import MEMORY_NAME, Erase, Erased, Run
from gatewayd.core.model import EntryKind, Fact, Verdict
from gatewayd.handlers import Desk
from gatewayd.ports import StorageError
from gatewayd.timekeeper import Timekeeper
from tests.support.memory_log import MemoryLog
from tests.support.uplink import MachineClock, fact, fill

ORDER, NAME = b"o" * 16, b"n" * 32
DONE = Verdict(Outcome.CONFIRMED, Reason.OK)
RUNS = (Run(2, 3), Run(5, 5))


def about_erasing(kind: EntryKind = EntryKind.ERASED) -> Fact:
    return replace(fact(), kind=kind, door=None, verdict=DONE, order=NAME)


@pytest.fixture(params=["memory", "sqlite"])
async def log(request, tmp_path):
    if request.param == "memory":
        yield MemoryLog()
    else:
        async with open_log(tmp_path / "log.db") as opened:
            yield opened


async def held(log, size: int) -> None:
    await fill(log, size)
    await log.acknowledge(size)


# --- both logs ------------------------------------------------------------------------------
async def test_bodies_go_and_proofs_stay(log) -> None:
    await held(log, 8)
    before = list(await log.leaves(0, 1 << 20))
    root = await log.root(8)
    erased = await log.erase(ORDER, RUNS, about_erasing())
    assert erased == Erased(3, 8, clean=True)
    after = list(await log.leaves(0, 1 << 20))
    for seq, leaf in enumerate(before):
        gone = seq in {2, 3, 5}
        assert after[seq] == (merkle.leaf_hash(leaf) if gone else leaf)
        if hasattr(log, "inclusion"):
            proof = await log.inclusion(seq, 8)
            merkle.verify_inclusion(merkle.leaf_hash(leaf), seq, 8, proof, root)
    assert await log.root(8) == root
    merkle.verify_consistency(8, 9, root, await log.root(9), await log.consistency(8, 9))
    said = Leaf.decode(after[8])
    assert (said.kind, said.about, said.commitment) == (EntryKind.ERASED, 3, NAME)


async def test_the_same_order_again_changes_nothing_and_another_finds_nothing(log) -> None:
    await held(log, 8)
    first = await log.erase(ORDER, RUNS, about_erasing())
    assert await log.erase(ORDER, RUNS, about_erasing()) == first
    assert await log.size() == 9
    assert await log.erase(b"p" * 16, RUNS, about_erasing()) == Erased(0, 9, clean=True)


async def test_what_the_cloud_does_not_keep_stays(log) -> None:
    await held(log, 4)
    await fill(log, 4)
    with pytest.raises(ValueError, match="keeps"):
        await log.erase(ORDER, (Run(1, 4),), about_erasing())
    assert await log.size() == 8
    assert (await log.erase(ORDER, (Run(1, 3),), about_erasing())).entries == 3


async def test_what_is_of_no_person_stays(log) -> None:
    for kind in EntryKind:
        await log.append(replace(about_erasing(kind), about=0))
    await log.acknowledge(len(EntryKind))
    await log.erase(ORDER, (Run(0, len(EntryKind) - 1),), about_erasing())
    left = [leaf for leaf in await log.leaves(0, 1 << 20) if len(leaf) > merkle.HASH_BYTES]
    kinds = {Leaf.decode(leaf).kind for leaf in left}
    assert {EntryKind.ORDERED, EntryKind.ERASED, EntryKind.STARTED, EntryKind.RETIRED} <= kinds
    assert not kinds & {EntryKind.INTENT, EntryKind.OUTCOME, EntryKind.REFUSAL, EntryKind.JOINED}


# --- the file ------------------------------------------------------------------------------
def salts(path: Path) -> list[bytes]:
    with logbook.open_logbook(path) as book:
        return [entry.leaf.salt for entry in logbook.entries(book) if entry.leaf]


def everywhere(directory: Path) -> bytes:
    return b"".join(each.read_bytes() for each in directory.iterdir() if each.is_file())


async def test_nothing_of_them_is_left_in_any_file(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    async with open_log(path) as log:
        await held(log, 8)
        before = salts(path)
        assert all(salt in everywhere(tmp_path) for salt in before)
        assert (await log.erase(ORDER, RUNS, about_erasing())).clean
        left = everywhere(tmp_path)
        assert [salt in left for salt in before] == [seq not in {2, 3, 5} for seq in range(8)]
    with logbook.open_logbook(path) as book:
        found = logbook.verify(book)
    assert (found.sound, found.pruned, found.size) == (True, 3, 9)
    async with open_log(path) as log:  # and a tree that is loaded anew grows on
        await fill(log, 2)
        await log.erase(ORDER, RUNS, about_erasing())
        assert await log.size() == 11
    with logbook.open_logbook(path) as book:
        assert logbook.verify(book).sound


async def test_a_reader_delays_only_the_scrubbing_and_the_next_start_makes_up_for_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.db"
    copy = tmp_path / "copy"
    copy.mkdir()
    async with open_log(path) as log:
        await held(log, 8)
        before = salts(path)
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM leaf").fetchone()
            erased = await log.erase(ORDER, RUNS, about_erasing())
            assert (erased.entries, erased.clean) == (3, False)
            reader.execute("ROLLBACK")
            # the power goes now
            for name in ("log.db", "log.db-wal"):
                (copy / name).write_bytes((tmp_path / name).read_bytes())
        assert before[2] in everywhere(copy)
        assert (await log.erase(ORDER, RUNS, about_erasing())).clean
    async with open_log(copy / "log.db") as log:
        assert before[2] not in everywhere(copy)
        assert before[1] in everywhere(copy)
        assert await log.erase(ORDER, RUNS, about_erasing()) == Erased(3, 8, clean=True)


async def test_half_an_erasure_is_none(tmp_path: Path) -> None:
    """Whatever fails within the transaction: all bodies, and no entry about it."""
    path = tmp_path / "log.db"
    async with open_log(path) as log:
        await held(log, 8)
        with closing(sqlite3.connect(path)) as other, other:
            other.execute(
                "CREATE TRIGGER stop BEFORE INSERT ON memory WHEN new.name = 'erasures'"
                " BEGIN SELECT raise(ABORT, 'told to fail'); END"
            )
        with pytest.raises((StorageError, sqlite3.Error)):
            await log.erase(ORDER, RUNS, about_erasing())
        assert all(len(leaf) > merkle.HASH_BYTES for leaf in await log.leaves(0, 1 << 20))
        assert await log.size() == 8


async def test_damaged_memory_erases_nothing(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.db") as log:
        await held(log, 8)
        await log.store(MEMORY_NAME, b"damaged")
        with pytest.raises(StorageError, match="damaged"):
            await log.erase(ORDER, RUNS, about_erasing())
        assert await log.size() == 8


async def test_a_leaf_of_a_newer_gateway_goes_too(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.db") as log:
        await held(log, 8)
        with closing(sqlite3.connect(tmp_path / "log.db")) as other, other:
            other.execute("UPDATE leaf SET body = ? WHERE seq = 2", (os.urandom(80),))
        assert (await log.erase(ORDER, RUNS, about_erasing())).entries == 3


# --- the order ------------------------------------------------------------------------------
async def test_an_order_is_obeyed_and_a_bad_or_late_one_is_not() -> None:
    log = MemoryLog()
    await held(log, 4)
    unused = dict.fromkeys(("secrets", "trusted", "times", "lists", "restart", "stop"))
    timekeeper = await Timekeeper.load(MachineClock(), log, battery_clock=False)
    desk = Desk(**unused, memory=log, log=log, timekeeper=timekeeper)  # type: ignore[arg-type]
    order = Statement(Kind.ERASE, "gw", ORDER, 9, Erase((Run(0, 1),)).body(), 1, b"signer")
    for body, fault in (([], Fault.MALFORMED), ([[0, 4]], Fault.UNEXPECTED)):
        with pytest.raises(RemoteProtocolError) as caught:
            await desk.erase(replace(order, body=body))
        assert caught.value.fault is fault
    assert await desk.erase(order) == Erased(2, 4, clean=True)
    assert log.entries[-1].commitment == order.name
    await desk.erase_unheard(order)
    assert await log.size() == 5
    await retirement.retire(log, Retire(0, bytes(32)))
    with pytest.raises(RemoteProtocolError) as caught:
        await desk.erase(order)
    assert caught.value.fault is Fault.UNSUPPORTED


async def test_whoever_waits_may_go_away(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.db") as log:
        await held(log, 8)
        asking = asyncio.create_task(log.erase(ORDER, RUNS, about_erasing()))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        assert (await log.erase(ORDER, RUNS, about_erasing())).entries == 3
        assert await log.size() == 9
