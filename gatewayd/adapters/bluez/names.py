"""Names that org.bluez gives to things, and paths that it makes."""

from __future__ import annotations

from typing import Final

from gatewayd import addresses

SERVICE: Final = "org.bluez"
ROOT: Final = "/org/bluez"

ADAPTER: Final = "org.bluez.Adapter1"
DEVICE: Final = "org.bluez.Device1"
GATT_MANAGER: Final = "org.bluez.GattManager1"
ADVERTISING_MANAGER: Final = "org.bluez.LEAdvertisingManager1"
ADVERTISEMENT: Final = "org.bluez.LEAdvertisement1"
GATT_SERVICE: Final = "org.bluez.GattService1"
GATT_CHARACTERISTIC: Final = "org.bluez.GattCharacteristic1"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER: Final = "org.freedesktop.DBus.ObjectManager"
PEER: Final = "org.freedesktop.DBus.Peer"

ERROR: Final = "org.bluez.Error."
BUSY: Final = ERROR + "Busy"
FAILED: Final = ERROR + "Failed"
IN_PROGRESS: Final = ERROR + "InProgress"
ALREADY_EXISTS: Final = ERROR + "AlreadyExists"
DOES_NOT_EXIST: Final = ERROR + "DoesNotExist"
NOT_PERMITTED: Final = ERROR + "NotPermitted"
INVALID_OFFSET: Final = ERROR + "InvalidOffset"

UNKNOWN_OBJECT: Final = "org.freedesktop.DBus.Error.UnknownObject"


def device_path(adapter: str, address: str) -> str:
    """Where bluetoothd puts a device: `/org/bluez/hci0/dev_F0_00_00_00_00_01`."""
    return f"{adapter}/dev_{addresses.plain(address).replace(':', '_')}"


def adapter_of(path: str) -> str:
    """The adapter that a device's path is below."""
    return path.rpartition("/")[0]
