"""journald by its own protocol, so that a message has an id and fields beside its text.

One datagram of `FIELD=value` lines to a socket
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL/). Standard error, where the journal
listens as well, knows text and priority only; it is what is left when a
datagram is refused.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from typing import Final, TextIO

from gatewayd.messages import ATTRIBUTE

SOCKET: Final = "/run/systemd/journal/socket"
IDENTIFIER: Final = "gatewayd"


class JournalHandler(logging.Handler):
    """Formats with a formatter whose lines begin with `<priority>`, as sd-daemon(3) has them."""

    def __init__(self, otherwise: logging.Handler, path: str = SOCKET) -> None:
        super().__init__()
        self._otherwise = otherwise
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)  # a journal that is stuck must not hold up a door

    def emit(self, record: logging.LogRecord) -> None:
        """Hand it over, or say it on standard error."""
        try:
            self._socket.sendto(_datagram(self.format(record), record), self._path)
        except OSError:
            self._otherwise.emit(record)

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802 - of the base
        """For both ways."""
        super().setFormatter(fmt)
        self._otherwise.setFormatter(fmt)

    def close(self) -> None:
        """Let the socket go."""
        self._socket.close()
        super().close()


def _datagram(line: str, record: logging.LogRecord) -> bytes:
    priority, _, text = line.removeprefix("<").partition(">")
    fields = {
        "MESSAGE": text,
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        **getattr(record, ATTRIBUTE, {}),
    }
    # No value has a line's end: the formatter leaves none, and the rest is ours.
    return "".join(f"{name}={value}\n" for name, value in fields.items()).encode(
        "utf-8", "backslashreplace"
    )


def listens(environment: Mapping[str, str], stream: TextIO) -> bool:
    """Whether the journal reads `stream`: JOURNAL_STREAM names its file (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
