"""The package under a gateway that serves: a later version, the way back, removed, purged.

Its first installation is that of all tests here (systemd_house.py). These come last.
"""

from __future__ import annotations

import asyncio
import pwd
import shlex
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.adapters.sqlite.schema import LOG as SCHEMA
from tests.system import systemd_install as page
from tests.system.house import House
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
LOG = STATE / "log.db"
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


def entries() -> list[tuple[int, bytes]]:
    """Of the log, whatever its schema."""
    with closing(sqlite3.connect(f"file:{LOG}?mode=ro", uri=True)) as log:
        return log.execute("SELECT seq, body FROM leaf ORDER BY seq").fetchall()


def schema() -> int:
    with closing(sqlite3.connect(f"file:{LOG}?mode=ro", uri=True)) as log:
        return int(log.execute("PRAGMA user_version").fetchone()[0])


def take_back_the_schema() -> None:
    """As if the later version had brought none of its own; of a daemon that is stopped."""
    with closing(sqlite3.connect(LOG)) as log, log:
        log.execute("DROP TABLE of_a_later_version")
        log.execute(f"PRAGMA user_version = {SCHEMA.version}")


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


async def serves_with(house: House, before: list[tuple[int, bytes]]) -> None:
    """A door opens, and the log was continued."""
    assert await DAEMON.show("ActiveState") == "active"
    assert await HELPER_SOCKET.show("ActiveState") == "active"
    await house.opens()
    now = entries()
    assert now[: len(before)] == before
    assert len(now) > len(before)


async def test_a_later_version_goes_on_where_the_former_was(installed: House, stopwatch: Stopwatch):
    """With a schema of its own, to which the log is brought."""
    assert NEWER not in await installed_version()
    SETTINGS.write_text(SETTINGS.read_text() + "# of this building\n")
    await installed.opens()
    before, daemon, bluetoothd = entries(), await DAEMON.pid(), await BLUETOOTH.pid()
    stopwatch.lap_s()
    said = await install(newer())
    stopwatch.say("a later version installed over one that serves", stopwatch.lap_s())
    assert said.returncode == 0, said.stdout + said.stderr
    assert (await installed_version()).endswith(NEWER)
    assert await DAEMON.pid() != daemon
    assert await BLUETOOTH.pid() == bluetoothd
    assert schema() == SCHEMA.version + 1
    await serves_with(installed, before)
    assert SETTINGS.read_text().endswith("# of this building\n")
    # nobody but root can write what root runs, and nothing has to be compiled again
    assert writable_by_others(PROGRAM) == []
    assert compiled(PROGRAM)


async def test_the_way_back_is_refused_when_the_log_is_of_a_later_schema(installed: House):
    before = entries()
    said = await install(package())
    assert said.returncode != 0
    wanted = (
        f"error: {LOG} is of schema {SCHEMA.version + 1}; this version of gatewayd knows no more"
    )
    assert wanted in said.stdout + said.stderr
    assert (await installed_version()).endswith(NEWER)
    assert compiled(PROGRAM)
    await serves_with(installed, before)


async def test_the_way_back(installed: House):
    await DAEMON.do("stop")
    take_back_the_schema()
    before = entries()
    said = await install(package())
    assert said.returncode == 0, said.stdout + said.stderr
    assert NEWER not in await installed_version()
    await serves_with(installed, before)


async def test_removed_it_leaves_what_belongs_to_the_door(installed: House):
    before, configured = entries(), CONFIGURATION.read_text()
    await type_in(page.REMOVE)
    assert await DAEMON.show("ActiveState") == "inactive"
    assert await HELPER_SOCKET.show("ActiveState") == "inactive"
    assert there(PROGRAM, Path("/usr/bin/gatewayd")) == []  # no byte code either
    assert entries() == before
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
