"""Why a laptop has no Bluetooth for us, and what its owner can do about it."""

from __future__ import annotations

import sys
from typing import Final

from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
)

from gatewayd.ports import RadioError

_Why = BleakBluetoothNotAvailableReason

_ABSENT: Final = "plug a Bluetooth LE adapter in, or enable the one that is built in"
_PRIVACY: Final = {
    "darwin": (
        "System Settings, Privacy & Security, Bluetooth: allow the terminal that this runs in"
    ),
    "win32": "Settings, Privacy & security, Radios: let desktop apps control them",
    "linux": "the user must be logged in at this machine, or be in the group bluetooth",
}
_SWITCH_ON: Final = {
    "darwin": "switch Bluetooth on in the Control Centre",
    "win32": "switch Bluetooth on in the Settings",
    "linux": "switch it on: bluetoothctl power on; if that fails: rfkill unblock bluetooth",
}

_UNAVAILABLE: Final = {
    _Why.NO_BLUETOOTH: ("this machine has no Bluetooth", {}),
    _Why.NO_BLE_CENTRAL_ROLE: ("this machine's Bluetooth cannot dial (no LE central role)", {}),
    _Why.POWERED_OFF: ("Bluetooth is off", _SWITCH_ON),
    _Why.DENIED_BY_USER: ("this program may not use Bluetooth", _PRIVACY),
    _Why.DENIED_BY_SYSTEM: ("this program may not use Bluetooth", _PRIVACY),
    _Why.DENIED_BY_UNKNOWN: ("this program may not use Bluetooth", _PRIVACY),
    _Why.UNKNOWN: ("this machine's Bluetooth does not work now", _SWITCH_ON),
}
_DBUS: Final = {
    "org.freedesktop.DBus.Error.ServiceUnknown": (
        "bluetoothd is not running",
        "sudo systemctl start bluetooth; if it is not installed: sudo apt install bluez",
    ),
    "org.freedesktop.DBus.Error.AccessDenied": (
        "this program may not use Bluetooth",
        _PRIVACY["linux"],
    ),
    "org.freedesktop.DBus.Error.NoReply": (
        "bluetoothd does not answer",
        "sudo systemctl restart bluetooth",
    ),
    "org.bluez.Error.NotReady": ("Bluetooth is off", _SWITCH_ON["linux"]),
}


def trouble(error: BaseException) -> RadioError:
    """The same, for people: what is wrong in one line, and what to do about it in another."""
    match error:
        case BleakBluetoothNotAvailableError(reason=reason):
            why, remedies = _UNAVAILABLE[reason]
            return RadioError(why, remedies.get(sys.platform, _ABSENT))
        case BleakDBusError(dbus_error=name) if name in _DBUS:
            return RadioError(*_DBUS[name])
        case FileNotFoundError() | ConnectionError() | PermissionError():
            return RadioError(
                f"no system bus: {error.strerror or error}",
                "sudo systemctl start dbus bluetooth",
            )
        case TimeoutError():
            return RadioError(
                "Bluetooth does not answer",
                "does the system ask, perhaps behind a window, whether this may use Bluetooth?",
            )
    return RadioError(f"Bluetooth does not work: {str(error) or type(error).__name__}")
