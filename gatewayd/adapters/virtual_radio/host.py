"""Open one radio: for a gateway (both roles at once), a phone, or a lock.

async with open_radio("unix:/run/hci", address=A, serves=PHONE, dials=LOCK) as radio:
    link = await radio.peripheral.accept()
    lock = await radio.central.dial(lock_address)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bumble.transport.common import AsyncPipeSink
from bumble.transport.unix import open_unix_client_transport

from gatewayd.adapters.virtual_radio.bumble_host import BumbleHost
from gatewayd.adapters.virtual_radio.controller import AirController
from gatewayd.adapters.virtual_radio.gatt import GattService
from gatewayd.adapters.virtual_radio.link import RadioLink
from gatewayd.adapters.virtual_radio.roles import RadioCentral, RadioPeripheral
from gatewayd.adapters.virtual_radio.stack import RadioOptions, Stack
from gatewayd.ports import RadioError

UNIX_PREFIX = "unix:"


class Radio:
    """A running radio. `peripheral` serves one relation, `central` dials another."""

    def __init__(self, stack: Stack, dials: GattService | None, *, serving: bool) -> None:
        self._stack = stack
        self._peripheral = RadioPeripheral(stack) if serving else None
        self._central = None if dials is None else RadioCentral(stack, dials)

    @property
    def peripheral(self) -> RadioPeripheral:
        """LookupError when this radio was opened without `serves`."""
        if self._peripheral is None:
            raise LookupError("this radio serves nobody")
        return self._peripheral

    @property
    def central(self) -> RadioCentral:
        """LookupError when this radio was opened without `dials`."""
        if self._central is None:
            raise LookupError("this radio dials nobody")
        return self._central

    @property
    def links(self) -> list[RadioLink]:
        """Every connection there is now, of both roles, subscribed or not."""
        return list(self._stack.links.values())


@asynccontextmanager
async def open_radio(
    source: AirController | str,
    *,
    address: str,
    serves: GattService | None = None,
    dials: GattService | None = None,
    options: RadioOptions | None = None,
) -> AsyncIterator[Radio]:
    """A radio on a controller of the air, here or at `unix:<path>` in another process.

    address: random address of this radio, as others dial it. serves: the relation for which it
    is the peripheral; dials: the one for which it is the central. RadioError when there is no
    controller or it does not answer.
    """
    async with _attached(source) as (host, gone):
        stack = Stack(host, address, serves, options or RadioOptions())
        gone.add_done_callback(lambda _: stack.lose(RadioError("the controller is gone")))
        try:
            await stack.start()
            yield Radio(stack, dials, serving=serves is not None)
        finally:
            await stack.stop()


@asynccontextmanager
async def _attached(
    source: AirController | str,
) -> AsyncIterator[tuple[BumbleHost, asyncio.Future[None]]]:
    """A host with its controller, and a future that is done when the controller is gone."""
    if isinstance(source, AirController):
        try:
            yield BumbleHost(source, AsyncPipeSink(source)), source.terminated
        finally:
            source.set_packet_sink(None)
        return
    if not source.startswith(UNIX_PREFIX):
        raise RadioError(f"{source} is neither a controller nor {UNIX_PREFIX}<path>")
    try:
        transport = await open_unix_client_transport(source.removeprefix(UNIX_PREFIX))
    except OSError as error:
        raise RadioError(f"no controller at {source}: {error.strerror or error}") from error
    try:
        yield BumbleHost(transport.source, transport.sink), transport.source.terminated
    finally:
        await transport.close()
