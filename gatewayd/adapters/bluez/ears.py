"""Listening for locks, and noticing an adapter that hears nobody at all.

bluetoothd dials only whom it has heard (without -E), so an unknown lock is scanned
for. To a lock that it knows it connects without telling what it hears
meanwhile: after long enough in vain somebody has to listen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

SILENT_S: Final = 90.0
"""So much scanning without one advertisement from anybody means a deaf radio (habluetooth).

So does silence of LISTEN_S after as long in which no lock could be dialled.
"""
LISTEN_S: Final = 5.0

Heard = Callable[[BLEDevice, AdvertisementData], None]


class Ears:
    """`deaf` is called when an adapter seems to hear nobody. What bleak raises comes out."""

    def __init__(self, deaf: Callable[[], None]) -> None:
        self._deaf = deaf
        self._silent_s = 0.0
        self._in_vain_since_s: float | None = None

    async def until(self, known: Callable[[], bool], news: asyncio.Event, adapter: str) -> None:
        """Scan until bluetoothd knows a device; `news` is set whenever it may."""
        heard = asyncio.Event()
        began_s = time.monotonic()
        try:
            async with _scanner(adapter, lambda _, __: heard.set()):
                while not known():
                    news.clear()
                    await news.wait()
        finally:
            silent_s = time.monotonic() - began_s
            self._silent_s = 0.0 if heard.is_set() else self._silent_s + silent_s
            if self._silent_s >= SILENT_S:
                self._silent_s = 0.0
                self._deaf()

    def dialled(self, *, worked: bool) -> None:
        """A lock was dialled."""
        if worked:
            self._in_vain_since_s = None
        elif self._in_vain_since_s is None:
            self._in_vain_since_s = time.monotonic()

    async def check(self, adapter: str) -> None:
        """Is anybody out there? Looks only when locks have been dialled in vain for long."""
        since_s = self._in_vain_since_s
        if since_s is None or time.monotonic() - since_s < SILENT_S:
            return
        self._in_vain_since_s = None
        heard = asyncio.Event()
        async with _scanner(adapter, lambda _, __: heard.set()):
            try:
                async with asyncio.timeout(LISTEN_S):
                    await heard.wait()
            except TimeoutError:
                self._deaf()


def _scanner(adapter: str, heard: Heard) -> BleakScanner:
    return BleakScanner(heard, bluez={"adapter": adapter.rpartition("/")[2]})
