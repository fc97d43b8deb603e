"""A controller of the virtual air given to the kernel: it becomes an adapter, hci0 and so on.

The kernel's end is /dev/vhci: every read and every write is one whole H4 packet.
Run as a program it gives the kernel one controller with nobody else on the air.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from bumble import hci, ll

from gatewayd.adapters.virtual_radio import AirController, VirtualAir

VENDOR_PACKET: Final = 0xFF
PRIMARY: Final = 0x00
MAX_PACKET: Final = 4096


class KernelController(AirController):
    """A controller whose host is the kernel.

    No link layer privacy: a host that sees it waits for the enhanced form of Connection Complete
    (use_enhanced_conn_complete in hci_core.h), which bumble never sends. The kernel would hold up
    all commands for four seconds, cancel a connection that exists, and never hang up on it.
    """

    le_features = AirController.le_features & ~hci.LeFeatureMask.LL_PRIVACY
    deaf = False
    """It hears no advertisement any more, and says nothing of it."""
    numb = False
    """It hears, and connects to nobody."""

    def on_ll_advertising_pdu(self, packet: ll.AdvertisingPdu) -> None:
        if not self.deaf:
            super().on_ll_advertising_pdu(packet)

    def on_hci_le_set_advertising_parameters_command(
        self, command: hci.HCI_LE_Set_Advertising_Parameters_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Refused while advertising (Core Vol 4 Part E 7.8.5), as a Pi's chip does."""
        if self.le_legacy_advertiser.enabled:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        return super().on_hci_le_set_advertising_parameters_command(command)

    def create_le_connection(self, peer_address: hci.Address) -> None:
        if not self.numb:
            super().create_le_connection(peer_address)

    def reset(self) -> None:
        self.deaf = self.numb = False
        super().reset()


class KernelAdapter:
    """What the kernel made of a controller. index: the n of hci<n>."""

    def __init__(self, controller: AirController, device: int) -> None:
        self.controller = controller
        self.index = -1
        self._device: int | None = device
        self._known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        controller.set_packet_sink(self)

    async def start(self) -> None:
        """Register with the kernel; returns when it has given the adapter its number."""
        assert self._device is not None
        asyncio.get_running_loop().add_reader(self._device, self._readable)
        os.write(self._device, bytes([VENDOR_PACKET, PRIMARY]))
        await self._known

    def on_packet(self, packet: bytes) -> None:
        """A packet from the controller to its host, the kernel."""
        if self._device is not None:  # else it was on its way when the adapter was pulled
            os.write(self._device, packet)

    def _readable(self) -> None:
        assert self._device is not None
        try:
            packet = os.read(self._device, MAX_PACKET)
        except BlockingIOError:
            return
        if packet[0] != VENDOR_PACKET:
            self.controller.on_packet(packet)
        elif not self._known.done():
            # vendor packet, opcode, index (little endian)
            self.index = int.from_bytes(packet[2:4], "little")
            self._known.set_result(None)

    def close(self) -> None:
        """The kernel removes the adapter, as if it had been unplugged."""
        assert self._device is not None
        asyncio.get_running_loop().remove_reader(self._device)
        self.controller.set_packet_sink(None)
        os.close(self._device)
        self._device = None


@asynccontextmanager
async def kernel_adapter(air: VirtualAir, address: str) -> AsyncIterator[KernelAdapter]:
    """Plug a radio into the kernel; unplugged at the end. OSError when there is no /dev/vhci."""
    controller = KernelController(air, address, name="kernel")
    adapter = KernelAdapter(controller, os.open("/dev/vhci", os.O_RDWR | os.O_NONBLOCK))
    try:
        async with asyncio.timeout(10):
            await adapter.start()
        yield adapter
    finally:
        adapter.close()
        controller.close()


async def main() -> None:
    """Hold one adapter until killed."""
    async with kernel_adapter(VirtualAir(), "00:AA:01:00:00:00") as adapter:
        print(f"hci{adapter.index}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
