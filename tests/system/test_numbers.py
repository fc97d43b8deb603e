"""The numbers of the real radio: ratios within one run, each printed with its division.

Bars are shown, not asserted: a table at the end of the run says which are missed. What is
asserted is that there was something to measure, and that nothing leaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from gatewayd.demo.child import Child
from gatewayd.demo.world import STAIRS, STREET
from gatewayd.ports.radio import Link
from tests.bench.cpu import cpu_time
from tests.bench.number import Bar, Number
from tests.support import units
from tests.system.gpio_sim import LABEL, SimChip
from tests.system.house import House, open_house
from tests.system.noise import advertisers
from tests.system.process import Holdings, holdings, wakings

pytestmark = pytest.mark.system

LONGEST_S: Final = 400.0
"""Of one test, instead of what conftest.py grants."""
OPENINGS: Final = 20
LATCH_MS: Final = 500
IDLE_S: Final = 20.0
BEGUN_S: Final = 10.0
"""By then a daemon that just opened has looked at its machine, and seldom asks for its broker."""
STARTS: Final = 3
UNLOCKS: Final = 100
WARM_UP: Final = 20
CRYPTOGRAPHY: Final = "cryptography.hazmat.primitives"
LIBRARIES: Final = (
    "asyncio, sqlite3, zoneinfo, msgspec, aiomqtt, dbus_fast.aio, bleak, "
    f"{CRYPTOGRAPHY}.asymmetric.ec, {CRYPTOGRAPHY}.asymmetric.ed25519, "
    f"{CRYPTOGRAPHY}.ciphers.aead, {CRYPTOGRAPHY}.serialization"
)
"""What `gatewayd run` on BlueZ imports and is not its own."""


def short_latch(text: str) -> str:
    """Doors that are shut again soon, so that many openings take little time."""
    return text.replace("latch_ms = 1000", f"latch_ms = {LATCH_MS}")


def relay_at_the_street_door(text: str) -> str:
    """No lock to be dialled."""
    lines = short_latch(text).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("lock = "))
    lines[at] = f'relay = {{ chip = "{LABEL}", line = "STRIKE" }}'
    return "\n".join(lines)


@pytest.fixture
def chip() -> Iterator[SimChip]:
    made = SimChip()
    yield made
    made.remove()


# --- the phone leg ----------------------------------------------------------------------
@dataclass
class Written:
    """A link that notes how many fragments were written, and what came back before the next."""

    link: Link
    flights: list[tuple[int, list[int]]] = field(default_factory=lambda: [(0, [])])
    sizes: list[list[int]] = field(default_factory=lambda: [[]])

    @property
    def mtu(self) -> int:
        return self.link.mtu

    async def read(self) -> bytes:
        fragment = await self.link.read()
        self.flights[-1][1].append(len(fragment))
        return fragment

    async def write(self, fragment: bytes) -> None:
        if self.flights[-1][1]:
            self.flights.append((0, []))
            self.sizes.append([])
        self.flights[-1] = (self.flights[-1][0] + 1, self.flights[-1][1])
        self.sizes[-1].append(len(fragment))
        await self.link.write(fragment)

    async def close(self) -> None:
        await self.link.close()


class Noting:
    """A `Central` whose last link tells what passed over it."""

    def __init__(self, central) -> None:
        self._central = central
        self.scan = central.scan

    async def dial(self, address: str) -> Link:
        self.last = Written(await self._central.dial(address))
        return self.last


async def test_the_phone_leg(bluetoothd, tmp_path: Path, chip: SimChip, stopwatch):
    async with open_house(bluetoothd, tmp_path, relay_at_the_street_door) as house:
        anna = await house.phone("anna")
        await house.opens_relay()
        plain, anna.central = anna.central, Noting(anna.central)
        await house.opens_relay()
        flights, sizes = anna.central.last.flights, anna.central.last.sizes
        anna.central = plain
        ours = [await house.opens_relay() for _ in range(OPENINGS)]
        print(f"flights: {sizes} answered by {[answers for _, answers in flights]} bytes")
        await house.daemon.stop()
        async with served_by_echo(house, flights):
            await exchange(plain, house.gateway, sizes, flights)
            theirs = [await exchange(plain, house.gateway, sizes, flights) for _ in range(OPENINGS)]
    ours_s, theirs_s = statistics.median(ours), statistics.median(theirs)
    stopwatch.note(
        Number(
            "phone leg / the same GATT exchanges with an echo server",
            ours_s / theirs_s,
            "",
            f"{ours_s * 1000:.0f} ms / {theirs_s * 1000:.0f} ms: medians of {OPENINGS} each, from"
            " dialling to the last answer, over bluetoothd at the phone's interval of 30 ms; a"
            " relay door, so nothing is dialled; the echo server takes and sends fragments of the"
            " same sizes",
            Bar("<=", 1.5),
        )
    )


@contextlib.asynccontextmanager
async def served_by_echo(house: House, flights) -> AsyncIterator[None]:
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.system.echo_server", house.place.path, json.dumps(flights)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdout is not None
    assert await server.stdout.readline() == b"serving\n"
    try:
        yield
    finally:
        server.kill()
        await server.wait()


async def exchange(central, address: str, sizes: Sequence[Sequence[int]], flights) -> float:
    """Seconds from dialling to the last answer."""
    began_s = asyncio.get_running_loop().time()
    link = await central.dial(address)
    for flight, (_, answers) in zip(sizes, flights, strict=True):
        for size in flight:
            await link.write(bytes(size))
        for answer in answers:
            assert len(await link.read()) == answer
    seconds = asyncio.get_running_loop().time() - began_s
    await link.close()
    return seconds


# --- starting, and being there ------------------------------------------------------------
async def test_the_start(bluetoothd, tmp_path: Path, stopwatch):
    imports = [imported_s() for _ in range(STARTS)]
    async with open_house(bluetoothd, tmp_path) as house:
        starts = []
        for _ in range(STARTS):
            await house.daemon.stop()
            house.daemon = Child(house.world.config)
            stopwatch.lap_s()
            starting = asyncio.create_task(house.daemon.start())
            await house.place.advertising()
            starts.append(stopwatch.lap_s())
            await starting
    ours_s, theirs_s = min(starts), min(imports)
    stopwatch.note(
        Number(
            "start until advertising / importing the libraries",
            ours_s / theirs_s,
            "",
            f"{ours_s * 1000:.0f} ms / {theirs_s * 1000:.0f} ms: the best of {STARTS} each, from"
            f" the start of the process; the same libraries: {LIBRARIES}",
        )
    )


def imported_s() -> float:
    program = f"import time, {LIBRARIES}; print(time.monotonic())"
    began_s = asyncio.get_running_loop().time()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return float(done.stdout) - began_s


async def test_idle_among_a_hundred_advertisers(settled: House, stopwatch):
    daemon = settled.daemon.pid
    await asyncio.sleep(BEGUN_S)
    async with advertisers(settled.place.air):
        before = wakings(daemon)
        alone_s = await used_in(IDLE_S, daemon)
        woken = wakings(daemon) - before
        scanner = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SCANNER), stdout=subprocess.PIPE
        )
        assert scanner.stdout is not None
        try:
            assert await scanner.stdout.readline() == b"scanning\n"
            both = await asyncio.gather(used_in(IDLE_S, daemon), used_in(IDLE_S, scanner.pid))
        finally:
            scanner.kill()
            await scanner.wait()
    assert both[1] > 0.05
    how = "the same daemon in the same time; on a busy host only its processor time grows"
    stopwatch.note(Number("wakings a second among 100 advertisers", woken / IDLE_S, "", how))
    for what, ours_s, bar in (
        ("idle CPU among 100 advertisers / a plain bleak scanner's", alone_s, Bar("<=", 0.2)),
        # bluetoothd then tells every program on the bus what it hears; no match rule spares one
        ("the same while that scanner scans beside it", both[0], None),
    ):
        stopwatch.note(
            Number(
                what,
                ours_s / both[1],
                "",
                f"{ours_s * 1000:.0f} ms / {both[1] * 1000:.0f} ms of processor time in"
                f" {IDLE_S:.0f} s, one advertisement a second each, a warm lock linked",
                bar,
            )
        )


SCANNER: Final = """
import asyncio
from bleak import BleakScanner
async def main():
    heard = []
    async with BleakScanner(lambda device, data: heard.append(device.address)):
        while len(set(heard)) < 50:
            await asyncio.sleep(0.1)
        print("scanning", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def used_in(seconds: float, pid: int) -> float:
    """Processor time of a process while so many seconds pass."""
    before = cpu_time(pid)
    await asyncio.sleep(seconds)
    return cpu_time(pid).since(before).total_s


# --- what it holds ------------------------------------------------------------------------
async def test_nothing_grows(bluetoothd, tmp_path: Path, stopwatch, monkeypatch):
    for name, value in units.environment().items():  # as its unit starts it
        monkeypatch.setenv(name, value)
    async with open_house(bluetoothd, tmp_path, short_latch) as house:
        await unlock(house, WARM_UP)
        before = await at_rest(house)
        await unlock(house, UNLOCKS)
        after = await at_rest(house)
        assert "bumble" not in mapped(house.daemon.pid)
    print(f"before {before}")
    print(f"after {after}")
    how = f"of `gatewayd run` as shipped, at rest after {WARM_UP + UNLOCKS} unlocks"
    note = stopwatch.note
    note(Number("resident memory", after.rss_mb, "MB", f"VmRSS {how}", Bar("<=", 45.0)))
    if after.pss_mb:
        note(Number("proportional share of memory", after.pss_mb, "MB", f"Pss {how}"))
    note(Number("the libraries alone", library_mb(), "MB", "VmRSS of a process that imports them"))
    how = f"from {WARM_UP} to {WARM_UP + UNLOCKS} unlocks, a tenth at a lock that is dialled anew"
    note(Number("growth of memory", after.rss_mb - before.rss_mb, "MB", how, Bar("<=", 1.0)))
    for what, growth in (
        ("descriptors", after.descriptors - before.descriptors),
        ("D-Bus connections", after.bus_connections - before.bus_connections),
    ):
        note(Number(f"growth of {what}", growth, "", how, Bar("==", 0)))
        assert growth == 0, what


def mapped(pid: int) -> str:
    """Files that a process has in memory."""
    return Path(f"/proc/{pid}/maps").read_text()


async def unlock(house: House, count: int) -> None:
    """Real openings of both doors; the lock on the stairs is always out of its kept link."""
    for number in range(count):
        door = STAIRS if number % 10 == 0 else STREET
        if door == STAIRS:
            await house.hang_up(STAIRS)
        await house.opens("anna", door)


async def at_rest(house: House) -> Holdings:
    """Nobody connected but the warm lock."""
    await house.hang_up(STAIRS)
    await asyncio.sleep(3.0)
    return await holdings(house.daemon.pid, house.place.bus)


def library_mb() -> float:
    program = f"import {LIBRARIES}; print(open('/proc/self/status').read())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1.024 / 1000
