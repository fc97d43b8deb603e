"""Who is dialled when: a controller initiates one connection at a time.

Every request gets turns of limited length, so that a lock out of reach never
keeps the others waiting for long. Giving up a request is always safe: a
connection that comes about for nobody is hung up.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from bumble import hci
from bumble.device import Device

from gatewayd.adapters.virtual_radio.gatt import GattClient
from gatewayd.ports import RadioError

SCAN_UNITS = 0x60  # 60 ms, window = interval: listen all the time
CANCEL_S = 1.0
LEAVING_S = 0.01
INTERVAL_UNIT_MS = 1.25
TIMEOUT_UNIT_MS = 10


class Initiator:
    """Dials for any number of tasks. `run` is the task that talks to the controller."""

    def __init__(
        self, device: Device, interval_ms: float, supervision_timeout_ms: int, turn_s: float
    ) -> None:
        self._device = device
        self._turn_s = turn_s
        self._interval = round(interval_ms / INTERVAL_UNIT_MS)
        self._timeout = supervision_timeout_ms // TIMEOUT_UNIT_MS
        self._requests: asyncio.Queue[tuple[hci.Address, asyncio.Future[GattClient]]] = (
            asyncio.Queue()
        )
        self._finished: asyncio.Future[GattClient | None] | None = None
        self._served: asyncio.Future[GattClient] | None = None
        self._lost: RadioError | None = None

    async def connect(self, address: hci.Address) -> GattClient:
        """A fresh connection; waits for its turn and for the peer for as long as the caller does.

        Raises:
            RadioError: the controller refuses or is gone.
        """
        if self._lost is not None:
            raise self._lost
        outcome: asyncio.Future[GattClient] = asyncio.get_running_loop().create_future()
        self._requests.put_nowait((address, outcome))
        try:
            return await outcome
        except asyncio.CancelledError:
            # cancelled in the very moment in which it came about
            if outcome.done() and not outcome.cancelled() and outcome.exception() is None:
                outcome.result().link.drop()
            raise

    async def run(self) -> None:
        """Serve the requests in turns."""
        while True:
            address, outcome = await self._requests.get()
            if outcome.done():
                continue
            await self._take_turn(address, outcome)
            if not outcome.done():
                self._requests.put_nowait((address, outcome))

    async def _take_turn(self, address: hci.Address, outcome: asyncio.Future[GattClient]) -> None:
        finished: asyncio.Future[GattClient | None] = asyncio.get_running_loop().create_future()
        self._finished = finished
        self._served = outcome
        try:
            await self._device.send_async_command(self._command(address))
        except hci.HCI_Error as error:
            self._finished = None
            if error.error_code == hci.HCI_CONNECTION_ALREADY_EXISTS_ERROR:
                await asyncio.sleep(LEAVING_S)  # the last one has not quite gone yet
            elif not outcome.done():
                outcome.set_exception(RadioError(f"the controller refuses: {error}"))
            return
        waited: set[asyncio.Future[Any]] = {finished, outcome}
        await asyncio.wait(waited, timeout=self._turn_s, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done():
            await self._cancel(finished)
        self._finished = None
        client = finished.result() if finished.done() else None
        if client is not None and outcome.done():
            client.link.drop()
        elif client is not None:
            outcome.set_result(client)

    async def _cancel(self, finished: asyncio.Future[GattClient | None]) -> None:
        # refused when it is too late: the connection has come about, its event is on the way
        with suppress(hci.HCI_Error):
            await self._device.send_sync_command(hci.HCI_LE_Create_Connection_Cancel_Command())
        await asyncio.wait({finished}, timeout=CANCEL_S)

    def _command(self, address: hci.Address) -> hci.HCI_LE_Create_Connection_Command:
        return hci.HCI_LE_Create_Connection_Command(
            le_scan_interval=SCAN_UNITS,
            le_scan_window=SCAN_UNITS,
            initiator_filter_policy=0,
            peer_address_type=address.address_type,
            peer_address=address,
            own_address_type=hci.OwnAddressType.RANDOM,
            connection_interval_min=self._interval,
            connection_interval_max=self._interval,
            max_latency=0,
            supervision_timeout=self._timeout,
            min_ce_length=0,
            max_ce_length=0,
        )

    def connected(self, client: GattClient) -> None:
        """The controller reports a connection as central."""
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(client)
        else:
            client.link.drop()

    def failed(self) -> None:
        """The controller reports that initiating ended without a connection."""
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(None)

    def lose(self, error: RadioError) -> None:
        """The controller is gone: everyone who waits is told."""
        self._lost = error
        waiting = [] if self._served is None else [self._served]
        while not self._requests.empty():
            waiting.append(self._requests.get_nowait()[1])
        for outcome in waiting:
            if not outcome.done():
                outcome.set_exception(error)
