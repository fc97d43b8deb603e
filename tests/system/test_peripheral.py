"""A minimal GATT server on real bluetoothd, dialled by an emulated phone."""

from __future__ import annotations

import asyncio
import statistics

import pytest

from gatewayd.adapters.virtual_radio import PHONE
from tests.system.echo_server import echo_server
from tests.system.place import Place

pytestmark = pytest.mark.system
ROUNDS = 50


async def test_a_phone_is_answered_by_a_minimal_server(place: Place, stopwatch):
    phone = await place.phone()
    async with echo_server(place.path, PHONE) as server:
        stopwatch.lap_s()
        link = await phone.central.dial(place.dialled_address)
        stopwatch.say("dial, with discovery and subscription", stopwatch.lap_s())
        times = []
        for number in range(ROUNDS):
            stopwatch.lap_s()
            await link.write(bytes([number]) * 200)
            async with asyncio.timeout(5):
                assert await link.read() == bytes([number]) * 200
            times.append(stopwatch.lap_s())
        assert server.written == ROUNDS
        stopwatch.say(f"echo of 200 bytes, median of {ROUNDS}:", statistics.median(times))
        await link.close()
        stopwatch.lap_s()
        again = await phone.central.dial(place.dialled_address)
        stopwatch.say("second dial, table known", stopwatch.lap_s())
        await again.close()
