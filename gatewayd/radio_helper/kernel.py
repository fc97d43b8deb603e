"""Asks the kernel over a management socket, each question on a socket of its own.

While anybody scans, the kernel tells every management socket of every
advertisement that it hears: a socket kept open would be full of old news when
it is needed.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from gatewayd.radio_helper import mgmt
from gatewayd.radio_helper.mgmt import Command, MgmtError, Reply
from gatewayd.radio_helper.wire import Answer, Request, Restart, Status, Strength

AF_BLUETOOTH: Final = 31
BTPROTO_HCI: Final = 1
HCI_DEV_NONE: Final = 0xFFFF
HCI_CHANNEL_CONTROL: Final = 3
ANSWER_S: Final = 2.0
POWER_S: Final = 10.0
"""Switching on resets the controller and may load its firmware."""
BUSY_ASKS: Final = 50
BUSY_S: Final = 0.1
SPACING_S: Final = 30.0
"""An adapter is restarted no more often than this, whoever asks."""

_STATUS: Final = {
    mgmt.NOT_CONNECTED: Status.NOT_CONNECTED,
    mgmt.NOT_POWERED: Status.NOT_CONNECTED,
    mgmt.INVALID_INDEX: Status.NO_ADAPTER,
}


class NoAnswerError(Exception):
    """The kernel did not answer in time."""


class Kernel:
    """Carries out requests, one after another. `now_s` never steps; `pause` waits so long."""

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        now_s: Callable[[], float],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connect = connect
        self._now_s = now_s
        self._pause = pause
        self._restarted_s: dict[bytes, float] = {}

    def carry_out(self, request: Request) -> Answer:
        """Raises nothing: whatever goes wrong is a status."""
        try:
            with closing(self._connect()) as talk:
                index = self._index_of(talk, request.adapter)
                if index is None:
                    return Answer(Status.NO_ADAPTER)
                if isinstance(request, Restart):
                    return self._restart(talk, index, request)
                return self._strength(talk, index, request)
        except NoAnswerError:
            return Answer(Status.NO_ANSWER)
        except (OSError, MgmtError):
            return Answer(Status.FAILED)

    def _strength(self, talk: socket.socket, index: int, request: Strength) -> Answer:
        command = mgmt.connection(index, request.peer, request.peer_type)
        reply = self._ask(talk, command, ANSWER_S)
        if reply.status != mgmt.SUCCESS:
            return Answer(_STATUS.get(reply.status, Status.FAILED))
        rssi = mgmt.rssi_dbm(reply.data, command)
        return Answer(Status.FAILED) if rssi is None else Answer(Status.OK, rssi)

    def _restart(self, talk: socket.socket, index: int, request: Restart) -> Answer:
        last_s = self._restarted_s.get(request.adapter)
        if last_s is not None and self._now_s() - last_s < SPACING_S:
            return Answer(Status.TOO_SOON)
        self._restarted_s[request.adapter] = self._now_s()
        # A controller that hangs cannot be switched off in good order; switching it on
        # resets it all the same, so only what becomes of that counts.
        self._ask(talk, mgmt.set_powered(index, on=False), POWER_S)
        reply = self._switched_on(talk, index)
        if reply.status != mgmt.SUCCESS:
            return Answer(_STATUS.get(reply.status, Status.FAILED))
        mgmt.check_settings(reply.data)
        return Answer(Status.OK)

    def _switched_on(self, talk: socket.socket, index: int) -> Reply:
        """The daemon has bluetoothd switch on what it finds off, and then both of us do it."""
        command = mgmt.set_powered(index, on=True)
        reply = self._ask(talk, command, POWER_S)
        for _ in range(BUSY_ASKS):
            if reply.status != mgmt.BUSY:
                break
            self._pause(BUSY_S)
            reply = self._ask(talk, command, POWER_S)
        return reply

    def _index_of(self, talk: socket.socket, adapter: bytes) -> int | None:
        """Indexes change when an adapter goes and comes back; its address does not."""
        listed = self._ask(talk, mgmt.index_list(), ANSWER_S)
        if listed.status != mgmt.SUCCESS:
            return None
        for index in mgmt.indexes(listed.data):
            known = self._ask(talk, mgmt.information(index), ANSWER_S)
            if known.status == mgmt.SUCCESS and mgmt.address(known.data) == adapter:
                return index
        return None

    def _ask(self, talk: socket.socket, command: Command, within_s: float) -> Reply:
        until_s = self._now_s() + within_s
        talk.settimeout(within_s)
        try:
            talk.send(command.encode())
            while (left_s := until_s - self._now_s()) > 0:
                talk.settimeout(left_s)
                reply = mgmt.parse_reply(talk.recv(mgmt.MAX_PACKET_BYTES), command)
                if reply is not None:
                    return reply
        except TimeoutError:
            pass
        raise NoAnswerError


def connect() -> socket.socket:
    """A management socket. OSError where the kernel has none, or does not let us."""
    talk = socket.socket(AF_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_CLOEXEC, BTPROTO_HCI)
    try:
        _bind(talk)
    except OSError:
        talk.close()
        raise
    return talk


def _bind(talk: socket.socket) -> None:
    """Python's own bind knows no channels of HCI sockets before 3.14."""
    name = struct.pack("=HHH", AF_BLUETOOTH, HCI_DEV_NONE, HCI_CHANNEL_CONTROL)
    library = ctypes.CDLL(None, use_errno=True)
    if library.bind(talk.fileno(), name, len(name)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
