"""The BlueZ radio alone, without a daemon around it: faults that a daemon would hide or outlast."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from gatewayd.adapters.bluez import BluezOptions, BluezRadio, ears, locks, open_bluez
from gatewayd.adapters.virtual_radio import LOCK as LOCK_TABLE
from gatewayd.adapters.virtual_radio import AirController, Radio, RadioOptions, open_radio
from gatewayd.ports import LinkClosedError, RadioError
from gatewayd.ports.radio import Link
from tests.system.bluetoothd import Bluetoothd
from tests.system.moved_table import lay_out
from tests.system.place import Place

pytestmark = pytest.mark.system
LOCK = "F0:00:00:00:02:01"
ELSEWHERE = "F0:00:00:00:02:02"
OPTIONS = BluezOptions(start_s=20.0)
AGAIN_S = 0.1
DEAF_DIAL_S = 2.5
"""The ladder counts dials: short ones climb it sooner."""


async def answers(link: Link, radio: Radio) -> None:
    """What the gateway writes arrives at the lock, and back. TimeoutError, LinkClosedError."""
    async with asyncio.timeout(5):
        served = await radio.peripheral.accept()
        await link.write(b"unlatch")
        assert await served.read() == b"unlatch"
        await served.write(b"done")
        assert await link.read() == b"done"


async def reached(bluez: BluezRadio, radio: Radio, address: str = LOCK) -> Link:
    """Dialled as often as it takes, as the daemon does it; an answering link. TimeoutError."""
    async with asyncio.timeout(60.0):
        while True:
            with contextlib.suppress(RadioError, LinkClosedError, TimeoutError):
                link = await bluez.central.dial(address)
                await answers(link, radio)
                return link
            await asyncio.sleep(AGAIN_S)


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
        await reached(bluez, radio)
        stopwatch.recovered("bluetoothd killed: the lock dialled again", stopwatch.lap_s())
        assert controller.links == 1


async def test_a_lock_comes_back_with_another_table(place: Place, stopwatch):
    """bluetoothd believes the table that it remembers; writing goes to handles that are not."""
    lock = place.unknown_address()
    controller = AirController(place.air, "00:AA:02:00:00:99")
    options = RadioOptions(link_cap=1)
    async with open_bluez(OPTIONS) as bluez:
        for moved in (False, True):
            async with open_radio(
                controller, address=lock, serves=LOCK_TABLE, options=options
            ) as radio:
                lay_out(radio, moved=moved)
                stopwatch.lap_s()
                link = await bluez.central.dial(lock)
                seconds = stopwatch.lap_s()
                await answers(link, radio)
                await link.close()
        stopwatch.recovered("a lock's table changed: dialled after", seconds)
        assert bluez.counts["stale tables forgotten"] == 1


@pytest.mark.parametrize("known", [False, True])
async def test_a_scan_that_hears_nobody_is_noticed(
    place: Place, stopwatch, monkeypatch, known: bool
):
    """The adapter is deaf until it is switched off and on."""
    for name in ("SILENT_S", "LISTEN_S", *(("IN_VAIN_S",) if known else ())):
        monkeypatch.setattr(ears, name, 0.5)
    lock = place.unknown_address()
    radio, _ = await place.lock(lock)
    async with open_bluez(replace(OPTIONS, dial_s=DEAF_DIAL_S)) as bluez:
        if known:
            await (await reached(bluez, radio, lock)).close()
        place.adapter.controller.deaf = True
        stopwatch.lap_s()
        await reached(bluez, radio, lock)
        what = "a lock that it knows" if known else "a new lock"
        stopwatch.recovered(f"a deaf adapter: {what} dialled after", stopwatch.lap_s())
        assert bluez.counts["silent scans"] >= 1
        assert bluez.counts["recovery: power cycle"] >= 1


async def test_a_lock_that_is_heard_and_not_reached(place: Place, stopwatch, monkeypatch):
    """The adapter connects to nobody until it is switched off and on."""
    monkeypatch.setattr(ears, "IN_VAIN_S", 0.5)
    radio, _ = await place.lock(LOCK)
    async with open_bluez(replace(OPTIONS, dial_s=4.0)) as bluez:
        await (await reached(bluez, radio)).close()
        place.adapter.controller.numb = True
        stopwatch.lap_s()
        await reached(bluez, radio)
        stopwatch.recovered("an adapter that connects to nobody: dialled after", stopwatch.lap_s())
        assert bluez.counts["locks heard and not reached"] == 1
        assert bluez.counts["recovery: power cycle"] == 1


async def test_a_lock_that_is_connected_from_before(place: Place, stopwatch):
    """By somebody who is no more: bluetoothd keeps the connection, and we would be given it."""
    radio, controller = await place.lock(LOCK)
    device = f"{place.path}/dev_{LOCK.replace(':', '_')}"
    async with open_bluez(OPTIONS) as bluez:
        await answers(await bluez.central.dial(LOCK), radio)
    await place.bus.call(device, "org.bluez.Device1", "Connect")
    assert controller.links == 1
    async with open_bluez(OPTIONS) as bluez:
        stopwatch.lap_s()
        link = await bluez.central.dial(LOCK)
        stopwatch.recovered("a lock connected from before: dialled after", stopwatch.lap_s())
        await asyncio.sleep(3.0)  # hanging up takes bluetoothd two
        assert not link.closed
        await answers(link, radio)


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
        await reached(bluez, radio)
        stopwatch.recovered("a connect that never ended: dialled after", stopwatch.lap_s())


async def test_the_advertisement_is_cleared_by_somebody(place: Place, stopwatch):
    """Over the mgmt socket; bluetoothd says nothing of it, and counts it as registered."""
    phone = await place.phone("F0:00:00:00:01:01")
    options = replace(OPTIONS, refresh_s=3.0, check_s=1.0)
    async with open_bluez(options):
        await (await phone.central.dial(place.dialled_address)).close()
        await place.clear_advertising()
        assert not place.adapter.controller.le_legacy_advertiser.enabled
        stopwatch.lap_s()
        await phone.central.dial(place.dialled_address)
        stopwatch.recovered(
            f"advertisement cleared, anew every {options.refresh_s} s", stopwatch.lap_s()
        )


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


SUBSCRIBING = "while it subscribes"


@pytest.mark.parametrize("moment", [0.05, 0.1, 0.2, 0.4, 0.8, SUBSCRIBING])
async def test_a_dial_that_is_cancelled_leaves_no_connection(
    place: Place, stopwatch, moment: float | str
):
    radio, controller = await place.lock(LOCK)
    async with open_bluez(OPTIONS) as bluez:
        dial = asyncio.create_task(bluez.central.dial(LOCK))
        if isinstance(moment, float):
            await asyncio.sleep(moment)
        else:
            while not await place.bus.devices(ServicesResolved=True):
                await asyncio.sleep(0)
        dial.cancel()
        stopwatch.lap_s()
        with contextlib.suppress(asyncio.CancelledError):
            await (await dial).close()
        async with asyncio.timeout(15):
            while controller.links or await place.bus.devices(Connected=True):
                await asyncio.sleep(0.05)
        stopwatch.say("nothing is left after", stopwatch.lap_s())
        await reached(bluez, radio)
        stopwatch.recovered(f"a dial cancelled, {moment}", stopwatch.lap_s())
