"""Either side dies at any point: before and after every message, every commit, and by SIGKILL."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

from gatewayd import sync
from gatewayd.adapters.sqlite import open_log
from gatewayd.adapters.sqlite_cloud import open_cloud
from gatewayd.cloud.pull import Patience, Puller
from gatewayd.core.model import origin_of
from tests.support.hub import Fuse, Hub, Killed
from tests.support.memory_log import MemoryLog
from tests.support.uplink import (
    GATEWAY,
    SOURCE,
    TOPICS,
    cloud_session,
    filled_log,
    gateway_mqtt,
    make_operator,
    make_uplink,
    pull,
    pull_over,
    running,
    small_puller,
    until,
)

ORIGIN = origin_of(GATEWAY)
ENTRIES = 1100  # two batches and a bit
PATIENCE = Patience(0.05, 40)


class Fused:
    """Anything whose every call may be the last, just before it or just after it."""

    def __init__(self, inner, fuse):
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name):
        method = getattr(self._inner, name)

        def called(*args):
            self._fuse.step()
            result = method(*args)
            if asyncio.iscoroutine(result):
                return self._awaited(result)
            self._fuse.step()
            return result

        return called

    async def _awaited(self, coroutine):
        result = await coroutine
        self._fuse.step()
        return result


def kept(path):
    with open_cloud(path) as store:
        return list(store.leaves(ORIGIN))


def check_cursor(log: MemoryLog, path: Path) -> None:
    """The cursor never promises what the cloud does not have."""
    assert log._cursor <= len(kept(path))


# --- the cloud ---------------------------------------------------------------------------
async def dying_pull(hub, path, fuse) -> bool:
    """A pull on a fuse. Whether it died."""
    try:
        async with hub.connect(*TOPICS.for_cloud, fuse=fuse) as session:
            with open_cloud(path) as store:
                puller = Puller(session, SOURCE, make_operator())
                await puller.pull(Fused(store, fuse), patience=PATIENCE)
    except Killed:
        return True
    return False


async def test_a_cloud_that_dies_at_any_step_goes_on_where_it_was(tmp_path):
    log, hub = await filled_log(ENTRIES), Hub()
    async with running(make_uplink(log, lambda: hub.connect(*TOPICS.for_gateway))):
        await until(lambda: hub.sessions)
        after, died = 0, True
        while died:
            path = tmp_path / f"{after}.sqlite"
            log._cursor = 0
            died = await dying_pull(hub, path, Fuse(after))
            check_cursor(log, path)
            before = len(kept(path))
            async with hub.connect(*TOPICS.for_cloud) as session:
                progress = await pull_over(session, path, patience=PATIENCE)
            assert before + progress.stored == ENTRIES
            assert kept(path) == log._bodies
            await until(lambda: log._cursor == ENTRIES)
            after += 1
    assert after > 20


# --- the gateway -------------------------------------------------------------------------
async def dying_gateway(hub, log, fuse) -> None:
    """`sync.run` on a fuse until it dies, then a new process on the same log."""
    fused = Fused(log, fuse)
    uplink = make_uplink(fused, lambda: hub.connect(*TOPICS.for_gateway, fuse=fuse))
    with suppress(BaseExceptionGroup, Killed):
        await sync.run(uplink, asyncio.Event())
    if fuse.steps <= fuse.after or asyncio.current_task().cancelling():
        return
    await sync.run(make_uplink(log, lambda: hub.connect(*TOPICS.for_gateway)), asyncio.Event())


async def test_a_gateway_that_dies_at_any_step_loses_and_doubles_nothing(tmp_path):
    bodies = (await filled_log(ENTRIES))._bodies
    fuse, after = Fuse(0, steps=1), 1
    while fuse.steps > fuse.after:  # until a fuse outlives the pull
        log, hub, fuse = await filled_log(ENTRIES), Hub(), Fuse(after)
        path = tmp_path / f"{after}.sqlite"
        task = asyncio.create_task(dying_gateway(hub, log, fuse))
        async with hub.connect(*TOPICS.for_cloud) as session:
            progress = await pull_over(session, path, patience=PATIENCE)
            assert progress.stored == ENTRIES
            check_cursor(log, path)
            await pull_over(session, path, patience=PATIENCE)
            await until(lambda log=log: log._cursor == ENTRIES)
        task.cancel()
        await asyncio.wait({task})
        assert kept(path) == log._bodies == bodies
        after += 5
    assert after > 30


# --- real processes ----------------------------------------------------------------------
ROOT = Path(__file__).parent.parent.parent
MANY = 800  # about seventy small batches


async def spawn(role, broker, path):
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.uplink_child",
        role, str(broker.address.port), path, str(MANY), cwd=ROOT,
    )  # fmt: skip


async def kill(process) -> bool:
    """SIGKILL; whether it was still alive."""
    alive = process.returncode is None
    if alive:
        process.kill()
    await process.wait()
    return alive


def count(path) -> int:
    """Entries that are durably in the operator's file now."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
        found: int = reader.execute("SELECT count(*) FROM leaves").fetchone()[0]
        return found


async def grown(path, before, ended) -> None:
    """Wait until a little more is stored than before."""
    await until(lambda: count(path) > before + 20 or ended(), 20)


async def test_sigkill_of_the_cloud_while_it_stores(broker, tmp_path):
    log, path, kills = await filled_log(MANY), tmp_path / "cloud.sqlite", 0
    async with running(make_uplink(log, gateway_mqtt(broker.address).connect)):
        for _ in range(4):
            process = await spawn("cloud", broker, path)
            try:
                await grown(path, count(path), lambda p=process: p.returncode is not None)
            finally:
                kills += await kill(process)
            check_cursor(log, path)
            assert kept(path) == log._bodies[: count(path)]
        before = count(path)
        async with cloud_session(broker.address) as session:
            progress = await pull_over(session, path)
        assert before + progress.stored == MANY
        await until(lambda: log._cursor == MANY)
    assert kills >= 3, "it was hardly ever killed in the middle"
    assert kept(path) == log._bodies


async def test_sigkill_of_the_gateway_while_it_answers(broker, tmp_path):
    log_path, path, kills = tmp_path / "log.sqlite", tmp_path / "cloud.sqlite", 0
    process = await spawn("gateway", broker, log_path)

    async def pull_stubbornly():
        async with cloud_session(broker.address) as session:
            with open_cloud(path) as store:
                puller = small_puller(session, SOURCE, make_operator())
                return await puller.pull(store, patience=Patience(0.5, 60))

    task = asyncio.create_task(pull_stubbornly())
    try:
        for _ in range(3):
            await grown(path, count(path), task.done)
            kills += not task.done()
            await kill(process)
            process = await spawn("gateway", broker, log_path)
        progress = await asyncio.wait_for(task, 40)
        assert (progress.stored, progress.size) == (MANY, MANY)
        await pull(broker.address, path)
    finally:
        task.cancel()
        await kill(process)
    assert kills >= 2, "it was hardly ever killed in the middle"
    async with open_log(log_path, randomness=os.urandom) as log:
        assert kept(path) == list(await log.leaves(0, 2**30))
        assert 0 < await log.acknowledged() <= MANY
