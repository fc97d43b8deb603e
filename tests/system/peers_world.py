"""The world of the radio contract in which nobody's radio but the gateway's is ours.

Phones are bleak, locks are bluezero in processes of their own; each has an
adapter of the kernel, and all of them share the one bluetoothd with the gateway.
"""

from __future__ import annotations

import asyncio

from gatewayd.adapters.bleak_radio import BleakOptions, BleakRadio, open_bleak
from gatewayd.adapters.bluez.lock_client import forget_everything
from gatewayd.adapters.bluezero import BluezeroOptions, BluezeroRadio, open_bluezero
from gatewayd.adapters.gatt.client import PHONE
from gatewayd.ports.radio import Central, Link, Peripheral
from tests.system.bluetoothd_world import BluetoothdWorld, Slow


class _InLine:
    """A phone that lets others finish their dial first.

    When several dial, the air gives one the gateway and tells the others 0x3E (connection failed to
    be established), as real controllers do. Ten of them on one Linux 6.1 make it panic, in a call
    of bluetoothd's that returns from connecting.
    """

    def __init__(self, phone: Central, turn: asyncio.Lock) -> None:
        self.scan = phone.scan
        self._phone = phone
        self._turn = turn

    async def dial(self, address: str) -> Link:
        async with self._turn:
            return await self._phone.dial(address)


class PeersWorld(BluetoothdWorld):
    """bluetoothd negotiates the MTU, always the same one."""

    pace = 10.0

    def __init__(self, mtu: int) -> None:
        super().__init__(mtu)
        self._radios: list[BleakRadio] = []
        self._locks: list[BluezeroRadio] = []
        self._turn = asyncio.Lock()

    @property
    def mtu(self) -> int:
        return self.max_mtu

    @mtu.setter
    def mtu(self, _: int) -> None:
        """Nobody is asked."""

    async def gateway(self, address: str, *, link_cap: int = 4) -> tuple[Peripheral, Central]:
        peripheral, central = await super().gateway(address, link_cap=link_cap)
        return peripheral, central

    async def phone(self, address: str) -> Central:
        adapter = await self.adapter(address)
        options = BleakOptions(adapter=f"hci{adapter.index}", dial_s=self.dial_s)
        radio = await self._open.enter_async_context(open_bleak(PHONE, options))
        self._radios.append(radio)
        return _InLine(Slow(radio), self._turn)

    async def lock(self, address: str) -> Peripheral:
        await self.adapter(address)
        options = BluezeroOptions(adapter=address, start_s=60)
        radio = await self._open.enter_async_context(open_bluezero(options))
        self._locks.append(radio)
        return radio

    async def close(self) -> None:
        """Everybody hangs up before anybody's adapter is pulled.

        Linux 6.1 panics in a call of bluetoothd's when an adapter goes with its links.
        """
        await asyncio.gather(
            *(radio.close() for radio in self._radios),
            *(link.close() for radio in self._locks for link in radio.links),
        )
        async with asyncio.timeout(10):
            while super().links():
                await asyncio.sleep(0.05)
        await super().close()
        await forget_everything()  # bleak's own connection to the bus, where no gateway closed it

    def links(self) -> int:
        """Of the air, and what bleak and bluezero have not let go."""
        held: list[Link] = [each for radio in (*self._radios, *self._locks) for each in radio.links]
        return super().links() + len(held)
