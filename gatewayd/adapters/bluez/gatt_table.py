"""The GATT table towards phones and the advertisement, as values on D-Bus.

The table is frozen per service UUID, handles included, so that a phone may
cache it: phones keep a stale cache of a table that moved (bluezero issue 405,
node-ble-host issue 17).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from firmware_proto.codes import (
    PHONE_INFO_UUID,
    PHONE_REQUEST_UUID,
    PHONE_RESPONSE_UUID,
    PHONE_SERVICE_UUID,
)
from gatewayd.adapters.bluez import names
from gatewayd.adapters.bluez.bus import Variant

APPLICATION: Final = "/org/gatewayd"
SERVICE: Final = f"{APPLICATION}/service"
REQUEST: Final = f"{SERVICE}/request"
RESPONSE: Final = f"{SERVICE}/response"
INFO: Final = f"{SERVICE}/info"
ADVERTISEMENT: Final = f"{APPLICATION}/advertisement"

FIRST_HANDLE: Final = 0x0100
"""Above everything that bluetoothd's own plugins take. The CCC of `response` follows it."""
_REQUEST_HANDLE: Final = FIRST_HANDLE + 2
_RESPONSE_HANDLE: Final = FIRST_HANDLE + 4
_INFO_HANDLE: Final = FIRST_HANDLE + 7

MOST_NAME_BYTES: Final = 29  # a scan response of 31, less its length and type

Interfaces = Mapping[str, Mapping[str, Variant]]


def managed_objects() -> Mapping[str, Interfaces]:
    """What bluetoothd reads when the application is registered; order is that of handles."""
    return {
        SERVICE: {
            names.GATT_SERVICE: {
                "UUID": Variant("s", PHONE_SERVICE_UUID),
                "Primary": Variant("b", True),
                "Handle": Variant("q", FIRST_HANDLE),
            }
        },
        REQUEST: _characteristic(
            PHONE_REQUEST_UUID, _REQUEST_HANDLE, ["write", "write-without-response"]
        ),
        RESPONSE: _characteristic(PHONE_RESPONSE_UUID, _RESPONSE_HANDLE, ["notify"]),
        INFO: _characteristic(PHONE_INFO_UUID, _INFO_HANDLE, ["read"]),
    }


def _characteristic(uuid: str, handle: int, flags: list[str]) -> Interfaces:
    return {
        names.GATT_CHARACTERISTIC: {
            "UUID": Variant("s", uuid),
            "Service": Variant("o", SERVICE),
            "Flags": Variant("as", flags),
            "Handle": Variant("q", handle),
        }
    }


def advertisement(name: str, interval_ms: tuple[float, float]) -> Mapping[str, Variant]:
    """The service UUID in the advertisement, the name in the scan response.

    Type `peripheral` is connectable; name and a 128-bit UUID together do not fit 31
    bytes, and what does not fit makes phones see ADV_SCAN_IND (Android's GATT 147;
    Sentry-USB-Rusty pull 106). bluetoothd puts LocalName into the scan response.
    The intervals count from BlueZ 5.77 on; before, only with `Experimental = true`
    (src/advertising.c), and otherwise the kernel's 1.28 s stays.
    """
    least, most = interval_ms
    return {
        "Type": Variant("s", "peripheral"),
        "ServiceUUIDs": Variant("as", [PHONE_SERVICE_UUID]),
        "LocalName": Variant("s", short_name(name)),
        "Discoverable": Variant("b", True),
        "MinInterval": Variant("u", int(least)),
        "MaxInterval": Variant("u", int(most)),
    }


def short_name(name: str) -> str:
    """What fits, without half a character at the end."""
    return name.encode()[:MOST_NAME_BYTES].decode(errors="ignore")


def value_changed(value: bytes) -> list[Any]:
    """Body of the PropertiesChanged that makes bluetoothd notify."""
    return [names.GATT_CHARACTERISTIC, {"Value": Variant("ay", value)}, []]
