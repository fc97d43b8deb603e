"""One dialled lock, through bleak: connect, find the table, subscribe, write, hang up.

Everything that bleak needs to be told about BlueZ is told here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from bleak import BleakClient
from bleak.backends.bluezdbus import manager as bleak_manager
from bleak.backends.bluezdbus.version import BlueZFeatures
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.device import BLEDevice
from bleak.exc import BleakError
from bleak_retry_connector import calculate_backoff_time

from firmware_proto.codes import LOCK_REQUEST_UUID, LOCK_RESPONSE_UUID, LOCK_SERVICE_UUID
from gatewayd.adapters.bluez.link import ATT_HEADER_BYTES, BluezLink
from gatewayd.ports import LinkClosedError

_log: Final = logging.getLogger(__name__)

HANG_UP_S: Final = 8.0
MOST_PAUSE_S: Final = 1.0
FAULTS: Final = (BleakError, OSError, EOFError, TimeoutError)
"""What bleak raises for what the radio, bluetoothd or the bus does."""


def pause_s(error: BaseException) -> float:
    """How long to wait before the next try, by what bleak-retry-connector knows of errors.

    Its own loop is not used: it retries nine times within one call, and would
    hide what tells a faulty adapter from a lock out of reach.
    """
    if not isinstance(error, Exception):
        return 0.0
    return min(calculate_backoff_time(error), MOST_PAUSE_S)


class NoSuchTableError(Exception):
    """The peer does not serve a lock's table, or bluetoothd remembers an older one."""


class LockClient:
    """A connection to one lock. `disconnect` always, whatever happened before."""

    def __init__(
        self,
        client: BleakClient,
        path: str,
        address: str,
        hang_up: Callable[[LockClient], None],
    ) -> None:
        self.path = path
        self._client = client
        self._request: BleakGATTCharacteristic | None = None
        self.link = BluezLink(address, 0, self._write, lambda: hang_up(self))

    async def subscribe(self) -> None:
        """Find the table and switch notifications on. NoSuchTableError, or one of FAULTS."""
        service = self._client.services.get_service(LOCK_SERVICE_UUID)
        request = service and service.get_characteristic(LOCK_REQUEST_UUID)
        response = service and service.get_characteristic(LOCK_RESPONSE_UUID)
        if not request or not response:
            raise NoSuchTableError(LOCK_SERVICE_UUID)
        self._request = request
        self.link.mtu = request.max_write_without_response_size + ATT_HEADER_BYTES
        # StartNotify: with AcquireNotify a lock's Hello, sent as soon as it sees the
        # subscription, gets lost before the socket is there (bleak issue 1885)
        await self._client.start_notify(
            response,
            lambda _, value: self.link.arrived(bytes(value)),
            bluez={"use_start_notify": True},
        )

    async def _write(self, fragment: bytes) -> None:
        assert self._request is not None  # noqa: S101 - nobody has the link before `subscribe`
        try:
            await self._client.write_gatt_char(self._request, fragment, response=False)
        except FAULTS as error:
            self.link.drop()
            raise LinkClosedError(f"the lock takes no more: {error}") from error

    async def disconnect(self) -> None:
        """Hang up; never raises, never takes more than eight seconds.

        Without it the D-Bus connection that bleak opened for this client stays
        open, until the bus refuses more (bleak issue 1698).
        """
        try:
            async with asyncio.timeout(HANG_UP_S):
                await self._client.disconnect()
        except FAULTS as error:
            _log.info("%s: hanging up: %s", self.link.peer, error)
        self.link.died("disconnected")


async def connect(
    path: str, address: str, adapter: str, hang_up: Callable[[LockClient], None]
) -> LockClient:
    """A connection to a device that bluetoothd knows by `path`. One of FAULTS otherwise.

    No scan by the way: bluetoothd may not report a device again that it has
    reported just before, but it can be dialled.
    """
    made: list[LockClient] = []

    def gone(_: BleakClient) -> None:
        for each in made:
            each.link.died("disconnected")

    # bleak would run bluetoothctl once to learn the version; a dial that is cancelled
    # meanwhile leaves an event unset that every later dial of the process waits for
    BlueZFeatures.checked_bluez_version = True
    device = BLEDevice(address, None, {"path": path, "props": {"Adapter": adapter}})
    client = BleakClient(device, disconnected_callback=gone)
    await client.connect()
    lock = LockClient(client, path, address, hang_up)
    made.append(lock)
    return lock


async def forget_everything() -> None:
    """Make bleak look at bluetoothd anew: it does not notice that it restarted.

    bleak keeps one picture of all objects for the process and hears no
    NameOwnerChanged; closing its connection makes the next use start from
    nothing, and tells its clients that they are disconnected.
    """
    loop = asyncio.get_running_loop()
    manager = bleak_manager._global_instances.get(loop)  # noqa: SLF001 - there is no public way
    bus = None if manager is None else manager._bus  # noqa: SLF001 - likewise
    if bus is not None:
        bus.disconnect()
        with contextlib.suppress(*FAULTS):
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call] # dbus-fast's
