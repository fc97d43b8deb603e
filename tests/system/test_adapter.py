"""The machine itself: an adapter comes, does both roles, and goes."""

from __future__ import annotations

import asyncio

import pytest

from tests.system.bluetoothd import ADAPTER, bluez_bus
from tests.system.place import Place, open_place

pytestmark = pytest.mark.system


async def test_an_adapter_can_do_both_roles_at_once(place: Place):
    properties = (await place.bus.objects())[place.path][ADAPTER]
    assert properties["Powered"]
    assert {"central", "peripheral", "central-peripheral"} <= set(properties["Roles"])


async def test_an_unplugged_adapter_is_gone_and_comes_back(bluetoothd, stopwatch):
    async with bluez_bus() as bus:
        for _ in range(2):
            stopwatch.lap_s()
            async with open_place() as place:
                stopwatch.say("plugged in and powered within", stopwatch.lap_s())
                assert place.adapter.index >= 0
            async with asyncio.timeout(5):
                while await bus.adapter(place.address):
                    await asyncio.sleep(0.02)
            stopwatch.say("unplugged and gone within", stopwatch.lap_s())
