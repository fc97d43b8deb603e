"""The HTTP server of the page: how many may connect, and for how long each may stay."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gatewayd.adapters.web import views, wire
from gatewayd.adapters.web.gate import Gate
from gatewayd.adapters.web.session import Session
from gatewayd.adapters.web.wire import Begin, Peer, State

CONNECTION_S: Final = 20.0
"""No answer takes long: steps run beside the requests that ask how they are."""
MOST_CONNECTIONS: Final = 64
MOST_OF_ONE: Final = 8
"""A browser opens six to one host."""
_MAX_HEAD_BYTES: Final = 16 * 1024


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for the process that started this one."""
        yield


def _limited() -> type[H11Protocol]:
    """The protocol of uvicorn with a bound on how many there are, and on the time of each."""
    there: Counter[str] = Counter()

    class Limited(H11Protocol):
        _peer = ""
        _end: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as there
            super().connection_made(transport)
            name = transport.get_extra_info("peername")
            peer = str(name[0]) if name else ""
            if there.total() >= MOST_CONNECTIONS or there[peer] >= MOST_OF_ONE:
                transport.abort()
                return
            self._peer = peer
            there[peer] += 1
            self._end = self.loop.call_later(CONNECTION_S, transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._end is not None:
                self._end.cancel()
                there[self._peer] -= 1
                if not there[self._peer]:
                    del there[self._peer]

    return Limited


async def serve(listening: socket.socket, control: socket.socket) -> None:
    """Serve until the page has ended or whoever started it is gone."""
    reader, writer = await asyncio.open_connection(sock=control, limit=wire.MAX_TOLD_BYTES)
    peer = Peer(reader, writer, wire.telling())
    words = peer.hear()
    begin, state = await anext(words, None), await anext(words, None)
    if isinstance(begin, Begin) and isinstance(state, State):
        session = Session(peer, asyncio.get_running_loop().time, begin.idle_s)
        session.status = state.status
        app = Gate(views.application(session), session, begin.hosts, begin.code)
        server = _Server(_config(app))
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve(sockets=[listening]))
            ending = group.create_task(session.over())
            hearing = group.create_task(session.listen(words))
            await asyncio.wait({serving, ending, hearing}, return_when=asyncio.FIRST_COMPLETED)
            server.should_exit = True
            await serving
            ending.cancel()
            hearing.cancel()
    await peer.close()


def _config(app: Gate) -> uvicorn.Config:
    return uvicorn.Config(
        cast("Any", app),
        http=_limited(),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        timeout_graceful_shutdown=2,
    )
