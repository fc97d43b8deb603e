"""Does a gateway grow? Memory, descriptors and D-Bus connections over many unlocks.

Once on the virtual radio, a thousand; once on BlueZ, over a real D-Bus with a
fake bluetoothd, where every unlock dials a lock, which hangs up when it has turned.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from gatewayd.adapters.virtual_radio import (
    INSTANT,
    LOCK,
    PHONE,
    AirController,
    RadioOptions,
    VirtualAir,
    open_radio,
    serve_hci,
)
from gatewayd.demo.child import Child
from gatewayd.radio_app import radio_address
from tests.bench import long_house
from tests.bench.long_house import LongHouse, phone_address
from tests.bench.number import Bar, Number
from tests.bench.process import descriptors, memory, threads
from tests.support import private_bus
from tests.support.fake_bluez_world import ADAPTER_ADDRESS, FakeBluezWorld

ON_AIR, ON_BUS = 1000, 600
STEP = 50
WARM_UP = 0.5
"""Share of the unlocks. Caches fill first: a quarter of a megabyte of SQLite's pages, above all."""
DOORS, PHONES = 8, 4
SETTLE_S = 0.7
COLLECT_S = 0.3
MOST_GROWTH_MB = 0.05
"""Per 100 unlocks: half a kilobyte each, as the last pages of a cache may look like."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the daemon held after so many unlocks. connections: of its own, to the system bus."""

    unlocks: int
    anonymous: float
    rss: float
    descriptors: int
    threads: int
    connections: int


def run() -> list[Number]:
    """Both radios; BlueZ only where there is a dbus-daemon."""
    numbers = describe("virtual radio", asyncio.run(_on_air(ON_AIR)))
    if private_bus.HERE:
        numbers += describe("BlueZ", asyncio.run(_on_bus(ON_BUS)))
    return numbers


def describe(radio: str, looks: list[Look]) -> list[Number]:
    """Start, end, and growth per 100 unlocks once warm."""
    last = looks[-1]
    warm = [look for look in looks if look.unlocks >= WARM_UP * last.unlocks]
    name = f"{last.unlocks} unlocks, {radio}"
    how = (
        f"`gatewayd run` as a child, {DOORS} doors, {PHONES} phones at once, each connecting anew;"
        f" looked at every {STEP} unlocks, when all phones are gone and garbage was collected"
    )
    slope = statistics.linear_regression(
        [look.unlocks / 100 for look in warm], [look.anonymous for look in warm]
    ).slope
    numbers = [
        Number(f"{name}: memory at first", looks[0].anonymous, "MB", f"anonymous; {how}"),
        Number(f"{name}: memory at last", last.anonymous, "MB", "the same"),
        Number(
            f"{name}: memory per 100",
            slope,
            "MB",
            f"slope of the regression from unlock {warm[0].unlocks} on,"
            f" resident then {warm[0].rss:.1f}, at last {last.rss:.1f} MB",
            Bar("<=", MOST_GROWTH_MB),
        ),
        Number(
            f"{name}: descriptors",
            last.descriptors - warm[0].descriptors,
            "",
            f"growth; {warm[0].descriptors} and {last.descriptors} open,"
            f" {warm[0].threads} and {last.threads} threads",
            Bar("<=", 0),
        ),
    ]
    if last.connections:
        numbers.append(
            Number(
                f"{name}: D-Bus connections",
                last.connections - warm[0].connections,
                "",
                f"growth, as the bus counts them; {warm[0].connections} and {last.connections}",
                Bar("<=", 0),
            )
        )
    return numbers


async def _on_air(times: int) -> list[Look]:
    """Locks' links are kept."""
    with _directory() as directory:
        air = VirtualAir(replace(INSTANT, supervision_timeout_s=1.0))
        socket = directory / "gateway.hci"
        house = long_house.build(directory, f'hci = "unix:{socket}"', doors=DOORS, warm=True)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(serve_hci(air, socket, address="F0:00:00:00:00:FF"))
            locks = {}
            for door, address in house.doors.items():
                radio = await stack.enter_async_context(
                    open_radio(
                        AirController(air, address), address=address, serves=LOCK,
                        options=RadioOptions(link_cap=1),
                    )
                )  # fmt: skip
                locks[door] = radio.peripheral
            await stack.enter_async_context(long_house.locks_run(house, locks))
            phones = []
            for number in range(PHONES):
                address = phone_address(number)
                radio = await stack.enter_async_context(
                    open_radio(AirController(air, address), address=address, dials=PHONE)
                )
                phones.append(house.phone(number, radio.central))
            child = await stack.enter_async_context(_served(house))

            async def no_bus() -> int:
                return 0

            return await _watch(
                child,
                lambda count: long_house.open_often(
                    house, phones, radio_address(long_house.GATEWAY), count
                ),
                no_bus,
                times,
            )


async def _on_bus(times: int) -> list[Look]:
    """Locks are dialled for each opening, and hang up by themselves after it."""
    with _directory() as directory:
        world = FakeBluezWorld(mtu=247)
        world.dial_s = 10.0
        world.address = radio_address(long_house.GATEWAY)
        await world.start_bluez()
        settings = f'kind = "bluez"\nadapter = "{ADAPTER_ADDRESS}"'
        house = long_house.build(directory, settings, doors=DOORS, warm=False)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(world.close)
            locks = {door: await world.lock(address) for door, address in house.doors.items()}
            await stack.enter_async_context(long_house.locks_run(house, locks))
            phones = [
                house.phone(number, await world.phone(phone_address(number)))
                for number in range(PHONES)
            ]
            child = await stack.enter_async_context(_served(house))
            return await _watch(
                child,
                lambda count: long_house.open_often(
                    house, phones, world.address, count, lambda door: locks[door].disconnected()
                ),
                lambda: connections(world, child.pid),
                times,
            )


async def connections(world: FakeBluezWorld, pid: int) -> int:
    """How many connections to the bus a process has."""
    bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
    (names,) = await world.bluez.call(*bus, "ListNames")
    found = 0
    for name in names:
        if name.startswith(":"):
            (owner,) = await world.bluez.call(*bus, "GetConnectionUnixProcessID", "s", [name])
            found += owner == pid
    return found


async def _watch(
    child: Child,
    unlock: Callable[[int], Awaitable[None]],
    count_connections: Callable[[], Awaitable[int]],
    times: int,
) -> list[Look]:
    looks = []
    for done in range(0, times + STEP, STEP):
        if done:
            await unlock(STEP)
        await asyncio.sleep(SETTLE_S)
        os.kill(child.pid, signal.SIGUSR1)
        await asyncio.sleep(COLLECT_S)
        held = memory(child.pid)
        looks.append(
            Look(
                done, held.anonymous, held.rss, descriptors(child.pid), threads(child.pid),
                await count_connections(),
            )
        )  # fmt: skip
    return looks


@contextlib.asynccontextmanager
async def _served(house: LongHouse) -> AsyncIterator[Child]:
    child = Child(house.config, program=("-m", "tests.bench.collecting"))
    try:
        await child.start()
        yield child
    finally:
        await child.stop()


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """By a relative path: that of a socket is short."""
    build = Path("build")
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build, prefix="bench-") as directory:
        yield Path(directory)
