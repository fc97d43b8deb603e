"""What goes wrong in the field, done to the real bluetoothd; the next opening must succeed."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from firmware_proto.codes import Outcome
from gatewayd.demo.world import STREET
from gatewayd.ports import LinkClosedError, PortError
from tests.system.house import House

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]
RECOVERY_S = 5.0


async def opens_again(house: House, stopwatch, after: str, within_s: float) -> None:
    """From now until a phone that keeps trying has opened the street door."""
    phone = await house.phone("anna")
    async with asyncio.timeout(40):
        while True:
            report = await phone.open_door(STREET, address=house.door_address)
            if report.outcome is Outcome.CONFIRMED:
                break
    seconds = stopwatch.lap_s()
    stopwatch.say(f"{after}, then opened after", seconds)
    assert house.daemon.pid
    assert seconds <= within_s


async def test_bluetoothd_is_killed_while_idle(house: House, stopwatch):
    stopwatch.lap_s()
    house.bluetoothd.kill_and_restart()
    await opens_again(house, stopwatch, "bluetoothd killed and started", RECOVERY_S)


async def test_bluetoothd_is_killed_during_a_phone_session(house: House, stopwatch):
    guest = await house.phone("guest")
    link = await guest.central.dial(house.door_address)
    stopwatch.lap_s()
    house.bluetoothd.kill_and_restart()
    with contextlib.suppress(LinkClosedError):
        async with asyncio.timeout(10):
            await link.read()
    await link.close()
    await opens_again(house, stopwatch, "bluetoothd killed under a phone", 2 * RECOVERY_S)


async def test_bluetoothd_is_killed_during_an_unlock(house: House, stopwatch):
    anna = await house.phone("anna")
    street = house.world.locks[STREET]
    turning = asyncio.Event()
    street.machine.on_turning = lambda _: turning.set()
    opening = asyncio.create_task(anna.open_door(STREET, address=house.door_address))
    async with asyncio.timeout(20):
        await turning.wait()
    street.machine.on_turning = None
    stopwatch.lap_s()
    house.bluetoothd.kill_and_restart()
    report = await opening
    stopwatch.say(f"the phone heard {report.outcome.name} {report.reason.name}", stopwatch.lap_s())
    assert report.outcome is not Outcome.REFUSED  # the door did move
    await opens_again(house, stopwatch, "bluetoothd killed while the lock turned", 2 * RECOVERY_S)


async def test_the_adapter_is_pulled_out_and_put_back(house: House, stopwatch):
    await house.place.unplug()
    await asyncio.sleep(1.0)
    stopwatch.lap_s()
    await house.place.plug()
    await opens_again(house, stopwatch, "adapter put back", 2 * RECOVERY_S)


async def test_a_phone_that_says_nothing_is_sent_away(house: House, stopwatch):
    guest = await house.phone("guest")
    link = await guest.central.dial(house.door_address)
    stopwatch.lap_s()
    with pytest.raises(LinkClosedError):
        async with asyncio.timeout(20):
            await link.read()
    stopwatch.say("a silent phone was sent away after", stopwatch.lap_s())


async def test_ten_phones_at_once(house: House, stopwatch):
    phones = [await house.phone(f"crowd {n}") for n in range(10)]
    stopwatch.lap_s()
    reports = await asyncio.gather(
        *(phone.open_door(STREET, address=house.door_address) for phone in phones)
    )
    outcomes = [report.outcome.name for report in reports]
    stopwatch.say(f"ten phones: {sorted(outcomes)}", stopwatch.lap_s())
    assert "CONFIRMED" in outcomes
    await opens_again(house, stopwatch, "after a crowd", 2 * RECOVERY_S)


@pytest.mark.parametrize("step_s", [0.1, 0.3, 0.6, 1.0])
async def test_a_phone_vanishes(house: House, stopwatch, step_s: float):
    ghost = await house.phone("ghost")
    controller = house.controllers["ghost"]
    opening = asyncio.create_task(ghost.open_door(STREET, address=house.door_address))
    await asyncio.sleep(step_s)
    controller.vanish()
    stopwatch.lap_s()
    await opens_again(house, stopwatch, f"a phone vanished after {step_s} s", 2 * RECOVERY_S)
    controller.appear()
    with contextlib.suppress(PortError):
        await opening
