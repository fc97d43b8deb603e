"""One connection as the ports see it, whichever side of it this machine plays.

What arrived before the connection died can still be read. Reading too slowly
costs the link. Hanging up takes bluetoothd two seconds (DISCONNECT_TIMER in its
src/device.c), so it is done by a task of the radio, and `close` waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from firmware_proto.codes import MAX_MESSAGE_BYTES, MIN_ATT_MTU
from gatewayd.ports import LinkClosedError

ATT_HEADER_BYTES: Final = 3
MAX_ATTRIBUTE_BYTES: Final = 512  # Core Vol 3 Part F 3.2.9
DISCONNECT_S: Final = 8.0
"""How long a system's Bluetooth may take over one request to disconnect."""
MULTIPLE_BYTES: Final = 2


def notified_mtu(mtu: int) -> int:
    """What to cut notifications for that bluetoothd sends, when `mtu` is in force: two bytes less.

    To a client that takes several values at once (Core Vol 3 Part F 3.4.7.4; BlueZ's is one)
    bluetoothd sends each with its length in front, and cuts off what does not fit then
    (bt_gatt_server_send_notification in gatt-server.c). Which client is one it tells nobody.
    """
    return max(mtu - MULTIPLE_BYTES, MIN_ATT_MTU)


class GattLink:
    """A `ports.radio.Link`.

    `transmit` hands one fragment to the radio, `hang_up` asks to disconnect.
    `hang_up` must return at once; `died` follows when the connection is gone.
    """

    gone_s = 5.0
    """How long whoever closes it waits for that."""

    def __init__(
        self,
        peer: str,
        mtu: int,
        transmit: Callable[[bytes], Awaitable[None]],
        hang_up: Callable[[], None],
    ) -> None:
        self.peer = peer
        self.reason = "closed here"
        self._mtu = mtu
        self._transmit = transmit
        self._hang_up = hang_up
        self._inbox: deque[bytes] = deque()
        self._unread_bytes = 0
        self._changed = asyncio.Event()
        self._gone = asyncio.Event()
        self._left = False

    @property
    def mtu(self) -> int:
        """The ATT MTU now in force; 515 at most, because no attribute value exceeds 512 bytes."""
        return min(self._mtu, MAX_ATTRIBUTE_BYTES + ATT_HEADER_BYTES)

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        self._mtu = mtu

    @property
    def closed(self) -> bool:
        """Whether reading or writing can only raise (reading: once the inbox is empty)."""
        return self._left or self._gone.is_set()

    async def read(self) -> bytes:
        """The next fragment, also those that arrived before the connection died."""
        while not self._inbox:
            if self.closed:
                raise LinkClosedError(f"connection closed: {self.reason}")
            self._changed.clear()
            await self._changed.wait()
        fragment = self._inbox.popleft()
        self._unread_bytes -= len(fragment)
        return fragment

    async def write(self, fragment: bytes) -> None:
        """Hand one fragment to the radio.

        Raises:
            ValueError: the fragment is empty or longer than mtu - 3 bytes.
            LinkClosedError: the connection is gone.
        """
        if not 1 <= len(fragment) <= self.mtu - ATT_HEADER_BYTES:
            raise ValueError(f"a fragment of {len(fragment)} bytes at MTU {self.mtu}")
        if self.closed:
            raise LinkClosedError(f"connection closed: {self.reason}")
        await self._transmit(fragment)

    async def close(self) -> None:
        """Disconnect, and wait until it is done, or `gone_s`."""
        self.drop()
        try:
            async with asyncio.timeout(self.gone_s):
                await self._gone.wait()
        except TimeoutError:
            self.died("nobody hangs up")

    def drop(self) -> None:
        """Disconnect without waiting for anything; what has not been read is discarded."""
        if not self._left:
            self._leave()
            if not self._gone.is_set():
                self._hang_up()

    def _leave(self) -> None:
        self._left = True
        self._inbox.clear()
        self._changed.set()

    # --- called by the radio ----------------------------------------------------------------
    def arrived(self, fragment: bytes) -> None:
        """A fragment came in; more unread bytes than a message may have cost the link.

        So do more fragments than a message may have bytes: a phone may write nothing at all.
        """
        if self.closed:
            return
        self._inbox.append(fragment)
        self._unread_bytes += len(fragment)
        if max(self._unread_bytes, len(self._inbox)) > MAX_MESSAGE_BYTES:
            self.reason = "read too slowly"
            self.drop()
        self._changed.set()

    def died(self, reason: str) -> None:
        """The connection is gone, or with bluetoothd or the adapter nobody can say."""
        if not self._gone.is_set():
            self.reason = self.reason if self._left else reason
            self._gone.set()
            self._changed.set()
