"""The phone side over a real D-Bus, with a fake bluetoothd.

What is registered, who may write, who must go.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from firmware_proto.codes import (
    MAX_MESSAGE_BYTES,
    PHONE_INFO_UUID,
    PHONE_REQUEST_UUID,
    PHONE_RESPONSE_UUID,
    PHONE_SERVICE_UUID,
)
from gatewayd.adapters.bluez import BluezOptions, gatt_table, open_bluez
from gatewayd.adapters.bluez.adapter import name_of, taken_over
from gatewayd.adapters.bluez.objects import Objects
from gatewayd.ports import LinkClosedError, RadioError
from tests.support.bluez_radio import NEEDS_BUS, QUICK, expect_closed, until, world
from tests.support.fake_bluez import (
    ADAPTER,
    ADVERTISING,
    CHARACTERISTIC,
    DEVICE,
    SERVICE,
    RefusedError,
)
from tests.support.fake_bluez_world import (
    ADAPTER_ADDRESS,
    HCI,
    FakeBluezWorld,
    FakePhone,
    path_of,
)
from tests.support.worlds import GATEWAY, PHONE_1

__all__ = ["world"]

pytestmark = NEEDS_BUS


async def write(world: FakeBluezWorld, device: str, value: bytes, **more: Variant) -> None:
    options = {"device": Variant("o", device), "mtu": Variant("q", 100), **more}
    await world.bluez.characteristic(PHONE_REQUEST_UUID, "WriteValue", "aya{sv}", [value, options])


# --- what is registered ---------------------------------------------------------------
async def test_the_table_is_frozen_handles_and_all(world: FakeBluezWorld):
    await world.open(GATEWAY, QUICK)
    table = world.bluez.table
    assert [next(iter(each.values()))["Handle"] for each in table.values()] == [
        0x100, 0x102, 0x104, 0x107,
    ]  # fmt: skip
    assert [next(iter(each.values()))["UUID"] for each in table.values()] == [
        PHONE_SERVICE_UUID, PHONE_REQUEST_UUID, PHONE_RESPONSE_UUID, PHONE_INFO_UUID,
    ]  # fmt: skip
    assert [each[CHARACTERISTIC]["Flags"] for each in table.values() if CHARACTERISTIC in each] == [
        ["write", "write-without-response"], ["notify"], ["read"],
    ]  # fmt: skip
    assert table[gatt_table.SERVICE][SERVICE]["Primary"]


async def test_the_advertisement_is_quick_and_connectable(world: FakeBluezWorld):
    await world.open(GATEWAY, BluezOptions(name="gatewayd 1.0 Treppenhäuschen hinten"))
    assert world.bluez.advertisement == {
        "Type": "peripheral",
        "ServiceUUIDs": [PHONE_SERVICE_UUID],
        "LocalName": "gatewayd 1.0 Treppenhäuschen",
        "Discoverable": True,
        "MinInterval": 20,
        "MaxInterval": 30,
    }


async def test_the_adapter_is_switched_on_and_pairs_with_nobody(world: FakeBluezWorld):
    await world.start_bluez(Discoverable=True)
    world.bluez.refuse["Set"] = ["Busy", "Busy", "InProgress"]
    await world.open(GATEWAY, QUICK)
    known = world.bluez.objects[HCI][ADAPTER]
    assert (known["Powered"], known["Pairable"], known["Discoverable"]) == (True, False, False)


async def test_strangers_do_not_learn_the_name_of_the_machine(world: FakeBluezWorld):
    await world.start_bluez(Alias="the-jensens-raspberry")
    await world.open(GATEWAY, replace(QUICK, name="gatewayd 1.0 stairwell-7"))
    assert world.bluez.value(HCI, ADAPTER, "Alias") == "gatewayd 1.0 stairwell-7"


async def test_a_name_that_is_refused_keeps_nobody_out(world: FakeBluezWorld):
    await world.start_bluez(Alias="raspberry", Powered=True, Pairable=False)
    world.bluez.refuse["Set"] = ["Failed"]
    await world.open(GATEWAY, QUICK)
    assert world.bluez.value(HCI, ADAPTER, "Alias") == "raspberry"


async def test_facts_for_anybody(world: FakeBluezWorld):
    await world.open(GATEWAY, BluezOptions(info=b"facts"))

    async def read(offset: int) -> bytes:
        options = {"offset": Variant("q", offset)}
        (value,) = await world.bluez.characteristic(
            PHONE_INFO_UUID, "ReadValue", "a{sv}", [options]
        )
        return value

    assert await read(0) == b"facts"
    assert await read(3) == b"ts"
    assert await read(5) == b""
    with pytest.raises(RefusedError, match="InvalidOffset"):
        await read(6)


async def test_connections_of_an_earlier_life_are_closed(world: FakeBluezWorld):
    await world.start_bluez()
    left = await world.phone(PHONE_1)
    world.bluez.add_device(left.path, Connected=True)
    left.link = object()  # type: ignore[assignment] # whatever it was
    left.disconnected = lambda: world.bluez.remove(left.path)  # type: ignore[method-assign]
    radio = await world.open(GATEWAY, QUICK)
    left.link = None
    assert left.path not in world.bluez.objects
    assert radio.counts["stale connections closed"] == 1


async def test_set_up_begins_with_an_adapter_that_knows_nobody_but_who_is_paired(
    world: FakeBluezWorld,
):
    await world.start_bluez()
    left, paired = path_of(PHONE_1), path_of("00:AA:01:00:00:77")
    world.bluez.add_device(left)
    world.bluez.add_device(paired, Paired=True)
    name = HCI.rpartition("/")[2]
    assert await name_of(ADAPTER_ADDRESS) == name
    assert left in world.bluez.objects  # who only looks forgets nobody
    assert await taken_over(None) == name
    assert left not in world.bluez.objects
    assert paired in world.bluez.objects
    world.bluez.add_device(left)
    world.bluez.refuse["RemoveDevice"] = ["Failed"]
    assert await taken_over(ADAPTER_ADDRESS) == name  # and what stays does not stop us
    with pytest.raises(RadioError, match="there is no adapter 00:00:00:00:09:09"):
        await taken_over("00:00:00:00:09:09")
    await world.stop_bluez()
    with pytest.raises(RadioError, match="was not asked"):
        await taken_over(None)


async def test_a_stale_connection_that_stays_does_not_stop_us(world: FakeBluezWorld):
    await world.start_bluez()
    world.bluez.add_device(path_of(PHONE_1), Connected=True)
    world.bluez.refuse["Disconnect"] = ["Failed"]
    await world.open(GATEWAY, QUICK)
    assert world.bluez.advertisement


async def test_bluetoothd_is_asked_for_its_adapters(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    world.bluez.add_device(path_of(PHONE_1))
    (found,) = (await radio.adapters()).items()
    assert found[0] == HCI
    assert found[1][ADAPTER]["Address"] == ADAPTER_ADDRESS
    assert found[1][ADVERTISING]["ActiveInstances"] == 1
    await world.stop_bluez()
    with pytest.raises(RadioError, match="not asked"):
        await radio.adapters()


# --- who may write ----------------------------------------------------------------------
async def test_writes_make_links_by_device(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    for number in (1, 2):
        await write(world, path_of(f"F0:00:00:00:01:0{number}"), b"from %d" % number)
    first, second = await radio.peripheral.accept(), await radio.peripheral.accept()
    assert [await first.read(), await second.read()] == [b"from 1", b"from 2"]
    assert first.peer == path_of("F0:00:00:00:01:01")


async def test_writing_nothing_over_and_over_costs_the_link_too(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    world.bluez.add_device(path_of(PHONE_1), Connected=True)
    await write(world, path_of(PHONE_1), b"")
    link = await radio.peripheral.accept()
    for _ in range(MAX_MESSAGE_BYTES):
        assert not link.closed
        link.arrived(b"")
    assert link.closed
    assert link.reason == "read too slowly"


async def test_the_mtu_is_the_one_of_the_last_write(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    await write(world, path_of(PHONE_1), b"1", mtu=Variant("q", 5))
    link = await radio.peripheral.accept()
    assert link.mtu == 23
    await write(world, path_of(PHONE_1), b"2", mtu=Variant("q", 185))
    assert link.mtu == 183  # bluetoothd may need two bytes for the length of a value
    await write(world, path_of(PHONE_1), b"3", mtu=Variant("q", 517))
    assert link.mtu == 515


@pytest.mark.parametrize(
    ("device", "more", "error"),
    [
        (path_of(PHONE_1), {"offset": Variant("q", 1)}, "InvalidOffset"),
        ("/org/bluez/hci7/dev_F0_00_00_00_01_01", {}, "NotPermitted"),
        ("/", {}, "NotPermitted"),
    ],
)
async def test_a_write_that_cannot_be_meant(world: FakeBluezWorld, device, more, error):
    radio = await world.open(GATEWAY, QUICK)
    with pytest.raises(RefusedError, match=error):
        await write(world, device, b"x", **more)
    assert radio.peripheral.links == []


async def test_a_dialled_lock_is_no_phone(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    lock = await world.lock("F0:00:00:00:02:01")
    link = await radio.central.dial(lock.address)
    with pytest.raises(RefusedError, match="NotPermitted"):
        await write(world, lock.path, b"x")
    await link.close()
    assert not radio.peripheral.anybody


async def test_only_bluetoothd_may_call(world: FakeBluezWorld):
    await world.open(GATEWAY, QUICK)
    assert world.bluez.application is not None
    stranger = await MessageBus(bus_type=world.bluez.bus_type).connect()
    try:
        reply = await stranger.call(
            Message(
                destination=world.bluez.application[0], path=gatt_table.REQUEST,
                interface=CHARACTERISTIC, member="WriteValue", signature="aya{sv}",
                body=[b"x", {"device": Variant("o", path_of(PHONE_1))}],
            )
        )  # fmt: skip
    finally:
        stranger.disconnect()
    assert reply is not None
    assert reply.message_type is MessageType.ERROR
    assert reply.error_name == "org.freedesktop.DBus.Error.AccessDenied"


@pytest.mark.parametrize("member", ["AcquireNotify", "Confirm"])
async def test_methods_that_are_not_there(world: FakeBluezWorld, member: str):
    await world.open(GATEWAY, QUICK)
    with pytest.raises(RefusedError, match=r"UnknownMethod|UnknownObject|ServiceError"):
        await world.bluez.characteristic(PHONE_RESPONSE_UUID, member, "", [])
    await world.bluez.characteristic(PHONE_RESPONSE_UUID, "StopNotify", "", [])


# --- who must go --------------------------------------------------------------------------
async def test_a_phone_that_says_nothing_is_disconnected(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, replace(QUICK, speak_s=0.2))
    silent = await (await world.phone(PHONE_1)).dial(GATEWAY)
    await expect_closed(silent)
    assert radio.counts["phones that said nothing"] == radio.health()["radio_sent_away"] == 1
    await until(lambda: not radio.peripheral.anybody)


async def test_phones_beyond_the_cap_are_disconnected(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, replace(QUICK, link_cap=1))
    first = await (await world.phone(PHONE_1)).dial(GATEWAY)
    await first.write(b"hello")
    await until(lambda: world.bluez.advertisement is None)
    await until(lambda: radio.keeper.state == "full")
    late = FakePhone(world, "F0:00:00:00:01:02")
    world.phones[late.address] = late
    link = await late._connect()  # it heard the advertisement a moment ago
    await expect_closed(link)
    assert radio.counts["phones beyond the cap"] == radio.health()["radio_sent_away"] == 1
    await first.close()
    await until(lambda: world.bluez.advertisement)


async def test_a_disconnect_that_is_refused_ends_in_time(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, BluezOptions())
    phone = await (await world.phone(PHONE_1)).dial(GATEWAY)
    await phone.write(b"hello")
    link = await radio.peripheral.accept()
    world.bluez.refuse["Disconnect"] = ["Failed"]
    closing = asyncio.create_task(link.close())
    await until(lambda: radio.counts["disconnects refused"])
    with pytest.raises(RefusedError, match="NotPermitted"):
        await write(world, path_of(PHONE_1), b"I stay")
    world.bluez.change(path_of(PHONE_1), DEVICE, Connected=False)
    await closing
    await link.close()
    await until(lambda: radio.counts["recovery: again"])


async def test_a_connection_that_never_ends_costs_the_adapter_a_power_cycle(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, replace(QUICK, speak_s=0.02))
    world.bluez.refuse["Disconnect"] = ["Failed"] * 1000
    silent = await (await world.phone(PHONE_1)).dial(GATEWAY)
    await expect_closed(silent)
    await until(lambda: world.bluez.advertisement and not radio.peripheral.anybody)
    await until(lambda: radio.counts["recovery: power cycle"] == 1)


async def test_notifying_without_bluetoothd(world: FakeBluezWorld):
    radio = await world.open(GATEWAY, QUICK)
    phone = await (await world.phone(PHONE_1)).dial(GATEWAY)
    await phone.write(b"hello")
    link = await radio.peripheral.accept()
    world.bluez.silent.add("GetManagedObjects")
    await world.stop_bluez()

    async def write_on() -> None:
        while True:
            await link.write(bytes(90))

    with pytest.raises(LinkClosedError):
        await write_on()


# --- starting -------------------------------------------------------------------------------
async def test_no_bus(world: FakeBluezWorld):
    del world
    with pytest.raises(RadioError, match="system bus"):
        async with open_bluez(bus_address="unix:path=/nonexistent"):
            pytest.fail("there is no bus")


async def test_no_bluetoothd(world: FakeBluezWorld):
    await world.start_bus()
    with pytest.raises(RadioError, match="bluetoothd is not running"):
        await world.open(GATEWAY, BluezOptions(start_s=0.3, activate_s=0.05))


async def test_another_adapter_than_the_one_there_is(world: FakeBluezWorld):
    await world.start_bluez()
    with pytest.raises(RadioError, match="no adapter 00:00:00:00:00:99"):
        await world.open(GATEWAY, BluezOptions(adapter="00:00:00:00:00:99", start_s=1.5))


async def test_the_adapter_is_found_by_its_address(world: FakeBluezWorld):
    await world.start_bluez()
    world.bluez.add_adapter("/org/bluez/hci4", "00:00:00:00:00:44")
    radio = await world.open(GATEWAY, BluezOptions(adapter="00:00:00:00:00:44"))
    assert radio.peripheral.adapter == "/org/bluez/hci4"
    assert not world.bluez.value(HCI, ADAPTER, "Powered")


def test_the_first_adapter_is_taken_when_none_is_named():
    objects = Objects()
    assert objects.adapter(None) is None
    objects.replace(
        {
            "/org/bluez/hci1": {ADAPTER: {"Address": "00:00:00:00:00:02"}},
            HCI: {ADAPTER: {"Address": ADAPTER_ADDRESS}, "org.bluez.Media1": {}},
        }
    )
    assert objects.adapter(None) == HCI
    assert objects.adapter("00:00:00:00:00:02/P") == "/org/bluez/hci1"
    objects.changed("/org/bluez/hci9", ADAPTER, {"Powered": True})
    assert not objects.powered("/org/bluez/hci9")


def test_one_module_imports_dbus_fast():
    root = Path(__file__).parents[2] / "gatewayd"
    found = [each for each in root.rglob("*.py") if "dbus_fast" in each.read_text("utf-8")]
    assert [str(each.relative_to(root)) for each in found] == ["adapters/bluez/bus.py"]
