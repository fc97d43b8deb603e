"""A broker that does what it should not: a script over bare TCP, MQTT 3.1.1."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gatewayd.adapters.broker import Address

CONNECT, PUBLISH, SUBSCRIBE = 1, 3, 8
ACCEPTED = bytes.fromhex("20020000")
OTHER_VERSION = bytes.fromhex("2003008400")


def frame(first: int, body: bytes) -> bytes:
    length, digits = len(body), bytearray()
    while True:
        length, low = divmod(length, 128)
        digits.append(low | (0x80 if length else 0))
        if not length:
            return bytes([first]) + bytes(digits) + body


def publish(topic: str | bytes, payload: bytes, *, quality: int = 0, packet_id: int = 1) -> bytes:
    name = topic.encode() if isinstance(topic, str) else topic
    identity = packet_id.to_bytes(2, "big") if quality else b""
    body = len(name).to_bytes(2, "big") + name + identity + payload
    return frame(PUBLISH << 4 | quality << 1, body)


@dataclass
class Client:
    """One connection as the rogue sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def packet(self) -> tuple[int, bytes]:
        first = (await self.reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return first, await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def accept(self) -> None:
        """Take the CONNECT and say yes."""
        await self.packet()
        await self.send(ACCEPTED)

    async def serve(self, *, acknowledge: bool = True) -> None:
        """Acknowledge subscriptions and, if told so, publishes; for ever."""
        while True:
            first, body = await self.packet()
            if first >> 4 == SUBSCRIBE:
                await self.send(frame(0x90, body[:2] + b"\x01"))
            elif first >> 4 == PUBLISH and first & 6 and acknowledge:
                start = 2 + int.from_bytes(body[:2], "big")
                await self.send(frame(0x40, body[start : start + 2]))

    async def silence(self) -> None:
        """Read, and say nothing."""
        while await self.reader.read(4096):
            pass


@dataclass
class Rogue:
    address: Address
    connections: list[float] = field(default_factory=list)
    """When each CONNECT of MQTT 3.1.1 came, by the loop's clock."""


Script = Callable[[Client], Awaitable[None]]


@asynccontextmanager
async def rogue_broker(
    script: Script, *, versions: bool = True, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Rogue]:
    """Runs `script` per connection; with `versions`, refuses MQTT 5 properly before."""
    tasks: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(reader, writer)
        try:
            if versions:
                start = await reader.readexactly(9)
                if start[8] == 5:
                    await client.send(OTHER_VERSION)
                    return
                client.reader = _prefixed(start, reader)
            rogue.connections.append(asyncio.get_running_loop().time())
            await script(client)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort() if tls is None else writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(converse(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    rogue = Rogue(Address("127.0.0.1", server.sockets[0].getsockname()[1]))
    try:
        yield rogue
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close one turn of the loop later


def _prefixed(start: bytes, reader: asyncio.StreamReader) -> asyncio.StreamReader:
    """The same stream with bytes put back before what comes."""
    rest = bytes(reader._buffer)  # type: ignore[attr-defined]
    reader._buffer[:] = start + rest  # type: ignore[attr-defined]
    return reader
