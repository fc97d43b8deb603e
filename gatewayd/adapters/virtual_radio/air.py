"""The radio waves between controllers: who hears whom, when, and when nobody does.

`AirModel` says how honest the air is. A connection has an anchor and an
interval; what a host hands over waits for the next connection event, several
packets fit into one, a lost packet waits for the next. Advertisements reach
only stations that listen, and the first CONNECT_IND claims the advertiser.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from bumble import controller, hci, ll
from bumble.core import PhysicalTransport
from bumble.link import LocalLink

INTERVAL_UNIT_S = 0.00125
TIMEOUT_UNIT_S = 0.01


@dataclass(frozen=True, slots=True)
class AirModel:
    """How the air behaves. Times in seconds; None: as the hosts asked for.

    connection_interval_s: of every connection; 0 delivers at once.
    advertising_interval_s: of every advertiser; a sleeping lock asks for a second or more itself.
    supervision_timeout_s: after a peer vanished, how long until the other side is told.
    loss: share of data packets that wait for another connection event, and of advertisements
        that are not heard. Nothing is lost for good: the link layer repeats.
    packets_per_event: link-layer packets of 251 bytes per direction and connection event.
    link_cap: connections that one controller holds, both roles together.
    """

    connection_interval_s: float | None = None
    advertising_interval_s: float | None = None
    supervision_timeout_s: float | None = None
    loss: float = 0.0
    packets_per_event: int = 6
    link_cap: int = 7
    seed: int = 1


INSTANT = AirModel(
    connection_interval_s=0.0,
    advertising_interval_s=0.005,
    supervision_timeout_s=0.15,
    link_cap=64,
)
"""For tests of anything but latency."""


class Station(Protocol):
    """What the air needs of a controller."""

    silent: bool

    def listens_for(self, advertiser: hci.Address) -> bool:
        """Whether it scans, or wants to connect to this advertiser."""
        ...

    def on_ll_advertising_pdu(self, packet: ll.AdvertisingPdu) -> None:
        """An advertisement was heard."""
        ...

    def claim(self, connection: AirConnection, request: ll.ConnectInd) -> bool:
        """A CONNECT_IND arrived; False when this station does not advertise that address."""
        ...

    def on_link_acl_data(
        self, sender_address: hci.Address, transport: PhysicalTransport, data: bytes
    ) -> None:
        """One L2CAP PDU arrived."""
        ...

    def on_ll_control_pdu(self, sender_address: hci.Address, packet: ll.ControlPdu) -> None:
        """One LL control PDU arrived."""
        ...

    def lose(self, connection: AirConnection, reason: int) -> None:
        """Supervision timeout or failed establishment: forget the connection, tell the host."""
        ...


class _Pipe:
    """One direction of a connection: keeps the order and the connection events."""

    def __init__(self, connection: AirConnection) -> None:
        self._connection = connection
        self._waiting: deque[Callable[[], None]] = deque()
        self._event_at = 0.0
        self._room = 0

    def send(self, arrive: Callable[[], None], packets: int) -> None:
        """Have `arrive` called in the connection event in which the last packet gets across."""
        loop = asyncio.get_running_loop()
        self._waiting.append(arrive)
        if self._connection.interval_s == 0.0:
            loop.call_soon(self._arrive)
        else:
            loop.call_at(self._schedule(loop.time(), packets), self._arrive)

    def _schedule(self, now: float, packets: int) -> float:
        air, interval = self._connection.air, self._connection.interval_s
        event_at = self._connection.next_event(now)
        if event_at > self._event_at:
            self._event_at, self._room = event_at, air.model.packets_per_event
        for _ in range(packets):
            while self._room == 0 or air.loses():
                self._event_at += interval
                self._room = air.model.packets_per_event
            self._room -= 1
        return self._event_at

    def _arrive(self) -> None:
        # timers of equal deadline fire in any order: the queue keeps the order, not the timers
        self._waiting.popleft()()


class AirConnection:
    """A connection as the air knows it. Each end stops believing in it by itself."""

    def __init__(self, air: VirtualAir, initiator: Station, request: ll.ConnectInd) -> None:
        model = air.model
        self.air = air
        self._anchor = asyncio.get_running_loop().time()
        self.interval_s = _modelled(model.connection_interval_s, request.interval * INTERVAL_UNIT_S)
        self.supervision_s = _modelled(
            model.supervision_timeout_s, request.timeout * TIMEOUT_UNIT_S
        )
        self._request = request
        self._addresses: dict[Station, hci.Address] = {initiator: request.initiator_address}
        self._pipes = {initiator: _Pipe(self)}
        self._believers = {initiator}
        self._silent = False

    def join(self, advertiser: Station) -> None:
        """The advertiser took the CONNECT_IND: from now on there are two ends."""
        self._addresses[advertiser] = self._request.advertiser_address
        self._pipes[advertiser] = _Pipe(self)
        self._believers.add(advertiser)

    @property
    def established(self) -> bool:
        """Whether an advertiser took the CONNECT_IND."""
        return len(self._pipes) > 1

    def next_event(self, now: float) -> float:
        """Loop time of the first connection event after `now`."""
        passed = math.floor((now - self._anchor) / self.interval_s)
        return self._anchor + (passed + 1) * self.interval_s

    def send(self, sender: Station, data: bytes, packets: int, across: Callable[[], Any]) -> None:
        """Carry one L2CAP PDU to the other end; `across` is called when the link layer is done."""
        address = self._addresses[sender]

        def arrive(receiver: Station) -> None:
            receiver.on_link_acl_data(address, PhysicalTransport.LE, data)
            if sender in self._believers:
                across()

        self._carry(sender, packets, arrive)

    def control(self, sender: Station, packet: ll.ControlPdu) -> None:
        """Carry one LL control PDU, in order with the data before it."""
        address = self._addresses[sender]
        if isinstance(packet, ll.ConnectionUpdateInd):
            self.interval_s = _modelled(
                self.air.model.connection_interval_s, packet.interval * INTERVAL_UNIT_S
            )
        self._carry(sender, 1, lambda receiver: receiver.on_ll_control_pdu(address, packet))

    def _carry(self, sender: Station, packets: int, arrive: Callable[[Station], None]) -> None:
        def deliver() -> None:
            receiver = next(end for end in self._pipes if end is not sender)
            if receiver in self._believers and not self._silent:
                arrive(receiver)

        if self.established:
            self._pipes[sender].send(deliver, packets)

    def leave(self, station: Station) -> None:
        """This end has terminated the connection or has been told that it is terminated."""
        self._believers.discard(station)

    def fall_silent(self) -> None:
        """Nothing gets across any more; who still believes notices by supervision timeout."""
        if not self._silent:
            self._silent = True
            asyncio.get_running_loop().call_later(self.supervision_s, self._time_out)

    def _time_out(self) -> None:
        self.end(hci.HCI_CONNECTION_TIMEOUT_ERROR)

    def end(self, reason: int) -> None:
        """Tell everyone who still believes that the connection is gone."""
        for station in list(self._believers):
            station.lose(self, reason)


class VirtualAir(LocalLink):
    """The bus that the controllers share. Make an `AirController` on it for every radio."""

    def __init__(self, model: AirModel = INSTANT) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # bumble leaves it unannotated
        self.model = model
        self.stations: dict[controller.Controller, Station] = {}
        self._chance = random.Random(model.seed)  # noqa: S311 - a model, not a secret

    def loses(self) -> bool:
        """Draw whether one packet is lost."""
        return self.model.loss > 0 and self._chance.random() < self.model.loss

    def jitter_s(self) -> float:
        """advDelay: 0 to 10 ms after each advertising interval (Core Vol 6 Part B 4.4.2.2)."""
        return self._chance.uniform(0.0, 0.01)

    def send_advertising_pdu(
        self, sender_controller: controller.Controller, packet: ll.AdvertisingPdu
    ) -> None:
        """Every listening station hears an advertisement, in any order: who answers first wins."""
        if not isinstance(packet, ll.AdvInd):
            return
        hearers = [
            station
            for owner, station in self.stations.items()
            if owner is not sender_controller
            and station.listens_for(packet.advertiser_address)
            and not self.loses()
        ]
        self._chance.shuffle(hearers)
        loop = asyncio.get_running_loop()
        for station in hearers:
            loop.call_soon(station.on_ll_advertising_pdu, packet)

    def connect(self, initiator: Station, request: ll.ConnectInd) -> AirConnection:
        """Send a CONNECT_IND; the connection is not `established` when nobody took it."""
        connection = AirConnection(self, initiator, request)
        any(
            station.claim(connection, request)
            for station in self.stations.values()
            if station is not initiator and not station.silent
        )
        return connection


def _modelled(model_s: float | None, asked_s: float) -> float:
    return asked_s if model_s is None else model_s
