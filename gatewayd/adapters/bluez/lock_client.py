"""One dialled lock: the shared GATT client, told by path whom bluetoothd shall connect to.

What bleak needs to be told about a bluetoothd that comes and goes is told here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from bleak.backends.bluezdbus import manager as bleak_manager
from bleak.backends.device import BLEDevice
from bleak.exc import BleakDBusError, BleakDeviceNotFoundError

from gatewayd.adapters.gatt.client import FAULTS, LOCK, GattClient

PAUSES_S: Final[tuple[tuple[tuple[type[BaseException], ...], float], ...]] = (
    ((BleakDeviceNotFoundError,), 1.0),
    ((BleakDBusError, EOFError, BrokenPipeError, TimeoutError), 0.25),
)
"""The first row that fits counts. What others found out in the field, in bleak-retry-connector
4.7: an adapter out of places forgets the device and needs a while; a bus, and a peer that was
refused, need less. Its rows for other radios than BlueZ are left out, and 4 s is too long here.
"""
PAUSE_S: Final = 0.1
FORGET_S: Final = 8.0


def pause_s(error: BaseException) -> float:
    """How long to wait before the next try."""
    return next((pause_s for kinds, pause_s in PAUSES_S if isinstance(error, kinds)), PAUSE_S)


class LockClient(GattClient):
    """A connection to one lock. `disconnect` always, whatever happened before."""

    def __init__(
        self, path: str, address: str, adapter: str, hang_up: Callable[[LockClient], None]
    ) -> None:
        """A device that bluetoothd knows by `path`.

        No scan by the way: bluetoothd may not report a device again that it has
        reported just before, but it can be dialled.
        """
        self.path = path
        device = BLEDevice(address, None, {"path": path, "props": {"Adapter": adapter}})
        super().__init__(device, LOCK, address, lambda: hang_up(self))


async def connect(
    path: str, address: str, adapter: str, hang_up: Callable[[LockClient], None]
) -> LockClient:
    """A connection to a device that bluetoothd knows by `path`. One of FAULTS otherwise."""
    lock = LockClient(path, address, adapter, hang_up)
    await lock.connect()
    return lock


async def forget_everything() -> None:
    """Make bleak look at bluetoothd anew: it does not notice that it restarted.

    bleak keeps one picture of all objects for the process and hears no
    NameOwnerChanged; closing its connection makes the next use start from
    nothing, and tells its clients that they are disconnected. A picture that is
    being taken just now is waited for: it would be kept, and be of the old one.
    """
    loop = asyncio.get_running_loop()
    manager = bleak_manager._global_instances.get(loop)  # noqa: SLF001 - there is no public way
    if manager is None:
        return
    with contextlib.suppress(*FAULTS):
        async with asyncio.timeout(FORGET_S), manager._bus_lock:  # noqa: SLF001 - likewise
            bus = manager._bus  # noqa: SLF001 - likewise
            if bus is not None:
                bus.disconnect()
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call] # dbus-fast's
