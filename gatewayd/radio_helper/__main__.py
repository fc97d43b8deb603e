"""`gatewayd-radio-helper USER`: started by systemd with its listening socket (sd_listen_fds(3))."""

from __future__ import annotations

import logging
import os
import pwd
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from gatewayd.radio_helper.kernel import Kernel, connect
from gatewayd.radio_helper.server import Server

FIRST_SOCKET: Final = 3
USAGE: Final = "usage: gatewayd-radio-helper USER\n"


class NotStartedError(Exception):
    """The helper was not started as it must be."""


def inherited(environment: Mapping[str, str], descriptor: int = FIRST_SOCKET) -> socket.socket:
    """The one listening socket that systemd made for us. NotStartedError when there is none."""
    if (environment.get("LISTEN_PID"), environment.get("LISTEN_FDS")) != (str(os.getpid()), "1"):
        raise NotStartedError("no socket: start gatewayd-radio-helper.socket instead")
    listening = socket.socket(fileno=descriptor)
    if (listening.family, listening.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        listening.close()
        raise NotStartedError("the socket is not a local one for packets")
    return listening


def uid_of(user: str) -> int:
    """NotStartedError when there is no such user."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise NotStartedError(f"there is no user {user[:40]}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until killed; the exit code says why it could not begin."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1 or given[0].startswith("-"):
        sys.stderr.write(USAGE)
        return 2
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        uid, listening = uid_of(given[0]), inherited(os.environ)
    except (NotStartedError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    clock = time.monotonic  # noqa: TID251 - this program is its own edge
    Server(listening, uid, Kernel(connect, clock).carry_out).serve_for_ever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
