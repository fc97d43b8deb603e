"""A laptop's Bluetooth through bleak, over a real D-Bus with a fake bluetoothd."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakError,
)

from firmware_proto.codes import (
    LOCK_SERVICE_UUID,
    MAX_MESSAGE_BYTES,
    PHONE_SERVICE_UUID,
    UNCLAIMED_LOCK_UUID,
)
from gatewayd import addresses
from gatewayd.adapters.bleak_radio import BleakOptions, BleakRadio, open_bleak, troubles
from gatewayd.adapters.gatt.client import LOCK, PHONE, UNCLAIMED
from gatewayd.ports import LinkClosedError, RadioError
from gatewayd.ports.radio import Sighting
from tests.support import private_bus
from tests.support.fake_bluez import DEVICE
from tests.support.fake_bluez_world import HCI, HCI_2, FakeBluezWorld, FakeLock

needs_bus = pytest.mark.skipif(not private_bus.HERE, reason="dbus-daemon is not installed")

GATEWAY, OTHER = "00:AA:01:00:00:01", "00:AA:01:00:00:02"
QUICK = BleakOptions(dial_s=1.0)


@pytest.fixture
async def world() -> AsyncIterator[FakeBluezWorld]:
    world = FakeBluezWorld(mtu=100)
    loop = asyncio.get_running_loop()
    watchdog = loop.call_later(15, lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
    await world.start_bluez(Powered=True)
    yield world
    await world.close()
    watchdog.cancel()


def gateway(world: FakeBluezWorld, address: str = GATEWAY) -> FakeLock:
    world.locks[address] = FakeLock(world, address, PHONE_SERVICE_UUID)
    return world.locks[address]


async def nobody_left(radio: BleakRadio) -> None:
    """bleak has closed its connections to the bus, too."""
    while radio.links:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)


# --- looking ----------------------------------------------------------------------------------
@needs_bus
async def test_only_gateways_are_seen_each_at_once(world: FakeBluezWorld) -> None:
    gateway(world)
    await world.lock("F0:00:00:00:02:01")
    heard: list[Sighting] = []
    async with open_bleak(PHONE, QUICK) as radio:
        assert list(await radio.look(0.1, heard.append)) == [Sighting(GATEWAY, -40)]
        assert list(await radio.scan(0.1)) == [GATEWAY]
    assert heard[0].address == GATEWAY
    assert world.bluez.value(HCI, "org.bluez.Adapter1", "Discovering") is False


@needs_bus
async def test_locks_that_belong_to_nobody_are_heard_by_what_they_advertise(
    world: FakeBluezWorld,
) -> None:
    address, ours = "F0:00:00:00:02:01", "F0:00:00:00:02:02"
    for each, uuid in ((address, UNCLAIMED_LOCK_UUID), (ours, LOCK_SERVICE_UUID)):
        world.locks[each] = FakeLock(world, each, uuid)
    async with open_bleak(UNCLAIMED) as radio:
        assert [each.address for each in await radio.look(0.1)] == [address]
    async with open_bleak(LOCK) as radio:
        assert [each.address for each in await radio.look(0.1)] == [ours]


@needs_bus
async def test_the_strongest_is_first_and_the_unknown_last(world: FakeBluezWorld) -> None:
    strengths = {"00:AA:01:00:00:01": -80, "00:AA:01:00:00:02": -127, "00:AA:01:00:00:03": -50}
    async with open_bleak(PHONE, QUICK) as radio:
        look = asyncio.create_task(radio.look(0.2))
        await asyncio.sleep(0.05)
        for address, dbm in strengths.items():
            path = f"{HCI}/dev_{address.replace(':', '_')}"
            world.bluez.add_device(path, UUIDs=[PHONE_SERVICE_UUID], RSSI=dbm, Name=f"name {dbm}")
        assert list(await look) == [
            Sighting("00:AA:01:00:00:03", -50, "name -50"),
            Sighting("00:AA:01:00:00:01", -80, "name -80"),
            Sighting("00:AA:01:00:00:02", None, "name -127"),
        ]


@needs_bus
async def test_a_name_cannot_pretend_to_be_a_line_of_ours_nor_move_a_cursor(
    world: FakeBluezWorld,
) -> None:
    async with open_bleak(PHONE, QUICK) as radio:
        look = asyncio.create_task(radio.look(0.2))
        await asyncio.sleep(0.05)
        name = "a\n00:AA:01:00:00:09  -1 dBm\x1b[2J\u202e\x9b" + 200 * "x"
        path = f"{HCI}/dev_{GATEWAY.replace(':', '_')}"
        world.bluez.add_device(path, UUIDs=[PHONE_SERVICE_UUID], RSSI=-50, Name=name)
        (sighting,) = await look
    assert sighting.name.startswith(r"a\n00:AA:01:00:00:09  -1 dBm\x1b[2J\u202e\x9bx")
    assert len(sighting.name) == 64


@needs_bus
async def test_what_is_heard_before_anybody_looks_is_not_lost(world: FakeBluezWorld) -> None:
    gateway(world)
    async with open_bleak(PHONE, QUICK) as radio:
        await asyncio.sleep(0.1)
        world.vanish(GATEWAY)
        assert list(await radio.scan(0.0)) == [GATEWAY]
        assert list(await radio.scan(0.05)) == []
    assert world.bluez.calls["StartDiscovery"] == 2  # the first one began with the radio


@needs_bus
async def test_a_radio_that_nobody_uses_stops_listening(world: FakeBluezWorld) -> None:
    async with open_bleak(PHONE, QUICK):
        assert world.bluez.value(HCI, "org.bluez.Adapter1", "Discovering") is True
    assert world.bluez.value(HCI, "org.bluez.Adapter1", "Discovering") is False


@needs_bus
async def test_two_looks_take_turns(world: FakeBluezWorld) -> None:
    gateway(world)
    async with open_bleak(PHONE, QUICK) as radio:
        one, two = await asyncio.gather(radio.scan(0.1), radio.scan(0.1))
    assert one == two == [GATEWAY]


@needs_bus
async def test_a_scan_that_is_still_ending_is_waited_for(world: FakeBluezWorld) -> None:
    async with open_bleak(PHONE, QUICK) as radio:
        await radio.look(0.01)  # goes on with the scan that began with the radio
        world.bluez.refuse["StartDiscovery"] = ["InProgress"]
        assert list(await radio.scan(0.05)) == []
        world.bluez.refuse["StartDiscovery"] = ["InProgress", "InProgress"]
        with pytest.raises(RadioError, match="InProgress"):
            await radio.scan(0.05)


@needs_bus
async def test_a_look_that_is_given_up_at_its_start_leaves_no_scan(world: FakeBluezWorld) -> None:
    async with open_bleak(PHONE, QUICK) as radio:
        await radio.look(0.01)  # goes on with the scan that began with the radio
        for delay_s in (0.2, 30):
            world.bluez.delay_s["StartDiscovery"] = delay_s
            before = world.bluez.calls["StartDiscovery"]
            look = asyncio.create_task(radio.look(5))
            while world.bluez.calls["StartDiscovery"] == before:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            look.cancel()
            await asyncio.wait({look})
            assert look.cancelled()
            assert not world.bluez.value(HCI, "org.bluez.Adapter1", "Discovering")


@needs_bus
async def test_the_second_adapter_on_request(world: FakeBluezWorld) -> None:
    world.bluez.add_adapter(HCI_2, "00:00:00:00:00:02", Powered=True)
    async with open_bleak(PHONE, BleakOptions(adapter="hci1")):
        pass
    with pytest.raises(RadioError, match="hci7"):
        async with open_bleak(PHONE, BleakOptions(adapter="hci7")):
            pytest.fail("there is no hci7")


# --- dialling ---------------------------------------------------------------------------------
@needs_bus
async def test_dialled_by_what_was_seen_and_by_address_alone(world: FakeBluezWorld) -> None:
    there = gateway(world)
    for seen in (True, False):
        async with open_bleak(PHONE, QUICK) as radio:
            address = (await radio.scan(0.05))[0] if seen else f"{GATEWAY.lower()}/P"
            link = await radio.dial(address)
            served = await there.accept()
            assert link.mtu == 100
            await link.write(b"message_1")
            assert await served.read() == b"message_1"
            await served.write(b"message_2")
            assert await link.read() == b"message_2"
            await link.close()
            with pytest.raises(LinkClosedError):
                await served.read()
            await nobody_left(radio)


@needs_bus
async def test_closing_the_radio_hangs_up(world: FakeBluezWorld) -> None:
    there = gateway(world)
    async with open_bleak(PHONE, QUICK) as radio:
        link = await radio.dial(GATEWAY)
        assert radio.links == [link]
    assert link.closed
    assert there.link is None


@needs_bus
async def test_whoever_hangs_up_first_nothing_leaks(world: FakeBluezWorld) -> None:
    there = gateway(world)
    async with open_bleak(PHONE, QUICK) as radio:
        for _ in range(3):
            link = await radio.dial(GATEWAY)
            there.disconnected()
            with pytest.raises(LinkClosedError):
                await link.read()
            with pytest.raises(LinkClosedError):
                await link.write(b"x")
            await nobody_left(radio)


@needs_bus
async def test_who_is_still_being_hung_up_on_is_dialled_afterwards(world: FakeBluezWorld) -> None:
    gateway(world)
    async with open_bleak(PHONE, BleakOptions(dial_s=3.0)) as radio:
        (await radio.dial(GATEWAY)).drop()
        world.bluez.delay_s["Disconnect"] = 0.3
        link = await radio.dial(GATEWAY)
        assert world.bluez.calls["Disconnect"] == 1
        with pytest.raises(TimeoutError):  # it is not the link that was hung up on
            async with asyncio.timeout(0.5):
                await link.read()
        assert not link.closed
        world.bluez.delay_s.clear()


@needs_bus
async def test_a_flood_of_notifications_costs_the_link(world: FakeBluezWorld) -> None:
    there = gateway(world)
    async with open_bleak(PHONE, QUICK) as radio:
        link = await radio.dial(GATEWAY)
        served = await there.accept()
        for _ in range(MAX_MESSAGE_BYTES // 64 + 1):
            await served.write(bytes(64))
        with pytest.raises(LinkClosedError):
            await served.read()
        with pytest.raises(LinkClosedError, match="too slowly"):
            await link.read()


@needs_bus
async def test_a_table_that_has_moved_is_forgotten_once(world: FakeBluezWorld) -> None:
    there = gateway(world)
    there.stale = True
    async with open_bleak(PHONE, BleakOptions(dial_s=3.0)) as radio:
        await (await radio.dial(GATEWAY)).close()
    assert world.bluez.calls["RemoveDevice"] == 1


@needs_bus
async def test_who_serves_another_table_is_no_gateway(world: FakeBluezWorld) -> None:
    there = gateway(world)
    there.service = "7b1f0101-5c0e-4d5a-9a3e-2f6d8c41b7e0"
    async with open_bleak(PHONE, BleakOptions(dial_s=3.0)) as radio:
        path = f"{HCI}/dev_{GATEWAY.replace(':', '_')}"
        # it advertises what it does not serve
        look = asyncio.create_task(radio.look(0.1))
        await asyncio.sleep(0.05)
        world.bluez.add_device(path, UUIDs=[PHONE_SERVICE_UUID], RSSI=-50)
        await look
        with pytest.raises(RadioError, match=r"no gateway|it serves no"):
            await radio.dial(GATEWAY)
        assert radio.links == []


@needs_bus
async def test_faults_that_pass_are_tried_again(world: FakeBluezWorld) -> None:
    gateway(world)
    world.bluez.refuse["Connect"] = ["Failed", "InProgress"]
    async with open_bleak(PHONE, BleakOptions(dial_s=3.0)) as radio:
        assert not (await radio.dial(GATEWAY)).closed
    assert world.bluez.calls["Connect"] == 3


@needs_bus
async def test_who_is_heard_no_more_is_dialled_again_all_the_same(world: FakeBluezWorld) -> None:
    there = gateway(world)
    async with open_bleak(PHONE, BleakOptions(dial_s=20.0)) as radio:
        await radio.look(0.1)
        there.heard = False
        world.bluez.refuse["Connect"] = ["Failed"]
        assert not (await radio.dial(GATEWAY)).closed


@needs_bus
async def test_whom_the_system_has_forgotten_is_looked_for_anew(world: FakeBluezWorld) -> None:
    there = gateway(world)
    async with open_bleak(PHONE, BleakOptions(dial_s=20.0)) as radio:
        await radio.look(0.1)
        world.bluez.remove(there.path)
        assert not (await radio.dial(GATEWAY)).closed


@needs_bus
@pytest.mark.parametrize("reason", ["nobody", "refused"])
async def test_a_dial_in_vain_ends_in_time_and_says_why(world: FakeBluezWorld, reason: str) -> None:
    if reason == "refused":
        gateway(world)
        world.bluez.refuse["Connect"] = ["Failed"] * 50
    said = {"nobody": "does not answer", "refused": "org.bluez.Error.Failed"}
    async with open_bleak(PHONE, QUICK) as radio:
        with pytest.raises(RadioError, match=said[reason]) as caught:
            await radio.dial(GATEWAY)
        assert not caught.value.may_have_happened
        assert radio.links == []


@needs_bus
@pytest.mark.parametrize("method", ["Connect", "StartNotify"])
async def test_a_dial_that_is_given_up_leaves_nothing(world: FakeBluezWorld, method: str) -> None:
    there = gateway(world)
    world.bluez.delay_s[method] = 30
    async with open_bleak(PHONE, QUICK) as radio:
        dial = asyncio.create_task(radio.dial(GATEWAY))
        while not world.bluez.calls[method]:  # noqa: ASYNC110 - the other side tells nobody
            await asyncio.sleep(0.01)
        dial.cancel()
        await asyncio.wait({dial})
        assert dial.cancelled()
        assert radio.links == []
    assert not world.bluez.value(there.path, DEVICE, "Connected")


@needs_bus
async def test_an_mtu_that_comes_late_is_waited_for(world: FakeBluezWorld) -> None:
    there = gateway(world)
    world.mtu = 23
    async with open_bleak(PHONE, BleakOptions(dial_s=3.0, mtu_s=0.5)) as radio:
        link = await radio.dial(GATEWAY)
        assert link.mtu == 23  # it never came
        await link.close()
        dial = asyncio.create_task(radio.dial(GATEWAY))
        await there.accept()
        while (await there.accept()).closed:
            pass
        path = there.characteristic(1)
        world.bluez.change(path, "org.bluez.GattCharacteristic1", MTU=185)
        assert (await dial).mtu == 185


# --- no Bluetooth -----------------------------------------------------------------------------
@needs_bus
async def test_bluetooth_is_off_or_absent() -> None:
    world = FakeBluezWorld(mtu=100)
    try:
        await world.start_bluez(Powered=False)
        with pytest.raises(RadioError, match="Bluetooth is off") as caught:
            async with open_bleak(PHONE):
                pytest.fail("it is off")
        assert "bluetoothctl power on" in caught.value.remedy
        world.bluez.remove(HCI)
        await asyncio.sleep(0.1)  # until bleak has heard of it
        with pytest.raises(RadioError, match="no Bluetooth") as caught:
            async with open_bleak(PHONE):
                pytest.fail("it is absent")
        assert "plug" in caught.value.remedy
    finally:
        await world.close()


@needs_bus
async def test_no_bluetoothd_and_no_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    async with private_bus.private_bus():
        with pytest.raises(RadioError, match="bluetoothd is not running") as caught:
            async with open_bleak(PHONE):
                pytest.fail("nobody is there")
        assert "systemctl start bluetooth" in caught.value.remedy
    monkeypatch.setenv(private_bus.VARIABLE, "unix:path=/nonexistent/bus")
    with pytest.raises(RadioError, match="no system bus") as caught:
        async with open_bleak(PHONE):
            pytest.fail("there is no bus")
    assert "dbus" in caught.value.remedy


@pytest.mark.parametrize("system", ["linux", "darwin", "win32", "sunos5"])
@pytest.mark.parametrize("reason", BleakBluetoothNotAvailableReason)
def test_every_reason_has_a_remedy_on_every_system(
    monkeypatch: pytest.MonkeyPatch, system: str, reason: BleakBluetoothNotAvailableReason
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    told = troubles.trouble(BleakBluetoothNotAvailableError("as bleak says it", reason))
    assert str(told)
    assert "\n" not in str(told) + told.remedy
    assert told.remedy


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (BleakDBusError("org.freedesktop.DBus.Error.AccessDenied", []), "may not use Bluetooth"),
        (BleakDBusError("org.bluez.Error.NotReady", []), "Bluetooth is off"),
        (BleakDBusError("org.bluez.Error.Failed", ["busy"]), r"\[org.bluez.Error.Failed\] busy"),
        (ConnectionRefusedError(111, "Connection refused"), "no system bus: Connection refused"),
        (BleakError("adapter 'hci9' not found"), "adapter 'hci9' not found"),
        (TimeoutError(), "does not answer"),
        (EOFError(), "does not work: EOFError"),
    ],
)
def test_other_troubles(error: BaseException, why: str) -> None:
    with pytest.raises(RadioError, match=why):
        raise troubles.trouble(error)


def test_addresses_as_people_type_them() -> None:
    assert addresses.plain("f0:00:00:00:00:01/P") == addresses.plain("F0:00:00:00:00:01")
    uuid = "6b1f0a6e-1c1e-4d5a-9a3e-2f6d8c41b7e0"
    assert addresses.plain(uuid) == addresses.plain(uuid.upper())
