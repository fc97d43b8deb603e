"""The GATT table as bumble's own client sees it, what a dial costs, and peers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from bumble import att
from bumble.core import UUID
from bumble.device import Device, Peer
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.hci import Address
from bumble.host import Host
from bumble.transport.common import AsyncPipeSink

from firmware_proto import codes
from gatewayd.adapters.virtual_radio import (
    INSTANT,
    LOCK,
    PHONE,
    AirController,
    Exchanges,
    Radio,
    RadioOptions,
    VirtualAir,
    open_radio,
)
from gatewayd.adapters.virtual_radio.gatt import Handles
from gatewayd.ports import LinkClosedError, RadioError
from tests.support.worlds import GATEWAY, LOCK_1, PHONE_1

STRANGER = "F0:00:00:00:09:09"


@pytest.fixture
async def radios() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def air() -> VirtualAir:
    return VirtualAir(INSTANT)


async def gateway_on(air: VirtualAir, radios: AsyncExitStack, **options: object) -> Radio:
    return await radios.enter_async_context(
        open_radio(
            AirController(air, "00:00:00:00:00:01"),
            address=GATEWAY,
            serves=PHONE,
            options=RadioOptions(**options),
        )
    )


async def phone_on(air: VirtualAir, radios: AsyncExitStack, **options: object) -> Radio:
    return await radios.enter_async_context(
        open_radio(
            AirController(air, "00:00:00:00:01:01"),
            address=PHONE_1,
            dials=PHONE,
            options=RadioOptions(**({"dial_s": 2.0} | options)),
        )
    )


async def stranger_on(air: VirtualAir) -> Device:
    """bumble as it comes, with its own GATT client and server."""
    station = AirController(air, "00:00:00:00:09:09")
    device = Device(
        name="stranger", address=Address(STRANGER), host=Host(station, AsyncPipeSink(station))
    )
    await device.power_on()
    return device


async def test_the_table_is_frozen(air: VirtualAir, radios: AsyncExitStack):
    await gateway_on(air, radios, info=b"facts")
    peer = Peer(await (await stranger_on(air)).connect(Address(GATEWAY)))
    services = await peer.discover_services()
    [service] = [s for s in services if s.uuid == UUID(codes.PHONE_SERVICE_UUID)]
    found = await service.discover_characteristics()
    properties = Characteristic.Properties
    assert [(c.uuid, c.properties) for c in found] == [
        (UUID(codes.PHONE_REQUEST_UUID), properties.WRITE | properties.WRITE_WITHOUT_RESPONSE),
        (UUID(codes.PHONE_RESPONSE_UUID), properties.NOTIFY),
        (UUID(codes.PHONE_INFO_UUID), properties.READ),
    ]
    assert await found[2].read_value() == b"facts"
    assert (LOCK.service, LOCK.request, LOCK.response, LOCK.info) == (
        codes.LOCK_SERVICE_UUID,
        codes.LOCK_REQUEST_UUID,
        codes.LOCK_RESPONSE_UUID,
        codes.LOCK_INFO_UUID,
    )


async def test_an_independent_client_is_served(air: VirtualAir, radios: AsyncExitStack):
    gateway = await gateway_on(air, radios)
    peer = Peer(await (await stranger_on(air)).connect(Address(GATEWAY)))
    await peer.request_mtu(185)
    await peer.discover_services([UUID(PHONE.service)])
    await peer.discover_characteristics()
    [request] = peer.get_characteristics_by_uuid(UUID(PHONE.request))
    [response] = peer.get_characteristics_by_uuid(UUID(PHONE.response))
    answers: asyncio.Queue[bytes] = asyncio.Queue()
    await response.subscribe(answers.put_nowait)
    link = await gateway.peripheral.accept()
    assert link.mtu == 185
    await request.write_value(b"with response", with_response=True)
    await request.write_value(b"without")
    assert [await link.read(), await link.read()] == [b"with response", b"without"]
    await link.write(b"notified")
    assert await answers.get() == b"notified"
    assert link.exchanges == Exchanges(subscribes=1, writes=2, notifications=1)
    await response.unsubscribe(answers.put_nowait)
    with pytest.raises(LinkClosedError):  # it cannot be answered any more
        await link.read()


async def test_an_independent_server_is_used(air: VirtualAir, radios: AsyncExitStack):
    device = await stranger_on(air)
    written: list[bytes] = []
    properties = Characteristic.Properties
    response = Characteristic(UUID(PHONE.response), properties.NOTIFY, Characteristic.READABLE, b"")
    table = [  # another order, and handles that are elsewhere
        Characteristic(UUID(PHONE.info), properties.READ, Characteristic.READABLE, b"info"),
        response,
        Characteristic(
            UUID(PHONE.request),
            properties.WRITE_WITHOUT_RESPONSE,
            Characteristic.WRITEABLE,
            CharacteristicValue(write=lambda _connection, value: written.append(value)),
        ),
    ]
    device.add_service(Service(UUID(PHONE.service), table))
    await device.start_advertising(advertising_interval_min=20, advertising_interval_max=20)
    phone = await phone_on(air, radios)
    link = await phone.central.dial(STRANGER)
    await link.write(b"hello")
    await device.notify_subscribers(response, b"hello yourself")
    assert await link.read() == b"hello yourself"
    assert written == [b"hello"]


@pytest.mark.parametrize(
    ("mtu", "discoveries"),
    [(517, 3), (185, 3), (23, 5)],  # at MTU 23 every characteristic needs an answer of its own
)
async def test_what_a_dial_costs(
    air: VirtualAir, radios: AsyncExitStack, mtu: int, discoveries: int
):
    gateway = await gateway_on(air, radios, mtu=mtu)
    phone = await phone_on(air, radios, mtu=517)
    cold = await phone.central.dial(GATEWAY)
    await gateway.peripheral.accept()
    assert cold.exchanges == Exchanges(
        mtu_exchanges=1, discoveries=discoveries, subscribes=1, att_requests=discoveries + 2
    )
    await cold.close()
    warm = await phone.central.dial(GATEWAY)
    served = await gateway.peripheral.accept()
    await warm.write(b"ask")
    await served.read()
    await served.write(b"answer")
    await warm.read()
    assert warm.exchanges == Exchanges(
        mtu_exchanges=1, subscribes=1, att_requests=2, writes=1, notifications=1
    )


async def test_a_table_that_moved_is_found_again(air: VirtualAir, radios: AsyncExitStack):
    gateway = await gateway_on(air, radios)
    phone = await phone_on(air, radios)
    central = phone.central
    central._known[GATEWAY] = Handles(request=1, response=2, subscription=0x7FFF)
    link = await central.dial(GATEWAY)
    assert link.exchanges.discoveries == 3
    await link.write(b"found")
    assert await (await gateway.peripheral.accept()).read() == b"found"


async def test_a_table_with_something_missing_is_refused(air: VirtualAir, radios: AsyncExitStack):
    device = await stranger_on(air)
    properties = Characteristic.Properties
    request = Characteristic(UUID(PHONE.request), properties.WRITE, Characteristic.WRITEABLE, b"")
    device.add_service(Service(UUID(PHONE.service), [request]))
    await device.start_advertising(
        advertising_interval_min=20, advertising_interval_max=20, auto_restart=True
    )
    phone = await phone_on(air, radios)
    with pytest.raises(RadioError, match="answered"):  # "attribute not found" for the rest
        await phone.central.dial(STRANGER)
    response = Characteristic(UUID(PHONE.response), properties.READ, Characteristic.READABLE, b"")
    info = Characteristic(UUID(PHONE.info), properties.READ, Characteristic.READABLE, b"")
    device.gatt_server.attributes.clear()
    device.gatt_server.attributes_by_handle.clear()
    device.add_service(Service(UUID(PHONE.service), [request, response, info]))
    with pytest.raises(RadioError):  # nothing to subscribe to
        await phone.central.dial(STRANGER)
    device.gatt_server.attributes.clear()
    device.gatt_server.attributes_by_handle.clear()
    device.add_service(Service(UUID(PHONE.service), [request, info, info]))
    with pytest.raises(RadioError):
        await phone.central.dial(STRANGER)
    assert phone.links == []


@pytest.mark.parametrize("address", ["", "front door", "F0:00:00:00:00"])
async def test_no_address_at_all(air: VirtualAir, radios: AsyncExitStack, address: str):
    phone = await phone_on(air, radios)
    with pytest.raises(RadioError, match="no address"):
        await phone.central.dial(address)


async def test_a_central_that_never_subscribes_loses_its_place(
    air: VirtualAir, radios: AsyncExitStack
):
    gateway = await gateway_on(air, radios, link_cap=1, subscribe_s=0.2)
    connection = await (await stranger_on(air)).connect(Address(GATEWAY))
    gone = asyncio.Event()
    connection.on("disconnection", lambda _reason: gone.set())
    phone = await phone_on(air, radios)
    waiting = asyncio.create_task(phone.central.dial(GATEWAY))
    await gone.wait()
    await waiting
    assert (await gateway.peripheral.accept()).peer == PHONE_1


@pytest.mark.parametrize(
    "junk",
    [b"", b"\xff", b"\x01", b"\x02\x05", b"\x52", b"\x52\x00", b"\x06\x01", b"\x1e", bytes(600)],
)
async def test_junk_on_the_attribute_channel_harms_only_its_sender(
    air: VirtualAir, radios: AsyncExitStack, junk: bytes
):
    gateway = await gateway_on(air, radios)
    phone = await phone_on(air, radios)
    link = await phone.central.dial(GATEWAY)
    served = await gateway.peripheral.accept()
    connection = await (await stranger_on(air)).connect(Address(GATEWAY))
    connection.send_l2cap_pdu(att.ATT_CID, junk)
    await asyncio.sleep(0.02)
    await link.write(b"undisturbed")
    assert await served.read() == b"undisturbed"


async def test_junk_from_a_server_costs_the_link(air: VirtualAir, radios: AsyncExitStack):
    gateway = await gateway_on(air, radios)
    phone = await phone_on(air, radios)
    link = await phone.central.dial(GATEWAY)
    served = await gateway.peripheral.accept()
    for ignored in (
        bytes(att.ATT_Write_Response()),  # nobody asked
        bytes(att.ATT_Handle_Value_Notification(0x7777, b"nobody subscribed")),
        bytes(att.ATT_Handle_Value_Indication(0x7777, b"nobody subscribed")),
        b"\xff from another century",
    ):
        served._connection.send_l2cap_pdu(att.ATT_CID, ignored)
    await served.write(b"after all that")
    assert await link.read() == b"after all that"
    served._connection.send_l2cap_pdu(att.ATT_CID, b"\x1b\x01")  # cut short
    with pytest.raises(LinkClosedError):
        await link.read()


async def test_a_visitor_beyond_the_cap_is_sent_away(air: VirtualAir, radios: AsyncExitStack):
    """The controller may take one more than the host wants: advertising stops a moment late."""
    gateway = await gateway_on(air, radios, link_cap=1)
    device = gateway._stack._device
    phone = await phone_on(air, radios)
    await phone.central.dial(GATEWAY)
    await gateway.peripheral.accept()
    assert not device.host.controller.sink.le_legacy_advertiser.enabled  # type: ignore[union-attr]
    await device.start_advertising(advertising_interval_min=20, advertising_interval_max=20)
    connection = await (await stranger_on(air)).connect(Address(GATEWAY))
    gone = asyncio.Event()
    connection.on("disconnection", lambda _reason: gone.set())
    await gone.wait()
    assert [link.peer for link in gateway.links] == [PHONE_1]


async def test_a_radio_without_a_relation_serves_nobody(air: VirtualAir, radios: AsyncExitStack):
    phone = await phone_on(air, radios)
    device = phone._stack._device
    await device.start_advertising(advertising_interval_min=20, advertising_interval_max=20)
    connection = await (await stranger_on(air)).connect(Address(PHONE_1))
    gone = asyncio.Event()
    connection.on("disconnection", lambda _reason: gone.set())
    await gone.wait()
    assert phone.links == []
    assert LOCK_1 not in await phone.central.scan(0.01)
