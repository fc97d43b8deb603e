"""How a fragment reaches a phone: the seam between PropertiesChanged and AcquireNotify.

PropertiesChanged goes to every subscriber (bluez issue 1106), works with every
BlueZ, and is what is used. AcquireNotify would give a socket per device, but
up to 5.75 it does not (commits 8eb1dee87, a08ec1a4e), and on 5.78 and 5.83 the
first subscriber's socket is lost when another unbonded phone leaves (bluez issue
1452, no fix known). A version known to be sound would get its own `Notifier`.
"""

from __future__ import annotations

from typing import Final, Protocol

from firmware_proto.codes import MAX_MESSAGE_BYTES
from gatewayd.adapters.bluez import gatt_table, names
from gatewayd.adapters.bluez.bluetoothd import Bluetoothd
from gatewayd.adapters.bluez.bus import BusError, Call, Reply
from gatewayd.ports import LinkClosedError

IN_FLIGHT_BYTES: Final = MAX_MESSAGE_BYTES // 2
"""After so much bluetoothd is asked whether it keeps up: a signal is never acknowledged."""


class Notifier(Protocol):
    """What the phone side needs of either way to notify."""

    def called(self, call: Call) -> Reply | None:
        """Answer a call to the `response` characteristic; None: no such method."""
        ...

    async def notify(self, device: str, fragment: bytes) -> None:
        """Send to (at least) this device. LinkClosedError: bluetoothd is not there."""
        ...

    def gone(self, device: str) -> None:
        """A device disconnected."""
        ...


class EverySubscriber:
    """Notifications by PropertiesChanged."""

    def __init__(self, bluetoothd: Bluetoothd) -> None:
        self._bluetoothd = bluetoothd
        self._unconfirmed_bytes = 0

    def called(self, call: Call) -> Reply | None:
        """StartNotify and StopNotify name no device, so there is nothing to note."""
        return Reply() if call.member in {"StartNotify", "StopNotify"} else None

    async def notify(self, device: str, fragment: bytes) -> None:
        """Send to everybody who subscribed."""
        del device
        try:
            self._bluetoothd.emit(
                gatt_table.RESPONSE,
                names.PROPERTIES,
                "PropertiesChanged",
                "sa{sv}as",
                gatt_table.value_changed(fragment),
            )
            self._unconfirmed_bytes += len(fragment)
            if self._unconfirmed_bytes >= IN_FLIGHT_BYTES:
                self._unconfirmed_bytes = 0
                await self._bluetoothd.call("/", names.PEER, "Ping")
        except BusError as error:
            raise LinkClosedError(f"bluetoothd does not take notifications: {error}") from error

    def gone(self, device: str) -> None:
        """Nothing is kept per device."""
