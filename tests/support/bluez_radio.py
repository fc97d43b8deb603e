"""What tests of the BlueZ radio share: options that look often and give up late, and helpers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from firmware_proto.codes import PHONE_RESPONSE_UUID
from gatewayd.adapters.bluez import BluezOptions, BluezRadio
from gatewayd.adapters.bluez.keeper import State
from gatewayd.adapters.gatt.link import GattLink
from gatewayd.ports import LinkClosedError, RadioError
from tests.support import private_bus
from tests.support.fake_bluez_world import FakeBluezWorld
from tests.support.worlds import GATEWAY, PHONE_1

NEEDS_BUS = pytest.mark.skipif(not private_bus.HERE, reason="dbus-daemon is not installed")

QUICK = BluezOptions(
    start_s=60.0, check_s=0.1, retry_s=0.01, activate_s=0.05, dial_s=60.0, turn_s=1.0, speak_s=60.0
)
"""Looks often, and gives up late: a busy machine may be slow, and no test depends on it."""


IMPATIENT = replace(QUICK, dial_s=1.0)
"""For dials that are to fail."""


@pytest.fixture
async def world() -> AsyncIterator[FakeBluezWorld]:
    world = FakeBluezWorld(mtu=100)
    world.dial_s = QUICK.dial_s
    loop = asyncio.get_running_loop()
    watchdog = loop.call_later(90, lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
    yield world
    await world.close()
    watchdog.cancel()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - of the other side
            await asyncio.sleep(0.005)


async def expect_closed(link) -> None:
    with pytest.raises(LinkClosedError):
        await link.read()


async def talk(world: FakeBluezWorld, radio):
    """A phone that said hello: its end and ours."""
    phone = await (world.phones.get(PHONE_1) or await world.phone(PHONE_1)).dial(GATEWAY)
    await phone.write(b"hello")
    link = await radio.peripheral.accept()
    assert await link.read() == b"hello"
    return phone, link


async def dial(radio: BluezRadio, address: str) -> GattLink:
    """However often it takes."""
    while True:
        with contextlib.suppress(RadioError):
            return await radio.central.dial(address)


async def back(world: FakeBluezWorld, radio: BluezRadio) -> None:
    """Phones are served again, and the radio knows: the advertisement is out before it does."""
    await until(lambda: world.bluez.advertisement and world.bluez.application)
    await until(lambda: radio.keeper.state is State.ADVERTISING)


async def settled(world: FakeBluezWorld) -> None:
    """Whatever bluetoothd has said has been heard, and what follows from it was done."""
    calm = 0
    while calm < 5:
        before = world.bluez.calls.copy()
        await world.bluez.characteristic(PHONE_RESPONSE_UUID, "StopNotify", "", [])
        calm = calm + 1 if world.bluez.calls == before else 0
