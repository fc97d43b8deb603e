"""A place with the kernel's adapter in it, and emulated phones and locks around, on one air."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from dbus_fast import Variant

from gatewayd.adapters.virtual_radio import (
    LOCK,
    PHONE,
    AirController,
    AirModel,
    GattService,
    Radio,
    RadioOptions,
    VirtualAir,
    open_radio,
)
from gatewayd.radio_helper.kernel import connect
from tests.system.bluetoothd import ADAPTER as ADAPTER_INTERFACE
from tests.system.bluetoothd import PROPERTIES, BluezBus, bluez_bus
from tests.system.vhci import KernelAdapter, kernel_adapter

ADAPTER: Final = "00:AA:01:00:00:01"
MGMT_REMOVE_ADVERTISING: Final = 0x003F  # doc/mgmt-api.txt
AIR: Final = AirModel(supervision_timeout_s=1.0, link_cap=5)
"""Connection and advertising intervals as the hosts ask for them; the links of a Pi."""


@dataclass
class Place:
    """adapter: the kernel's. path: bluetoothd's name for it. bus: a witness."""

    air: VirtualAir
    adapter: KernelAdapter
    path: str
    bus: BluezBus
    address: str
    _open: AsyncExitStack
    _plug: AsyncExitStack
    radios: int = 0

    async def unplug(self) -> None:
        """Pull the adapter out; returns when bluetoothd has noticed."""
        await self._plug.aclose()
        async with asyncio.timeout(10):
            while await self.bus.adapter(self.address):
                await asyncio.sleep(0.05)

    async def plug(self) -> None:
        """Put an adapter with the same address in again; returns when the kernel has it."""
        self.adapter = await self._plug.enter_async_context(kernel_adapter(self.air, self.address))

    async def another(self, address: str) -> KernelAdapter:
        """One more adapter, which bluetoothd has switched on."""
        adapter = await self._open.enter_async_context(kernel_adapter(self.air, address))
        await self.bus.wait_for_adapter(address)
        return adapter

    async def switch_off(self) -> None:
        """As some other program might: the adapter stays, and is off."""
        await self.bus.call(
            self.path, PROPERTIES, "Set", "ssv", ADAPTER_INTERFACE, "Powered", Variant("b", False)
        )

    async def advertising(self) -> None:
        """Returns when the adapter is on the air. TimeoutError."""
        async with asyncio.timeout(20):
            while not self.adapter.controller.le_legacy_advertiser.enabled:
                await asyncio.sleep(0.005)

    async def clear_advertising(self) -> None:
        """As some other program might over the mgmt socket: all advertisements are removed."""
        every = 0
        remove = struct.pack("<HHHB", MGMT_REMOVE_ADVERTISING, self.adapter.index, 1, every)
        with contextlib.closing(connect()) as mgmt:
            mgmt.send(remove)
            await asyncio.sleep(0.1)  # its answer is for nobody

    async def radio(
        self,
        address: str,
        *,
        serves: GattService | None = None,
        dials: GattService | None = None,
        options: RadioOptions | None = None,
    ) -> tuple[Radio, AirController]:
        """An emulated device with a controller of its own."""
        self.radios += 1
        controller = AirController(self.air, f"00:AA:02:00:00:{self.radios:02X}", name=address)
        radio = await self._open.enter_async_context(
            open_radio(controller, address=address, serves=serves, dials=dials, options=options)
        )
        return radio, controller

    async def phone(self, address: str = "F0:00:00:00:01:01") -> Radio:
        """Dials gateways, e.g. `dial(place.dialled_address)`."""
        return (await self.radio(address, dials=PHONE))[0]

    async def lock(
        self, address: str = "F0:00:00:00:02:01", options: RadioOptions | None = None
    ) -> tuple[Radio, AirController]:
        """Serves gateways."""
        return await self.radio(address, serves=LOCK, options=options or RadioOptions(link_cap=1))

    @staticmethod
    def unknown_address() -> str:
        """A device's address that bluetoothd has not met: it remembers those that it dialled."""
        return "F0:" + os.urandom(5).hex(":").upper()

    @property
    def dialled_address(self) -> str:
        """The adapter's address as phones dial it: a public one, says the suffix."""
        return f"{self.address}/P"


@asynccontextmanager
async def open_place(address: str = ADAPTER, model: AirModel = AIR) -> AsyncIterator[Place]:
    """A new adapter, powered, and nobody else on its air. Needs a bluetoothd that runs."""
    air = VirtualAir(model)
    async with bluez_bus() as bus, AsyncExitStack() as plug, AsyncExitStack() as devices:
        adapter = await plug.enter_async_context(kernel_adapter(air, address))
        path = await bus.wait_for_adapter(address)
        yield Place(air, adapter, path, bus, address, devices, plug)
