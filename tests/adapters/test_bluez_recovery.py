"""What bluetoothd, the adapter and the bus do to a running radio, and how it comes back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gatewayd.adapters.bluez.keeper import State
from gatewayd.core.recovery import LIMITS, Rung
from gatewayd.ports import RadioError
from tests.support.bluez_radio import (
    IMPATIENT,
    NEEDS_BUS,
    QUICK,
    back,
    dial,
    expect_closed,
    talk,
    until,
    world,
)
from tests.support.fake_bluez import ADAPTER, ADVERTISING, MANAGER, PROPERTIES
from tests.support.fake_bluez_world import (
    ADAPTER_2_ADDRESS,
    ADAPTER_ADDRESS,
    HCI,
    HCI_2,
    FakeBluezWorld,
)
from tests.support.worlds import GATEWAY, LOCK_1, PHONE_1

__all__ = ["world"]

pytestmark = NEEDS_BUS


# --- bluetoothd -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "signature", "body"),
    [
        ((MANAGER, "GetManagedObjects"), "", []),
        ((MANAGER, "GetManagedObjects"), "s", ["objects"]),
        ((PROPERTIES, "Get"), "", []),
        ((PROPERTIES, "Get"), "s", ["active"]),
    ],
)
async def test_a_reply_of_another_type_ends_nothing(world, method, signature, body):
    radio = await world.open(GATEWAY, QUICK)
    await world.stop_bluez()

    async def odd(_):
        return signature, body

    await world.start_bluez()
    answer = world.bluez
    answer.methods[method] = odd
    radio.keeper.wake()
    before = answer.calls[method[1]]
    await until(lambda: answer.calls[method[1]] > before + 1)
    del answer.methods[method]
    await back(world, radio)
    await talk(world, radio)


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
        "radio_sent_away": 0,
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
    assert radio.counts["adapters lost"] == 1
    assert radio.health()["radio_losses"] >= 1


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
    assert radio.counts["adapters lost"] == 1
    assert radio.health()["radio_losses"] >= 1
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
    assert radio.health()["radio_losses"] >= 1


async def test_an_advertisement_that_is_lost_silently_is_registered_again(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    world.bluez.objects[HCI][ADVERTISING]["ActiveInstances"] = 0
    world.bluez.advertisement = world.bluez.advertised_by = None
    await until(lambda: world.bluez.advertisement)
    assert radio.counts["advertisements lost"] == 1
    assert radio.health()["radio_losses"] >= 1


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
    # the helper's answer may overtake the news that the adapter is off
    await until(lambda: world.bluez.value(HCI, ADAPTER, "Powered") and world.bluez.advertisement)
    assert radio.counts["recovery: restart adapter"] == 1
    assert radio.counts["recovery: restart bluetoothd"] == 0


async def test_a_helper_that_does_not_help_is_one_rung_only(world: FakeBluezWorld):
    await world.start_bluez()
    helper = Helper(world, "the radio helper: too soon")
    world.bluez.refuse["RegisterAdvertisement"] = ["Failed"] * 1000
    with pytest.raises(RadioError, match="cannot serve phones"):
        await world.open(GATEWAY, replace(QUICK, helper=helper))
    assert helper.asked == [ADAPTER_ADDRESS]


class Silent(Helper):
    """Off and on within one PropertiesChanged, which says that the adapter is on."""

    async def restart(self, adapter: str) -> None:
        self.asked.append(adapter)


async def test_an_adapter_that_was_off_too_shortly_to_be_told_is_set_up_again(
    world: FakeBluezWorld,
):
    radio = await world.open(GATEWAY, replace(QUICK, helper=Silent(world)))
    assert radio.counts["advertisements registered"] == 1
    await radio.keeper._remedies.take(Rung.RESTART_ADAPTER, None)
    await until(lambda: radio.counts["advertisements registered"] == 2)
    assert radio.keeper.state is State.ADVERTISING
    assert world.bluez.advertisement


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
