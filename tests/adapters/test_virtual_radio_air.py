"""The model of the air: connection events, losses, sleeping advertisers, crowds, caps, silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from bumble import controller, hci, ll
from bumble.host import Host
from bumble.transport.common import AsyncPipeSink

from gatewayd.adapters.virtual_radio import (
    INSTANT,
    LOCK,
    PHONE,
    AirController,
    AirModel,
    GattService,
    Radio,
    RadioLink,
    RadioOptions,
    VirtualAir,
    open_radio,
)
from gatewayd.adapters.virtual_radio.air import AirConnection, _Pipe
from gatewayd.adapters.virtual_radio.controller import _station as station_of
from gatewayd.adapters.virtual_radio.gatt import advertising_data
from gatewayd.ports import LinkClosedError, RadioError
from tests.support.worlds import GATEWAY, LOCK_1, LOCK_2, PHONE_1


class Place:
    """An air with radios on it."""

    def __init__(self, radios: AsyncExitStack) -> None:
        self._radios = radios
        self.air = VirtualAir(INSTANT)
        self.controllers: dict[str, AirController] = {}

    def model(self, **changes: float | None) -> None:
        self.air.model = replace(INSTANT, **changes)

    async def radio(
        self,
        address: str,
        serves: GattService | None = None,
        dials: GattService | None = None,
        **options: object,
    ) -> Radio:
        station = AirController(self.air, f"00:00:00:00:00:{len(self.controllers) + 1:02X}")
        self.controllers[address] = station
        return await self._radios.enter_async_context(
            open_radio(
                station,
                address=address,
                serves=serves,
                dials=dials,
                options=RadioOptions(**({"dial_s": 30.0} | options)),
            )
        )

    async def pair(self, **options: object) -> tuple[RadioLink, RadioLink]:
        gateway = await self.radio(GATEWAY, serves=PHONE, **options)
        phone = await self.radio(PHONE_1, dials=PHONE, **options)
        return await phone.central.dial(GATEWAY), await gateway.peripheral.accept()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with AsyncExitStack() as radios:
        yield Place(radios)


async def timed(link: RadioLink, other: RadioLink, fragments: list[bytes]) -> float:
    """Seconds until all fragments were read at the other end, in order."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(read_some(other, len(fragments)))
        for fragment in fragments:
            await link.write(fragment)
    assert reader.result() == fragments
    return loop.time() - start


async def read_some(link: RadioLink, count: int) -> list[bytes]:
    return [await link.read() for _ in range(count)]


async def until_visited(radio: Radio) -> None:
    for _ in range(5000):
        if radio.links:
            return
        await asyncio.sleep(0.001)
    pytest.fail("nobody connected")


async def test_a_round_trip_takes_connection_events(place: Place):
    place.model(connection_interval_s=0.04)
    phone, gateway = await place.pair()
    loop = asyncio.get_running_loop()
    start = loop.time()
    for _ in range(5):
        await phone.write(b"ask")
        await gateway.read()
        await gateway.write(b"answer")
        await phone.read()
    # a question just after an event waits for the next, and so does its answer
    assert loop.time() - start >= 5 * 2 * 0.04 - 0.04


async def test_one_flight_of_two_fragments_takes_one_event(place: Place):
    place.model(connection_interval_s=0.06)
    phone, gateway = await place.pair()
    await phone.write(bytes(500))
    await phone.write(bytes(500))
    await gateway.read()
    loop = asyncio.get_running_loop()
    start = loop.time()
    await gateway.read()
    assert loop.time() - start < 0.03


async def test_an_event_holds_six_packets(place: Place):
    place.model(connection_interval_s=0.05)
    phone, gateway = await place.pair()
    # 13 packets of 251 bytes: three events
    assert await timed(phone, gateway, [bytes([n]) * 100 for n in range(13)]) >= 0.1


async def test_the_schedule_of_events():
    air = VirtualAir(AirModel(packets_per_event=6))
    request = ll.ConnectInd(hci.Address(PHONE_1), hci.Address(GATEWAY), 80, 0, 400)
    connection = AirConnection(air, AirController(air, "00:00:00:00:00:01"), request)
    assert (connection.interval_s, connection.supervision_s) == (0.1, 4.0)
    zero = connection.next_event(connection._anchor) - 0.1
    pipe = _Pipe(connection)

    def scheduled(at: float, packets: int) -> float:
        return round((pipe._schedule(zero + at, packets) - zero) / 0.1, 6)

    assert scheduled(0.01, 1) == 1  # waits for the next event
    assert scheduled(0.02, 4) == 1  # shares it
    assert scheduled(0.03, 1) == 1  # the sixth
    assert scheduled(0.04, 1) == 2  # no more room
    assert scheduled(0.05, 6) == 3  # its last packet decides
    assert scheduled(0.15, 1) == 3  # never before what was handed over earlier
    assert scheduled(0.55, 13) == 8


async def test_intervals_are_those_that_the_central_asked_for(place: Place):
    place.model(connection_interval_s=None)
    phone, gateway = await place.pair(connection_interval_ms=50.0)
    loop = asyncio.get_running_loop()
    start = loop.time()
    for _ in range(3):
        await phone.write(b"ask")
        await gateway.read()
        await gateway.write(b"answer")
        await phone.read()
    assert loop.time() - start >= 0.25


async def test_a_connection_update_changes_the_interval(place: Place):
    place.model(connection_interval_s=None)
    phone, gateway = await place.pair(connection_interval_ms=60.0)
    device = phone._connection.device
    await device.send_async_command(
        hci.HCI_LE_Connection_Update_Command(
            connection_handle=phone._connection.handle,
            connection_interval_min=8,
            connection_interval_max=8,
            max_latency=0,
            supervision_timeout=100,
            min_ce_length=0,
            max_ce_length=0,
        )
    )
    [connection] = place.controllers[GATEWAY]._connections()
    assert connection.air.interval_s == 0.01
    assert await timed(phone, gateway, [b"a"]) > 0


async def test_loss_delays_and_never_loses_or_reorders(place: Place):
    place.model(connection_interval_s=0.005, loss=0.4)
    phone, gateway = await place.pair()
    fragments = [bytes([n]) * (1 + n * 3 % 500) for n in range(60)]
    lossy, _ = await asyncio.gather(
        timed(phone, gateway, fragments), timed(gateway, phone, fragments)
    )
    assert lossy > 0.005 * 20


async def test_a_sleeping_lock_makes_a_dial_wait(place: Place):
    place.model(advertising_interval_s=None)
    gateway = await place.radio(GATEWAY, dials=LOCK)
    await place.radio(LOCK_1, serves=LOCK, advertising_interval_ms=(400.0, 400.0))
    await asyncio.sleep(0.05)  # the first advertisement is over
    loop = asyncio.get_running_loop()
    start = loop.time()
    await gateway.central.dial(LOCK_1)
    assert loop.time() - start >= 0.25


async def test_advertisements_can_be_missed(place: Place):
    place.model(loss=0.9, advertising_interval_s=0.01)
    gateway = await place.radio(GATEWAY, dials=LOCK)
    await place.radio(LOCK_1, serves=LOCK)
    loop = asyncio.get_running_loop()
    start = loop.time()
    await gateway.central.dial(LOCK_1)
    assert loop.time() - start > 0.02


async def test_a_crowd_answers_one_advertisement_and_all_get_their_turn(place: Place):
    gateway = await place.radio(GATEWAY, serves=PHONE, link_cap=20)
    phones = [await place.radio(f"F0:00:00:00:01:{n:02X}", dials=PHONE) for n in range(20)]
    reasons = []
    for phone in phones:
        device = phone._stack._device
        device.on(
            "connection",
            lambda connection: connection.on("disconnection", reasons.append),
        )
    links = await asyncio.gather(*(phone.central.dial(GATEWAY) for phone in phones))
    for link in links:
        await link.write(link.peer.encode())
    for _ in links:
        assert await (await gateway.peripheral.accept()).read() == GATEWAY.encode()
    assert set(reasons) == {0x3E}  # the others of each advertisement were told so
    assert place.controllers[GATEWAY].links == 20


async def test_a_controller_has_a_cap(place: Place):
    place.model(link_cap=1)
    gateway = await place.radio(GATEWAY, serves=PHONE, dials=LOCK)
    for address in (LOCK_1, LOCK_2):
        await place.radio(address, serves=LOCK)
    phone = await place.radio(PHONE_1, dials=PHONE, dial_s=0.3)
    link = await gateway.central.dial(LOCK_1)
    with pytest.raises(RadioError, match="refuses"):
        await gateway.central.dial(LOCK_2)
    with pytest.raises(RadioError, match="does not answer"):
        await phone.central.dial(GATEWAY)  # no room in the gateway's controller
    place.controllers[PHONE_1].vanish()  # it may not have heard yet that nobody wants it to connect
    await link.close()
    await gateway.central.dial(LOCK_2)


async def test_one_connection_per_pair(place: Place):
    gateway = await place.radio(GATEWAY, serves=PHONE)
    phone = await place.radio(PHONE_1, dials=PHONE)
    await phone.central.dial(GATEWAY)
    await gateway.peripheral.accept()
    with pytest.raises(RadioError, match="connected already"):
        await phone.central.dial(GATEWAY)


async def test_a_dropped_link_makes_way_for_a_new_one(place: Place):
    gateway = await place.radio(GATEWAY, serves=PHONE)
    phone = await place.radio(PHONE_1, dials=PHONE)
    for number in range(10):
        link = await phone.central.dial(GATEWAY)
        await link.write(bytes([number]))
        assert await (await gateway.peripheral.accept()).read() == bytes([number])
        link.drop()  # does not wait for the controller


async def test_silence_is_noticed_after_the_supervision_timeout(place: Place):
    place.model(supervision_timeout_s=None)
    phone, gateway = await place.pair(supervision_timeout_ms=300)
    loop = asyncio.get_running_loop()
    start = loop.time()
    place.controllers[PHONE_1].vanish()
    for link in (gateway, phone):
        with pytest.raises(LinkClosedError):
            await link.read()
        assert link.code == 0x08
    assert loop.time() - start >= 0.29


async def test_closing_towards_silence_ends(place: Place):
    place.model(supervision_timeout_s=5.0)
    phone, _ = await place.pair()
    place.controllers[GATEWAY].vanish()
    await phone.write(b"to nobody")
    loop = asyncio.get_running_loop()
    start = loop.time()
    await phone.close()
    assert loop.time() - start < 4.0
    assert place.controllers[PHONE_1].links == 0


@pytest.mark.parametrize("after_s", [0.0, 0.06, 0.12, 0.18])
@pytest.mark.parametrize("how", ["vanishes", "hangs up"])
async def test_a_dial_ends_with_its_connection(place: Place, after_s: float, how: str):
    place.model(connection_interval_s=0.02)
    gateway = await place.radio(GATEWAY, serves=PHONE)
    phone = await place.radio(PHONE_1, dials=PHONE, dial_s=20.0)
    dial = asyncio.create_task(phone.central.dial(GATEWAY))
    await until_visited(gateway)
    await asyncio.sleep(after_s)
    if how == "vanishes":
        place.controllers[GATEWAY].vanish()
    else:
        await gateway.links[0].close()
    with pytest.raises((RadioError, LinkClosedError)):
        await (await dial).read()
    place.controllers[GATEWAY].appear()
    link = await phone.central.dial(GATEWAY)
    place.controllers[GATEWAY].vanish()
    with pytest.raises(LinkClosedError):
        await link.read()
    place.controllers[GATEWAY].appear()
    # with a known table
    dial = asyncio.create_task(phone.central.dial(GATEWAY))
    await until_visited(gateway)
    await gateway.links[0].close()
    with pytest.raises((RadioError, LinkClosedError)):
        await (await dial).read()
    assert (await phone.central.dial(GATEWAY)).exchanges.discoveries == 0


async def test_a_reset_radio_is_missed_only_after_the_timeout(place: Place):
    phone, _gateway = await place.pair()
    place.controllers[GATEWAY].reset()
    assert place.controllers[GATEWAY].links == 0
    assert place.controllers[PHONE_1].links == 1
    with pytest.raises(LinkClosedError):
        await phone.read()
    assert phone.code == 0x08


async def test_scanning_is_sorted_by_strength_and_shows_the_name_only_in_the_response(
    place: Place,
):
    gateway = await place.radio(GATEWAY, dials=LOCK)
    for address, rssi in ((LOCK_1, -80), (LOCK_2, -40)):
        await place.radio(address, serves=LOCK, name=f"lock {rssi}")
        place.controllers[address].rssi = rssi
    assert list(await gateway.central.scan(0.05)) == [LOCK_2, LOCK_1]
    heard: dict[tuple[int, str], bytes] = {}
    device = gateway._stack._device
    device.host.on(
        "advertising_report",
        lambda report: heard.setdefault(
            (report.event_type, report.address.to_string(with_type_qualifier=False)), report.data
        ),
    )
    await device.start_scanning(legacy=True, active=True)
    await asyncio.sleep(0.05)
    await device.stop_scanning(legacy=True)
    # flags, then one list of 128-bit UUIDs, least significant byte first
    service = bytes.fromhex(LOCK.service.replace("-", ""))[::-1]
    assert heard[0, LOCK_1] == b"\x02\x01\x06" + b"\x11\x07" + service
    assert heard[4, LOCK_1] == b"\x09\x09lock -80"


async def test_what_is_heard_of_a_public_address_can_be_dialled(place: Place):
    gateway = await place.radio(GATEWAY, dials=LOCK)
    await gateway._stack._device.start_advertising(
        own_address_type=hci.OwnAddressType.PUBLIC, advertising_data=advertising_data(PHONE)
    )
    phone = await place.radio(PHONE_1, dials=PHONE)
    assert list(await phone.central.scan(0.3)) == ["00:00:00:00:00:01/P"]


async def test_a_cancelled_scan_stops_listening(place: Place):
    gateway = await place.radio(GATEWAY, dials=LOCK)
    for iterations in range(12):
        scan = asyncio.create_task(gateway.central.scan(5))
        for _ in range(iterations):
            await asyncio.sleep(0)
        scan.cancel()
        await asyncio.wait({scan})
        assert scan.cancelled()
        assert not place.controllers[GATEWAY].le_scan_enable
    assert list(await gateway.central.scan(0.01)) == []


async def test_what_a_host_may_not_ask(place: Place):
    await place.radio(GATEWAY, serves=PHONE)
    station = AirController(place.air, "00:00:00:00:03:01")
    host = Host(station, AsyncPipeSink(station))
    await host.reset()
    with pytest.raises(hci.HCI_Error) as caught:
        await host.send_async_command(hci.HCI_Disconnect_Command(connection_handle=7, reason=0x13))
    assert caught.value.error_code == hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR
    with pytest.raises(hci.HCI_Error) as caught:
        await host.send_sync_command(hci.HCI_LE_Create_Connection_Cancel_Command())
    assert caught.value.error_code == hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR
    station.close()


async def test_only_controllers_of_the_air_join_it():
    air = VirtualAir(AirModel())
    stranger = controller.Controller("bumble's own", link=air)
    with pytest.raises(TypeError, match="AirController"):
        station_of(stranger)
