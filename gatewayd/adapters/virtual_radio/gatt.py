"""The GATT table of both relations, and the client that finds and uses it.

The table is frozen per service UUID. bumble's own server serves it; the client
is small because it waits for one answer at a time and dies with its link.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from bumble import att, gatt
from bumble.core import UUID, AdvertisingData
from bumble.device import Connection

from firmware_proto.codes import (
    LOCK_INFO_UUID,
    LOCK_REQUEST_UUID,
    LOCK_RESPONSE_UUID,
    LOCK_SERVICE_UUID,
    MAX_ATT_MTU,
    MIN_ATT_MTU,
    PHONE_INFO_UUID,
    PHONE_REQUEST_UUID,
    PHONE_RESPONSE_UUID,
    PHONE_SERVICE_UUID,
    UNCLAIMED_LOCK_UUID,
)
from gatewayd.adapters.virtual_radio.link import RadioLink
from gatewayd.ports import RadioError

LAST_HANDLE = 0xFFFF
NOTIFY = b"\x01\x00"  # Core Vol 3 Part G 3.3.3.3


@dataclass(frozen=True, slots=True)
class GattService:
    """UUIDs of one relation's service: requests in, responses out, facts for anybody.

    `advertised` stands in the advertisement instead of the service's where it is not the same.
    """

    service: str
    request: str
    response: str
    info: str
    advertised: str = ""


PHONE = GattService(PHONE_SERVICE_UUID, PHONE_REQUEST_UUID, PHONE_RESPONSE_UUID, PHONE_INFO_UUID)
LOCK = GattService(LOCK_SERVICE_UUID, LOCK_REQUEST_UUID, LOCK_RESPONSE_UUID, LOCK_INFO_UUID)
UNCLAIMED = replace(LOCK, advertised=UNCLAIMED_LOCK_UUID)


@dataclass(frozen=True, slots=True)
class Handles:
    """Where a peer keeps the characteristics."""

    request: int
    response: int
    subscription: int


Answer = TypeVar("Answer", bound=att.ATT_PDU)


class AttRefusedError(Exception):
    """The peer answered a request with an error, or with something else than was asked."""


def advertising_data(service: GattService) -> bytes:
    """Flags and the service UUID, nothing else: iOS wakes on nothing else in the background."""
    return bytes(
        AdvertisingData(
            [
                (AdvertisingData.FLAGS, b"\x06"),  # general discoverable, no BR/EDR
                (
                    AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
                    UUID(service.advertised or service.service).to_bytes(),
                ),
            ]
        )
    )


def scan_response(name: str) -> bytes:
    """The name, for people; peers must not need it."""
    encoded = name.encode()[:29]
    return bytes(AdvertisingData([(AdvertisingData.COMPLETE_LOCAL_NAME, encoded)]))


def advertises(data: AdvertisingData, service: GattService) -> bool:
    """Whether an advertisement is one of the service."""
    wanted = UUID(service.advertised or service.service).to_bytes()
    lists = data.get_all(
        AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, raw=True
    ) + data.get_all(AdvertisingData.INCOMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, raw=True)
    return any(wanted in bytes(value) for value in lists)


@dataclass(frozen=True, slots=True)
class ServedTable:
    """What a GATT server serves."""

    service: gatt.Service
    response: gatt.Characteristic[bytes]


def serve(
    uuids: GattService, info: bytes, written: Callable[[Connection, bytes], None]
) -> ServedTable:
    """The frozen table; `written` is called with every value written to `request`."""
    properties = gatt.Characteristic.Properties
    request: gatt.Characteristic[bytes] = gatt.Characteristic(
        uuids.request,
        properties.WRITE | properties.WRITE_WITHOUT_RESPONSE,
        gatt.Characteristic.WRITEABLE,
        gatt.CharacteristicValue(write=written),
    )
    response: gatt.Characteristic[bytes] = gatt.Characteristic(
        uuids.response, properties.NOTIFY, gatt.Characteristic.Permissions(0), b""
    )
    facts: gatt.Characteristic[bytes] = gatt.Characteristic(
        uuids.info, properties.READ, gatt.Characteristic.READABLE, info
    )
    return ServedTable(gatt.Service(uuids.service, [request, response, facts]), response)


class GattClient:
    """The central's end of ATT on one link: set up, then write and be notified."""

    link: RadioLink  # given right after it is made: each of the two needs the other

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._answer: asyncio.Future[att.ATT_PDU] | None = None
        self._handles: Handles | None = None

    async def set_up(self, uuids: GattService, mtu: int, known: Handles | None) -> Handles:
        """Exchange the MTU, find the table unless `known`, subscribe.

        Raises:
            AttRefusedError: the peer does not serve this table (any more).
            RadioError: the link died meanwhile.
        """
        counted = self.link.exchanges
        counted.mtu_exchanges += 1
        answer = await self._ask(
            att.ATT_Exchange_MTU_Request(client_rx_mtu=mtu), att.ATT_Exchange_MTU_Response
        )
        agreed = min(mtu, answer.server_rx_mtu)
        self._connection.on_att_mtu_update(max(MIN_ATT_MTU, min(agreed, MAX_ATT_MTU)))
        handles = known or await self._discover(uuids)
        self._handles = handles  # a notification may overtake the answer
        counted.subscribes += 1
        await self._ask(
            att.ATT_Write_Request(attribute_handle=handles.subscription, attribute_value=NOTIFY),
            att.ATT_Write_Response,
        )
        return handles

    async def _discover(self, uuids: GattService) -> Handles:
        """Core Vol 3 Part G 4.4.2 and 4.6.1, stopping as soon as everything is found."""
        start, end = await self._find_service(UUID(uuids.service))
        found = await self._find_characteristics(start, end)
        request = found.get(bytes(UUID(uuids.request).to_bytes()))
        response = found.get(bytes(UUID(uuids.response).to_bytes()))
        if request is None or response is None:
            raise AttRefusedError("a characteristic is missing")
        last = min((h - 2 for h in found.values() if h > response), default=end)
        return Handles(request, response, await self._find_subscription(response + 1, last))

    async def _find_service(self, uuid: UUID) -> tuple[int, int]:
        self.link.exchanges.discoveries += 1
        answer = await self._ask(
            att.ATT_Find_By_Type_Value_Request(
                starting_handle=1,
                ending_handle=LAST_HANDLE,
                attribute_type=gatt.GATT_PRIMARY_SERVICE_ATTRIBUTE_TYPE,
                attribute_value=uuid.to_pdu_bytes(),
            ),
            att.ATT_Find_By_Type_Value_Response,
        )
        if not answer.handles_information:
            raise AttRefusedError("no such service")
        return answer.handles_information[0]

    async def _find_characteristics(self, start: int, end: int) -> dict[bytes, int]:
        """Value handles by UUID. At MTU 23 an answer holds one characteristic only."""
        found: dict[bytes, int] = {}
        while len(found) < 3 and start <= end:  # noqa: PLR2004 - the table has three
            self.link.exchanges.discoveries += 1
            answer = await self._ask(
                att.ATT_Read_By_Type_Request(
                    starting_handle=start,
                    ending_handle=end,
                    attribute_type=gatt.GATT_CHARACTERISTIC_ATTRIBUTE_TYPE,
                ),
                att.ATT_Read_By_Type_Response,
            )
            if not answer.attributes:
                break
            for declaration, value in answer.attributes:
                _properties, handle = struct.unpack_from("<BH", value)
                found[bytes(value[3:])] = handle
                start = declaration + 1
        return found

    async def _find_subscription(self, start: int, end: int) -> int:
        self.link.exchanges.discoveries += 1
        answer = await self._ask(
            att.ATT_Find_Information_Request(starting_handle=start, ending_handle=end),
            att.ATT_Find_Information_Response,
        )
        wanted = gatt.GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR.to_pdu_bytes()
        for handle, uuid in answer.information:
            if uuid == wanted:
                return int(handle)
        raise AttRefusedError("responses cannot be subscribed to")

    async def _ask(self, request: att.ATT_PDU, kind: type[Answer]) -> Answer:
        """One ATT round trip (Core Vol 3 Part F 3.3.2: one request at a time)."""
        if self.link.closed:
            raise RadioError(f"{self.link.peer} hung up")
        self.link.exchanges.att_requests += 1
        self._answer = asyncio.get_running_loop().create_future()
        try:
            self._send(request)
            answer = await self._answer
        finally:
            self._answer = None
        if not isinstance(answer, kind):
            raise AttRefusedError(f"{request.name} answered with {answer.name}")
        return answer

    def _send(self, pdu: att.ATT_PDU) -> None:
        self._connection.send_l2cap_pdu(att.ATT_CID, bytes(pdu))

    def write(self, fragment: bytes) -> None:
        """Write without response: the link layer delivers, an answer would cost an interval."""
        if self._handles is not None:
            self.link.exchanges.writes += 1
            self._send(att.ATT_Write_Command(self._handles.request, fragment))

    def on_pdu(self, pdu: att.ATT_PDU) -> None:
        """The server sent something."""
        match pdu:
            case att.ATT_Handle_Value_Notification():
                if self._handles and pdu.attribute_handle == self._handles.response:
                    self.link.exchanges.notifications += 1
                    self.link.arrived(bytes(pdu.attribute_value))
            case _ if pdu.op_code in att.ATT_RESPONSES:
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(pdu)

    def on_gone(self) -> None:
        """The link died: nobody will answer any more."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(RadioError(f"{self.link.peer} hung up"))
