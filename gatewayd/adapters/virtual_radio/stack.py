"""bumble's host and device, run by a few named tasks, with every link accounted for.

Events of the stack are taken synchronously; what follows from them (initiate,
advertise, hang up) is done by the task that owns it. When the controller is
gone every link dies and everyone who waits gets a RadioError.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from bumble import att, hci
from bumble.core import BaseBumbleError
from bumble.device import Advertisement, Connection, Device, DeviceConfiguration

from firmware_proto.codes import MAX_ATT_MTU
from gatewayd.adapters.virtual_radio import gatt
from gatewayd.adapters.virtual_radio.advertiser import Advertiser
from gatewayd.adapters.virtual_radio.bumble_host import BumbleHost
from gatewayd.adapters.virtual_radio.gatt import GattClient, GattService
from gatewayd.adapters.virtual_radio.initiator import Initiator
from gatewayd.adapters.virtual_radio.link import RadioLink
from gatewayd.ports import RadioError
from gatewayd.ports.radio import Sighting

_log = logging.getLogger(__name__)

POWER_ON_S = 5.0
POWER_OFF_S = 1.0
SUBSCRIPTION = "characteristic_subscription"


@dataclass(frozen=True, slots=True)
class RadioOptions:
    """What a radio asks for; the air may be modelled otherwise.

    link_cap: centrals served at once. subscribe_s: how long a central may hold one of those
    places without subscribing; hurried_s: the same while none of several is free. dial_s: after how
    long a dial fails, all steps together. turn_s: after how long one dial lets the next one try;
    longer than the longest advertising interval.
    """

    name: str = "gatewayd"
    info: bytes = b""
    link_cap: int = 4
    mtu: int = MAX_ATT_MTU
    advertising_interval_ms: tuple[float, float] = (100.0, 152.5)
    connection_interval_ms: float = 30.0
    supervision_timeout_ms: int = 4000
    subscribe_s: float = 5.0
    hurried_s: float = 0.7
    dial_s: float = 8.0
    turn_s: float = 1.5


class Stack:
    """The host side of one radio."""

    def __init__(
        self, host: BumbleHost, address: str, serves: GattService | None, options: RadioOptions
    ) -> None:
        self.options = options
        self.links: dict[int, RadioLink] = {}
        self._host = host
        config = DeviceConfiguration(name=options.name, address=hci.Address(address))
        self._device = Device(config=config, host=host)
        # every central connection uses the random address; bumble asks when one comes about
        self._device.connect_own_address_type = hci.OwnAddressType.RANDOM
        self._clients: dict[int, GattClient] = {}
        self._served: set[int] = set()
        self._deadlines: dict[int, asyncio.TimerHandle] = {}
        self._connected_s: dict[int, float] = {}
        self._arrivals: asyncio.Queue[RadioLink | None] = asyncio.Queue()
        self._to_hang_up: asyncio.Queue[Connection] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._lost: RadioError | None = None
        self._lost_event = asyncio.Event()
        self._initiator = Initiator(
            self._device,
            options.connection_interval_ms,
            options.supervision_timeout_ms,
            options.turn_s,
        )
        self._table = gatt.serve(serves, options.info, self._written) if serves else None
        self._advertiser: Advertiser | None = None
        if serves is not None:
            data, answer = gatt.advertising_data(serves), gatt.scan_response(options.name)
            self._advertiser = Advertiser(
                self._device, data, answer, options.advertising_interval_ms, self._has_room
            )

    # --- life -----------------------------------------------------------------------------
    async def start(self) -> None:
        """Power on and begin to advertise. RadioError when the controller does not answer."""
        device = self._device
        device.gatt_server.max_mtu = self.options.mtu
        if self._table is not None:
            device.add_service(self._table.service)
        device.l2cap_channel_manager.register_fixed_channel(att.ATT_CID, self._on_att_pdu)
        device.gatt_server.on(SUBSCRIPTION, self._on_subscription)
        device.on(device.EVENT_CONNECTION, self._on_connection)
        device.on(device.EVENT_CONNECTION_FAILURE, self._on_connection_failure)
        self._host.packets_left = self._on_packets_left
        try:
            async with asyncio.timeout(POWER_ON_S):
                await device.power_on()
        except (TimeoutError, BaseBumbleError) as error:
            self.lose(RadioError(f"the controller does not start: {error!r}"))
            raise RadioError(f"the controller does not start: {error!r}") from error
        self._spawn("initiator", self._initiator.run())
        self._spawn("hang-up", self._hang_up_all())
        if self._advertiser is not None:
            self._spawn("advertiser", self._advertiser.run())

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        async def supervised() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - a dead task means a dead radio, said so
                if self._lost is None:
                    _log.exception("radio task %s failed", name)
                self.lose(RadioError(f"the radio stopped working: {error!r}"))

        self._tasks.append(asyncio.create_task(supervised(), name=f"radio {name}"))

    async def stop(self) -> None:
        """Disconnect everything, stop the tasks, leave the controller reset."""
        self._closing = True
        if self._advertiser is not None:
            self._advertiser.links_changed()
        if self._lost is None:
            async with asyncio.TaskGroup() as group:
                for link in list(self.links.values()):
                    group.create_task(link.close(), name=f"close {link.peer}")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lost is None:
            try:
                async with asyncio.timeout(POWER_OFF_S):
                    await self._device.send_sync_command(hci.HCI_Reset_Command())
            except (TimeoutError, BaseBumbleError):
                _log.warning("the controller did not answer the last reset")
        self.lose(RadioError("the radio is closed"))
        await self._host.wait_idle()

    def lose(self, error: RadioError) -> None:
        """No more controller: tell everyone. Only the first call counts."""
        if self._lost is not None:
            return
        self._lost = error
        self._lost_event.set()
        self._host.abandon()
        for handle in list(self.links):
            self._forget(handle, None)
        self._initiator.lose(error)
        self._arrivals.put_nowait(None)

    # --- for the ports --------------------------------------------------------------------
    async def next_arrival(self) -> RadioLink:
        """The next central that subscribed. RadioError once the controller is gone."""
        arrival = await self._arrivals.get()
        if arrival is None:
            self._arrivals.put_nowait(None)  # for whoever asks next
            raise self._lost or RadioError("the radio is closed")
        return arrival

    async def connect(self, peer: hci.Address) -> GattClient:
        """A connection as central, not yet set up. There is one per pair of radios at most."""
        if any(link.is_with(peer) and not link.closed for link in self.links.values()):
            raise RadioError(f"{peer} is connected already")
        return await self._initiator.connect(peer)

    async def look(
        self, service: GattService, seconds: float, heard: Callable[[Sighting], None]
    ) -> Sequence[Sighting]:
        """Listen for `seconds`; who advertises `service`, strongest first."""
        if self._lost is not None:
            raise self._lost
        seen: dict[str, Sighting] = {}

        def on_advertisement(advertisement: Advertisement) -> None:
            if gatt.advertises(advertisement.data, service):
                address = str(advertisement.address)  # a public one says so
                seen[address] = Sighting(address, advertisement.rssi)
                heard(seen[address])

        device = self._device
        device.on(device.EVENT_ADVERTISEMENT, on_advertisement)
        try:
            await device.start_scanning(legacy=True, active=False)
            async with asyncio.timeout(seconds):
                await self._lost_event.wait()
        except TimeoutError:
            pass  # the time is up
        finally:
            device.remove_listener(device.EVENT_ADVERTISEMENT, on_advertisement)
            if self._lost is None:
                await device.stop_scanning(legacy=True)
        if self._lost is not None:
            raise self._lost
        return sorted(seen.values(), key=lambda sighting: -(sighting.strength_dbm or 0))

    # --- connections ----------------------------------------------------------------------
    def _has_room(self) -> bool:
        return not self._closing and len(self._served) < self.options.link_cap

    def _on_connection(self, connection: Connection) -> None:
        handle = connection.handle
        connection.once(connection.EVENT_DISCONNECTION, lambda reason: self._forget(handle, reason))
        if connection.role == hci.Role.CENTRAL:
            self._initiated(connection)
        else:
            self._visited(connection)

    def _initiated(self, connection: Connection) -> None:
        client = GattClient(connection)
        client.link = self._make_link(connection, client.write)
        self._clients[connection.handle] = client
        self._initiator.connected(client)

    def _visited(self, connection: Connection) -> None:
        link = self._make_link(connection, lambda fragment: self._notify(connection, fragment))
        if self._advertiser is None or not self._has_room():
            link.drop()
            return
        self._served.add(connection.handle)
        self._connected_s[connection.handle] = asyncio.get_running_loop().time()
        self._deadlines[connection.handle] = asyncio.get_running_loop().call_later(
            self.options.subscribe_s, link.drop
        )
        self._advertiser.links_changed(stopped=True)
        # a lock has one place: BlueZ takes two seconds to discover it, and nobody is faster
        if not self._has_room() and self.options.link_cap > 1:
            self._hurry()

    def _hurry(self) -> None:
        """No place is free: whoever does not subscribe may not keep one for long."""
        loop = asyncio.get_running_loop()
        for handle, deadline in list(self._deadlines.items()):
            hurried = self._connected_s[handle] + self.options.hurried_s
            if hurried < deadline.when():
                deadline.cancel()
                self._deadlines[handle] = loop.call_at(hurried, self.links[handle].drop)

    def _make_link(self, connection: Connection, transmit: Callable[[bytes], None]) -> RadioLink:
        queue = self._host.get_data_packet_queue(connection.handle)
        packet_bytes = 27 if queue is None else queue.max_packet_size
        link = RadioLink(connection, transmit, self._to_hang_up.put_nowait, packet_bytes)
        self.links[connection.handle] = link
        return link

    def _forget(self, handle: int, reason: int | None) -> None:
        if link := self.links.pop(handle, None):
            link.ended(reason)
        if client := self._clients.pop(handle, None):
            client.on_gone()
        if deadline := self._deadlines.pop(handle, None):
            deadline.cancel()
        self._connected_s.pop(handle, None)
        self._served.discard(handle)
        if self._advertiser is not None:
            self._advertiser.links_changed()

    def _on_connection_failure(self, _error: Exception) -> None:
        self._initiator.failed()

    async def _hang_up_all(self) -> None:
        while True:
            connection = await self._to_hang_up.get()
            if self._device.connections.get(connection.handle) is not connection:
                continue
            try:
                await self._device.send_async_command(
                    hci.HCI_Disconnect_Command(
                        connection_handle=connection.handle,
                        reason=hci.HCI_REMOTE_USER_TERMINATED_CONNECTION_ERROR,
                    )
                )
            except hci.HCI_Error as error:
                self._forget(connection.handle, error.error_code)  # the controller knows it not

    # --- data -----------------------------------------------------------------------------
    def _on_packets_left(self, handle: int, count: int) -> None:
        if link := self.links.get(handle):
            link.sent(count)

    def _on_att_pdu(self, handle: int, pdu: bytes) -> None:
        client, link = self._clients.get(handle), self.links.get(handle)
        try:
            if client is not None and pdu[0] & 1:  # odd: from the server
                client.on_pdu(att.ATT_PDU.from_bytes(pdu))
            else:
                self._device.on_gatt_pdu(handle, pdu)
        except (BaseBumbleError, ValueError, IndexError, struct.error):
            if link is not None:
                link.drop()  # speaks no ATT

    def _written(self, connection: Connection, value: bytes) -> None:
        if link := self.links.get(connection.handle):
            link.exchanges.writes += 1
            link.arrived(bytes(value))

    def _on_subscription(
        self, connection: Connection, characteristic: object, notify: bool, _indicate: bool
    ) -> None:
        link = self.links.get(connection.handle)
        if link is None or self._table is None or characteristic is not self._table.response:
            return
        if not notify:
            link.drop()  # it cannot be answered any more
        elif deadline := self._deadlines.pop(connection.handle, None):
            deadline.cancel()
            link.exchanges.subscribes += 1
            self._arrivals.put_nowait(link)

    def _notify(self, connection: Connection, fragment: bytes) -> None:
        if self._table is not None and (link := self.links.get(connection.handle)):
            link.exchanges.notifications += 1
            self._device.gatt_server.send_gatt_pdu(
                connection,
                bytes(att.ATT_Handle_Value_Notification(self._table.response.handle, fragment)),
            )
