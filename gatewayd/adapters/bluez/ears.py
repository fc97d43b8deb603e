"""Listening for locks, and noticing an adapter that hears nobody at all.

bluetoothd dials only whom it has heard (without -E), so an unknown lock is scanned
for. To a lock that it knows it connects without telling what it hears
meanwhile: after long enough in vain somebody has to listen.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from gatewayd import addresses

SILENT_S: Final = 90.0
"""So much scanning without one advertisement from anybody means a deaf radio (habluetooth).

So does silence of LISTEN_S after as long in which a lock could not be dialled.
"""
LISTEN_S: Final = 5.0
IN_VAIN_S: Final = 30.0
"""How long a lock is dialled in vain before somebody listens whether it is there, and again."""
TOLD_S: Final = 3600.0
"""A lock that is heard and not reached is told no more often: it may be almost out of range."""

Heard = Callable[[BLEDevice, AdvertisementData], None]


@dataclass(slots=True)
class _InVain:
    """A lock that could not be dialled since; when it was listened for, and told of. heard: now."""

    since_s: float
    listened_s: float
    told_s: float = -TOLD_S
    heard: bool = False


class Ears:
    """What bleak raises comes out.

    `deaf` is called when an adapter seems to hear nobody, `stuck` when it hears a lock in vain:
    a kernel may take a connection that was given up for one that is still being made, and every
    later dial then waits for that one (seen with Linux 6.1). Only a power cycle ends it.
    """

    def __init__(self, deaf: Callable[[], None], stuck: Callable[[str], None]) -> None:
        self._deaf = deaf
        self._stuck = stuck
        self._silent_s = 0.0
        self._in_vain: dict[str, _InVain] = {}

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

    def dialled(self, address: str, *, worked: bool) -> None:
        """How a dial ended."""
        if worked:
            self._in_vain.pop(address, None)
            return
        now_s = time.monotonic()
        lock = self._in_vain.setdefault(address, _InVain(now_s, now_s))
        if lock.heard and now_s - lock.told_s >= TOLD_S:
            lock.told_s = now_s
            self._stuck(address)
        lock.heard = False

    async def check(self, adapter: str, address: str) -> None:
        """Is anybody out there, and this lock? Looks only when it was dialled in vain for long."""
        lock, now_s = self._in_vain.get(address), time.monotonic()
        if lock is None or now_s - lock.listened_s < IN_VAIN_S:
            return
        lock.listened_s = now_s
        anybody, itself = asyncio.Event(), asyncio.Event()

        def note(device: BLEDevice, _: AdvertisementData) -> None:
            anybody.set()
            if device.address == addresses.plain(address):
                itself.set()

        async with _scanner(adapter, note):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LISTEN_S):
                    await itself.wait()
        lock.heard = itself.is_set()
        if not anybody.is_set() and now_s - lock.since_s >= SILENT_S:
            lock.since_s = now_s
            self._deaf()


def _scanner(adapter: str, heard: Heard) -> BleakScanner:
    return BleakScanner(heard, bluez={"adapter": adapter.rpartition("/")[2]})
