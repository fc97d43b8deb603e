"""phone scan, watch and the choice of a radio, as a person types them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.adapters.virtual_radio import (
    INSTANT,
    PHONE,
    AirController,
    VirtualAir,
    open_radio,
    serve_hci,
)
from gatewayd.cli.command import ExitCode
from tests.support import private_bus
from tests.support.commands import Ran, completed, finished, run, running
from tests.support.doorman import Doorman
from tests.support.fake_bluez_world import ADAPTER_ADDRESS, FakeBluezWorld, FakeLock
from tests.support.household import DOOR, GATEWAY_ADDRESS, Operator, until
from tests.support.worlds import PHONE_SERVICE_UUID

FAR, NEAR = -95, -50


async def phone(*words: str | Path) -> Ran:
    return await completed("phone", *words)


async def line(process: asyncio.subprocess.Process, wanted: bytes) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while wanted not in (read := await process.stdout.readline()):
            assert read, f"{wanted!r} was not said"


class Street:
    """A gateway of which the doorman is the inside, on a virtual air, and a free radio."""

    def __init__(self, directory: Path) -> None:
        self.hci = f"unix:{directory}/phone.hci"
        self.wallet = directory / "wallet"
        # the test's clock stands still in the past, and real processes run in the present
        self.operator = Operator()
        self.air = VirtualAir(INSTANT)
        self.controller = AirController(self.air, "00:00:00:00:00:01")
        self.doorman = Doorman(self.operator, self.operator.gateway(expires=2**40))
        self.operator.wallet(self.wallet)


@pytest.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    street = Street(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(
            serve_hci(street.air, tmp_path / "phone.hci", address="00:00:00:00:00:02")
        )
        radio = await stack.enter_async_context(
            open_radio(street.controller, address=GATEWAY_ADDRESS, serves=PHONE)
        )
        await stack.enter_async_context(street.doorman.on_duty(radio.peripheral))
        yield street


# --- scan -----------------------------------------------------------------------------------
async def test_scan_shows_who_is_there(street: Street) -> None:
    scan = ("scan", "--hci", street.hci, "--time", "0.5")
    ran = await phone(*scan)
    assert ran.code == 0, ran
    assert ran.out.splitlines()[0] == "listening for 0.5 s; as they are heard:"
    assert ran.out.count(GATEWAY_ADDRESS) == 1
    found = (await phone(*scan, "--json")).json
    (only,) = found
    assert (only["address"], only["name"]) == (GATEWAY_ADDRESS, "")
    assert -100 < only["strength_dbm"] < 0


async def test_scan_puts_the_strongest_first_and_says_when_there_is_nobody(
    street: Street,
) -> None:
    second = AirController(street.air, "00:00:00:00:00:03")
    street.controller.rssi, second.rssi = -80, -40
    async with open_radio(second, address="F0:00:00:00:00:0E", serves=PHONE):
        ran = await phone("scan", "--hci", street.hci, "--time", "0.5")
    told = ran.out.partition("strongest first:\n")[2].split()
    assert told == ["F0:00:00:00:00:0E", "-40", "dBm", GATEWAY_ADDRESS, "-80", "dBm"]
    street.controller.vanish()
    ran = await phone("scan", "--hci", street.hci, "--time", "0.3")
    assert (ran.code, ran.out.splitlines()[-1]) == (ExitCode.FAILED, "no gateway was heard")


# --- watch ----------------------------------------------------------------------------------
async def come_home(street: Street, process: asyncio.subprocess.Process) -> None:
    street.controller.rssi = FAR
    await line(process, b"watching for")
    await asyncio.sleep(2.5)  # far from the first look on
    street.controller.rssi = NEAR
    await line(process, f"near a gateway: {GATEWAY_ADDRESS}".encode())


async def test_watch_prepares_and_enter_opens(street: Street) -> None:
    street.controller.rssi = FAR
    watch = ("phone", "watch", DOOR, "--wallet", street.wallet, "--hci", street.hci)
    async with running(*watch) as process:
        await come_home(street, process)
        await line(process, b"press Enter")
        assert process.stdin is not None
        process.stdin.write(b"\n")
        await line(process, f"{DOOR} open, after".encode())
        process.send_signal(2)
        told = await finished(process)
    assert (told.code, told.err) == (0, "")
    assert len(street.doorman.opened) == 1


async def test_watch_for_some_time_reports_as_json(street: Street) -> None:
    watch = ("phone", "watch", DOOR, "--wallet", street.wallet, "--hci", street.hci, "--json")
    async with running(*watch, "--time", "8") as process:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        (report,) = (await finished(process)).json
    assert (report["outcome"], report["reason"]) == ("confirmed", "ok")
    assert bytes.fromhex(report["request"]) == street.doorman.opened[0]


@pytest.mark.parametrize("how", ["Ctrl-C", "--time"])
async def test_watch_that_ends_in_an_opening_says_how_to_ask(street: Street, how: str) -> None:
    street.doorman.silent = True
    watch = ("phone", "watch", DOOR, "--wallet", street.wallet, "--hci", street.hci)
    async with running(*watch, *(("--time", "10") if how == "--time" else ())) as process:
        await line(process, b"watching for")
        assert process.stdin is not None
        process.stdin.write(b"\n")
        await until(lambda: bool(street.doorman.opened), 30)
        if how == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        ran = await finished(process)
    assert (ran.code, ran.err) == (ExitCode.UNKNOWN, "")
    ending, told, question = ran.out.splitlines()
    assert ending.startswith(f"  {DOOR} unknown: lock_silent, after ")
    assert told == "it may have opened; ask what became of it:"
    (asked,) = street.doorman.opened
    words = ("gatewayd", "phone", "ask", DOOR, asked.hex(), "--wallet", street.wallet)
    assert question.strip() == shlex.join((*map(str, words), "--hci", street.hci))
    street.doorman.silent = False
    assert (await completed(*shlex.split(question)[1:])).code == ExitCode.DONE


async def test_watch_tells_a_program_of_the_opening_that_it_cut_short(street: Street) -> None:
    street.doorman.silent = True
    watch = ("phone", "watch", DOOR, "--wallet", street.wallet, "--hci", street.hci, "--json")
    async with running(*watch, "--time", "10") as process:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        ran = await finished(process)
    (report,) = ran.json
    assert (ran.code, report["outcome"]) == (ExitCode.UNKNOWN, "unknown")
    assert bytes.fromhex(report["request"]) == street.doorman.opened[0]


async def test_watch_that_ends_while_nobody_pressed_enter_has_nothing_to_ask(
    street: Street,
) -> None:
    watch = ("phone", "watch", DOOR, "--wallet", street.wallet, "--hci", street.hci)
    async with running(*watch) as process:
        await come_home(street, process)
        await line(process, b"press Enter")
        process.send_signal(signal.SIGINT)
        ran = await finished(process)
    assert (ran.code, "may have opened" in ran.out, ran.err) == (ExitCode.DONE, False, "")


# --- what cannot begin ------------------------------------------------------------------------
@pytest.mark.parametrize(
    "words",
    [
        ("scan", "--time", "0"),
        ("scan", "--time", "soon"),
        ("scan", "--time", "nan"),
        ("watch", "street", "--wallet", "w", "--near", "near"),
        ("watch", "street", "--wallet", "w", "--near", "-200"),
        ("scan", "--hci", "unix:x", "--adapter", "00:00:00:00:00:01"),
        ("scan", "--adapter", "hci0"),
        ("open", "street", "--wallet", "w", "--address", "hci0"),
    ],
)
def test_wrong_words(words: tuple[str, ...]) -> None:
    assert run("phone", *words).code == ExitCode.USAGE


def test_no_wallet_no_radio(tmp_path: Path) -> None:
    ran = run("phone", "watch", "street", "--wallet", tmp_path / "absent", "--hci", "unix:x")
    assert (ran.code, "make the wallet first" in ran.err) == (ExitCode.USAGE, True)
    ran = run("phone", "scan", "--hci", f"unix:{tmp_path}/absent")
    assert (ran.code, "hint: --hci names the socket" in ran.err) == (ExitCode.FAILED, True)


@pytest.mark.parametrize(("missing", "extra"), [("bleak", "phone"), ("bumble", "demo")])
def test_a_radio_whose_library_is_not_installed(missing: str, extra: str, tmp_path: Path) -> None:
    (tmp_path / f"{missing}.py").write_text(
        f"raise ModuleNotFoundError('not here', name={missing!r})\n"
    )
    radio = ("--hci", "unix:x") if missing == "bumble" else ()
    done = subprocess.run(
        [sys.executable, "-m", "gatewayd", "phone", "scan", *radio],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.USAGE
    assert f"needs {missing}, which is not installed" in done.stderr
    assert f"hint: pip install 'gatewayd[{extra}]'" in done.stderr


# --- Bluetooth ----------------------------------------------------------------------------------
@pytest.mark.skipif(not private_bus.HERE, reason="dbus-daemon is not installed")
async def test_the_machines_own_bluetooth_is_the_default() -> None:
    world = FakeBluezWorld(mtu=185)
    try:
        await world.start_bluez(Powered=False)
        ran = await phone("scan", "--time", "0.3")
        assert (ran.code, "error: Bluetooth is off" in ran.err) == (ExitCode.FAILED, True)
        assert "hint: switch it on" in ran.err
        world.bluez.change("/org/bluez/hci0", "org.bluez.Adapter1", Powered=True)
        gateway = FakeLock(world, "00:AA:01:00:00:01", PHONE_SERVICE_UUID)
        world.locks[gateway.address] = gateway
        for which in ((), ("--adapter", ADAPTER_ADDRESS.lower())):
            ran = await phone("scan", "--time", "0.5", "--json", *which)
            assert json.loads(ran.out) == [
                {"address": "00:AA:01:00:00:01", "strength_dbm": -40, "name": ""}
            ]
        ran = await phone("scan", "--adapter", "00:00:00:00:09:09")
        assert ran.code == ExitCode.FAILED
        assert ran.err.splitlines() == [
            "error: there is no adapter 00:00:00:00:09:09",
            "hint: bluetoothctl list shows what there is",
        ]
        await world.stop_bluez()
        ran = await phone("scan", "--adapter", ADAPTER_ADDRESS)
        assert (ran.code, "bluetoothd is not running" in ran.err) == (ExitCode.FAILED, True)
    finally:
        await world.close()


@pytest.mark.skipif(not private_bus.HERE, reason="dbus-daemon is not installed")
async def test_a_door_opens_over_the_machines_own_bluetooth(tmp_path: Path) -> None:
    world = FakeBluezWorld(mtu=185)
    operator = Operator()
    doorman = Doorman(operator, operator.gateway(expires=2**40))
    operator.wallet(tmp_path / "wallet")
    try:
        await world.start_bluez(Powered=True)
        gateway = FakeLock(world, "00:AA:01:00:00:01", PHONE_SERVICE_UUID)
        world.locks[gateway.address] = gateway
        async with doorman.on_duty(gateway):
            words = ("open", DOOR, "--wallet", tmp_path / "wallet")
            ran = await phone(*words)
            assert (ran.code, ran.out.splitlines()[0]) == (0, f"{DOOR} open"), ran
            ran = await phone(*words, "--address", gateway.address.lower())
            assert ran.code == 0, ran
        assert len(doorman.opened) == 2
    finally:
        await world.close()
