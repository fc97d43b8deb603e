"""A controller of the air behind a unix socket, speaking HCI (H4: UART transport framing).

A daemon in another process opens `unix:/path` as its radio. When that process
is killed its links die as those of a real controller would: the controller is
reset, its peers notice by supervision timeout, and the next process finds it fresh.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bumble.core import InvalidPacketError
from bumble.transport.common import PacketParser

from gatewayd.adapters.virtual_radio.air import VirtualAir
from gatewayd.adapters.virtual_radio.controller import AirController


class _HostConnection(asyncio.Protocol):
    """One host process at the socket; a new one replaces the old one."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._parser = PacketParser(server.controller)
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.WriteTransport):
            raise TypeError("a stream is needed")
        self._transport = transport
        self._server.attach(self)

    def data_received(self, data: bytes) -> None:
        if self._server.host is not self:
            return
        try:
            self._parser.feed_data(data)
        except InvalidPacketError:
            self.abort()  # H4 cannot find the next packet again

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._server.detach(self)

    def on_packet(self, packet: bytes) -> None:
        """Write a packet of the controller to the host."""
        if self._transport is not None:
            self._transport.write(packet)

    def abort(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


class _Server:
    def __init__(self, controller: AirController) -> None:
        self.controller = controller
        self.host: _HostConnection | None = None

    def attach(self, host: _HostConnection) -> None:
        if self.host is not None:
            self.host.abort()
            self.controller.reset()
        self.host = host
        self.controller.set_packet_sink(host)

    def detach(self, host: _HostConnection) -> None:
        if self.host is host:
            self.host = None
            self.controller.set_packet_sink(None)
            self.controller.reset()


@asynccontextmanager
async def serve_hci(air: VirtualAir, path: Path, *, address: str) -> AsyncIterator[AirController]:
    """Put a controller on the air whose host connects to the unix socket `path`.

    Yields the controller; its host may come, be killed and come again any
    number of times. Open it there with `open_radio("unix:<path>", ...)`.
    """
    controller = AirController(air, address, name=path.name)
    server = _Server(controller)
    _remove(path)
    listener = await asyncio.get_running_loop().create_unix_server(
        lambda: _HostConnection(server), path
    )
    try:
        yield controller
    finally:
        listener.close()
        if server.host is not None:
            server.host.abort()
        await listener.wait_closed()
        _remove(path)
        controller.close()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
