"""The ports Peripheral and Central over a running stack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from bumble import hci
from bumble.core import InvalidArgumentError

from gatewayd.adapters.virtual_radio.gatt import AttRefusedError, GattService, Handles
from gatewayd.adapters.virtual_radio.link import RadioLink
from gatewayd.adapters.virtual_radio.stack import Stack
from gatewayd.ports import RadioError
from gatewayd.ports.radio import Sighting

RETRY_S = 0.03


class RadioPeripheral:
    """The advertising side: a gateway towards phones, a lock towards gateways."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def accept(self) -> RadioLink:
        """The next central that subscribed and is still there; RadioError: no controller."""
        while True:
            link = await self._stack.next_arrival()
            if not link.closed:
                return link


class RadioCentral:
    """The dialling side: a phone towards gateways, a gateway towards locks."""

    def __init__(self, stack: Stack, service: GattService) -> None:
        self._stack = stack
        self._service = service
        self._known: dict[str, Handles] = {}
        self._scanning = asyncio.Lock()

    async def dial(self, address: str) -> RadioLink:
        """Connect, exchange the MTU, find the service, subscribe, all within `dial_s`.

        The table is looked for once per address. RadioError when no link came about.
        """
        try:
            peer = hci.Address(address)
        except (InvalidArgumentError, ValueError) as error:
            raise RadioError(f"{address} is no address") from error
        try:
            async with asyncio.timeout(self._stack.options.dial_s):
                while True:
                    link = await self._try(peer, address)
                    if link is not None:
                        return link
                    await asyncio.sleep(RETRY_S)
        except TimeoutError:
            raise RadioError(f"{address} does not answer") from None

    async def _try(self, peer: hci.Address, address: str) -> RadioLink | None:
        """None: worth another try at once."""
        async with AsyncExitStack() as undo:
            client = await self._stack.connect(peer)
            link = client.link
            undo.push_async_callback(link.close)
            known = self._known.pop(address, None)
            try:
                self._known[address] = await client.set_up(
                    self._service, self._stack.options.mtu, known
                )
            except AttRefusedError as error:
                if known is None:
                    raise RadioError(f"{address}: {error}") from error
                return None  # the table is elsewhere now: find it again
            except RadioError:
                if known is not None:
                    self._known[address] = known
                if link.code == hci.HCI_CONNECTION_FAILED_TO_BE_ESTABLISHED_ERROR:
                    return None  # another central was faster
                raise
            undo.pop_all()
            return link

    async def scan(self, seconds: float) -> Sequence[str]:
        """Addresses advertising the service within `seconds`, strongest first."""
        return [sighting.address for sighting in await self.look(seconds)]

    async def look(
        self, seconds: float, heard: Callable[[Sighting], None] = lambda _: None
    ) -> Sequence[Sighting]:
        """Who advertises the service within `seconds`, strongest first."""
        async with self._scanning:
            return await self._stack.look(self._service, seconds, heard)
