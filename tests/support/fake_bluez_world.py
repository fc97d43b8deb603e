"""The radio contract's world behind a fake bluetoothd: the adapter is real, D-Bus is real.

Phones and locks are on the far side of the fake; they have no radio either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from dbus_fast import Message, Variant

from firmware_proto.codes import (
    LOCK_REQUEST_UUID,
    LOCK_RESPONSE_UUID,
    LOCK_SERVICE_UUID,
    PHONE_REQUEST_UUID,
    PHONE_RESPONSE_UUID,
    PHONE_SERVICE_UUID,
)
from gatewayd.adapters.bluez import BluezOptions, BluezRadio, open_bluez
from gatewayd.adapters.gatt.link import GattLink
from gatewayd.ports import LinkClosedError, RadioError
from gatewayd.ports.radio import Central, Peripheral
from tests.support.fake_bluez import (
    ADAPTER,
    CHARACTERISTIC,
    DEVICE,
    SERVICE,
    FakeBluez,
    RefusedError,
    variant,
)
from tests.support.private_bus import private_bus

HCI = "/org/bluez/hci0"
ADAPTER_ADDRESS = "00:00:00:00:00:01"
LOOK_S = 0.005
OLD_UUID = "7b1fffff-5c0e-4d5a-9a3e-2f6d8c41b7e0"


HCI_2 = "/org/bluez/hci1"
ADAPTER_2_ADDRESS = "00:00:00:00:00:02"
TABLES = {
    LOCK_SERVICE_UUID: (LOCK_REQUEST_UUID, LOCK_RESPONSE_UUID),
    PHONE_SERVICE_UUID: (PHONE_REQUEST_UUID, PHONE_RESPONSE_UUID),
}


def path_of(address: str, adapter: str = HCI) -> str:
    return f"{adapter}/dev_{address.replace(':', '_')}"


class FakeLock:
    """A lock as bluetoothd sees it; or, by its `service`, a gateway."""

    def __init__(self, world: FakeBluezWorld, address: str, service: str, base: int = 0x10) -> None:
        self.world, self.address, self.service, self.base = world, address, service, base
        self.link: GattLink | None = None
        self.arrivals: asyncio.Queue[GattLink] = asyncio.Queue()
        self.adapter = HCI
        self.stale = False
        """bluetoothd remembers an older table."""
        self.heard = True
        """Or it advertises, and bluetoothd does not tell: it was connected to it before."""

    @property
    def path(self) -> str:
        return path_of(self.address, self.adapter)

    def characteristic(self, offset: int) -> str:
        return f"{self.path}/service{self.base:04x}/char{self.base + offset:04x}"

    async def accept(self) -> GattLink:
        return await self.arrivals.get()

    def connected(self) -> None:
        bluez = self.world.bluez
        bluez.change(self.path, DEVICE, Connected=True)
        service = f"{self.path}/service{self.base:04x}"
        bluez.add(service, SERVICE, UUID=self.service, Device=self.path, Primary=True)
        request, response = TABLES.get(self.service, TABLES[LOCK_SERVICE_UUID])
        for offset, uuid, flags in (
            (1, OLD_UUID if self.stale else request, ["write-without-response"]),
            (3, response, ["notify"]),
        ):
            bluez.add(
                self.characteristic(offset), CHARACTERISTIC, UUID=uuid, Service=service,
                Flags=flags, Notifying=False, MTU=self.world.mtu,
            )  # fmt: skip
        bluez.change(self.path, DEVICE, ServicesResolved=True)

    def subscribed(self) -> None:
        async def notify(fragment: bytes) -> None:
            await asyncio.sleep(0)
            self.world.bluez.change(self.characteristic(3), CHARACTERISTIC, Value=fragment)

        self.link = GattLink(self.path, self.world.mtu, notify, self.disconnected)
        self.arrivals.put_nowait(self.link)

    def disconnected(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.died("disconnected")
        bluez = self.world.bluez
        if bluez.value(self.path, DEVICE, "Connected"):
            bluez.change(self.path, DEVICE, Connected=False, ServicesResolved=False)
            bluez.remove(f"{self.path}/service{self.base:04x}")


class FakePhone:
    """A phone's `Central`: it dials what the fake bluetoothd advertises."""

    def __init__(self, world: FakeBluezWorld, address: str) -> None:
        self.world, self.address = world, address
        self.link: GattLink | None = None

    @property
    def path(self) -> str:
        return path_of(self.address)

    async def dial(self, address: str) -> GattLink:
        try:
            async with asyncio.timeout(self.world.dial_s):
                while not self.world.can_be_dialled(address):  # noqa: ASYNC110 - as phones do
                    await asyncio.sleep(LOOK_S)
                return await self._connect()
        except (TimeoutError, RefusedError) as error:
            raise RadioError(f"{address} does not answer") from error

    async def _connect(self) -> GattLink:
        world = self.world
        world.bluez.add_device(self.path, Connected=True)
        link = GattLink(self.path, world.mtu, self._write, self.disconnected)
        self.link = link
        try:
            await world.bluez.characteristic(PHONE_RESPONSE_UUID, "StartNotify", "", [])
        except BaseException:
            self.disconnected()
            raise
        return link

    async def _write(self, fragment: bytes) -> None:
        options = {
            "device": Variant("o", self.path), "mtu": Variant("q", self.world.mtu),
            "link": Variant("s", "LE"), "type": Variant("s", "command"),
        }  # fmt: skip
        try:
            await self.world.bluez.characteristic(
                PHONE_REQUEST_UUID, "WriteValue", "aya{sv}", [fragment, options]
            )
        except RefusedError as error:
            raise LinkClosedError(str(error)) from error
        if self.link is None:
            raise LinkClosedError("disconnected")

    async def scan(self, seconds: float) -> Sequence[str]:
        await asyncio.sleep(seconds)
        return [self.world.address] if self.world.can_be_dialled(self.world.address) else []

    def disconnected(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.died("disconnected")
            self.world.bluez.remove(self.path)


class FakeBluezWorld:
    """One gateway on a fake bluetoothd, and the peers around it."""

    pace = 1.0
    notifies_everybody = True
    max_mtu = 515
    cut_off = 2

    def __init__(self, mtu: int) -> None:
        self.mtu, self.dial_s, self.address = mtu, 5.0, ""
        self.locks: dict[str, FakeLock] = {}
        self.phones: dict[str, FakePhone] = {}
        self.hidden: set[str] = set()
        self.bluez = FakeBluez()
        self.radio: BluezRadio | None = None
        self._open = AsyncExitStack()
        self._noise: asyncio.Task[None] | None = None
        self._bus_running = False

    # --- bluetoothd -----------------------------------------------------------------------
    async def start_bus(self) -> None:
        if not self._bus_running:
            await self._open.enter_async_context(private_bus())
            self._bus_running = True

    async def start_bluez(self, **adapter: object) -> None:
        await self.start_bus()
        self.bluez = FakeBluez()
        self.bluez.on_notification = self._notified
        self.bluez.on_powered = self._powered
        self.bluez.methods.update(
            {
                (ADAPTER, "SetDiscoveryFilter"): self._nothing,
                (ADAPTER, "StartDiscovery"): self._start_discovery,
                (ADAPTER, "StopDiscovery"): self._stop_discovery,
                (ADAPTER, "RemoveDevice"): self._remove_device,
                (DEVICE, "Connect"): self._connect,
                (DEVICE, "Disconnect"): self._disconnect,
                (CHARACTERISTIC, "StartNotify"): self._start_notify,
                (CHARACTERISTIC, "WriteValue"): self._write,
            }
        )
        await self.bluez.start()
        self.bluez.add_adapter(HCI, ADAPTER_ADDRESS, **adapter)

    async def stop_bluez(self) -> None:
        self._stop_noise()
        for peer in (*self.phones.values(), *self.locks.values()):
            link, peer.link = peer.link, None
            if link is not None:
                link.died("bluetoothd is gone")
        await self.bluez.stop()

    # --- the world ------------------------------------------------------------------------
    async def gateway(self, address: str, *, link_cap: int = 4) -> tuple[Peripheral, Central]:
        radio = await self.open(address, BluezOptions(
            link_cap=link_cap, dial_s=self.dial_s, turn_s=0.2, check_s=0.5
        ))  # fmt: skip
        return radio.peripheral, radio.central

    async def open(self, address: str, options: BluezOptions) -> BluezRadio:
        self.address = address
        if not self._bus_running:
            await self.start_bluez()
        self.radio = await self._open.enter_async_context(open_bluez(options))
        return self.radio

    async def phone(self, address: str) -> FakePhone:
        self.phones[address] = FakePhone(self, address)
        return self.phones[address]

    async def lock(self, address: str) -> FakeLock:
        self.locks[address] = FakeLock(self, address, LOCK_SERVICE_UUID)
        return self.locks[address]

    def can_be_dialled(self, address: str) -> bool:
        return (
            address == self.address
            and address not in self.hidden
            and self.bluez.advertisement is not None
            and PHONE_SERVICE_UUID in self.bluez.advertisement["ServiceUUIDs"]
            and self.bluez.application is not None
        )

    def vanish(self, address: str) -> None:
        self.hidden.add(address)
        for peer in (*self.phones.values(), *self.locks.values()):
            if address in {self.address, peer.address}:
                peer.disconnected()

    def appear(self, address: str) -> None:
        self.hidden.discard(address)

    def links(self) -> int:
        radio = self.radio
        ours = [] if radio is None else [*radio.peripheral.links, *radio.central.links]
        peers = [*self.phones.values(), *self.locks.values()]
        return len(ours) + sum(each.link is not None for each in peers)

    async def close(self) -> None:
        self._stop_noise()
        await self._open.aclose()
        for peer in (*self.phones.values(), *self.locks.values()):
            peer.disconnected()
        if self._bus_running and self.bluez.bus.connected:
            await self.bluez.stop()

    # --- what bluetoothd is told to do ------------------------------------------------------
    def _lock_at(self, message: Message) -> FakeLock:
        path = message.path or ""
        for lock in self.locks.values():
            if path == lock.path or path.startswith(lock.path + "/"):
                return lock
        raise RefusedError("Failed")

    def _notified(self, value: bytes) -> None:
        for phone in self.phones.values():
            if phone.link is not None:
                phone.link.arrived(bytes(value)[: self.mtu - 3])

    def _powered(self, _path: str, on: bool) -> None:
        if not on:
            for peer in (*self.phones.values(), *self.locks.values()):
                peer.disconnected()

    async def _nothing(self, _: Message) -> None:
        pass

    async def _start_discovery(self, _: Message) -> None:
        self.bluez.change(HCI, ADAPTER, Discovering=True)
        self._noise = asyncio.create_task(self._discover())

    async def _discover(self) -> None:
        while True:
            for lock in self.locks.values():
                if lock.address not in self.hidden and lock.heard and lock.link is None:
                    if lock.path not in self.bluez.objects:
                        self.bluez.add_device(lock.path, UUIDs=[lock.service], RSSI=-50)
                    self.bluez.change(lock.path, DEVICE, RSSI=-40, UUIDs=[lock.service])
            await asyncio.sleep(0.01)

    async def _stop_discovery(self, _: Message) -> None:
        self._stop_noise()
        self.bluez.change(HCI, ADAPTER, Discovering=False)

    def _stop_noise(self) -> None:
        if self._noise is not None:
            self._noise.cancel()
            self._noise = None

    async def _remove_device(self, message: Message) -> None:
        self.bluez.remove(message.body[0])
        for lock in self.locks.values():
            lock.stale = False

    async def _connect(self, message: Message) -> None:
        lock = self._lock_at(message)
        while lock.address in self.hidden:
            await asyncio.sleep(LOOK_S)
            if lock.path not in self.bluez.objects:
                raise RefusedError("Failed")
        await asyncio.sleep(LOOK_S)
        lock.connected()

    async def _disconnect(self, message: Message) -> None:
        for peer in (*self.phones.values(), *self.locks.values()):
            if peer.path == message.path:
                peer.disconnected()

    async def _start_notify(self, message: Message) -> None:
        lock = self._lock_at(message)
        if message.path != lock.characteristic(3):
            raise RefusedError("Failed")
        lock.subscribed()

    async def _write(self, message: Message) -> None:
        lock = self._lock_at(message)
        if lock.link is None or message.path != lock.characteristic(1):
            raise RefusedError("Failed")
        lock.link.arrived(bytes(message.body[0]))


__all__ = ["FakeBluezWorld", "variant"]
