"""A radio with no radio: the ports Peripheral, Central and Link in memory.

`FakeAir` is for tests of what lies above the ports. Every fragment is recorded
with its direction and time; a test may set the MTU, delay or drop fragments,
replay or inject bytes, cut connections at a step, let a peer vanish and cap
the links. The contract suite holds it to the same promises as the real ones.

    air = FakeAir(mtu=23)
    gateway = air.peripheral("gateway")
    phone_link = await air.central().dial("gateway")
    gateway_link = await gateway.accept()
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from firmware_proto.codes import MAX_MESSAGE_BYTES, PHONE_SERVICE_UUID
from gatewayd.ports import LinkClosedError, RadioError

ATT_HEADER_BYTES = 3
MAX_ATTRIBUTE_BYTES = 512


class Direction(Enum):
    TO_PERIPHERAL = "to peripheral"
    TO_CENTRAL = "to central"


@dataclass(frozen=True, slots=True)
class Fragment:
    """One fragment as an eavesdropper sees it. `at` is loop time in seconds."""

    connection: int  # 0 for the first connection of this air
    step: int  # 0 for the first fragment of the connection, both directions counted together
    direction: Direction
    at: float
    data: bytes


class FakeLink:
    """One end of a connection. Made by `FakeCentral.dial` and `FakePeripheral.accept`."""

    def __init__(self, connection: _Connection, sends: Direction) -> None:
        self._connection = connection
        self._sends = sends
        self._inbox: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self.closed = False

    @property
    def mtu(self) -> int:
        # an attribute value holds 512 bytes at most, whatever the MTU (Core Vol 3 Part F 3.2.9)
        return min(self._connection.mtu, MAX_ATTRIBUTE_BYTES + ATT_HEADER_BYTES)

    @property
    def connection(self) -> int:
        """Number of this connection on its air: selects its fragments among `FakeAir.sent`."""
        return self._connection.number

    async def read(self) -> bytes:
        while not self._inbox:
            if self.closed:
                raise LinkClosedError("the connection is gone")
            self._changed.clear()
            await self._changed.wait()
        return self._inbox.popleft()

    async def write(self, fragment: bytes) -> None:
        if not 1 <= len(fragment) <= self.mtu - ATT_HEADER_BYTES:
            raise ValueError(f"a fragment of {len(fragment)} bytes at MTU {self.mtu}")
        await asyncio.sleep(0)
        if self.closed:
            raise LinkClosedError("the connection is gone")
        self._connection.carry(self._sends, bytes(fragment))

    async def close(self) -> None:
        self._inbox.clear()
        self._connection.close_from(self._sends)
        await asyncio.sleep(0)

    def deliver(self, data: bytes) -> None:
        """Called by the air: a fragment arrived."""
        if self.closed:
            return
        self._inbox.append(data)
        if sum(map(len, self._inbox)) > MAX_MESSAGE_BYTES:
            self._inbox.clear()
            self._connection.cut()
        self._changed.set()

    def die(self) -> None:
        """Called by the air: the connection is gone; what arrived before stays readable."""
        self.closed = True
        self._changed.set()


class _Connection:
    """Both ends, and two ordered pipes with delay between them."""

    def __init__(self, air: FakeAir, number: int, peripheral: FakePeripheral) -> None:
        self.air = air
        self.number = number
        self.mtu = air.mtu
        self.peripheral = peripheral
        self.central_end = FakeLink(self, Direction.TO_PERIPHERAL)
        self.peripheral_end = FakeLink(self, Direction.TO_CENTRAL)
        self.steps = 0
        self._pipes: dict[Direction, deque[bytes | None]] = {way: deque() for way in Direction}

    @property
    def alive(self) -> bool:
        return not (self.central_end.closed and self.peripheral_end.closed)

    def receiver(self, direction: Direction) -> FakeLink:
        return self.peripheral_end if direction is Direction.TO_PERIPHERAL else self.central_end

    def carry(self, direction: Direction, data: bytes) -> None:
        air, loop = self.air, asyncio.get_running_loop()
        fragment = Fragment(self.number, self.steps, direction, loop.time(), data)
        self.steps += 1
        air.sent.append(fragment)
        cut_here = air.cut_at is not None and self.steps >= air.cut_at
        if not (air.drop is not None and air.drop(fragment)) and not (
            cut_here and air.cut_loses_fragment
        ):
            self._push(direction, data)
        if cut_here:
            self.cut()

    def close_from(self, direction: Direction) -> None:
        """What was written before the close still arrives, then the close does."""
        sender = self.receiver(_opposite(direction))
        if not sender.closed:
            sender.die()
            self._push(direction, None)

    def cut(self) -> None:
        """Both ends lose the connection. What is on the way arrives only where delay is 0."""
        for end in (self.central_end, self.peripheral_end):
            end.die()

    def _push(self, direction: Direction, item: bytes | None) -> None:
        if not self.air.delay_s:
            self._arrive(direction, item)
            return
        self._pipes[direction].append(item)
        # equal deadlines fire in any order: the pipe, not the timer, keeps the order
        loop = asyncio.get_running_loop()
        loop.call_later(self.air.delay_s, lambda: self._pop(direction))

    def _pop(self, direction: Direction) -> None:
        self._arrive(direction, self._pipes[direction].popleft())

    def _arrive(self, direction: Direction, item: bytes | None) -> None:
        receiver = self.receiver(direction)
        if item is None:
            receiver.die()
        else:
            receiver.deliver(item)


def _opposite(direction: Direction) -> Direction:
    return Direction.TO_CENTRAL if direction is Direction.TO_PERIPHERAL else Direction.TO_PERIPHERAL


class FakePeripheral:
    """The advertising side. `link_cap`: at the cap it is not connectable."""

    def __init__(self, air: FakeAir, service: str, link_cap: int | None) -> None:
        self._air = air
        self.service = service
        self.link_cap = link_cap
        self.reachable = True
        self._arrived: asyncio.Queue[FakeLink] = asyncio.Queue()

    async def accept(self) -> FakeLink:
        return await self._arrived.get()

    @property
    def connectable(self) -> bool:
        links = sum(c.peripheral is self and c.alive for c in self._air.connections)
        return self.reachable and (self.link_cap is None or links < self.link_cap)

    def arrive(self, link: FakeLink) -> None:
        """Called by the air: a central connected and subscribed."""
        self._arrived.put_nowait(link)


class FakeCentral:
    """The dialling side."""

    def __init__(self, air: FakeAir, service: str) -> None:
        self._air = air
        self._service = service

    async def dial(self, address: str) -> FakeLink:
        """RadioError when `address` is not connectable within `FakeAir.dial_deadline_s`."""
        air, loop = self._air, asyncio.get_running_loop()
        air.dials.append(address)
        deadline = loop.time() + air.dial_deadline_s
        await asyncio.sleep(air.dial_s)
        while not (peripheral := air.find(address, self._service)):
            if loop.time() >= deadline:
                raise RadioError(f"{address} does not answer")
            await asyncio.sleep(air.poll_s)
        connection = _Connection(air, len(air.connections), peripheral)
        air.connections.append(connection)
        if air.cut_at == 0:
            connection.cut()
        peripheral.arrive(connection.peripheral_end)
        return connection.central_end

    async def scan(self, seconds: float) -> Sequence[str]:
        """Reachable addresses in the order in which they were made."""
        await asyncio.sleep(min(seconds, self._air.scan_s))
        return self._air.advertising(self._service)


class FakeAir:
    """The space between any number of peripherals and centrals. All knobs may be turned any time.

    mtu, delay_s: of connections made from now on; of fragments written from now on.
    drop: called with each fragment; True loses it.
    cut_at: cut each connection once this many fragments were written (0: right after connecting);
        `cut_loses_fragment` tells whether the last of them still arrives.
    dial_s, dial_deadline_s: how long a dial takes, and after how long one fails.
    """

    poll_s = 0.005

    def __init__(self, *, mtu: int = 247, delay_s: float = 0.0) -> None:
        self.mtu = mtu
        self.delay_s = delay_s
        self.drop: Callable[[Fragment], bool] | None = None
        self.cut_at: int | None = None
        self.cut_loses_fragment = False
        self.dial_s = 0.0
        self.dial_deadline_s = 0.2
        self.scan_s = 0.01
        self.sent: list[Fragment] = []
        self.dials: list[str] = []
        self.connections: list[_Connection] = []
        self._peripherals: dict[str, FakePeripheral] = {}

    def peripheral(
        self, address: str, service: str = PHONE_SERVICE_UUID, *, link_cap: int | None = None
    ) -> FakePeripheral:
        """Put a peripheral on the air; a second one of the same address replaces the first."""
        self._peripherals[address] = FakePeripheral(self, service, link_cap)
        return self._peripherals[address]

    def central(self, service: str = PHONE_SERVICE_UUID) -> FakeCentral:
        return FakeCentral(self, service)

    def find(self, address: str, service: str) -> FakePeripheral | None:
        peripheral = self._peripherals.get(address)
        if peripheral and peripheral.service == service and peripheral.connectable:
            return peripheral
        return None

    def advertising(self, service: str) -> list[str]:
        return [address for address in self._peripherals if self.find(address, service)]

    def vanish(self, address: str) -> None:
        """Battery out: its links die on both sides, dials to it fail until `appear`."""
        peripheral = self._peripherals[address]
        peripheral.reachable = False
        for connection in self.connections:
            if connection.peripheral is peripheral:
                connection.cut()

    def appear(self, address: str) -> None:
        self._peripherals[address].reachable = True

    def cut(self, link: FakeLink) -> None:
        """Cut the connection of `link` now, both sides."""
        self.connections[link.connection].cut()

    def fragments(
        self, connection: int | None = None, direction: Direction | None = None
    ) -> list[bytes]:
        """What was written, in order, of one connection or direction or all."""
        return [
            fragment.data
            for fragment in self.sent
            if connection in {None, fragment.connection} and direction in {None, fragment.direction}
        ]

    def inject(self, link: FakeLink, direction: Direction, data: bytes) -> None:
        """An attacker's fragment on an existing connection: neither recorded nor counted."""
        self.connections[link.connection].receiver(direction).deliver(data)

    async def replay(self, link: FakeLink, fragments: Iterable[bytes]) -> None:
        """Write captured fragments to `link`, stopping quietly when the peer hangs up."""
        for fragment in fragments:
            try:
                await link.write(fragment)
            except LinkClosedError:
                return
