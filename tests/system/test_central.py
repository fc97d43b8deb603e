"""bleak on real bluetoothd towards an emulated lock: what the lock side will build on."""

from __future__ import annotations

import asyncio
import statistics

import pytest
from bleak import BleakClient, BleakScanner

from firmware_proto.codes import LOCK_REQUEST_UUID, LOCK_RESPONSE_UUID, LOCK_SERVICE_UUID
from tests.system.place import Place

pytestmark = pytest.mark.system
ROUNDS = 50


async def echo(radio) -> None:
    link = await radio.peripheral.accept()
    while True:
        await link.write(await link.read())


async def test_bleak_dials_an_emulated_lock(place: Place, stopwatch):
    radio, _ = await place.lock()
    echoing = asyncio.create_task(echo(radio))
    stopwatch.lap_s()
    found = await BleakScanner.find_device_by_filter(
        lambda _, heard: LOCK_SERVICE_UUID in heard.service_uuids,
        timeout=10,
        bluez={"adapter": place.path.rsplit("/", 1)[1]},
    )
    assert found is not None
    stopwatch.say("scan", stopwatch.lap_s())
    answers: asyncio.Queue[bytes] = asyncio.Queue()
    async with BleakClient(found, timeout=15) as client:
        stopwatch.say("connect and discover", stopwatch.lap_s())
        await client.start_notify(
            LOCK_RESPONSE_UUID, lambda _, data: answers.put_nowait(bytes(data))
        )
        stopwatch.say("subscribe", stopwatch.lap_s())
        times = []
        for number in range(ROUNDS):
            stopwatch.lap_s()
            await client.write_gatt_char(LOCK_REQUEST_UUID, bytes([number]) * 100, response=False)
            async with asyncio.timeout(5):
                assert await answers.get() == bytes([number]) * 100
            times.append(stopwatch.lap_s())
        stopwatch.say(f"round trip of 100 bytes, median of {ROUNDS}:", statistics.median(times))
        stopwatch.lap_s()
    stopwatch.say("disconnect", stopwatch.lap_s())
    echoing.cancel()
