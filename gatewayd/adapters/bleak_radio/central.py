"""The dialling side on a laptop: look around, dial by what was seen, hang up.

async with open_bleak(PHONE) as radio:
    seen = await radio.look(2.0)
    link = await radio.dial(seen[0].address)

What an address looks like is the system's affair: macOS gives each peer a
UUID of its own making and hides the true address.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakBluetoothNotAvailableError, BleakDBusError

from gatewayd.adapters.bleak_radio.troubles import trouble
from gatewayd.adapters.gatt.client import FAULTS, GattClient, NoSuchTableError, Table
from gatewayd.adapters.gatt.link import GattLink
from gatewayd.ports import RadioError, Sighting

_log: Final = logging.getLogger(__name__)

RETRY_S: Final = 0.25
PROBE_S: Final = 30.0  # macOS and Windows may ask the person first
STARTED_S: Final = 2.0
MTU_TRIES: Final = 10
MIN_MTU: Final = 23
WEAKEST_DBM, STRONGEST_DBM = -126, 20  # Core Vol 4 Part E 7.7.65.2; beyond: not known
IN_PROGRESS: Final = "org.bluez.Error.InProgress"


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
    """`ports.Lookout` over bleak."""

    def __init__(self, table: Table, options: BleakOptions) -> None:
        self._table = table
        self._options = options
        self._devices: dict[str, BLEDevice] = {}
        self._clients: set[GattClient] = set()
        self._hanging_up: set[asyncio.Task[None]] = set()
        self._scanning = asyncio.Lock()

    @property
    def links(self) -> list[GattLink]:
        """Every connection there is now."""
        return [client.link for client in self._clients]

    # --- looking --------------------------------------------------------------------------
    async def probe(self) -> None:
        """RadioError, with a remedy, when there is no Bluetooth to look with."""
        try:
            async with asyncio.timeout(PROBE_S), self._listening(lambda _, __: None):
                pass
        except TimeoutError as error:
            raise trouble(error) from error

    async def look(
        self, seconds: float, heard: Callable[[Sighting], None] = lambda _: None
    ) -> Sequence[Sighting]:
        """Who advertises, strongest first. RadioError, with a remedy, when nothing can be heard."""
        seen: dict[str, Sighting] = {}

        def note(device: BLEDevice, advertisement: AdvertisementData) -> None:
            dbm = advertisement.rssi
            known = WEAKEST_DBM <= dbm <= STRONGEST_DBM
            sighting = Sighting(
                device.address, dbm if known else None, advertisement.local_name or ""
            )
            self._devices[_key(device.address)] = device
            seen[device.address] = sighting
            heard(sighting)

        async with self._listening(note):
            await asyncio.sleep(seconds)
        return sorted(seen.values(), key=_weakness)

    async def scan(self, seconds: float) -> Sequence[str]:
        """Addresses of those who advertise, strongest first. RadioError as `look`."""
        return [sighting.address for sighting in await self.look(seconds)]

    @asynccontextmanager
    async def _listening(
        self, note: Callable[[BLEDevice, AdvertisementData], None]
    ) -> AsyncIterator[None]:
        """One at a time: bluetoothd has one filter per client, and macOS one scan."""
        adapter = self._options.adapter
        async with self._scanning:
            # without the filter macOS 12 before 12.3 hears nobody (bleak issue 720)
            scanner = BleakScanner(
                note, [self._table.service], bluez={"adapter": adapter} if adapter else {}
            )
            try:
                await _started(scanner)
            except FAULTS as error:
                raise trouble(error) from error
            try:
                yield
            finally:
                with contextlib.suppress(*FAULTS):  # it may be gone; nobody listens any more
                    await scanner.stop()

    # --- dialling -------------------------------------------------------------------------
    async def dial(self, address: str) -> GattLink:
        """Connect, find the table, subscribe. RadioError when no link came about in time."""
        last = "does not answer"
        fresh = False
        try:
            async with asyncio.timeout(self._options.dial_s):
                while True:
                    device = await self._found(address)
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
                    self._devices.pop(_key(address), None)
                    await asyncio.sleep(RETRY_S)
        except TimeoutError:
            raise RadioError(f"{address} cannot be dialled: {last}") from None

    async def _found(self, address: str) -> BLEDevice:
        """What the system calls the device; waits until it advertises when it is not known yet."""
        key = _key(address)
        if key not in self._devices:
            there = asyncio.Event()

            def note(device: BLEDevice, _: AdvertisementData) -> None:
                self._devices[_key(device.address)] = device
                if _key(device.address) == key:
                    there.set()

            async with self._listening(note):
                await there.wait()
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
        """Hang up on everybody."""
        await asyncio.gather(*(client.link.close() for client in self._clients))
        await asyncio.gather(*self._hanging_up)


async def _started(scanner: BleakScanner) -> None:
    """Cancelling this stops what has begun: bluetoothd would refuse the next scan otherwise."""
    start = asyncio.create_task(_start(scanner), name="start a scan")
    try:
        await asyncio.shield(start)
    except asyncio.CancelledError:
        await asyncio.wait({start}, timeout=STARTED_S)
        start.cancel()
        with contextlib.suppress(*FAULTS, asyncio.CancelledError):
            await start
        with contextlib.suppress(*FAULTS):
            await scanner.stop()
        raise


async def _start(scanner: BleakScanner) -> None:
    """Once more where bluetoothd is still busy with ending the scan before."""
    try:
        await scanner.start()
    except BleakDBusError as error:
        if error.dbus_error != IN_PROGRESS:
            raise
        await asyncio.sleep(RETRY_S)
        await scanner.start()


def _key(address: str) -> str:
    """Addresses and macOS's UUIDs alike, however they were typed."""
    return address.upper().removesuffix("/P")


def _weakness(sighting: Sighting) -> int:
    return -(WEAKEST_DBM if sighting.strength_dbm is None else sighting.strength_dbm)


@asynccontextmanager
async def open_bleak(
    table: Table, options: BleakOptions | None = None
) -> AsyncIterator[BleakRadio]:
    """This machine's Bluetooth, for a central. RadioError, with a remedy, when there is none."""
    radio = BleakRadio(table, options or BleakOptions())
    await radio.probe()
    try:
        yield radio
    finally:
        await radio.close()
