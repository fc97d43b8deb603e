"""Sockets of a machine that has no network, carried over its serial line to sockets outside.

Frames of `_HEAD` (what, number of the connection, length) and data. Whoever is in the
machine opens connections, by the name of a service; outside they are made to what bears
that name there. Standard library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import tty
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

_HEAD: Final = struct.Struct("!BHH")
_OPEN, _DATA, _CLOSE = 1, 2, 3
_MOST: Final = 1024

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Coroutine[Any, Any, Streams]]


@dataclass
class Tunnel:
    """One end of the line. `services`: what may be asked for at this end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    services: Mapping[str, Connect] = field(default_factory=dict)
    _open: dict[int, asyncio.StreamWriter] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _numbers: int = 0

    async def run(self) -> None:
        """Until the line ends."""
        try:
            while True:
                what, number, length = _HEAD.unpack(await self.reader.readexactly(_HEAD.size))
                await self._take(what, number, await self.reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            for task in self._tasks:
                task.cancel()
            for writer in self._open.values():
                writer.close()

    async def carry(
        self, service: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """A connection was made at this end: it is continued at the other."""
        self._numbers += 1
        self._send(_OPEN, self._numbers, service.encode())
        self._open[self._numbers] = writer
        await self._pump(self._numbers, reader)

    async def _take(self, what: int, number: int, data: bytes) -> None:
        if what == _OPEN:
            try:
                reader, self._open[number] = await self.services[data.decode()]()
            except OSError:
                self._send(_CLOSE, number)
                return
            task = asyncio.create_task(self._pump(number, reader))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif (writer := self._open.get(number)) is not None:
            if what == _DATA:
                writer.write(data)
            else:
                self._open.pop(number).close()

    async def _pump(self, number: int, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_MOST):
                self._send(_DATA, number, data)
                await self.writer.drain()
        if (writer := self._open.pop(number, None)) is not None:
            writer.close()
            self._send(_CLOSE, number)

    def _send(self, what: int, number: int, data: bytes = b"") -> None:
        self.writer.write(_HEAD.pack(what, number, len(data)) + data)


async def open_inside(
    stack: AsyncExitStack, line: str, *, sockets: Mapping[str, str], ports: Mapping[str, int]
) -> Tunnel:
    """The end in the machine: `line` is its tty; services by the path or port where they listen."""
    loop = asyncio.get_running_loop()
    descriptor = os.open(line, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    tty.setraw(descriptor)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(descriptor), "rb", 0)
    )
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(descriptor, "wb", 0)
    )
    tunnel = Tunnel(reader, asyncio.StreamWriter(transport, protocol, None, loop))
    for name, path in sockets.items():
        serving = await asyncio.start_unix_server(partial(tunnel.carry, name), path)
        await stack.enter_async_context(serving)
    for name, port in ports.items():
        serving = await asyncio.start_server(partial(tunnel.carry, name), "127.0.0.1", port)
        await stack.enter_async_context(serving)
    return tunnel
