"""The package under a gateway that serves: a later version, the way back, removed, purged.

Its first installation is that of all tests here (systemd_house.py). These come last.
"""

from __future__ import annotations

import asyncio
import pwd
import shlex
import sqlite3
import subprocess
from pathlib import Path

import pytest

from gatewayd.core.model import EntryKind
from tests.system import systemd_install as page
from tests.system.house import OPENED, House
from tests.system.systemd_house import (
    BLUETOOTH,
    CONFIGURATION,
    DAEMON,
    HELPER_SOCKET,
    STATE,
    type_in,
)
from tests.system.systemd_prepare import newer, package
from tests.system.systemd_unit import run
from tests.system.times import Stopwatch

if not Path("/run/systemd/system").is_dir():
    pytest.skip("needs: vm.py test --systemd", allow_module_level=True)

pytest_plugins = ["tests.system.systemd_fixture"]
pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]

SETTINGS = CONFIGURATION.with_name("bluetooth.conf")
LOCAL = Path("/etc/dbus-1/system-local.conf")
PROGRAM = Path("/usr/lib/gatewayd")
NEWER = "+newer"
LONGEST_S = 300.0


async def installed_version() -> str:
    return await run("dpkg-query", "--show", "--showformat=${Version}", "gatewayd")


async def install(file: Path) -> subprocess.CompletedProcess[str]:
    """As apt-get has it done, beside our loop; apt-get itself has to read for many seconds."""
    typed = f"dpkg --install {shlex.quote(file.name)}"
    return await asyncio.to_thread(page.attempt, typed, file.parent)


def set_schema(version: int) -> int:
    """Of the log of a daemon that is stopped; returns what it was."""
    with sqlite3.connect(STATE / "log.db") as log:
        (before,) = log.execute("PRAGMA user_version").fetchone()
        log.execute(f"PRAGMA user_version = {version}")
    log.close()
    return int(before)


def writable_by_others(directory: Path) -> list[Path]:
    """What somebody but root owns or can write."""
    found = {path: path.lstat() for path in directory.rglob("*") if not path.is_symlink()}
    return [path for path, each in found.items() if each.st_uid or each.st_mode & 0o022]


def compiled(directory: Path) -> list[Path]:
    """Byte code of ours."""
    return list(directory.glob("lib/*/site-packages/gatewayd/__pycache__/*.pyc"))


def there(*paths: Path) -> list[Path]:
    """Those of them that exist."""
    return [path for path in paths if path.exists()]


def arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


async def replaced(house: House, file: Path) -> None:
    """Another version is installed over one that serves, and serves with the same state."""
    await house.opens()
    before, daemon, bluetoothd = house.log(), await DAEMON.pid(), await BLUETOOTH.pid()
    said = await install(file)
    assert said.returncode == 0, said.stdout + said.stderr
    assert await DAEMON.show("ActiveState") == "active"
    assert await DAEMON.pid() != daemon
    assert await BLUETOOTH.pid() == bluetoothd
    assert await HELPER_SOCKET.show("ActiveState") == "active"
    await house.opens()
    assert house.log()[: len(before)] == before
    assert house.last(EntryKind.OUTCOME) == OPENED


async def test_a_later_version_goes_on_where_the_former_was(installed: House, stopwatch: Stopwatch):
    assert NEWER not in await installed_version()
    SETTINGS.write_text(SETTINGS.read_text() + "# of this building\n")
    stopwatch.lap_s()
    await replaced(installed, newer())
    stopwatch.say("a later version installed, and a door opened", stopwatch.lap_s())
    assert (await installed_version()).endswith(NEWER)
    assert SETTINGS.read_text().endswith("# of this building\n")
    # nobody but root can write what root runs, and nothing has to be compiled again
    assert writable_by_others(PROGRAM) == []
    assert compiled(PROGRAM)


async def test_the_way_back_is_refused_when_the_log_is_of_a_later_schema(installed: House):
    await DAEMON.do("stop")
    schema = set_schema(99)
    try:
        said = await install(package())
    finally:
        await DAEMON.do("stop")
        set_schema(schema)
    assert said.returncode != 0
    assert f"error: {STATE}/log.db is of schema 99;" in said.stdout + said.stderr
    assert (await installed_version()).endswith(NEWER)
    await DAEMON.do("start")  # as it was: the next test opens a door first


async def test_the_way_back(installed: House):
    await replaced(installed, package())
    assert NEWER not in await installed_version()


async def test_removed_it_leaves_what_belongs_to_the_door(installed: House):
    before, configured = installed.log(), CONFIGURATION.read_text()
    await type_in(page.REMOVE)
    assert await DAEMON.show("ActiveState") == "inactive"
    assert await HELPER_SOCKET.show("ActiveState") == "inactive"
    assert there(PROGRAM, Path("/usr/bin/gatewayd")) == []  # no byte code either
    assert installed.log() == before
    assert CONFIGURATION.read_text() == configured
    kept = [CONFIGURATION.with_name("gateway.pem"), SETTINGS, LOCAL]
    assert there(*kept) == kept
    # bluetoothd is the distribution's again
    assert "-f" not in arguments(await BLUETOOTH.pid())


async def test_purged_it_leaves_nothing(installed: House):
    everything = (STATE, CONFIGURATION.parent, LOCAL)
    assert there(*everything) == list(everything)
    await type_in(page.PURGE)
    assert there(*everything) == []
    with pytest.raises(AssertionError):
        await installed_version()
    assert pwd.getpwnam("gatewayd")  # a number that files may have borne is not given away
