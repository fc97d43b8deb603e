"""Whom the installed daemon may talk to, and who may not: the bus, polkit, the radio helper."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from tests.system.bluetoothd import ADAPTER as ADAPTER_INTERFACE
from tests.system.house import House
from tests.system.noise import passes_by
from tests.system.place import ADAPTER
from tests.system.systemd_house import (
    BLUETOOTH,
    CACHE,
    CACHE_TIMER,
    DAEMON,
    HELPER,
    HELPER_SOCKET,
    probed,
)  # fmt: skip
from tests.system.systemd_unit import as_user, run
from tests.system.times import Stopwatch

if not Path("/run/systemd/system").is_dir():
    pytest.skip("needs: vm.py test --systemd", allow_module_level=True)

pytest_plugins = ["tests.system.systemd_fixture"]
pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]

LOCAL_POLICY = "/etc/dbus-1/system-local.conf"
BLUEZ = ("org.bluez", "/", "org.freedesktop.DBus.ObjectManager.GetManagedObjects")
HOSTNAME = ("org.freedesktop.hostname1", "/", "org.freedesktop.DBus.Peer.Ping")
SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
MANAGER = "org.freedesktop.systemd1.Manager"
OK, DENIED = "ok", "AccessDenied"
ASK_A_PERSON = "InteractiveAuthorizationRequired"
"""What polkit answers whom it would let in with a password, which nobody at a door can type."""
BACK_S = 5.0
"""The product's promise: bluetoothd killed, and the next door opened."""
SETTLE_S = 30.0
HELPERS_SOCKET = Path("/run/gatewayd-radio-helper.socket")
CAP_NET_ADMIN = f"{1 << 12:016x}"


async def call(user: str, destination: str, path: str, method: str, *words: str) -> str:
    """What a user is told on the system bus: OK, or the last word of the error's name."""
    said = await as_user(
        user,
        "dbus-send",
        "--system",
        "--print-reply",
        f"--dest={destination}",
        path,
        method,
        *words,
    )
    return OK if said.returncode == 0 else said.stderr.split(":")[0].rpartition(".")[2]


async def unit(user: str, verb: str, name: str) -> str:
    return await call(user, *SYSTEMD, f"{MANAGER}.{verb}", f"string:{name}", "string:replace")


# --- the bus --------------------------------------------------------------------------------
async def test_nobody_else_calls_bluetoothd(installed: House):
    assert await call("gatewayd", *BLUEZ) == OK
    assert await call("root", *BLUEZ) == OK
    assert await call("nobody", *BLUEZ) == DENIED
    member = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=bluetooth", "dbus-send"]
    await run(*member, "--system", "--print-reply", f"--dest={BLUEZ[0]}", *BLUEZ[1:])
    # and this is our file's doing: distributions let everybody in
    away = "/etc/dbus-1/away"
    await run("mv", LOCAL_POLICY, away)
    try:
        await run("systemctl", "reload", "dbus")
        assert await call("nobody", *BLUEZ) == OK
    finally:
        await run("mv", away, LOCAL_POLICY)
        await run("systemctl", "reload", "dbus")
    assert await call("nobody", *BLUEZ) == DENIED


async def test_the_daemon_calls_nobody_else(installed: House):
    assert await call("nobody", *HOSTNAME) == OK
    assert await call("gatewayd", *HOSTNAME) == DENIED
    own = ("org.freedesktop.DBus", "/", "org.freedesktop.DBus.RequestName", "string:org.bluez.x")
    assert await call("gatewayd", *own, "uint32:0") == DENIED
    for verb in ("StartUnit", "StopUnit", "ReloadUnit"):
        assert await unit("gatewayd", verb, "bluetooth.service") == DENIED
        assert await unit("nobody", verb, "bluetooth.service") == ASK_A_PERSON


async def test_the_daemon_may_restart_bluetoothd_and_no_other_unit(
    installed: House, stopwatch: Stopwatch
):
    before = await BLUETOOTH.pid()
    assert await unit("gatewayd", "RestartUnit", "systemd-udevd.service") == ASK_A_PERSON
    assert await unit("nobody", "RestartUnit", "bluetooth.service") == ASK_A_PERSON
    assert await BLUETOOTH.pid() == before
    stopwatch.lap_s()
    assert await unit("gatewayd", "RestartUnit", "bluetooth.service") == OK
    await installed.opens()
    stopwatch.recovered("systemd: bluetoothd restarted by the daemon's user", stopwatch.lap_s())
    assert await BLUETOOTH.pid() != before


# --- bluetoothd -----------------------------------------------------------------------------
async def test_bluetoothd_restarted_by_its_administrator(installed: House, stopwatch: Stopwatch):
    await installed.settle()
    daemon, before = await DAEMON.pid(), await BLUETOOTH.pid()
    stopwatch.lap_s()
    await BLUETOOTH.do("restart")
    await installed.opens()
    stopwatch.recovered("systemd: systemctl restart bluetooth", stopwatch.lap_s())
    assert await BLUETOOTH.pid() != before
    assert await DAEMON.pid() == daemon


async def test_bluetoothd_killed(installed: House, stopwatch: Stopwatch):
    await installed.settle()
    daemon, before = await DAEMON.pid(), await BLUETOOTH.pid()
    stopwatch.lap_s()
    os.kill(before, signal.SIGKILL)
    await installed.opens()
    stopwatch.recovered("systemd: bluetoothd killed", stopwatch.lap_s(), BACK_S)
    assert await BLUETOOTH.pid() != before
    assert await DAEMON.pid() == daemon


# --- bluetoothd's cache ---------------------------------------------------------------------
TABLE = "[Attributes]"
STRANGERS = 100


def dated(path: Path) -> Path:
    """As if it had not been written for ten minutes."""
    os.utime(path, (time.time() - 600,) * 2)
    return path


async def strangers_heard(house: House, cache: Path) -> set[Path]:
    """While somebody scans a hundred pass by, and bluetoothd keeps a file for each."""
    place = house.place
    await place.bus.call(place.path, ADAPTER_INTERFACE, "StartDiscovery")
    heard: set[Path] = set()
    async with asyncio.timeout(SETTLE_S):
        while len(heard) < STRANGERS or not all(each.exists() for each in heard):
            for number in range(STRANGERS):
                heard.add(cache / passes_by(place.air, number, TABLE))
                await asyncio.sleep(0.02)
    await place.bus.call(place.path, ADAPTER_INTERFACE, "StopDiscovery")
    return heard


async def test_names_that_bluetoothd_heard_are_forgotten_and_locks_are_not(
    installed: House, stopwatch: Stopwatch
):
    await installed.settle()
    directory = Path("/var/lib/bluetooth", ADAPTER)
    strangers = await strangers_heard(installed, directory / "cache")
    cached = {dated(each): each.read_text() for each in (directory / "cache").iterdir()}
    tables = {each for each, text in cached.items() if TABLE in text.splitlines()}
    infos = {each: each.read_text() for each in directory.glob("*/info")}  # noqa: ASYNC240 - a disk in memory
    assert tables
    assert infos
    before = await BLUETOOTH.pid()
    stopwatch.lap_s()
    await CACHE.do("start")
    stopwatch.say(f"{len(cached)} files of bluetoothd's cache looked at", stopwatch.lap_s())
    assert not any(each.exists() for each in strangers)
    assert {each for each in cached if each.exists()} == tables
    assert {each: each.read_text() for each in infos} == infos
    await installed.opens()
    assert await BLUETOOTH.pid() == before
    assert await CACHE_TIMER.show("ActiveState") == "active"
    assert await CACHE.journal(of_systemd=True) == []  # every two minutes it has nothing to say
    # what a lost table costs: it is read anew
    for each in tables:
        each.unlink(missing_ok=True)
    await BLUETOOTH.do("restart")
    stopwatch.lap_s()
    await installed.opens(within_s=2 * SETTLE_S)  # dials given up cost four seconds each
    stopwatch.say("opened with a lock whose table bluetoothd had lost", stopwatch.lap_s())
    assert any(TABLE in each.read_text().splitlines() for each in tables if each.exists())


# --- the radio helper -------------------------------------------------------------------------
ASK = f"""
import asyncio
from gatewayd.adapters.helper_client import HelperClient
from gatewayd.ports import RadioError
async def ask():
    helper = HelperClient()
    try:
        print(await helper.strength_dbm("{ADAPTER}", "F0:00:00:00:09:09", public=False))
        for _ in range(2):
            await helper.restart("{ADAPTER}")
            print("restarted")
    except RadioError as error:
        print(error)
    await helper.close()
asyncio.run(ask())
"""


async def ask(user: str) -> list[str]:
    """The lines that the product's own client says when this user runs it."""
    said = await as_user(user, "/usr/lib/gatewayd/bin/python3", "-c", ASK)
    assert said.returncode == 0, said.stderr
    return said.stdout.splitlines()


async def test_the_helper_serves_the_daemons_user_alone(installed: House, stopwatch: Stopwatch):
    assert await HELPER_SOCKET.show("ActiveState") == "active"
    await HELPER.do("stop")
    assert await ask("nobody") == ["the radio helper: [Errno 13] Permission denied"]
    assert await HELPER.show("ActiveState") == "inactive"  # he did not even wake it
    stopwatch.lap_s()
    said = await ask("gatewayd")
    stopwatch.say("helper started, asked, adapter off and on", stopwatch.lap_s())
    # nobody of this address is connected; and restarts are far apart
    assert said == ["None", "restarted", "the radio helper: too soon"]
    assert await HELPER.show("ActiveState") == "active"
    # root may open the socket, and is turned away by the helper
    assert "restarted" not in await ask("root")
    assert any("turned away" in line for line in await HELPER.journal())
    await installed.opens(within_s=2 * SETTLE_S)  # dials given up cost four seconds each


async def test_the_helper_has_one_capability(installed: House):
    await ask("gatewayd")
    status = await HELPER.status()
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {CAP_NET_ADMIN}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    daemon = await DAEMON.status()
    assert status["Uid"].split()[0] not in {"0", daemon["Uid"].split()[0]}
    found = await probed(HELPER)
    for name, how in found.items():
        print(f"{name:<22} {how}")
    assert {name for name, how in found.items() if how == "ok"} == {
        *("Bluetooth socket", "local socket"),
    }


async def test_the_helper_that_dies_is_started_by_the_next_question(installed: House):
    await ask("gatewayd")
    before = await HELPER.pid()
    os.kill(before, signal.SIGKILL)
    assert (await ask("gatewayd"))[0] == "None"
    assert await HELPER.pid() != before
