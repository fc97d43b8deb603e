"""A controller on the virtual air: bumble's, mended where a real one behaves differently.

* the first initiator claims an advertiser, the others believe for six intervals
  and are then told 0x3E (Core Vol 6 Part B 4.5), as phones in a crowd are
* data is carried per connection, so that random and public addresses may mix
* buffers are returned when the link layer is done, not when they arrive
* cancel, reset, unknown handles and a cap on connections
* legacy advertising only, in the units of the standard, like the radio of a Pi
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from bumble import controller, hci, ll
from bumble.core import PhysicalTransport

from gatewayd.adapters.virtual_radio.air import AirConnection, VirtualAir

ADVERTISING_UNIT_S = 0.000625
LINK_LAYER_BYTES = 251
UNANSWERED_EVENTS = 6
STRONG_DBM = -50


@dataclass
class Advertisement(ll.AdvInd):
    """ADV_IND together with what an active scanner would be answered."""

    scan_response: bytes = b""
    rssi: int = STRONG_DBM


@dataclass
class Connection(controller.Connection):
    """bumble's connection, carried by an `AirConnection`."""

    air: AirConnection = field(kw_only=True)
    packets: int = 0

    def on_hci_acl_data_packet(self, packet: hci.HCI_AclDataPacket) -> None:
        """Collect the packets of one L2CAP PDU; they are acknowledged when it got across."""
        self.packets += 1
        self.assembler.feed_packet(packet)

    def on_acl_pdu(self, pdu: bytes) -> None:
        """Hand a complete L2CAP PDU to the air."""
        packets, self.packets = self.packets, 0
        host = self.controller
        done = hci.HCI_Number_Of_Completed_Packets_Event(
            connection_handles=[self.handle], num_completed_packets=[packets]
        )
        self.air.send(_station(host), pdu, packets, lambda: host.send_hci_packet(done))

    def send_ll_control_pdu(self, packet: ll.ControlPdu) -> None:
        """Hand a control PDU to the air."""
        self.air.control(_station(self.controller), packet)


class Advertiser(controller.LegacyAdvertiser):
    """Advertises at the interval that the air or the host says."""

    def _on_timer_fired(self) -> None:
        air = _station(self.controller).air
        asked_s = self.advertising_interval_min * ADVERTISING_UNIT_S
        interval_s = air.model.advertising_interval_s
        self.send_advertising_data()
        self.timer_handle = asyncio.get_running_loop().call_later(
            asked_s + air.jitter_s() if interval_s is None else interval_s, self._on_timer_fired
        )

    def send_advertising_data(self) -> None:
        """One advertising event on all three channels."""
        station = _station(self.controller)
        if self.enabled and not station.silent:
            self.controller.send_advertising_pdu(
                Advertisement(
                    self.address, self.advertising_data, self.scan_response_data, station.rssi
                )
            )


class AirController(controller.Controller):
    """One radio. `address` is its public address; hosts usually set a random one as well.

    rssi: how strongly the others hear it, in dBm. silent: out of reach or without power.
    """

    le_features = controller.Controller.le_features & ~(
        hci.LeFeatureMask.LE_EXTENDED_ADVERTISING | hci.LeFeatureMask.LE_PERIODIC_ADVERTISING
    )
    le_acl_data_packet_length = LINK_LAYER_BYTES
    total_num_le_acl_data_packets = 32
    supported_max_tx_octets = LINK_LAYER_BYTES
    supported_max_rx_octets = LINK_LAYER_BYTES

    def __init__(self, air: VirtualAir, address: str, name: str = "radio") -> None:
        super().__init__(name, link=air, public_address=address)
        self.air = air
        self.rssi = STRONG_DBM
        self.silent = False
        self.le_legacy_advertiser = Advertiser(self)
        self._last_handle = 0
        air.stations[self] = self

    def close(self) -> None:
        """Take the radio off the air for good."""
        self.reset()
        self.set_packet_sink(None)
        del self.air.stations[self]
        self.air.remove_controller(self)

    def vanish(self) -> None:
        """Out of reach: peers and its own host notice after the supervision timeout."""
        self.silent = True
        for connection in self._connections():
            connection.air.fall_silent()

    def appear(self) -> None:
        """Back in reach; connections of before stay lost."""
        self.silent = False

    def reset(self) -> None:
        """Forget everything, as on HCI_Reset; peers notice after the supervision timeout."""
        self.le_legacy_advertiser.stop()
        self.le_scan_enable = False
        self.pending_le_connection = None
        for connection in self._connections():
            connection.air.leave(self)
            connection.air.fall_silent()
        self.le_connections.clear()

    @property
    def links(self) -> int:
        """Connections that this radio believes in."""
        return len(self.le_connections)

    def _connections(self) -> list[Connection]:
        return [c for c in self.le_connections.values() if isinstance(c, Connection)]

    # --- between host and controller: as in bumble, without formatting every packet for a log ---
    def send_hci_packet(self, packet: hci.HCI_Packet) -> None:
        """Hand an event or data to the host, if one is attached."""
        if self.hci_sink:
            asyncio.get_running_loop().call_soon(self.hci_sink.on_packet, bytes(packet))

    def on_hci_packet(self, packet: hci.HCI_Packet) -> None:
        """Take a command or data from the host."""
        match packet:
            case hci.HCI_Command():
                self.on_hci_command_packet(packet)
            case hci.HCI_AclDataPacket():
                if connection := self.find_connection_by_handle(packet.connection_handle):
                    connection.on_hci_acl_data_packet(packet)

    def allocate_connection_handle(self) -> int:
        """Handles rotate, so that a command that crossed a disconnection hits nobody else."""
        self._last_handle = self._last_handle % 0xEFF + 1
        while self.find_connection_by_handle(self._last_handle):
            self._last_handle = self._last_handle % 0xEFF + 1
        return self._last_handle

    # --- advertising and initiating ---------------------------------------------------
    def listens_for(self, advertiser: hci.Address) -> bool:
        """Whether it scans, or wants to connect to this advertiser."""
        pending = self.pending_le_connection
        return not self.silent and (
            self.le_scan_enable or (pending is not None and pending.peer_address == advertiser)
        )

    def on_ll_advertising_pdu(self, packet: ll.AdvertisingPdu) -> None:
        """Report it to a scanning host; connect when the host waits for this advertiser."""
        if not isinstance(packet, Advertisement):
            return
        if self.le_scan_enable:
            self._report(packet, hci.HCI_LE_Advertising_Report_Event.EventType.ADV_IND, packet.data)
            if self.le_scan_type == hci.HCI_LE_Set_Scan_Parameters_Command.ACTIVE_SCANNING:
                self._report(
                    packet,
                    hci.HCI_LE_Advertising_Report_Event.EventType.SCAN_RSP,
                    packet.scan_response,
                )
        pending = self.pending_le_connection
        if pending is not None and pending.peer_address == packet.advertiser_address:
            self.create_le_connection(packet.advertiser_address)

    def _report(
        self,
        heard: Advertisement,
        event_type: hci.HCI_LE_Advertising_Report_Event.EventType,
        data: bytes,
    ) -> None:
        report = hci.HCI_LE_Advertising_Report_Event.Report(
            event_type=event_type,
            address_type=heard.advertiser_address.address_type,
            address=heard.advertiser_address,
            data=data,
            rssi=heard.rssi,
        )
        self.send_hci_packet(hci.HCI_LE_Advertising_Report_Event([report]))

    def create_le_connection(self, peer_address: hci.Address) -> None:
        """Answer an advertisement with CONNECT_IND and believe that it was heard."""
        pending = self.pending_le_connection
        self.pending_le_connection = None
        if not isinstance(pending, hci.HCI_LE_Create_Connection_Command):
            return
        public = pending.own_address_type == hci.OwnAddressType.PUBLIC
        request = ll.ConnectInd(
            initiator_address=self.public_address if public else self.random_address,
            advertiser_address=peer_address,
            interval=pending.connection_interval_max,
            latency=pending.max_latency,
            timeout=pending.supervision_timeout,
        )
        connection = self.air.connect(self, request)
        self._believe(connection, hci.Role.CENTRAL, request)
        if not connection.established:
            asyncio.get_running_loop().call_later(
                UNANSWERED_EVENTS * connection.interval_s,
                connection.end,
                hci.HCI_CONNECTION_FAILED_TO_BE_ESTABLISHED_ERROR,
            )

    def claim(self, connection: AirConnection, request: ll.ConnectInd) -> bool:
        """Take a CONNECT_IND if it is for us, we advertise, and there is room."""
        advertiser = self.le_legacy_advertiser
        if (
            not advertiser.enabled
            or advertiser.address != request.advertiser_address
            or self._no_room_for(request.initiator_address) is not None
        ):
            return False
        connection.join(self)
        advertiser.stop()
        self._believe(connection, hci.Role.PERIPHERAL, request)
        return True

    def _believe(self, air: AirConnection, role: hci.Role, request: ll.ConnectInd) -> None:
        central = role == hci.Role.CENTRAL
        ours, theirs = request.advertiser_address, request.initiator_address
        if central:
            ours, theirs = theirs, ours
        connection = Connection(
            controller=self,
            handle=self.allocate_connection_handle(),
            role=role,
            self_address=ours,
            peer_address=theirs,
            link=self.air,
            transport=PhysicalTransport.LE,
            link_type=hci.HCI_Connection_Complete_Event.LinkType.ACL,
            air=air,
        )
        self.le_connections[theirs] = connection
        self._complete(connection.handle, role, theirs, request)

    def _complete(
        self, handle: int, role: hci.Role, peer: hci.Address, request: ll.ConnectInd
    ) -> None:
        self.send_hci_packet(
            hci.HCI_LE_Connection_Complete_Event(
                status=hci.HCI_ErrorCode.SUCCESS,
                connection_handle=handle,
                role=role,
                peer_address_type=peer.address_type,
                peer_address=peer,
                connection_interval=request.interval,
                peripheral_latency=request.latency,
                supervision_timeout=request.timeout,
                central_clock_accuracy=0,
            )
        )

    def _no_room_for(self, peer: hci.Address) -> hci.HCI_ErrorCode | None:
        if peer in self.le_connections:
            return hci.HCI_ErrorCode.CONNECTION_ALREADY_EXISTS_ERROR
        if self.links >= self.air.model.link_cap:
            return hci.HCI_ErrorCode.CONNECTION_LIMIT_EXCEEDED_ERROR
        return None

    # --- the end of a connection ----------------------------------------------------------
    def on_le_disconnected(self, connection: controller.Connection, reason: int) -> None:
        """Forget a connection and tell the host."""
        if isinstance(connection, Connection):
            connection.air.leave(self)
        super().on_le_disconnected(connection, reason)

    def lose(self, connection: AirConnection, reason: int) -> None:
        """The air says that a connection is gone."""
        for candidate in self._connections():
            if candidate.air is connection:
                self.on_le_disconnected(candidate, reason)

    # --- commands ---------------------------------------------------------------------------
    def on_hci_reset_command(
        self, _command: hci.HCI_Reset_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Core Vol 4 Part E 7.3.2."""
        self.reset()
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)

    def on_hci_disconnect_command(self, command: hci.HCI_Disconnect_Command) -> None:
        """Core Vol 4 Part E 7.1.6."""
        if self.find_connection_by_handle(command.connection_handle) is None:
            self._send_hci_command_status(
                hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR, command.op_code
            )
        else:
            super().on_hci_disconnect_command(command)

    def on_hci_le_create_connection_command(
        self, command: hci.HCI_LE_Create_Connection_Command
    ) -> None:
        """Core Vol 4 Part E 7.8.12."""
        if (refusal := self._no_room_for(command.peer_address)) is not None:
            self._send_hci_command_status(refusal, command.op_code)
        else:
            super().on_hci_le_create_connection_command(command)

    def on_hci_le_create_connection_cancel_command(
        self, _command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Core Vol 4 Part E 7.8.13: the pending command completes with 0x02."""
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        cancelled = hci.HCI_LE_Connection_Complete_Event(
            status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            connection_handle=0,
            role=hci.Role.CENTRAL,
            peer_address_type=pending.peer_address.address_type,
            peer_address=pending.peer_address,
            connection_interval=0,
            peripheral_latency=0,
            supervision_timeout=0,
            central_clock_accuracy=0,
        )
        asyncio.get_running_loop().call_soon(self.send_hci_packet, cancelled)
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)


def _station(instance: controller.Controller) -> AirController:
    if not isinstance(instance, AirController):
        raise TypeError("only an AirController belongs on the virtual air")
    return instance
