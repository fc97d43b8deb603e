"""Listening to advertisements: one scan at a time, and the first one begins when the radio opens.

Opening has to find out whether there is Bluetooth at all, and the only
question that bleak answers on every system is a scan. bluetoothd is slow to
scan again just after it was stopped, so whoever listens first goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakDBusError

from gatewayd.adapters.bleak_radio.troubles import trouble
from gatewayd.adapters.gatt.client import FAULTS

Note = Callable[[BLEDevice, AdvertisementData], None]

OPEN_S: Final = 30.0  # macOS and Windows may ask the person first
RETRY_S: Final = 0.25
STARTED_S: Final = 2.0
IN_PROGRESS: Final = "org.bluez.Error.InProgress"


class Ears:
    """Who hears whom. adapter: a name as hci1, on Linux only."""

    def __init__(self, service: str, adapter: str | None) -> None:
        self._service = service
        self._adapter = adapter
        self._turn = asyncio.Lock()
        self._first: BleakScanner | None = None
        self._note: Note = self._keep
        self._kept: dict[str, tuple[BLEDevice, AdvertisementData]] = {}

    async def open(self) -> None:
        """Begin to listen. RadioError, with a remedy, when there is nothing to listen with."""
        try:
            async with asyncio.timeout(OPEN_S):
                self._first = await self._start()
        except TimeoutError as error:
            raise trouble(error) from error

    @asynccontextmanager
    async def listening(self, note: Note) -> AsyncIterator[None]:
        """`note` hears every advertisement meanwhile. RadioError, with a remedy.

        One at a time: bluetoothd has one filter per client, and macOS one scan.
        """
        async with self._turn:
            scanner, self._first = self._first, None
            self._note = note
            if scanner is None:
                scanner = await self._start()
            for device, advertisement in self._kept.values():
                note(device, advertisement)
            self._kept.clear()
            try:
                yield
            finally:
                await _stop(scanner)

    async def close(self) -> None:
        """Stop what `open` began, if nobody has gone on with it."""
        scanner, self._first = self._first, None
        if scanner is not None:
            self._kept.clear()  # it may be long until somebody listens again
            await _stop(scanner)

    def _heard(self, device: BLEDevice, advertisement: AdvertisementData) -> None:
        self._note(device, advertisement)  # whose it is changes under a scan

    def _keep(self, device: BLEDevice, advertisement: AdvertisementData) -> None:
        self._kept[device.address] = (device, advertisement)

    async def _start(self) -> BleakScanner:
        """Cancelling this stops what has begun: bluetoothd would refuse the next scan otherwise."""
        scanner = BleakScanner(
            self._heard,
            [self._service],  # without, macOS 12 before 12.3 hears nobody (bleak issue 720)
            bluez={"adapter": self._adapter} if self._adapter else {},
        )
        start = asyncio.create_task(_try_twice(scanner), name="start a scan")
        try:
            await asyncio.shield(start)
        except FAULTS as error:
            raise trouble(error) from error
        except asyncio.CancelledError:
            await asyncio.wait({start}, timeout=STARTED_S)
            start.cancel()
            with contextlib.suppress(*FAULTS, asyncio.CancelledError):
                await start
            await _stop(scanner)
            raise
        return scanner


async def _try_twice(scanner: BleakScanner) -> None:
    """Once more where bluetoothd is still busy with ending the scan before."""
    try:
        await scanner.start()
    except BleakDBusError as error:
        if error.dbus_error != IN_PROGRESS:
            raise
        await asyncio.sleep(RETRY_S)
        await scanner.start()


async def _stop(scanner: BleakScanner) -> None:
    with contextlib.suppress(*FAULTS):  # it may be gone; nobody listens any more
        await scanner.stop()
