"""An MQTT 3.1.1 broker inside this process, for `gatewayd demo` and the tests.

amqtt routes the messages. The listening socket and the task of each connection
are ours, so that everything ends when the context does. Only on loopback, and
open to whoever is on this machine: in production stands the operator's broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

# amqtt is annotated but lacks the py.typed marker
from amqtt.adapters import StreamWriterAdapter  # type: ignore[import-untyped]
from amqtt.broker import Broker  # type: ignore[import-untyped]
from amqtt.contexts import (  # type: ignore[import-untyped]
    BrokerConfig,
    ListenerConfig,
    ListenerType,
)

HOST: Final = "127.0.0.1"
_CONNECT_S: Final = 10.0
_VERSION_5: Final = 5
_START_BYTES: Final = 12  # no CONNECT is shorter: MQTT 3.1.1 section 3.1
_UNSUPPORTED_VERSION: Final = bytes.fromhex("2003008400")  # CONNACK, MQTT 5 section 3.1.2.2


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker listens."""

    host: str
    port: int


@contextlib.asynccontextmanager
async def serve(port: int = 0) -> AsyncIterator[Address]:
    """Run a broker for as long as the context; port 0 takes a free one."""
    _quieten()
    config = BrokerConfig(
        listeners={"default": ListenerConfig(type=ListenerType.EXTERNAL)},
        plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    )
    broker = Broker(config)
    await broker.start()
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_converse(broker, reader, writer), name="broker connection")
        connections.add(task)
        task.add_done_callback(connections.discard)

    try:
        server = await asyncio.start_server(accept, HOST, port)
        try:
            yield Address(HOST, server.sockets[0].getsockname()[1])
        finally:
            server.close()
            await _end(connections)
    finally:
        await broker.shutdown()


async def _end(connections: set[asyncio.Task[None]]) -> None:
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


async def _converse(
    broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        async with asyncio.timeout(_CONNECT_S):
            start = await reader.readexactly(_START_BYTES)
        if _speaks_mqtt_5(start):
            writer.write(_UNSUPPORTED_VERSION)
            await writer.drain()
            return
        await broker.external_connected(
            _Resumed(reader, start), StreamWriterAdapter(writer), "default"
        )
    except Exception:
        # One client that speaks no MQTT must not end the broker of all others.
        logging.getLogger(__name__).debug("a connection ended badly", exc_info=True)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _speaks_mqtt_5(start: bytes) -> bool:
    """Judge a CONNECT: type, length (1 to 4 bytes), "MQTT" with its length, version.

    amqtt would read on for bytes that never come instead of answering.
    """
    name = start.find(b"\x00\x04MQTT", 2)
    return name in range(2, 6) and start[name + 6] == _VERSION_5


class _Resumed:
    """What amqtt needs of a reader, where the first bytes have been looked at already."""

    def __init__(self, reader: asyncio.StreamReader, start: bytes) -> None:
        self._reader = reader
        self._start = start

    async def read(self, n: int = -1) -> bytes:
        """Exactly `n` bytes, or an empty string at the end."""
        start, self._start = self._start[:n], self._start[n:]
        try:
            return start + await self._reader.readexactly(n - len(start))
        except asyncio.IncompleteReadError:
            return b""

    def feed_eof(self) -> None:
        """Nothing more is to be read."""
        self._reader.feed_eof()


def _quieten() -> None:
    """It reports each connection, and each one cut, as if it were news for the operator."""
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
