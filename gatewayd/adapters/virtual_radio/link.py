"""One connection as the ports see it: whole fragments, in order, both ways.

The radio delivers what arrived and says when the connection died; the reader
takes what arrived before, then learns of it. Reading too slowly costs the link.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bumble.device import Connection
from bumble.hci import Address

from firmware_proto.codes import MAX_MESSAGE_BYTES
from gatewayd.ports import LinkClosedError

ATT_HEADER_BYTES = 3
MAX_ATTRIBUTE_BYTES = 512  # Core Vol 3 Part F 3.2.9
L2CAP_HEADER_BYTES = 4
MAX_PACKETS_UNSENT = 4  # of the controller's buffers: a stalled link must not take them all
FLUSH_S = 0.5
HANG_UP_S = 1.0


@dataclass(slots=True)
class Exchanges:
    """What one link cost, counted at this end.

    att_requests: ATT round trips in all, of which mtu_exchanges for the MTU, discoveries to find
        the service, subscribes to switch notifications on. writes and notifications: fragments
        from the central and to it, one way each.
    """

    mtu_exchanges: int = 0
    discoveries: int = 0
    subscribes: int = 0
    att_requests: int = 0
    writes: int = 0
    notifications: int = 0


class RadioLink:
    """A `Link` over one bumble connection. Made by the radio, one reader and any number of writers.

    `transmit` hands one fragment to the stack; `hang_up` asks the radio to disconnect.
    """

    def __init__(
        self,
        connection: Connection,
        transmit: Callable[[bytes], None],
        hang_up: Callable[[Connection], None],
        packet_bytes: int,
    ) -> None:
        self.exchanges = Exchanges()
        self.reason: int | None = None
        self._connection = connection
        self._transmit = transmit
        self._hang_up = hang_up
        self._packet_bytes = packet_bytes
        self._inbox: deque[bytes] = deque()
        self._unread_bytes = 0
        self._unsent_packets = 0
        self._changed = asyncio.Event()
        self._flowing = asyncio.Event()
        self._gone = asyncio.Event()
        self._left = False

    @property
    def mtu(self) -> int:
        """The ATT MTU now in force; 515 at most, because no attribute value exceeds 512 bytes."""
        return min(int(self._connection.att_mtu), MAX_ATTRIBUTE_BYTES + ATT_HEADER_BYTES)

    @property
    def peer(self) -> str:
        """Address of the other end."""
        return self._connection.peer_address.to_string(with_type_qualifier=False)

    def is_with(self, peer: Address) -> bool:
        """Whether `peer` is the other end."""
        return bool(self._connection.peer_address == peer)

    @property
    def closed(self) -> bool:
        """Whether reading or writing can only raise (reading: once the inbox is empty)."""
        return self._left or self._gone.is_set()

    async def read(self) -> bytes:
        """The next fragment, also those that arrived before the connection died."""
        while not self._inbox:
            if self.closed:
                raise LinkClosedError(f"connection closed, reason {self.reason}")
            self._changed.clear()
            await self._changed.wait()
        fragment = self._inbox.popleft()
        self._unread_bytes -= len(fragment)
        return fragment

    async def write(self, fragment: bytes) -> None:
        """Hand one fragment to the radio; waits while too much has not left it yet.

        Raises:
            ValueError: the fragment is empty or longer than mtu - 3 bytes.
            LinkClosedError: the connection is gone.
        """
        if not 1 <= len(fragment) <= self.mtu - ATT_HEADER_BYTES:
            raise ValueError(f"a fragment of {len(fragment)} bytes at MTU {self.mtu}")
        while not self.closed and self._unsent_packets >= MAX_PACKETS_UNSENT:
            self._flowing.clear()
            await self._flowing.wait()
        if self.closed:
            raise LinkClosedError(f"connection closed, reason {self.reason}")
        self._unsent_packets += self._packets(fragment)
        self._transmit(fragment)

    async def close(self) -> None:
        """Let what was written get out (half a second at most), then disconnect."""
        self._leave()
        try:
            async with asyncio.timeout(FLUSH_S):
                while self._unsent_packets and not self._gone.is_set():
                    self._flowing.clear()
                    await self._flowing.wait()
        except TimeoutError:
            pass  # the peer does not take it any more
        finally:
            if not self._gone.is_set():
                self._hang_up(self._connection)
        try:
            async with asyncio.timeout(HANG_UP_S):
                await self._gone.wait()
        except TimeoutError:
            self.died(None)

    def drop(self) -> None:
        """Disconnect without waiting for anything; what has not been read is discarded."""
        if not self.closed:
            self._leave()
            self._hang_up(self._connection)

    def _leave(self) -> None:
        self._left = True
        self._inbox.clear()
        self._unread_bytes = 0
        self._changed.set()
        self._flowing.set()

    def _packets(self, fragment: bytes) -> int:
        size = L2CAP_HEADER_BYTES + ATT_HEADER_BYTES + len(fragment)
        return -(-size // self._packet_bytes)

    # --- called by the radio ----------------------------------------------------------------
    def arrived(self, fragment: bytes) -> None:
        """A fragment came in; more unread bytes than a message may have cost the link."""
        if self.closed:
            return
        self._inbox.append(fragment)
        self._unread_bytes += len(fragment)
        if self._unread_bytes > MAX_MESSAGE_BYTES:
            self.drop()
        self._changed.set()

    def sent(self, packets: int) -> None:
        """The link layer is done with this many packets."""
        # requests and responses of the set-up share the buffers but are not counted
        self._unsent_packets = max(0, self._unsent_packets - packets)
        self._flowing.set()

    def died(self, reason: int | None) -> None:
        """The connection is gone, for an HCI error code or because the controller is."""
        self.reason = reason
        self._gone.set()
        self._changed.set()
        self._flowing.set()
