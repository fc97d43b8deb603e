"""Tell systemd how we are (sd_notify(3)); without systemd, tell nobody.

The protocol is one datagram of `NAME=value` lines to the socket named by
NOTIFY_SOCKET; a library for it would be larger than this module.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from typing import Final

from gatewayd.logs import printable
from gatewayd.ports.process import Supervisor

_log = logging.getLogger(__name__)
_MICROSECONDS: Final = 1_000_000


class Nobody:
    """`ports.process.Supervisor` when nobody supervises."""

    def ready(self) -> None:
        """Nobody to tell."""

    def status(self, text: str) -> None:
        """Nobody to tell."""

    def alive(self) -> None:
        """Nobody to tell."""

    def stopping(self) -> None:
        """Nobody to tell."""


class Systemd:
    """`ports.process.Supervisor` over one notification socket."""

    def __init__(self, address: str) -> None:
        # a leading @ stands for the NUL byte of Linux's abstract namespace
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def ready(self) -> None:
        """The unit becomes active."""
        self._tell("READY=1")

    def status(self, text: str) -> None:
        """Shown by `systemctl status`."""
        self._tell(f"STATUS={printable(text, 200)}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """The unit is deactivating."""
        self._tell("STOPPING=1")

    def close(self) -> None:
        """Let the socket go."""
        self._socket.close()

    def _tell(self, state: str) -> None:
        try:
            self._socket.sendto(state.encode(), self._address)
        except OSError as error:
            # Opening doors matters more than being supervised.
            _log.warning("systemd was not told %s: %s", state.partition("=")[0], error)


def from_environment(environment: Mapping[str, str]) -> Supervisor:
    """The supervisor that started us, judging by NOTIFY_SOCKET."""
    address = environment.get("NOTIFY_SOCKET", "")
    return Systemd(address) if address else Nobody()


def watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    """How often systemd wants to hear `alive`, halved as sd_watchdog_enabled(3) advises.

    None when it does not, or when it means another process than this one.
    """
    text = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not (text.isascii() and text.isdigit() and int(text) > 0) or meant != str(os.getpid()):
        return None
    return int(text) / _MICROSECONDS / 2
