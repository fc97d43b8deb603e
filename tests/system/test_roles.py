"""An adapter that plays one role at a time, and one adapter per role: the same doors open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gatewayd.demo.world import STAIRS, STREET
from tests.system.bluetoothd import ADAPTER, Bluetoothd
from tests.system.house import House, open_house
from tests.system.systemd_unit import run

pytestmark = pytest.mark.system
MAIN_CONF: Final = Path("/etc/bluetooth/main.conf")
BOTH: Final = "central-peripheral"
SECOND: Final = "00:AA:01:00:00:02"


@pytest.fixture
def one_role(bluetoothd: Bluetoothd) -> Iterator[Bluetoothd]:
    """A bluetoothd that was not told to let adapters play both roles."""
    told = MAIN_CONF.read_text()
    lines = [line for line in told.splitlines() if not line.startswith("KernelExperimental")]
    bluetoothd.kill()
    MAIN_CONF.write_text("\n".join(lines))
    bluetoothd.start()
    yield bluetoothd
    bluetoothd.kill()
    MAIN_CONF.write_text(told)


async def opens_both(house: House, stopwatch, how: str) -> None:
    """A warm lock and one that sleeps and is dialled for every opening."""
    for door in (STREET, STAIRS):
        stopwatch.lap_s()
        await house.opens(door=door)
        stopwatch.say(f"{how}: {door} opened", stopwatch.lap_s())


async def found(house: House, check: str) -> list[str]:
    """What the doctor says to one question."""
    said = await run("gatewayd", "doctor", "-c", str(house.world.config), "--json", check=False)
    return [each["message"] for each in json.loads(said)["findings"] if each["check"] == check]


async def test_one_role_at_a_time(one_role: Bluetoothd, tmp_path: Path, stopwatch):
    """Nobody can call while a lock is dialled; the doctor says so."""
    async with open_house(one_role, tmp_path) as house:
        place = house.place
        assert BOTH not in (await place.bus.objects())[place.path][ADAPTER]["Roles"]
        await opens_both(house, stopwatch, "one role at a time")
        await opens_both(house, stopwatch, "one role at a time, everybody known")
        assert any("one at a time" in text for text in await found(house, "adapters"))


async def test_a_second_adapter_for_locks(bluetoothd: Bluetoothd, tmp_path: Path, stopwatch):
    async with open_house(bluetoothd, tmp_path, lock_adapter=SECOND) as house:
        assert house.lock_adapter is not None
        await opens_both(house, stopwatch, "two adapters")
        await opens_both(house, stopwatch, "two adapters, everybody known")
        async with asyncio.timeout(10):
            while house.place.adapter.controller.links:  # the phone's, which is about to go
                await asyncio.sleep(0.05)
        assert house.lock_adapter.controller.links >= 1  # the warm lock's at least
