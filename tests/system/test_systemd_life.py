"""The unit as shipped, under a systemd that is PID 1: its start, its sandbox, its deaths."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import sqlite3
import stat
from pathlib import Path

import pytest

from gatewayd.core.model import EntryKind
from gatewayd.demo.world import STAIRS
from tests.system.house import LATCH_S, OPENED, House
from tests.system.systemd_house import (
    CONFIGURATION,
    DAEMON,
    STATE,
    copied,
    probed,
    table,
)
from tests.system.systemd_unit import as_user, run
from tests.system.times import Stopwatch

if not Path("/run/systemd/system").is_dir():
    pytest.skip("needs: vm.py test --systemd", allow_module_level=True)

pytest_plugins = ["tests.system.systemd_fixture"]
pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]

START_S = 15.0
"""Half of what the unit allows."""
WATCHDOG_S = 30.0
SOONER_S = 6.0
SILENCE_S = 30.0
"""After which a task that keeps the clock is missed (timekeeper.LOOK_S)."""
NOTHING = "0" * 16


# --- it runs ------------------------------------------------------------------------------
async def test_it_starts_and_opens_a_door(installed: House, stopwatch: Stopwatch):
    assert await DAEMON.show("Type") == "notify"
    assert await DAEMON.number("NRestarts") == 0
    stopwatch.lap_s()
    await DAEMON.do("restart")
    took_s = stopwatch.lap_s()
    stopwatch.say("stopped, and started until it was ready", took_s)
    assert took_s < START_S
    assert await DAEMON.show("ActiveState") == "active"
    assert (await DAEMON.show("StatusText")).startswith("serving 2 doors")
    assert any("serving street, stairs" in line for line in await DAEMON.journal())
    await installed.opens()
    assert installed.last(EntryKind.OUTCOME) == OPENED


async def test_the_doctor_finds_the_installation_in_order(installed: House):
    said = await run("gatewayd", "doctor", "--json", check=False)
    found = {(each["check"], each["severity"]) for each in json.loads(said)["findings"]}
    for check in ("configuration", "main.conf", "adapters", "advertising", "permissions"):
        assert {severity for name, severity in found if name == check} == {"fine"}, said
    resident_kb = int((await DAEMON.status())["VmRSS"].split()[0])
    print(f"resident: {resident_kb * 1.024 / 1000:.1f} MB")


async def test_it_is_a_user_without_any_rights(installed: House):
    user, status = pwd.getpwnam("gatewayd"), await DAEMON.status()
    assert user.pw_uid != 0
    assert status["Uid"].split() == [str(user.pw_uid)] * 4
    assert status["Gid"].split() == [str(user.pw_gid)] * 4
    assert status["Groups"].split() == [str(user.pw_gid)]
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {name: status[name] for name in sets} == dict.fromkeys(sets, NOTHING)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    process, first = Path(f"/proc/{await DAEMON.pid()}"), Path("/proc/1")
    for name in ("net", "mnt", "user", "ipc"):
        assert (process / "ns" / name).readlink() != (first / "ns" / name).readlink()
    limits = (process / "limits").read_text().splitlines()
    core = next(line.split()[4:6] for line in limits if line.startswith("Max core"))
    assert core == ["0", "0"]


ALLOWED = {"write the state", "read a credential", "read the boot id", "local socket"}


async def test_what_it_can_do_is_what_it_needs(installed: House):
    """Tried out, by a program in its place; and outside of the sandbox, where more is possible."""
    inside = await probed(DAEMON)
    program, found = copied("systemd_probe.py"), copied("systemd_probe.py").with_name("outside")
    await as_user("gatewayd", "/usr/bin/python3", str(program), str(found))
    outside = table(found.read_text())
    for name, how in inside.items():
        print(f"{name:<22} {how:<14} without the sandbox: {outside[name]}")
    assert {name for name, how in inside.items() if how == "ok"} == ALLOWED
    assert inside["change root"] == inside["be nicer"] == "SIGSYS"
    # what only the sandbox forbids
    assert {name for name, how in outside.items() if how == "ok"} >= {
        *("see other processes", "internet socket", "netlink socket"),
        *("writable code", "SUID file", "other personality", "be nicer"),
    }


async def test_keys_are_handed_over_and_belong_to_nobody_else(installed: House):
    handed_over = Path("/run/credentials/gatewayd.service")
    owner = pwd.getpwnam("gatewayd").pw_uid
    for name in ("gateway.pem", "log.pem", "receipt.pem"):
        file, credential = CONFIGURATION.with_name(name), handed_over / name
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert (file.stat().st_uid, credential.stat().st_uid) == (0, owner)
        assert credential.read_bytes() == file.read_bytes()
        for user, path in (("gatewayd", file), ("nobody", file), ("nobody", credential)):
            said = await as_user(user, "cat", str(path))
            assert (said.returncode, said.stdout) == (1, ""), (user, path)
            assert "Permission denied" in said.stderr
    mounts = (await run("cat", "/proc/mounts")).splitlines()
    (mount,) = [line.split() for line in mounts if line.split()[1] == str(handed_over)]
    assert mount[2] == "ramfs"  # never swapped, unlike a tmpfs


async def test_its_state_is_its_own(installed: House):
    owner = pwd.getpwnam("gatewayd")
    assert stat.S_IMODE(STATE.stat().st_mode) == 0o700
    found = {path.name: path.stat() for path in (STATE, *STATE.iterdir())}
    assert "log.db" in found
    for name, status in found.items():
        assert (status.st_uid, status.st_gid) == (owner.pw_uid, owner.pw_gid), name
        assert stat.S_IMODE(status.st_mode) & 0o077 == 0, name


# --- it ends ------------------------------------------------------------------------------
async def test_a_stop_lets_an_opening_end(installed: House, stopwatch: Stopwatch):
    await installed.settle()
    intents = count(installed, EntryKind.INTENT)
    before = len(await DAEMON.journal(of_systemd=True))
    opening = asyncio.create_task(installed.open_door(door=STAIRS))  # a lock that sleeps
    while count(installed, EntryKind.INTENT) == intents:
        assert not opening.done()
        await asyncio.sleep(0.005)
    assert not opening.done()
    stopwatch.lap_s()
    await DAEMON.do("stop")
    stopwatch.say("stop while an opening has begun", stopwatch.lap_s())
    assert not (STATE / "log.db-wal").exists()  # closed: all of it is in the one file
    report = await opening
    assert (report.outcome, report.reason) == (OPENED.outcome, OPENED.reason)
    assert report.receipt is not None
    assert installed.last(EntryKind.OUTCOME) == OPENED
    await asyncio.sleep(2 * LATCH_S)
    assert await DAEMON.show("ActiveState") == "inactive"
    assert await DAEMON.show("Result") == "success"
    said = (await DAEMON.journal(of_systemd=True))[before:]
    assert f"{DAEMON.name}: Deactivated successfully." in said
    assert not any("Main process exited" in line or "restart" in line for line in said)


async def test_root_may_look_into_the_log_of_a_daemon_that_is_stopped(installed: House):
    await DAEMON.do("stop")
    with sqlite3.connect(f"file:{STATE / 'log.db'}?mode=ro", uri=True) as log:
        assert log.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    said = await run("gatewayd", "log", "show", "-c", str(CONFIGURATION))
    assert "outcome" in said.lower()
    # nothing of root's is left that the daemon could not open
    await DAEMON.do("start")
    await installed.opens()


async def test_killed_it_is_back(installed: House, stopwatch: Stopwatch):
    restarts = await DAEMON.number("NRestarts")
    stopwatch.lap_s()
    os.kill(await DAEMON.pid(), signal.SIGKILL)
    await DAEMON.lives_anew(restarts, START_S)
    await installed.opens()
    stopwatch.recovered("systemd: the daemon killed", stopwatch.lap_s())


async def test_the_watchdog_ends_a_process_that_stands_still(
    installed: House, stopwatch: Stopwatch
):
    restarts = await DAEMON.number("NRestarts")
    stopwatch.lap_s()
    os.kill(await DAEMON.pid(), signal.SIGSTOP)
    took_s = await DAEMON.lives_anew(restarts, WATCHDOG_S + START_S)
    assert took_s > WATCHDOG_S / 3  # it was fed at most half its time ago
    said = await DAEMON.journal(of_systemd=True)
    assert any("Watchdog timeout (limit 30s)!" in line for line in said)
    await installed.opens()
    stopwatch.recovered("systemd: the daemon stands still", stopwatch.lap_s(), WATCHDOG_S + START_S)


async def test_the_watchdog_misses_a_single_task(installed: House, stopwatch: Stopwatch):
    program = copied("systemd_hang.py")
    await DAEMON.configure(
        "hang",
        f"[Service]\nWatchdogSec={SOONER_S:.0f}\nExecStart=\n"
        f"ExecStart=/usr/lib/gatewayd/bin/python3 {program} run -c {CONFIGURATION}\n",
    )
    try:
        await DAEMON.do("restart")
    finally:
        await DAEMON.configure("hang", None)
    restarts, said = await DAEMON.number("NRestarts"), len(await DAEMON.journal(of_systemd=True))
    stopwatch.lap_s()
    os.kill(await DAEMON.pid(), signal.SIGUSR1)
    await installed.opens()  # all the others work on
    await DAEMON.lives_anew(restarts, SILENCE_S + SOONER_S + START_S)
    journal = (await DAEMON.journal(of_systemd=True))[said:]
    assert any("so the watchdog is not fed: clock" in line for line in journal)
    assert any("Watchdog timeout" in line for line in journal)
    assert any("Fatal Python error: Aborted" in line for line in journal)  # and where it stood
    await installed.opens()
    stopwatch.recovered(
        "systemd: one task hangs", stopwatch.lap_s(), SILENCE_S + SOONER_S + START_S
    )


async def test_it_is_never_given_up(installed: House, stopwatch: Stopwatch):
    """A key is missing. By default systemd gives up after five starts within ten seconds."""
    assert await DAEMON.show("StartLimitIntervalUSec") == "0"
    key = CONFIGURATION.with_name("log.pem")
    key.rename(key.with_suffix(".away"))
    try:
        with pytest.raises(AssertionError):
            await DAEMON.do("restart")
        stopwatch.say("started in vain, each time", await DAEMON.restarted(7, 60) / 7)
    finally:
        key.with_suffix(".away").rename(key)
    stopwatch.lap_s()
    await DAEMON.until("ActiveState", "active", START_S)
    stopwatch.say("mended, until it was ready", stopwatch.lap_s())
    await installed.opens()


async def test_without_an_adapter_it_tries_until_there_is_one(
    installed: House, stopwatch: Stopwatch
):
    await installed.place.unplug()
    await run("systemctl", "restart", "--no-block", DAEMON.name)
    await DAEMON.restarted(1, 60)
    await installed.place.plug()
    stopwatch.lap_s()
    await DAEMON.until("ActiveState", "active", 2 * START_S)
    await installed.opens()
    stopwatch.recovered("systemd: no adapter at boot", stopwatch.lap_s())


def count(house: House, kind: EntryKind) -> int:
    """Entries of a kind in the log."""
    return sum(leaf.kind is kind for leaf in house.log())
