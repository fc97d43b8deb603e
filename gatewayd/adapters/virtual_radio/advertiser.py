"""Advertise exactly while there is room for another link.

A controller stops by itself when a central connects; this task starts it again
until the radio is at its cap, and once more when a link went away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bumble import device as bumble_device
from bumble import hci

UNIT_MS = 0.625


class Advertiser:
    """Keeps the controller advertising while `has_room`. `run` is the task that does it."""

    def __init__(
        self,
        device: bumble_device.Device,
        data: bytes,
        scan_response: bytes,
        interval_ms: tuple[float, float],
        has_room: Callable[[], bool],
    ) -> None:
        self._device = device
        self._data = data
        self._scan_response = scan_response
        self._interval = (round(interval_ms[0] / UNIT_MS), round(interval_ms[1] / UNIT_MS))
        self._has_room = has_room
        self._advertising = False
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Configure once, then follow `has_room`."""
        await self._configure()
        while True:
            self._changed.clear()
            wanted = self._has_room()
            if wanted != self._advertising:
                await self._switch(on=wanted)
            await self._changed.wait()

    def links_changed(self, *, stopped: bool = False) -> None:
        """A link came or went; `stopped`: the controller stopped by itself, a central connected."""
        if stopped:
            self._advertising = False
        self._changed.set()

    async def _switch(self, *, on: bool) -> None:
        # said before it is done: a central may connect before the answer to the command is read
        self._advertising = on
        self._device.legacy_advertiser = self._placeholder() if on else None
        try:
            await self._device.send_sync_command(
                hci.HCI_LE_Set_Advertising_Enable_Command(advertising_enable=int(on))
            )
        except hci.HCI_Error:
            self._advertising = False  # no room in the controller: tried again when a link went

    def _placeholder(self) -> bumble_device.LegacyAdvertiser:
        """By this object bumble knows which of our addresses a central connected to."""
        return bumble_device.LegacyAdvertiser(
            self._device,
            bumble_device.AdvertisingType.UNDIRECTED_CONNECTABLE_SCANNABLE,
            hci.OwnAddressType.RANDOM,
            hci.Address.ANY,
            auto_restart=False,
        )

    async def _configure(self) -> None:
        send = self._device.send_sync_command
        await send(
            hci.HCI_LE_Set_Advertising_Parameters_Command(
                advertising_interval_min=self._interval[0],
                advertising_interval_max=self._interval[1],
                advertising_type=bumble_device.AdvertisingType.UNDIRECTED_CONNECTABLE_SCANNABLE,
                own_address_type=hci.OwnAddressType.RANDOM,
                peer_address_type=hci.Address.ANY.address_type,
                peer_address=hci.Address.ANY,
                advertising_channel_map=7,
                advertising_filter_policy=0,
            )
        )
        await send(hci.HCI_LE_Set_Advertising_Data_Command(advertising_data=self._data))
        await send(
            hci.HCI_LE_Set_Scan_Response_Data_Command(scan_response_data=self._scan_response)
        )
