"""bumble's host with commands that cannot be broken off half way.

A caller may be cancelled at any time; the command it sent is still answered,
and that answer must not be taken for the answer to the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bumble import hci
from bumble.host import Host
from bumble.transport.common import TransportLostError, TransportSink, TransportSource

Result = TypeVar("Result")
Parameters = TypeVar("Parameters", bound=hci.HCI_ReturnParameters)


class BumbleHost(Host):
    """`packets_left(handle, count)` is called when the link layer is done with packets."""

    def __init__(self, source: TransportSource, sink: TransportSink) -> None:
        super().__init__(source, sink)
        self.packets_left: Callable[[int, int], None] = lambda _handle, _count: None
        self._commands: set[asyncio.Task[Any]] = set()
        self._abandoned = False

    async def send_sync_command_raw(
        self, command: hci.HCI_SyncCommand[Parameters], response_timeout: float | None = None
    ) -> hci.HCI_Command_Complete_Event[Parameters]:
        """As bumble's; TransportLostError when the controller is gone."""
        return await self._whole(super().send_sync_command_raw(command, response_timeout))

    async def send_async_command(
        self,
        command: hci.HCI_AsyncCommand,
        check_status: bool = True,
        response_timeout: float | None = None,
    ) -> hci.HCI_ErrorCode:
        """As bumble's; TransportLostError when the controller is gone."""
        return await self._whole(
            super().send_async_command(command, check_status, response_timeout)
        )

    async def _whole(self, exchange: Coroutine[Any, Any, Result]) -> Result:
        if self._abandoned:
            exchange.close()
            raise TransportLostError("the controller is gone")
        task = asyncio.create_task(exchange, name="radio command")
        self._commands.add(task)
        task.add_done_callback(self._finished)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise TransportLostError("the controller is gone") from None
            raise

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._commands.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have been cancelled and not look

    def abandon(self) -> None:
        """The controller is gone: nobody answers any more."""
        self._abandoned = True
        for task in self._commands:
            task.cancel()

    async def wait_idle(self) -> None:
        """Returns when no command is on the way."""
        await asyncio.gather(*self._commands, return_exceptions=True)

    def on_hci_number_of_completed_packets_event(
        self, event: hci.HCI_Number_Of_Completed_Packets_Event
    ) -> None:
        """Core Vol 4 Part E 7.7.19; may cross a disconnection."""
        for handle, count in zip(
            event.connection_handles, event.num_completed_packets, strict=True
        ):
            if queue := self.get_data_packet_queue(handle):
                queue.on_packets_completed(count, handle)
                self.packets_left(handle, count)
