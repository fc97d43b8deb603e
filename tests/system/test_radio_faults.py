"""The BlueZ radio alone, without a daemon around it: faults that a daemon would hide or outlast."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gatewayd.adapters.bluez import BluezOptions, locks, open_bluez
from gatewayd.adapters.virtual_radio import LOCK as LOCK_TABLE
from gatewayd.adapters.virtual_radio import AirController, RadioOptions, open_radio
from gatewayd.ports import LinkClosedError, RadioError
from tests.system.bluetoothd import Bluetoothd
from tests.system.moved_table import lay_out
from tests.system.place import Place

pytestmark = pytest.mark.system
LOCK = "F0:00:00:00:02:01"
ELSEWHERE = "F0:00:00:00:02:02"
OPTIONS = BluezOptions(start_s=20.0)


async def answers(link, radio) -> None:
    """What the gateway writes arrives at the lock, and back."""
    served = await radio.peripheral.accept()
    async with asyncio.timeout(5):
        await link.write(b"unlatch")
        assert await served.read() == b"unlatch"
        await served.write(b"done")
        assert await link.read() == b"done"


async def test_a_lock_is_dialled_again_after_bluetoothd_was_killed(
    place: Place, bluetoothd: Bluetoothd, stopwatch
):
    """The kernel keeps the old connection for seconds; the lock does not advertise meanwhile."""
    radio, controller = await place.lock(LOCK)
    async with open_bluez(OPTIONS) as bluez:
        link = await bluez.central.dial(LOCK)
        await answers(link, radio)
        stopwatch.lap_s()
        bluetoothd.kill_and_restart()
        with contextlib.suppress(LinkClosedError):
            async with asyncio.timeout(1):
                await link.read()
        assert link.closed
        stopwatch.say("the dialler noticed after", stopwatch.lap_s())
        await answers(await bluez.central.dial(LOCK), radio)
        stopwatch.recovered("bluetoothd killed: the lock dialled again", stopwatch.lap_s())
        assert controller.links == 1


async def test_a_lock_comes_back_with_another_table(place: Place, stopwatch):
    """bluetoothd believes the table that it remembers; writing goes to handles that are not."""
    controller = AirController(place.air, "00:AA:02:00:00:99")
    options = RadioOptions(link_cap=1)
    async with open_bluez(OPTIONS) as bluez:
        for services_before in (0, 3):
            async with open_radio(
                controller, address=LOCK, serves=LOCK_TABLE, options=options
            ) as radio:
                lay_out(radio, services_before)
                stopwatch.lap_s()
                link = await bluez.central.dial(LOCK)
                seconds = stopwatch.lap_s()
                await answers(link, radio)
                await link.close()
        stopwatch.recovered("a lock's table changed: dialled after", seconds)
        assert bluez.counts["stale tables forgotten"] == 1


async def test_a_scan_that_hears_nobody_is_noticed(place: Place, stopwatch, monkeypatch):
    """The adapter is deaf until it is switched off and on."""
    monkeypatch.setattr(locks, "SILENT_S", 3.0)
    radio, _ = await place.lock(LOCK)
    place.adapter.controller.deaf = True
    async with open_bluez(OPTIONS) as bluez:
        stopwatch.lap_s()
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(RadioError):
                    link = await bluez.central.dial(LOCK)
                    break
        await answers(link, radio)
        stopwatch.recovered("a deaf adapter: a lock dialled after", stopwatch.lap_s())
        assert bluez.counts["silent scans"] >= 1
        assert bluez.counts["recovery: power cycle"] == 1


async def test_a_connect_that_never_ends(place: Place, bluetoothd: Bluetoothd, stopwatch):
    """bluetoothd hangs while it is asked to connect."""
    radio, _ = await place.lock(LOCK)
    async with open_bluez(OPTIONS) as bluez:
        link = await bluez.central.dial(LOCK)
        await answers(link, radio)
        await link.close()
        stopwatch.lap_s()
        with bluetoothd.hung(), pytest.raises(RadioError):
            await bluez.central.dial(LOCK)
        seconds = stopwatch.lap_s()
        stopwatch.recovered("a connect that never ends: given up after", seconds)
        assert seconds < OPTIONS.dial_s + locks.ENDED_S + 2.0
        await answers(await bluez.central.dial(LOCK), radio)
        stopwatch.recovered("a connect that never ended: dialled after", stopwatch.lap_s())


async def test_a_lock_out_of_reach_is_no_reason_to_keep_another_waiting(place: Place, stopwatch):
    radio, _ = await place.lock(LOCK)
    async with open_bluez(OPTIONS) as bluez:
        nobody = asyncio.create_task(bluez.central.dial(ELSEWHERE))
        await asyncio.sleep(0.5)
        stopwatch.lap_s()
        await answers(await bluez.central.dial(LOCK), radio)
        stopwatch.recovered(
            "a lock out of reach is being dialled: another after", stopwatch.lap_s()
        )
        with pytest.raises(RadioError):
            await nobody


async def test_a_connection_that_does_not_end(place: Place, stopwatch):
    """The controller keeps a silent phone's link whatever it is told, until it is reset."""
    options = BluezOptions(start_s=20.0, link_cap=1, speak_s=1.0)
    guest, anna = await place.phone("F0:00:00:00:01:01"), await place.phone("F0:00:00:00:01:02")
    async with open_bluez(options) as bluez:
        await guest.central.dial(place.dialled_address)
        place.adapter.controller.clings = True
        stopwatch.lap_s()
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(RadioError):
                    link = await anna.central.dial(place.dialled_address)
                    break
        await link.write(b"good evening")
        assert await (await bluez.peripheral.accept()).read() == b"good evening"
        stopwatch.recovered(
            "a connection that does not end: the next phone after", stopwatch.lap_s()
        )
        assert bluez.counts["recovery: power cycle"] == 1
