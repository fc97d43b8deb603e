"""The connection to the broker, made so that every step can be cancelled.

The MQTT library would look up the name, connect and shake hands in a thread
that nobody can cancel, and a daemon that stops would wait for a broker that
hangs. Here each step is awaited; the finished socket is then handed over,
with a guard that sees each byte first.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

from gatewayd.adapters.broker_guard import BrokerGuard
from gatewayd.ports import UpstreamError

_Address = tuple[Any, ...]


class Wire:
    """A non-blocking socket as the MQTT library uses one, under a guard."""

    def __init__(self, sock: socket.socket, guard: BrokerGuard, now_s: Callable[[], float]) -> None:
        self._sock = sock
        self._guard = guard
        self._now_s = now_s

    def recv(self, size: int) -> bytes:
        """At most `size` bytes. ConnectionError when the broker overstepped a limit."""
        data = self._sock.recv(size)
        self._guard.received(data, self._now_s())
        return data

    def send(self, data: bytes) -> int:
        """How many bytes the broker's side took."""
        count = self._sock.send(data)
        self._guard.sent()
        return count

    def pending(self) -> int:
        """Bytes that TLS holds decrypted and that `select` does not see."""
        return self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """As of a socket."""
        self._sock.setblocking(flag)

    def close(self) -> None:
        """As of a socket; harmless when repeated."""
        self._sock.close()


async def open_wire(host: str, port: int, tls: ssl.SSLContext | None, guard: BrokerGuard) -> Wire:
    """Connect. UpstreamError when that fails; plain TCP only to this machine itself."""
    try:
        name = _encoded(host)
        addresses = await _resolve(name, port)
    except OSError as error:
        raise UpstreamError(f"cannot look up {host}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise UpstreamError(f"cannot look up {host}: {error}") from error
    if tls is None:
        addresses = [entry for entry in addresses if _is_loopback(entry[1][0])]
        if not addresses:
            raise UpstreamError(f"{host} is another machine: plain TCP is only for loopback")
    failure: Exception = UpstreamError(f"{host} has no address")
    for family, address in addresses:
        try:
            sock = await _connect(family, address, tls, name)
        except OSError as error:  # ssl.SSLError and certificate errors included
            failure = error
        else:
            return Wire(sock, guard, asyncio.get_running_loop().time)
    plain = isinstance(failure, ConnectionError) and failure.errno  # asyncio words it oddly
    said = os.strerror(plain) if plain else str(failure)
    raise UpstreamError(f"cannot connect to {host} port {port}: {said}") from failure


def _encoded(host: str) -> bytes:
    """As the resolver and TLS take it. UnicodeError.

    Text they would encode themselves, ASCII as well, with tables of international names: 0.4 MB.
    """
    return host.encode() if host.isascii() else host.encode("idna")


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


async def _resolve(host: bytes, port: int) -> list[tuple[int, _Address]]:
    """Addresses in the system's order.

    A daemon thread, not the loop's executor: a look-up that hangs must not
    keep the process from stopping.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[tuple[int, _Address]]] = loop.create_future()

    def deliver(result: Sequence[Any] | None, error: OSError | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result([(entry[0], entry[4]) for entry in result or ()])

    def look_up() -> None:
        result, error = None, None
        try:
            result = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as failure:
            error = failure
        with contextlib.suppress(RuntimeError):  # the loop closed meanwhile: nobody waits
            loop.call_soon_threadsafe(deliver, result, error)

    threading.Thread(target=look_up, name="broker look-up", daemon=True).start()
    return await answer


async def _connect(
    family: int, address: _Address, tls: ssl.SSLContext | None, host: bytes
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
        if tls is None:
            return sock
        secured = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    try:
        await _handshake(secured)
    except BaseException:
        secured.close()
        raise
    return secured


async def _handshake(secured: ssl.SSLSocket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        ready = asyncio.Event()
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            loop.add_reader(secured, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(secured)
        except ssl.SSLWantWriteError:
            loop.add_writer(secured, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_writer(secured)
        else:
            return
