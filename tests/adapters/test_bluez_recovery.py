"""What bluetoothd, the adapter and the bus do to a running radio, and how it comes back."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from bleak.exc import BleakDBusError, BleakDeviceNotFoundError, BleakError

from firmware_proto.codes import PHONE_RESPONSE_UUID
from gatewayd.adapters.bluez import BluezRadio, lock_client
from gatewayd.adapters.bluez.keeper import State
from gatewayd.adapters.gatt.link import GattLink
from gatewayd.core.recovery import LIMITS, Rung
from gatewayd.ports import LinkClosedError, RadioError
from tests.adapters.test_bluez_phones import QUICK, expect_closed, until, world
from tests.support import private_bus
from tests.support.fake_bluez import ADAPTER, ADVERTISING, DEVICE
from tests.support.fake_bluez_world import (
    ADAPTER_2_ADDRESS,
    ADAPTER_ADDRESS,
    HCI,
    HCI_2,
    FakeBluezWorld,
    path_of,
)
from tests.support.worlds import GATEWAY, LOCK_1, PHONE_1

__all__ = ["world"]

pytestmark = pytest.mark.skipif(not private_bus.HERE, reason="dbus-daemon is not installed")

IMPATIENT = replace(QUICK, dial_s=1.0)
"""For dials that are to fail."""


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


# --- bluetoothd -----------------------------------------------------------------------------
async def test_bluetoothd_dies_and_comes_back(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    lock = await world.lock(LOCK_1)
    for generation in range(1, 4):
        _, served = await talk(world, radio)
        dialled = await radio.central.dial(LOCK_1)
        await world.stop_bluez()
        await expect_closed(served)
        await expect_closed(dialled)
        assert radio.keeper.state is State.NO_BLUETOOTHD
        assert radio.counts["bluetoothd lost"] == generation
        await world.start_bluez()
        await back(world, radio)
    assert radio.counts["tables registered"] == 4
    assert radio.health() == {
        "radio": "advertising",
        "radio_both_roles": True,
        "radio_losses": 3,
        "radio_repairs": 0,
    }
    again = await radio.central.dial(LOCK_1)
    await again.write(b"unlatch")
    while (far := await lock.accept()).closed:
        pass
    assert await far.read() == b"unlatch"


async def test_a_dial_waits_for_bluetoothd(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    await world.lock(LOCK_1)
    await world.stop_bluez()
    dial = asyncio.create_task(radio.central.dial(LOCK_1))
    await asyncio.sleep(0.1)
    await world.start_bluez()
    assert not (await dial).closed


async def test_no_bluetoothd_for_too_long(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, IMPATIENT)
    await world.stop_bluez()
    await until(lambda: radio.keeper.state is State.NO_BLUETOOTHD)
    with pytest.raises(RadioError, match="bluetoothd is not running"):
        await radio.central.dial(LOCK_1)
    with pytest.raises(RadioError, match="no radio towards locks"):
        await radio.central.scan(0.01)
    await until(lambda: radio.counts["bluetoothd activations"] > 1)


async def test_bluetoothd_dies_while_it_is_asked(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    world.bluez.silent.add("RegisterAdvertisement")
    world.bluez.release()
    await until(lambda: world.bluez.calls["RegisterAdvertisement"] == 2)
    await world.stop_bluez()
    await world.start_bluez()
    await back(world, radio)


# --- the adapter ------------------------------------------------------------------------------
async def test_the_adapter_is_pulled_and_plugged_in_elsewhere(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, replace(IMPATIENT, adapter="00:00:00:00:00:01"))
    phone, served = await talk(world, radio)
    world.bluez.remove(HCI)
    await expect_closed(served)
    phone.died("the adapter is gone")
    world.phones[PHONE_1].link = None
    await until(lambda: radio.keeper.state is State.NO_ADAPTER)
    with pytest.raises(RadioError, match="no adapter"):
        await radio.central.dial(LOCK_1)
    world.bluez.application = world.bluez.advertisement = world.bluez.advertised_by = None
    world.bluez.add_adapter(HCI_2, "00:00:00:00:00:01")
    await until(lambda: world.bluez.advertisement and world.bluez.application)
    assert radio.peripheral.adapter == HCI_2


async def test_the_adapter_is_switched_off_by_somebody(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    await world.lock(LOCK_1)
    _, served = await talk(world, radio)
    dialled = await radio.central.dial(LOCK_1)
    world.bluez._powered(HCI, on=False)
    world.bluez.change(HCI, ADAPTER, Powered=False)
    await expect_closed(served)
    await expect_closed(dialled)
    await until(lambda: world.bluez.value(HCI, ADAPTER, "Powered"))
    await back(world, radio)
    await talk(world, radio)


async def test_a_second_adapter_for_locks(world: FakeBluezWorld):
    await world.start_bluez(Roles=["central", "peripheral"])
    world.bluez.add_adapter(HCI_2, ADAPTER_2_ADDRESS)
    radio = await world.open(GATEWAY, replace(IMPATIENT, lock_adapter=ADAPTER_2_ADDRESS))
    lock = await world.lock(LOCK_1)
    lock.adapter = HCI_2
    assert radio.keeper.simultaneous
    link = await dial(radio, LOCK_1)
    _, served = await talk(world, radio)
    world.bluez.remove(HCI_2)
    lock.disconnected()
    await expect_closed(link)
    assert not served.closed
    with pytest.raises(RadioError):
        await radio.central.dial(LOCK_1)


# --- the advertisement --------------------------------------------------------------------------
async def test_an_advertisement_that_is_released_is_registered_again(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, replace(QUICK, check_s=60))
    world.bluez.release()
    await until(lambda: world.bluez.advertisement)
    assert radio.counts["advertisements released"] == 1


async def test_an_advertisement_that_is_lost_silently_is_registered_again(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    world.bluez.objects[HCI][ADVERTISING]["ActiveInstances"] = 0
    world.bluez.advertisement = world.bluez.advertised_by = None
    await until(lambda: world.bluez.advertisement)
    assert radio.counts["advertisements lost"] == 1


async def test_an_old_advertisement_is_refreshed_while_nobody_is_there(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, replace(QUICK, refresh_s=0.2))
    await until(lambda: radio.counts["advertisements registered"] == 2)
    phone, served = await talk(world, radio)
    registered = radio.counts["advertisements registered"]
    await asyncio.sleep(0.5)
    assert radio.counts["advertisements registered"] <= registered + 1
    await phone.close()
    await expect_closed(served)
    await until(lambda: radio.counts["advertisements registered"] >= registered + 1)


async def test_what_is_registered_already_is_no_fault(world: FakeBluezWorld):
    await world.start_bluez()
    world.bluez.refuse["RegisterAdvertisement"] = ["AlreadyExists"]
    world.bluez.advertised_by = ("", "")
    await world.open(GATEWAY, QUICK)
    assert world.bluez.calls["UnregisterAdvertisement"] == 1
    assert world.bluez.advertisement


# --- the ladder ---------------------------------------------------------------------------------
async def test_registering_fails_a_few_times(world: FakeBluezWorld):
    await world.start_bluez()
    after = LIMITS[Rung.POWER_CYCLE].after
    world.bluez.refuse["RegisterAdvertisement"] = ["Failed"] * after
    radio = await world.open(GATEWAY, QUICK)
    assert radio.counts["recovery: again"] == after - 1
    assert radio.counts["recovery: power cycle"] == 1
    assert radio.keeper.state is State.ADVERTISING


class Helper:
    """A radio helper whose kernel is the fake bluetoothd's; `fault` is what becomes of asking."""

    def __init__(self, world: FakeBluezWorld, fault: str = "") -> None:
        self.world, self.fault, self.asked = world, fault, []

    async def strength_dbm(self, adapter: str, peer: str, *, public: bool) -> int | None:
        raise NotImplementedError

    async def restart(self, adapter: str) -> None:
        self.asked.append(adapter)
        if self.fault:
            raise RadioError(self.fault)
        self.world.bluez.refuse.clear()
        self.world.bluez._powered(HCI, on=False)
        self.world.bluez.change(HCI, ADAPTER, Powered=False)


async def test_an_adapter_is_restarted_past_a_bluetoothd_that_cannot(world: FakeBluezWorld):
    await world.start_bluez()
    helper = Helper(world)
    world.bluez.refuse["RegisterAdvertisement"] = ["Failed"] * 1000
    radio = await world.open(GATEWAY, replace(QUICK, helper=helper))
    assert helper.asked == [ADAPTER_ADDRESS]
    assert world.bluez.value(HCI, ADAPTER, "Powered")
    assert radio.counts["recovery: restart adapter"] == 1
    assert radio.counts["recovery: restart bluetoothd"] == 0


async def test_a_helper_that_does_not_help_is_one_rung_only(world: FakeBluezWorld):
    await world.start_bluez()
    helper = Helper(world, "the radio helper: too soon")
    world.bluez.refuse["RegisterAdvertisement"] = ["Failed"] * 1000
    with pytest.raises(RadioError, match="cannot serve phones"):
        await world.open(GATEWAY, replace(QUICK, helper=helper))
    assert helper.asked == [ADAPTER_ADDRESS]


async def test_registering_never_works(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    world.bluez.refuse["RegisterAdvertisement"] = ["Failed"] * 1000
    world.bluez.release()
    with pytest.raises(RadioError, match="cannot serve phones"):
        await radio.peripheral.accept()
    with pytest.raises(RadioError, match="cannot serve phones"):
        await radio.central.dial(LOCK_1)
    assert radio.counts["recovery: restart bluetoothd"] == 1
    assert radio.counts["recovery: give up"] == 1


async def test_it_never_starts_to_work(world: FakeBluezWorld):
    await world.start_bluez()
    world.bluez.refuse["RegisterApplication"] = ["Failed"] * 1000
    with pytest.raises(RadioError, match="cannot serve phones"):
        await world.open(GATEWAY, QUICK)


async def test_an_adapter_that_stays_off_is_said(world: FakeBluezWorld):
    await world.start_bluez()
    world.bluez.refuse["Set"] = ["Failed"] * 1000
    with pytest.raises(RadioError, match=r"failing, org\.bluez\.Error\.Failed"):
        await world.open(GATEWAY, replace(QUICK, start_s=1.5, retry_s=10))


async def test_the_bus_goes(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    _, served = await talk(world, radio)
    radio._bus._bus.disconnect()
    with pytest.raises(RadioError, match="system bus"):
        await radio.peripheral.accept()
    await expect_closed(served)


async def test_a_bug_of_ours_ends_the_radio_loudly(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)

    async def bug() -> None:
        raise ZeroDivisionError

    radio._spawn("bug", bug())
    with pytest.raises(RadioError, match="ZeroDivisionError"):
        await radio.peripheral.accept()


async def test_signals_that_bluetoothd_never_sends(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    bluez = world.bluez
    bluez._signal("/", "org.freedesktop.DBus.ObjectManager", "InterfacesAdded", "s", ["nonsense"])
    bluez._signal("/", "org.freedesktop.DBus.ObjectManager", "Something", "", [])
    await talk(world, radio)


# --- locks ----------------------------------------------------------------------------------------
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
    assert world.bluez.calls["RemoveDevice"] == 1
    await link.write(b"unlatch")


async def test_a_lock_that_is_none(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    lock = await world.lock(LOCK_1)
    lock.service = "7b1fffff-5c0e-4d5a-9a3e-2f6d8c41b7e0"
    world.bluez.refuse["RemoveDevice"] = ["Failed"]
    with pytest.raises(RadioError, match="serves no lock"):
        await radio.central.dial(LOCK_1)


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
    monkeypatch.setattr("gatewayd.adapters.bluez.locks.SILENT_S", 0.1)
    radio = await world.open(GATEWAY, IMPATIENT)
    with pytest.raises(RadioError):
        await radio.central.dial(LOCK_1)
    assert radio.counts["silent scans"] >= 1


async def test_a_scan_that_is_refused(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, IMPATIENT)
    world.bluez.refuse["StartDiscovery"] = ["InProgress"] * 100
    with pytest.raises(RadioError, match="cannot scan"):
        await radio.central.scan(0.05)
    with pytest.raises(RadioError):
        await radio.central.dial(LOCK_1)


async def test_a_public_address_is_marked(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    lock = await world.lock(LOCK_1)
    world.bluez.add_device(lock.path, AddressType="public", UUIDs=[lock.service], RSSI=-50)
    while not (found := await radio.central.scan(0.05)):
        pass
    assert list(found) == [f"{LOCK_1}/P"]
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
