"""A central that speaks ATT as it likes: whatever bytes, in whatever order, from any address.

async with stranger(place.air, 7) as caller:
    await caller.dial(place.dialled_address)
    caller.send(att.ATT_CID, b"\x52...")
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

from bumble import att, hci

from gatewayd.adapters.virtual_radio import (
    PHONE,
    AirController,
    RadioOptions,
    VirtualAir,
    open_radio,
)
from gatewayd.adapters.virtual_radio.gatt import GattClient, Handles
from gatewayd.adapters.virtual_radio.stack import Stack
from gatewayd.ports import RadioError

Answer = TypeVar("Answer", bound=att.ATT_PDU)
ATT_PATIENCE_S = 8.0


class Stranger:
    """Dials, then says what it is told to."""

    def __init__(self, stack: Stack) -> None:
        self.heard: list[tuple[int, bytes]] = []
        self._stack = stack
        self._client: GattClient | None = None

    async def dial(self, address: str, *, within_s: float = 8.0) -> None:
        """A bare connection: no MTU, no table, no subscription. TimeoutError or RadioError."""
        async with asyncio.timeout(within_s):
            while True:
                self._client = await self._stack.connect(hci.Address(address))
                await asyncio.sleep(0.05)
                if not self._client.link.closed:
                    return  # 0x3E: another central was faster

    @property
    def client(self) -> GattClient:
        """Of the connection that there is."""
        assert self._client is not None
        return self._client

    @property
    def closed(self) -> bool:
        """Whether it was sent away."""
        return self.client.link.closed

    async def set_up(self, mtu: int) -> Handles:
        """As a phone would."""
        return await self.client.set_up(PHONE, mtu, None)

    async def ask(self, request: att.ATT_PDU, kind: type[Answer]) -> Answer:
        """One ATT round trip. AttRefusedError, RadioError or TimeoutError."""
        async with asyncio.timeout(ATT_PATIENCE_S):
            return await self.client._ask(request, kind)

    def send(self, channel: int, pdu: bytes) -> None:
        """Whatever bytes on one L2CAP channel."""
        with contextlib.suppress(RadioError):
            self.client._connection.send_l2cap_pdu(channel, pdu)

    def listen(self, channel: int) -> None:
        """Keep what comes on one L2CAP channel."""
        manager = self._stack._device.l2cap_channel_manager
        manager.fixed_channels[channel] = lambda _, pdu: self.heard.append((channel, bytes(pdu)))

    def drop(self) -> None:
        """Hang up."""
        self.client.link.drop()


@contextlib.asynccontextmanager
async def stranger(air: VirtualAir, number: int, address: str = "") -> AsyncIterator[Stranger]:
    """Somebody with an address of his own."""
    controller = AirController(air, f"00:AA:05:00:{number >> 8:02X}:{number & 0xFF:02X}")
    address = address or f"D0:00:00:00:{number >> 8:02X}:{number & 0xFF:02X}"
    async with open_radio(
        controller, address=address, dials=PHONE, options=RadioOptions()
    ) as radio:
        yield Stranger(radio._stack)
    controller.close()


def resident_kb(pid: int) -> int:
    """What a process holds in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise LookupError(f"{pid} has no memory")
