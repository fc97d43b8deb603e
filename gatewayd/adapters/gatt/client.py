"""One dialled peer, through bleak: connect, find the table, subscribe, write, hang up.

The same on Linux, macOS and Windows. What one of them has to be told is told here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.device import BLEDevice
from bleak.exc import BleakError

from firmware_proto.codes import (
    LOCK_REQUEST_UUID,
    LOCK_RESPONSE_UUID,
    LOCK_SERVICE_UUID,
    PHONE_REQUEST_UUID,
    PHONE_RESPONSE_UUID,
    PHONE_SERVICE_UUID,
    UNCLAIMED_LOCK_UUID,
)
from gatewayd.adapters.gatt.link import ATT_HEADER_BYTES, DISCONNECT_S, GattLink
from gatewayd.ports import LinkClosedError

_log: Final = logging.getLogger(__name__)

FAULTS: Final = (BleakError, OSError, EOFError, TimeoutError)
"""What bleak raises for what the radio, the system's Bluetooth or its bus does."""
STUMBLES: Final = (LookupError, ValueError, AssertionError, AttributeError, TypeError)
"""What bleak falls over when a peer's table is odd, or changes while bleak looks at it."""


@dataclass(frozen=True, slots=True)
class Table:
    """The UUIDs of one relation (PROTOCOL.md, "GATT").

    `advertised` is what advertisements say instead of the service's where it is not the same.
    """

    service: str
    request: str
    response: str
    advertised: str = ""


PHONE: Final = Table(PHONE_SERVICE_UUID, PHONE_REQUEST_UUID, PHONE_RESPONSE_UUID)
LOCK: Final = Table(LOCK_SERVICE_UUID, LOCK_REQUEST_UUID, LOCK_RESPONSE_UUID)
UNCLAIMED: Final = replace(LOCK, advertised=UNCLAIMED_LOCK_UUID)


class NoSuchTableError(Exception):
    """The peer does not serve the table, or the system remembers an older one."""


class GattClient:
    """A connection to one peer. `disconnect` always, whatever happened before."""

    def __init__(  # noqa: PLR0913 - what a connection is wired to
        self,
        device: BLEDevice,
        table: Table,
        peer: str,
        hang_up: Callable[[], None],
        *,
        fresh: bool = False,
        gone: Callable[[], None] = lambda: None,
    ) -> None:
        """`peer` is its name for people. `fresh`: Windows shall believe no table it remembers.

        `hang_up` must see to it that `disconnect` is awaited, and return at once; so must whoever
        is told by `gone` that the peer has hung up, or that its connection was lost.
        """
        self.table = table
        self.link = GattLink(peer, 0, self._write, hang_up)
        self._gone = gone
        self._request: BleakGATTCharacteristic | None = None
        self._client = BleakClient(
            device,
            disconnected_callback=self._disconnected,
            services=[table.service],  # macOS and Windows then discover nothing else
            winrt={"use_cached_services": False} if fresh else {},
        )

    async def connect(self) -> None:
        """Connect and discover. One of FAULTS; NoSuchTableError: bleak cannot read the table."""
        if sys.platform == "linux":
            _skip_version_check()
        with _no_table():
            await self._client.connect()

    async def subscribe(self) -> None:
        """Find the table and switch notifications on. NoSuchTableError, or one of FAULTS."""
        with _no_table():
            await self._subscribe()

    async def _subscribe(self) -> None:
        service = self._client.services.get_service(self.table.service)
        request = service and service.get_characteristic(self.table.request)
        response = service and service.get_characteristic(self.table.response)
        if not request or not response:
            raise NoSuchTableError(self.table.service)
        self._request = request
        # StartNotify: with AcquireNotify a lock's Hello, sent as soon as it sees the
        # subscription, gets lost before the socket is there (bleak issue 1885)
        await self._client.start_notify(
            response,
            lambda _, value: self.link.arrived(bytes(value)),
            bluez={"use_start_notify": True},
        )
        self.measure()

    def measure(self) -> int:
        """Take over the MTU that is known now, and return it."""
        assert self._request is not None  # noqa: S101 - nobody measures before `subscribe`
        self.link.mtu = self._request.max_write_without_response_size + ATT_HEADER_BYTES
        return self.link.mtu

    async def forget(self) -> None:
        """Make the system forget the peer and its table, where it can be told to; never raises.

        On Linux this is RemoveDevice, which forgets the attributes, too (bluez issue 191).
        macOS cannot be told. After `disconnect` only: bleak loses its connection to the bus
        otherwise.
        """
        try:
            await self._client.unpair()
        except (*FAULTS, NotImplementedError) as error:
            _log.info("%s is not forgotten: %s", self.link.peer, error)

    async def disconnect(self) -> None:
        """Hang up; never raises, never takes more than eight seconds.

        Without it the D-Bus connection that bleak opened for this client stays
        open, until the bus refuses more (bleak issue 1698).
        """
        try:
            async with asyncio.timeout(DISCONNECT_S):
                await self._client.disconnect()
        except (*FAULTS, *STUMBLES) as error:
            _log.info("%s: hanging up: %r", self.link.peer, error)
        self.link.died("disconnected")

    def _disconnected(self, _: BleakClient) -> None:
        self.link.died("disconnected")
        self._gone()

    async def _write(self, fragment: bytes) -> None:
        assert self._request is not None  # noqa: S101 - nobody has the link before `subscribe`
        try:
            await self._client.write_gatt_char(self._request, fragment, response=False)
        except (*FAULTS, *STUMBLES) as error:
            self.link.drop()
            raise LinkClosedError(f"{self.link.peer} takes no more: {error}") from error


@contextlib.contextmanager
def _no_table() -> Iterator[None]:
    """A peer must not be able to end more than its own connection."""
    try:
        yield
    except STUMBLES as error:
        raise NoSuchTableError(f"bleak cannot read the table: {error!r}") from error


def _skip_version_check() -> None:
    """Bleak would run bluetoothctl once to learn the version of BlueZ.

    A dial that is cancelled meanwhile leaves an event unset that every later
    dial of the process waits for.
    """
    from bleak.backends.bluezdbus.version import (  # noqa: PLC0415 - on Linux only
        BlueZFeatures,
    )

    BlueZFeatures.checked_bluez_version = True
