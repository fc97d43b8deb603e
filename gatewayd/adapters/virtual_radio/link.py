"""One connection of the virtual radio: a link that does not fill its controller."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from bumble.device import Connection
from bumble.hci import Address

from gatewayd.adapters.gatt.link import ATT_HEADER_BYTES, GattLink
from gatewayd.ports import LinkClosedError

L2CAP_HEADER_BYTES = 4
MAX_PACKETS_UNSENT = 4  # of the controller's buffers: a stalled link must not take them all
FLUSH_S = 0.5


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


class RadioLink(GattLink):
    """Over one bumble connection. Made by the radio, one reader and any number of writers.

    `transmit` hands one fragment to the stack; `hang_up` asks the radio to disconnect.
    """

    gone_s = 1.0

    def __init__(
        self,
        connection: Connection,
        transmit: Callable[[bytes], None],
        hang_up: Callable[[Connection], None],
        packet_bytes: int,
    ) -> None:
        peer = connection.peer_address.to_string(with_type_qualifier=False)
        super().__init__(peer, connection.att_mtu, self._send, lambda: hang_up(connection))
        self.exchanges = Exchanges()
        self.code: int | None = None
        """Why it ended, as HCI numbers it; None also where the controller is gone."""
        self._connection = connection
        self._stack_transmit = transmit
        self._packet_bytes = packet_bytes
        self._unsent_packets = 0
        self._flowing = asyncio.Event()
        connection.on(connection.EVENT_CONNECTION_ATT_MTU_UPDATE, self._agreed)

    def is_with(self, peer: Address) -> bool:
        """Whether `peer` is the other end."""
        return bool(self._connection.peer_address == peer)

    async def close(self) -> None:
        """Let what was written get out (half a second at most), then disconnect."""
        if not self._left:
            self._leave()
            try:
                with contextlib.suppress(TimeoutError):  # the peer does not take it any more
                    async with asyncio.timeout(FLUSH_S):
                        while self._unsent_packets and not self._gone.is_set():
                            self._flowing.clear()
                            await self._flowing.wait()
            finally:
                if not self._gone.is_set():
                    self._hang_up()
        await super().close()

    async def _send(self, fragment: bytes) -> None:
        """Waits while too much has not left the controller yet."""
        while not self.closed and self._unsent_packets >= MAX_PACKETS_UNSENT:
            self._flowing.clear()
            await self._flowing.wait()
        if self.closed:
            raise LinkClosedError(f"connection closed: {self.reason}")
        size = L2CAP_HEADER_BYTES + ATT_HEADER_BYTES + len(fragment)
        self._unsent_packets += -(-size // self._packet_bytes)
        self._stack_transmit(fragment)

    def _leave(self) -> None:
        super()._leave()
        self._flowing.set()

    # --- called by the radio ----------------------------------------------------------------
    def _agreed(self) -> None:
        self.mtu = self._connection.att_mtu

    def sent(self, packets: int) -> None:
        """The link layer is done with this many packets."""
        # requests and responses of the set-up share the buffers but are not counted
        self._unsent_packets = max(0, self._unsent_packets - packets)
        self._flowing.set()

    def ended(self, code: int | None) -> None:
        """The connection is gone, for an HCI error code or because the controller is."""
        self.code = code
        self.died(f"reason {code}")

    def died(self, reason: str) -> None:
        """See `GattLink`."""
        super().died(reason)
        self._flowing.set()
