"""Hears the daemon, and nobody else, on one local socket of packets.

Who connects is known from the kernel (SO_PEERCRED, unix(7)), not from what he
says; the mode of the socket's file keeps others out before that.
"""

from __future__ import annotations

import logging
import selectors
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from gatewayd.radio_helper.wire import (
    MAX_REQUEST_BYTES,
    Answer,
    Request,
    Status,
    WireError,
    decode_request,
    encode_answer,
)

MOST_CLIENTS: Final = 4
_UCRED: Final = struct.Struct("=iII")  # pid, uid, gid
_log: Final = logging.getLogger(__name__)


class Server:
    """Serves connections of the user `uid` until closed."""

    def __init__(
        self, listening: socket.socket, uid: int, carry_out: Callable[[Request], Answer]
    ) -> None:
        self._listening = listening
        self._uid = uid
        self._carry_out = carry_out
        self._selector = selectors.DefaultSelector()
        self._clients: list[socket.socket] = []
        listening.setblocking(False)
        self._selector.register(listening, selectors.EVENT_READ)

    def serve_for_ever(self) -> None:
        """Until an exception, which is a bug of ours."""
        while True:
            self.turn(None)

    def turn(self, wait_s: float | None) -> None:
        """Wait at most so long for something to happen, and deal with it."""
        for key, _ in self._selector.select(wait_s):
            if key.fileobj is self._listening:
                self._accept()
            elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._clients:
                self._answer(key.fileobj)

    def close(self) -> None:
        """Let everybody go."""
        for client in tuple(self._clients):
            self._drop(client)
        self._selector.close()
        self._listening.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listening.accept()
        except OSError:  # he has gone again already
            return
        if peer_uid(client) != self._uid:
            _log.warning("somebody else than the daemon's user was turned away")
            client.close()
            return
        client.setblocking(False)
        self._clients.append(client)
        self._selector.register(client, selectors.EVENT_READ)
        if len(self._clients) > MOST_CLIENTS:  # left behind by a daemon that was killed
            self._drop(self._clients[0])

    def _answer(self, client: socket.socket) -> None:
        try:
            packet = client.recv(MAX_REQUEST_BYTES + 1)
            if not packet:
                self._drop(client)
                return
            client.send(encode_answer(self._carried_out(packet)))
        except OSError:  # gone, or he does not read his answers
            self._drop(client)

    def _carried_out(self, packet: bytes) -> Answer:
        try:
            request = decode_request(packet)
        except WireError as error:
            _log.warning("refused: %s", error)
            return Answer(Status.MALFORMED)
        answer = self._carry_out(request)
        if answer.status is not Status.OK:
            _log.info("%s: %s", type(request).__name__.lower(), answer.status.name.lower())
        return answer

    def _drop(self, client: socket.socket) -> None:
        self._clients.remove(client)
        with suppress(KeyError):
            self._selector.unregister(client)
        client.close()


def peer_uid(client: socket.socket) -> int:
    """Whose process connected, as the kernel knows it."""
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    uid: int = _UCRED.unpack(credentials)[1]
    return uid
