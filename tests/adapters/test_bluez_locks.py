"""The lock side over a real D-Bus: dials that fail, hang or meet an old table; scans; turns."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from bleak.exc import BleakDBusError, BleakDeviceNotFoundError, BleakError

from gatewayd.adapters.bluez import lock_client
from gatewayd.core.recovery import LIMITS, Rung
from gatewayd.ports import LinkClosedError, RadioError
from tests.support.bluez_radio import (
    IMPATIENT,
    NEEDS_BUS,
    QUICK,
    back,
    dial,
    expect_closed,
    settled,
    talk,
    until,
    world,
)
from tests.support.fake_bluez import CHARACTERISTIC, DEVICE, SERVICE
from tests.support.fake_bluez_world import (
    ADAPTER_ADDRESS,
    OLD_UUID,
    FakeBluezWorld,
    path_of,
)
from tests.support.worlds import GATEWAY, LOCK_1

__all__ = ["world"]

pytestmark = NEEDS_BUS


async def test_a_connect_that_never_ends(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, IMPATIENT)
    await world.lock(LOCK_1)
    world.bluez.silent.add("Connect")
    with pytest.raises(RadioError, match="does not answer"):
        await radio.central.dial(LOCK_1)
    world.bluez.silent.clear()
    assert not (await dial(radio, LOCK_1)).closed


async def test_a_bluetoothd_that_hangs(world: FakeBluezWorld, monkeypatch):
    monkeypatch.setattr("gatewayd.adapters.bluez.locks.ENDED_S", 0.1)
    radio = await world.open(GATEWAY, IMPATIENT)
    await world.lock(LOCK_1)
    await (await dial(radio, LOCK_1)).close()
    world.bluez.silent |= {"Connect", "Disconnect"}
    while not radio.counts["dials that never ended"]:
        with pytest.raises(RadioError, match="does not answer"):
            await radio.central.dial(LOCK_1)
    await until(lambda: radio.counts["recovery: again"] == 1)


async def test_an_adapter_that_refuses_dials_climbs_once_per_dial(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, IMPATIENT)
    await world.lock(LOCK_1)
    world.bluez.refuse["Connect"] = ["InProgress"] * 1000
    for _ in range(LIMITS[Rung.POWER_CYCLE].after):
        with pytest.raises(RadioError):
            await radio.central.dial(LOCK_1)
    await until(lambda: radio.counts["recovery: power cycle"] == 1)
    world.bluez.refuse["Connect"].clear()
    await (await dial(radio, LOCK_1)).close()


async def test_a_stale_table_is_forgotten(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    lock = await world.lock(LOCK_1)
    lock.stale = True
    link = await radio.central.dial(LOCK_1)
    assert radio.counts["stale tables forgotten"] == 1
    assert radio.health()["radio_losses"] >= 1
    assert world.bluez.calls["RemoveDevice"] == 1
    await link.write(b"unlatch")


async def test_a_lock_that_is_none(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    lock = await world.lock(LOCK_1)
    lock.service = "7b1fffff-5c0e-4d5a-9a3e-2f6d8c41b7e0"
    world.bluez.refuse["RemoveDevice"] = ["Failed"]
    with pytest.raises(RadioError, match="serves no lock"):
        await radio.central.dial(LOCK_1)


async def test_a_lock_that_changes_its_table_while_it_is_looked_at(world: FakeBluezWorld):
    """Service Changed (Core Vol 3 Part G 7.1): bleak knows of objects that bluetoothd removed."""
    radio = await world.open(GATEWAY, replace(QUICK, dial_s=2.0))
    lock = await world.lock(LOCK_1)
    connected = lock.connected

    def restless() -> None:
        bluez = world.bluez
        service = f"{lock.path}/service{lock.base:04x}"
        bluez.change(lock.path, DEVICE, Connected=True)
        bluez.add(service, SERVICE, UUID=lock.service, Device=lock.path, Primary=True)
        bluez.add(lock.characteristic(1), CHARACTERISTIC, UUID=OLD_UUID, Service=service)
        bluez.remove(lock.characteristic(1))
        bluez.change(lock.path, DEVICE, ServicesResolved=True)

    lock.connected = restless  # type: ignore[method-assign]
    with pytest.raises(RadioError):
        await radio.central.dial(LOCK_1)
    lock.connected = connected  # type: ignore[method-assign]
    assert not (await dial(radio, LOCK_1)).closed


async def test_a_lock_whose_table_has_no_end_gives_its_turn_away(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, replace(QUICK, turn_s=0.3, dial_s=20.0))
    endless = await world.lock("F0:00:00:00:02:02")
    await world.lock(LOCK_1)
    endless.connected = lambda: world.bluez.change(  # type: ignore[method-assign]
        endless.path, DEVICE, Connected=True
    )
    dial = asyncio.create_task(radio.central.dial(endless.address))
    await until(lambda: world.bluez.value(endless.path, DEVICE, "Connected"))
    async with asyncio.timeout(10):
        assert not (await radio.central.dial(LOCK_1)).closed
    assert not dial.done()
    dial.cancel()


async def test_handles_of_an_older_table(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    await world.lock(LOCK_1)
    world.bluez.refuse["StartNotify"] = ["Failed"]
    assert not (await radio.central.dial(LOCK_1)).closed
    assert radio.counts["stale tables forgotten"] == 1


async def test_a_lock_is_dialled_once(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    await world.lock(LOCK_1)
    await radio.central.dial(LOCK_1)
    with pytest.raises(RadioError, match="connected already"):
        await radio.central.dial(LOCK_1)


async def test_a_lock_is_dialled_again_while_it_is_hung_up(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    await world.lock(LOCK_1)
    link = await radio.central.dial(LOCK_1)
    world.bluez.delay_s["Disconnect"] = 0.2
    link.drop()
    assert not (await radio.central.dial(LOCK_1)).closed


@pytest.mark.parametrize("who", ["we", "the lock", "bluetoothd"])
async def test_dials_leave_nothing_behind_on_the_bus(world: FakeBluezWorld, who: str):
    radio = await world.open(GATEWAY, QUICK)
    lock = await world.lock(LOCK_1)

    async def connections() -> int:
        bus = "org.freedesktop.DBus"
        (names,) = await world.bluez.call(bus, "/org/freedesktop/DBus", bus, "ListNames")
        return sum(each.startswith(":") for each in names)

    kept = await connections() + 1  # bleak has one of its own, and one for each client
    for _ in range(3):
        link = await dial(radio, LOCK_1)
        assert await connections() == kept + 1
        if who == "we":
            await link.close()
        elif who == "the lock":
            lock.disconnected()
        else:
            await world.stop_bluez()
            await expect_closed(link)
            await world.start_bluez()
            await back(world, radio)
        async with asyncio.timeout(60):
            while await connections() > kept:  # noqa: ASYNC110 - of the bus
                await asyncio.sleep(0.01)


async def test_a_lock_that_takes_no_more(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    await world.lock(LOCK_1)
    link = await radio.central.dial(LOCK_1)
    world.bluez.refuse["WriteValue"] = ["Failed"]
    with pytest.raises(LinkClosedError, match="takes no more"):
        await link.write(b"unlatch")
    await expect_closed(link)


@pytest.mark.parametrize(
    ("error", "pause_s"),
    [
        (BleakDeviceNotFoundError(LOCK_1), 1.0),
        (BleakDBusError("org.bluez.Error.Failed", []), 0.25),
        (BrokenPipeError(), 0.25),
        (TimeoutError(), 0.25),
        (BleakError("whatever"), 0.1),
    ],
)
def test_what_failed_says_how_long_to_wait(error: Exception, pause_s: float):
    assert lock_client.pause_s(error) == pause_s


async def test_phones_yield_where_one_role_at_a_time_is_possible(world: FakeBluezWorld):
    await world.start_bluez(Roles=["central", "peripheral"])
    radio = await world.open(GATEWAY, QUICK)
    await world.lock(LOCK_1)
    await (await radio.central.dial(LOCK_1)).close()
    _, served = await talk(world, radio)
    assert not radio.keeper.simultaneous
    world.bluez.refuse["Connect"] = ["Failed"] * 2
    dialled = await radio.central.dial(LOCK_1)
    await expect_closed(served)
    assert radio.counts["phones that yielded to a lock"] == 1
    assert not dialled.closed


async def test_scans_that_hear_nobody(world: FakeBluezWorld, monkeypatch):
    monkeypatch.setattr("gatewayd.adapters.bluez.ears.SILENT_S", 0.1)
    radio = await world.open(GATEWAY, IMPATIENT)
    with pytest.raises(RadioError):
        await radio.central.dial(LOCK_1)
    assert radio.counts["silent scans"] >= 1
    await until(lambda: radio.counts["recovery: again"])
    assert radio.health()["radio_losses"] >= 1
    assert radio.health()["radio_repairs"] >= 1


@pytest.mark.parametrize("heard", [True, False])
async def test_a_lock_that_is_heard_and_not_reached(
    world: FakeBluezWorld, monkeypatch, heard: bool
):
    """Told once, and reached after one power cycle; a lock out of reach is no reason for any."""
    monkeypatch.setattr("gatewayd.adapters.bluez.ears.IN_VAIN_S", 0.0)
    monkeypatch.setattr("gatewayd.adapters.bluez.ears.LISTEN_S", 0.2)
    radio = await world.open(GATEWAY, replace(QUICK, dial_s=1.0))
    await world.lock(LOCK_1)
    await (await radio.central.dial(LOCK_1)).close()
    world.bluez.refuse["Connect"] = ["Failed"] * 1000
    if not heard:
        world.vanish(LOCK_1)
    for _ in range(3):
        with pytest.raises(RadioError):
            await radio.central.dial(LOCK_1)
    assert radio.counts["locks heard and not reached"] == heard
    if heard:
        await until(lambda: radio.counts["recovery: power cycle"])
    world.bluez.refuse.clear()
    world.hidden.clear()
    await (await radio.central.dial(LOCK_1)).close()
    assert radio.counts["recovery: power cycle"] == heard
    assert radio.counts["recovery: again"] == 0


async def test_a_scan_that_is_refused(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, IMPATIENT)
    world.bluez.refuse["StartDiscovery"] = ["InProgress"] * 100
    with pytest.raises(RadioError, match="InProgress"):
        await radio.central.dial(LOCK_1)


async def test_a_public_address_is_marked(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    await world.lock(LOCK_1)
    assert not (await radio.central.dial(f"{LOCK_1}/P")).closed


async def test_noise_does_not_wake_anybody(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, replace(QUICK, check_s=60))
    await settled(world)
    before = world.bluez.calls.copy()
    device = path_of("F0:00:00:00:09:09")
    world.bluez.add_device(device, RSSI=-70)
    for strength in range(-70, -40):
        world.bluez.change(device, DEVICE, RSSI=strength)
    await settled(world)
    assert world.bluez.calls == before
    assert not radio.peripheral.anybody


class Meter:
    """A radio helper whose answers are at hand."""

    def __init__(self, *answers: int | RadioError | None) -> None:
        self.answers, self.asked = list(answers), []

    async def strength_dbm(self, adapter, peer, *, public):
        self.asked.append((adapter, peer, public))
        answer = self.answers.pop(0)
        if isinstance(answer, RadioError):
            raise answer
        return answer


async def test_the_strength_of_a_lock_that_was_dialled(world: FakeBluezWorld):
    meter = Meter(-63, None, RadioError("no helper"), -70)
    radio = await world.open(GATEWAY, replace(QUICK, helper=meter))
    await world.lock(LOCK_1)
    for told in (-63, -63, -63, -70):
        link = await dial(radio, LOCK_1)
        await until(lambda told=told: radio.central.strengths.get(LOCK_1) == told)
        asked = len(meter.asked)
        await until(lambda asked=asked: asked == 4 - len(meter.answers))
        await link.close()
    assert meter.asked == [(ADAPTER_ADDRESS, LOCK_1, False)] * 4
