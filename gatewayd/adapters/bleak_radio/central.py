"""The dialling side on a laptop: look around, dial by what was seen, hang up.

async with open_bleak(PHONE) as radio:
    seen = await radio.look(2.0)
    link = await radio.dial(seen[0].address)

What an address looks like is the system's affair: macOS gives each peer a
UUID of its own making and hides the true address.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakBluetoothNotAvailableError

from gatewayd import addresses
from gatewayd.adapters.bleak_radio.ears import Ears
from gatewayd.adapters.bleak_radio.troubles import trouble
from gatewayd.adapters.gatt.client import FAULTS, GattClient, NoSuchTableError, Table
from gatewayd.adapters.gatt.link import GattLink
from gatewayd.logs import printable
from gatewayd.ports import RadioError
from gatewayd.ports.radio import Sighting

_log: Final = logging.getLogger(__name__)

RETRY_S: Final = 0.25
ANEW_S: Final = 1.0
"""How long a peer that could not be dialled is looked for, before it is dialled as it was known."""
MTU_TRIES: Final = 10
MIN_MTU: Final = 23
WEAKEST_DBM, STRONGEST_DBM = -126, 20  # Core Vol 4 Part E 7.7.65.2; beyond: not known


@dataclass(frozen=True, slots=True)
class BleakOptions:
    """adapter: a name as hci1, on Linux only; None takes the first that is on.

    dial_s: after how long a dial fails, looking for the peer included. mtu_s: how long to wait for
    a larger MTU than the smallest; on Linux it is known when a connection is.
    """

    adapter: str | None = None
    dial_s: float = 8.0
    mtu_s: float = 0.0 if sys.platform == "linux" else 0.5


class BleakRadio:
    """`ports.radio.Lookout` over bleak."""

    def __init__(self, table: Table, options: BleakOptions) -> None:
        self._table = table
        self._options = options
        self._devices: dict[str, BLEDevice] = {}
        self._clients: set[GattClient] = set()
        self._hanging_up: set[asyncio.Task[None]] = set()
        self._ears = Ears(table.advertised or table.service, options.adapter)

    @property
    def links(self) -> list[GattLink]:
        """Every connection there is now."""
        return [client.link for client in self._clients]

    # --- looking --------------------------------------------------------------------------
    async def open(self) -> None:
        """RadioError, with a remedy, when there is no Bluetooth to look with."""
        await self._ears.open()

    async def look(
        self, seconds: float, heard: Callable[[Sighting], None] = lambda _: None
    ) -> Sequence[Sighting]:
        """Who advertises, strongest first. RadioError, with a remedy, when nothing can be heard."""
        seen: dict[str, Sighting] = {}

        def note(device: BLEDevice, advertisement: AdvertisementData) -> None:
            dbm = advertisement.rssi
            known = WEAKEST_DBM <= dbm <= STRONGEST_DBM
            name = printable(advertisement.local_name or "")  # anybody's, for somebody's terminal
            sighting = Sighting(device.address, dbm if known else None, name)
            self._devices[addresses.plain(device.address)] = device
            seen[device.address] = sighting
            heard(sighting)

        async with self._ears.listening(note):
            await asyncio.sleep(seconds)
        return sorted(seen.values(), key=_weakness)

    async def scan(self, seconds: float) -> Sequence[str]:
        """Addresses of those who advertise, strongest first. RadioError as `look`."""
        return [sighting.address for sighting in await self.look(seconds)]

    # --- dialling -------------------------------------------------------------------------
    async def dial(self, address: str) -> GattLink:
        """Connect, find the table, subscribe. RadioError when no link came about in time."""
        last = "does not answer"
        fresh = False
        known: BLEDevice | None = None
        if self._hanging_up:  # BlueZ takes two seconds for it, and meanwhile refuses a dial
            await asyncio.wait(self._hanging_up)
        try:
            async with asyncio.timeout(self._options.dial_s):
                while True:
                    device = await self._found(address, known)
                    await self._ears.close()  # scanning makes connecting slow
                    try:
                        return await self._attempt(device, address, fresh=fresh)
                    except NoSuchTableError as error:
                        if fresh:
                            raise RadioError(f"{address} is no gateway: {error}") from error
                        fresh = True  # the system may have remembered a table that has moved
                        last = f"it serves no {error}"
                    except BleakBluetoothNotAvailableError as error:
                        raise trouble(error) from error
                    except FAULTS as error:
                        last = str(error) or type(error).__name__
                    known = self._devices.pop(addresses.plain(address), None)
                    await asyncio.sleep(RETRY_S)
        except TimeoutError:
            raise RadioError(f"{address} cannot be dialled: {last}") from None

    async def _found(self, address: str, known: BLEDevice | None) -> BLEDevice:
        """What the system calls the device; waits until it advertises when it is not known yet.

        bluetoothd may have forgotten who was `known`, and needs to hear it; or tell no more what it
        advertises, as it was connected to it.
        """
        key = addresses.plain(address)
        if key not in self._devices:
            there = asyncio.Event()

            def note(device: BLEDevice, _: AdvertisementData) -> None:
                self._devices[addresses.plain(device.address)] = device
                if addresses.plain(device.address) == key:
                    there.set()

            async with self._ears.listening(note):
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if known is None else ANEW_S):
                        await there.wait()
            if known is not None:
                self._devices.setdefault(key, known)
        return self._devices[key]

    async def _attempt(self, device: BLEDevice, address: str, *, fresh: bool) -> GattLink:
        """One connection, subscribed. One of FAULTS; or NoSuchTableError, and it is forgotten."""

        def hang_up() -> None:
            self._hang_up(client)

        # also when the peer goes first: bleak's D-Bus connection leaks otherwise (its issue 1698)
        client = GattClient(device, self._table, address, hang_up, fresh=fresh, gone=hang_up)
        self._clients.add(client)
        kept = False
        try:
            await client.connect()
            await client.subscribe()
            await self._mtu_is_known(client)
            kept = True
        except NoSuchTableError:
            await asyncio.shield(self._hang_up(client))  # bleak must hang up before it forgets
            await client.forget()
            raise
        finally:
            if not kept:
                await asyncio.shield(self._hang_up(client))
        return client.link

    async def _mtu_is_known(self, client: GattClient) -> None:
        """The exchange may end a moment after the discovery.

        A smaller value than the true one does no harm, so nothing waits long for it.
        """
        for _ in range(MTU_TRIES):
            if client.measure() > MIN_MTU or not self._options.mtu_s:
                return
            await asyncio.sleep(self._options.mtu_s / MTU_TRIES)

    # --- hanging up -------------------------------------------------------------------------
    def _hang_up(self, client: GattClient) -> asyncio.Task[None]:
        task = asyncio.create_task(self._disconnect(client), name=f"hang up {client.link.peer}")
        self._hanging_up.add(task)
        task.add_done_callback(self._hanging_up.discard)
        return task

    async def _disconnect(self, client: GattClient) -> None:
        await client.disconnect()
        self._clients.discard(client)

    async def close(self) -> None:
        """Hang up on everybody, and stop listening."""
        await self._ears.close()
        await asyncio.gather(*(client.link.close() for client in self._clients))
        await asyncio.gather(*self._hanging_up)


def _weakness(sighting: Sighting) -> int:
    return -(WEAKEST_DBM if sighting.strength_dbm is None else sighting.strength_dbm)


@asynccontextmanager
async def open_bleak(
    table: Table, options: BleakOptions | None = None
) -> AsyncIterator[BleakRadio]:
    """This machine's Bluetooth, for a central. RadioError, with a remedy, when there is none."""
    radio = BleakRadio(table, options or BleakOptions())
    await radio.open()
    try:
        yield radio
    finally:
        await radio.close()
