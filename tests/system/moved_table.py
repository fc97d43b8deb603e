"""A lock whose firmware was replaced: the same services, at other handles.

Without the Database Hash of Bluetooth 5.1 (Core Vol 3 Part G 7.3) a host that
remembers the table cannot know; bluetoothd remembers it (`Cache = always`).
"""

from __future__ import annotations

from typing import Final

from bumble import gatt
from bumble.core import UUID

from gatewayd.adapters.virtual_radio import Radio

SOMETHING: Final = UUID("5f1b3c2e-0d4a-4a57-8b61-2f6a90c5d7e3")


def lay_out(radio: Radio, services_before: int) -> None:
    """The lock's table after so many services of no interest, and no Database Hash."""
    stack = radio._stack
    server, table = stack._device.gatt_server, stack._table
    assert table is not None
    own = (gatt.GATT_GENERIC_ATTRIBUTE_SERVICE, table.service.uuid, SOMETHING)
    others = [service for service in server.services if service.uuid not in own]
    server.attributes.clear()
    server.attributes_by_handle.clear()
    server.services.clear()
    for service in others:
        server.add_service(service)
    for _ in range(services_before):
        server.add_service(gatt.Service(SOMETHING, []))
    server.add_service(table.service)
