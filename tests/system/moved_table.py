"""A lock whose firmware was replaced: the same services, at other handles.

Without the Database Hash of Bluetooth 5.1 (Core Vol 3 Part G 7.3) a host that
remembers the table cannot know; bluetoothd remembers it (`Cache = always`).
"""

from __future__ import annotations

from bumble import att, gatt

from gatewayd.adapters.virtual_radio import Radio


def lay_out(radio: Radio, *, moved: bool) -> None:
    """The lock's table, its characteristics in the usual order, or `moved`: the last one first.

    No Database Hash. The service keeps its range, so that bluetoothd, which looks for services
    at every connection, sees no reason to look for characteristics.
    """
    stack = radio._stack
    server, table = stack._device.gatt_server, stack._table
    assert table is not None
    others = [
        service
        for service in server.services
        if service.uuid not in {gatt.GATT_GENERIC_ATTRIBUTE_SERVICE, table.service.uuid}
    ]
    server.attributes.clear()
    server.attributes_by_handle.clear()
    server.services.clear()
    for service in others:
        server.add_service(service)
    characteristics = table.service.characteristics
    if moved:
        characteristics.insert(0, characteristics.pop())
    server.add_service(table.service)
    for attribute in server.attributes:
        if attribute.type == gatt.GATT_CHARACTERISTIC_ATTRIBUTE_TYPE:
            attribute.write_value = _refuse  # bumble would take it


async def _refuse(*_: object) -> None:
    raise att.ATT_Error(att.ATT_WRITE_NOT_PERMITTED_ERROR)
