"""The world of the radio contract whose gateways stand on real bluetoothd.

Phones and locks are emulated devices on the air of the kernel's adapter, so
everything but the gateway is as in `VirtualWorld`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from gatewayd.adapters.bluez import BluezOptions, open_bluez
from gatewayd.adapters.virtual_radio import AirModel
from gatewayd.ports import RadioError
from gatewayd.ports.radio import Central, Link, Peripheral
from tests.support.worlds import VirtualWorld
from tests.system.bluetoothd import BluezBus, bluez_bus, the_bluetoothd
from tests.system.vhci import KernelAdapter, kernel_adapter

SCAN_STARTS_S: Final = 1.5


class _ByPublicAddress:
    """A phone's radio that knows which addresses are public: the kernel's are.

    Tests name them without that, as the other worlds do.
    """

    def __init__(self, central: Central, public: set[str]) -> None:
        self._central = central
        self._public = public

    async def dial(self, address: str) -> Link:
        """Once more after a refusal, as phones do.

        Who is back before bluetoothd has taken in that he went is given a second bearer on his
        old ATT (device_attach_att in device.c), and on that the MTU exchange is refused.
        """
        peer = f"{address}/P" if address in self._public else address
        try:
            return await self._central.dial(peer)
        except RadioError as error:
            if "ATT_EXCHANGE_MTU_REQUEST" not in str(error):
                raise
        return await self._central.dial(peer)

    async def scan(self, seconds: float) -> Sequence[str]:
        return [each.removesuffix("/P") for each in await self._central.scan(seconds)]


class Slow:
    """Switching discovery on takes bluetoothd a while in here."""

    def __init__(self, central: Central) -> None:
        self.dial = central.dial
        self._central = central

    async def scan(self, seconds: float) -> Sequence[str]:
        return await self._central.scan(seconds + SCAN_STARTS_S)


class BluetoothdWorld(VirtualWorld):
    """Two kernels, one of them in software: slower than the virtual radio alone."""

    pace = 6.0
    notifies_everybody = True
    max_mtu = 512  # see bluetooth-main.conf
    cut_off = 2
    model = AirModel(
        # at full speed one phone that floods keeps bluetoothd from answering anybody
        connection_interval_s=0.02,
        packets_per_event=4,
        # the emulated controller filters no duplicates: with two locks at 30 ms bluetoothd is
        # busy with reports and answers no D-Bus call, whose priority in it is lower
        advertising_interval_s=0.25,
        supervision_timeout_s=0.5,
        link_cap=64,
    )

    def __init__(self, mtu: int) -> None:
        super().__init__(mtu)
        self._adapters: set[str] = set()
        self._bus: BluezBus | None = None

    async def gateway(self, address: str, *, link_cap: int = 4) -> tuple[Peripheral, Central]:
        await self.adapter(address)
        options = BluezOptions(
            adapter=address,
            link_cap=link_cap,
            dial_s=2 * self.dial_s,
            turn_s=min(4.0, 0.4 * self.dial_s),
            start_s=20.0,
        )
        radio = await self._open.enter_async_context(open_bluez(options))
        return radio.peripheral, radio.central

    async def phone(self, address: str) -> Central:
        return _ByPublicAddress(await super().phone(address), self._adapters)

    async def adapter(self, address: str) -> KernelAdapter:
        """One more adapter of the kernel, which bluetoothd has switched on."""
        the_bluetoothd().make_sure()
        if self._bus is None:
            self._bus = await self._open.enter_async_context(bluez_bus())
        self._open.push_async_callback(self._wait_until_unplugged, address)
        adapter = await self._open.enter_async_context(kernel_adapter(self.air, address))
        self.controllers[address] = adapter.controller
        self._adapters.add(address)
        await self._bus.wait_for_adapter(address)
        return adapter

    async def _wait_until_unplugged(self, address: str) -> None:
        """The next world has an adapter of the same address."""
        assert self._bus is not None
        async with asyncio.timeout(10):
            while await self._bus.adapter(address):
                await asyncio.sleep(0.05)
