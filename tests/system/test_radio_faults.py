"""The BlueZ radio alone, without a daemon around it, through what happens to bluetoothd."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gatewayd.adapters.bluez import BluezOptions, open_bluez
from gatewayd.ports import LinkClosedError
from tests.system.bluetoothd import Bluetoothd
from tests.system.place import Place

pytestmark = pytest.mark.system
LOCK = "F0:00:00:00:02:01"


async def test_a_lock_is_dialled_again_after_bluetoothd_was_killed(
    place: Place, bluetoothd: Bluetoothd, stopwatch
):
    """The kernel keeps the old connection for seconds; the lock does not advertise meanwhile."""
    radio, controller = await place.lock(LOCK)
    options = BluezOptions(adapter=place.address, start_s=20.0, dial_s=30.0)
    async with open_bluez(options) as bluez:
        link = await bluez.central.dial(LOCK)
        await radio.peripheral.accept()
        stopwatch.lap_s()
        bluetoothd.kill_and_restart()
        with contextlib.suppress(LinkClosedError):
            async with asyncio.timeout(5):
                await link.read()
        stopwatch.say("the dialler noticed after", stopwatch.lap_s())
        again = await bluez.central.dial(LOCK)
        stopwatch.say("dialled again after", stopwatch.lap_s())
        served = await radio.peripheral.accept()
        await again.write(b"unlatch")
        async with asyncio.timeout(5):
            assert await served.read() == b"unlatch"
        assert controller.links == 1
