"""What a gateway costs before anybody comes: from start to advertising, and resident memory.

On the virtual radio, and on BlueZ over a real D-Bus with a fake bluetoothd. The
libraries alone are measured beside it, in the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from gatewayd.adapters.virtual_radio import INSTANT, VirtualAir, serve_hci
from gatewayd.demo.child import Child
from tests.bench import long_house
from tests.bench.cpu import cpu_time
from tests.bench.number import Bar, Number
from tests.bench.process import Memory, as_installed, memory
from tests.support import private_bus
from tests.support.fake_bluez_world import ADAPTER_ADDRESS, FakeBluezWorld

TIMES = 5
DOORS = 2
SETTLE_S = 6.0
"""The daemon has looked at its machine by then."""
POLL_S = 0.002
WITHIN_S = 30.0
START_BAR = Bar("<=", 1.0)
MEMORY_BAR = Bar("<=", 45.0)
BROKER = "[uplink]\nbroker = 'mqtt://127.0.0.1:9'\n"
"""Nobody listens at the port `discard`."""

LIBRARIES = """
import argparse, asyncio, dataclasses, json, logging, sqlite3, tomllib, zoneinfo
import bleak.backends.bluezdbus.client, bleak.backends.bluezdbus.scanner, dbus_fast.aio, msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers import aead
from cryptography.hazmat.primitives.kdf import hkdf
"""
"""What the daemon on BlueZ loads of others' code, Python's own included."""
WITH_BROKER = f"{LIBRARIES}\nimport aiomqtt\n"
_TELL = """
from tests.bench.process import memory
held = memory()
print(held.rss, held.pss, held.anonymous)
"""


@dataclass(frozen=True, slots=True)
class Start:
    """From the start of the process until it advertised."""

    seconds: float
    cpu_s: float


def run() -> list[Number]:
    """Start on either radio, and memory on BlueZ; BlueZ only where there is a dbus-daemon."""
    with _directory() as directory, as_installed(directory / "bytecode"):
        numbers = describe_start("virtual radio", asyncio.run(_starts_on_air(directory)))
        if private_bus.HERE:
            starts, plain, broker = asyncio.run(_on_bus(directory))
            numbers += describe_start("BlueZ, fake bluetoothd", starts)
            numbers += describe_memory("no broker", plain, _alone(LIBRARIES))
            numbers += describe_memory("with a broker", broker, _alone(WITH_BROKER))
    return numbers


def describe_start(radio: str, starts: list[Start]) -> list[Number]:
    """The median has to hold."""
    seconds = [each.seconds for each in starts]
    how = (
        f"from the start of the process `gatewayd run` until the advertisement is out, median of"
        f" {len(starts)}, fastest {min(seconds):.2f}, slowest {max(seconds):.2f} s;"
        " modules compiled, as installed"
    )
    return [
        Number(f"start to advertising, {radio}", statistics.median(seconds), "s", how, START_BAR),
        Number(
            f"  of which processor time, {radio}",
            statistics.median(each.cpu_s for each in starts),
            "s",
            "of the daemon, all threads, by /proc; the rest is waiting, for a busy machine as well",
        ),
    ]


def describe_memory(kind: str, daemon: Memory, libraries: Memory) -> list[Number]:
    """Resident, what of it others share, and the ratio to the libraries alone."""
    how = (
        f"`gatewayd run` on BlueZ with {DOORS} doors, {SETTLE_S} s after its start, Rss of"
        " smaps_rollup; 10^6 bytes, modules compiled and the environment of its unit, as installed"
    )
    return [
        Number(f"resident, {kind}", daemon.rss, "MB", how, MEMORY_BAR),
        Number(f"  of which nobody else uses, {kind}", daemon.anonymous, "MB", "Anonymous"),
        Number(f"  proportional share, {kind}", daemon.pss, "MB", "Pss"),
        Number(
            f"resident: daemon / its libraries alone, {kind}",
            daemon.rss / libraries.rss,
            "",
            f"a Python that imported them and nothing of ours holds {libraries.rss:.1f} MB,"
            f" {libraries.anonymous:.1f} of them its own",
        ),
    ]


# --- starting ------------------------------------------------------------------------------
async def _starts_on_air(directory: Path) -> list[Start]:
    air, socket = VirtualAir(INSTANT), directory / "gateway.hci"
    site = directory / "air"
    house = long_house.build(site, f'hci = "unix:{socket}"', doors=DOORS, warm=False)
    async with serve_hci(air, socket, address="F0:00:00:00:00:FF") as controller:
        return await _starts(house.config, lambda: controller.le_legacy_advertiser.enabled)


async def _starts(config: Path, advertises: Callable[[], object]) -> list[Start]:
    """The first one compiles, and does not count."""
    times = []
    for _ in range(1 + TIMES):
        async with _started(config, advertises) as (_, start):
            times.append(start)
    return times[1:]


@contextlib.asynccontextmanager
async def _started(
    config: Path, advertises: Callable[[], object]
) -> AsyncIterator[tuple[Child, Start]]:
    """A daemon that advertises, and what it took until it did."""
    child = Child(config)
    began_s = perf_counter()
    starting = asyncio.create_task(child.start())
    try:
        async with asyncio.timeout(WITHIN_S):
            while not advertises():  # noqa: ASYNC110 - of another process
                await asyncio.sleep(POLL_S)
        start = Start(perf_counter() - began_s, cpu_time(child.pid).total_s)
        await starting
        yield child, start
    finally:
        starting.cancel()
        await child.stop()


# --- BlueZ -----------------------------------------------------------------------------------
async def _on_bus(directory: Path) -> tuple[list[Start], Memory, Memory]:
    settings = f'kind = "bluez"\nadapter = "{ADAPTER_ADDRESS}"\n'
    plain = long_house.build(directory / "plain", settings, doors=DOORS, warm=False)
    broker = long_house.build(directory / "broker", settings + BROKER, doors=DOORS, warm=False)
    world = FakeBluezWorld(mtu=247)
    await world.start_bluez()
    try:
        starts = await _starts(plain.config, lambda: world.bluez.advertisement)
        await _resident(world, broker.config)  # compiles
        return starts, await _resident(world, plain.config), await _resident(world, broker.config)
    finally:
        await world.close()


async def _resident(world: FakeBluezWorld, config: Path) -> Memory:
    async with _started(config, lambda: world.bluez.advertisement) as (child, _):
        await asyncio.sleep(SETTLE_S)
        return memory(child.pid)


def _alone(imports: str) -> Memory:
    """What a Python holds that only imported them."""
    code = f"{imports}\n{_TELL}"
    said = ""
    for _ in range(2):  # the first one compiles
        said = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
    return Memory(*(float(each) for each in said.split()))


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """By a relative path: that of a socket is short."""
    build = Path("build")
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build, prefix="bench-") as name:
        directory = Path(name)
        for each in ("air", "plain", "broker"):
            (directory / each).mkdir()
        yield directory
