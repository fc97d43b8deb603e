"""A daemon that starts on a disk that takes nothing: it serves, and is well again by itself.

Real ones: an ext4 of its own, full or read-only; and I/O errors of the log's files, which
strace injects from before the first line of the daemon on.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from firmware_proto.codes import KeyClass, Outcome, Reason
from gatewayd import gate
from gatewayd.adapters.sqlite import open_log, open_log_file
from gatewayd.core.audit import Leaf
from gatewayd.core.model import EntryKind
from gatewayd.demo.child import Child
from gatewayd.demo.world import STREET, World, build
from gatewayd.ports import StorageError
from tests.adapters.test_disk_fails import NO_STRACE, disk, fill, remount
from tests.support.brokers import free_port
from tests.support.log_child import INTENT

__all__ = ["disk"]

Trouble = Callable[[Path], Callable[[], object]]


def full(place: Path) -> Callable[[], object]:
    return fill(place).unlink


def read_only(place: Path) -> Callable[[], object]:
    remount(place, "ro")
    return lambda: remount(place, "rw")


def used(path: Path, *, cleanly: bool) -> None:
    """A log of three entries; left in good order, or as after a power cut."""
    script = f"""
import asyncio, os, sys
from pathlib import Path
from gatewayd.adapters.sqlite import open_log
from gatewayd.core.erasure import MEMORY_NAME, Erasures
from tests.support.log_child import INTENT
async def use():
    async with open_log(Path({str(path)!r})) as log:
        for _ in range(3):
            await log.append(INTENT)
        await log.store(MEMORY_NAME, Erasures().encode())
        await log.store("floor", b"1")
        await log.store("floor", b"2")
        if not {cleanly}:
            os._exit(0)
asyncio.run(use())
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("cleanly", [True, False])
@pytest.mark.parametrize("trouble", [full, read_only])
async def test_a_log_on_a_disk_that_takes_nothing_can_be_read_and_takes_entries_later(
    disk: Path, trouble: Trouble, cleanly: bool
) -> None:
    path = disk / "log.db"
    used(path, cleanly=cleanly)
    assert path.with_name("log.db-wal").exists() is not cleanly
    well = trouble(disk)
    async with open_log(path) as log:
        assert (await log.size(), await log.load("floor")) == (3, b"2")
        for _ in range(2):
            with pytest.raises(StorageError) as error:
                await log.append(INTENT)
            assert error.value.reason is {full: Reason.LOG_FULL}.get(trouble, Reason.LOG_READ_ONLY)
        assert await log.size() == 3
        with pytest.raises(StorageError, match="another gatewayd"):
            async with open_log(path):
                pytest.fail("two daemons")
        well()
        assert await log.append(INTENT) == 3
        assert await log.size() == 4
    async with open_log(path) as log:
        assert await log.size() == 4


async def test_what_is_no_disks_fault_is_refused_on_a_full_disk_too(disk: Path) -> None:
    path = disk / "log.db"
    well = full(disk)
    with pytest.raises(StorageError):  # nothing to read, and no room to begin
        await open_log(path).__aenter__()
    well()
    path.write_bytes(b"\x00 no log " * 400)
    before = path.read_bytes()
    full(disk)
    with pytest.raises(StorageError):
        async with open_log(path):
            pytest.fail("it was opened")
    assert path.read_bytes() == before


async def opens(world: World, key_class: KeyClass, wanted: Outcome) -> Reason:
    wallet = world.wallet(f"{key_class.name} {world.phones}", key_class=key_class)
    async with world.phone(wallet) as phone:
        report = await phone.open_door(STREET, address=world.gateway)
        assert report.outcome is wanted, report
        return report.reason


async def latched() -> None:
    await asyncio.sleep(1.2)  # until then another tap opens nothing


async def told(world: World, wanted: str) -> None:
    """The daemon's own file, which `gatewayd selftest` reads, says so."""
    async with asyncio.timeout(30):
        while True:
            path = world.directory / "run" / gate.FILE
            if path.exists() and wanted in path.read_text():
                return
            await asyncio.sleep(0.05)


def kinds(world: World) -> list[EntryKind]:
    with open_log_file(world.database) as file:
        return [Leaf.decode(row.body).kind for row in file.rows(0, file.size()) if row.body]


@pytest.mark.parametrize("trouble", [full, read_only])
async def test_a_daemon_starts_on_a_disk_that_takes_nothing(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Trouble
) -> None:
    (tmp_path / "world" / "run").mkdir(parents=True)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "world" / "run"))
    async with build(tmp_path / "world", free_port()) as world:
        (world.directory / "state").symlink_to(disk)
        child = Child(world.config)
        await child.start()
        await opens(world, KeyClass.RESIDENT, Outcome.CONFIRMED)
        await child.kill()
        well = trouble(disk)
        child = Child(world.config)
        try:
            await child.start()
            word = "log_full" if trouble is full else "log_read_only"
            await told(world, f'"log":"{word}"')
            # a full disk has the reserve, a read-only one has not: there only emergencies open
            resident = Outcome.CONFIRMED if trouble is full else Outcome.REFUSED
            await opens(world, KeyClass.RESIDENT, resident)
            await latched()
            await opens(world, KeyClass.GUEST, Outcome.REFUSED)
            await opens(world, KeyClass.EMERGENCY, Outcome.CONFIRMED)
            well()
            await child.line(lambda line: "the log is well again" in line, 20)
            await latched()
            await opens(world, KeyClass.GUEST, Outcome.CONFIRMED)
        finally:
            code = await child.stop()
        assert code == 0, child.last_words()
        assert not [line for line in child.lines if "Traceback" in line]
        written = kinds(world)
        assert EntryKind.GAP in written
        openings = 4 if trouble is full else 2  # of the read-only disk the GAP entry tells
        assert written.count(EntryKind.INTENT) == written.count(EntryKind.OUTCOME) == openings


def test_a_log_that_answers_with_io_errors_from_the_first_write_on(tmp_path: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip(NO_STRACE)
    path = tmp_path / "log.db"
    used(path, cleanly=True)
    script = f"""
import asyncio
from pathlib import Path
from gatewayd.adapters.sqlite import open_log
from gatewayd.ports import StorageError
from tests.support.log_child import INTENT
async def use():
    async with open_log(Path({str(path)!r})) as log:
        said = [await log.size()]
        for _ in range(12):
            try:
                said.append(await log.append(INTENT))
            except StorageError as error:
                said.append(error.reason.name)
        print(*said)
asyncio.run(use())
"""
    files = [word for more in ("", "-wal", "-shm") for word in ("-P", f"{path}{more}")]
    inject = ["-e", "trace=pwrite64", "-e", "inject=pwrite64:error=EIO:when=1..8", *files]
    words = ["strace", "-f", "-o", os.devnull, *inject, sys.executable, "-c", script]
    ran = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    said = ran.stdout.split()
    errors = said.count("LOG_IO_ERROR")
    assert errors > 1
    assert said == ["3", *["LOG_IO_ERROR"] * errors, *map(str, range(3, 15 - errors))]
