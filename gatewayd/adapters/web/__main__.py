"""The page's process: `python -m gatewayd.adapters.web LISTENING CONTROL`, two descriptors."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import socket
import sys
from typing import Final, TextIO

from gatewayd.adapters.web import pages, server

_NOBODY: Final = 65_534
_MOST_FILES: Final = 256
_NO_NEW_PRIVILEGES: Final = 38  # prctl(2)
_MOST_SAID: Final = 3


class _AFewTimes(logging.StreamHandler[TextIO]):
    """What goes wrong is told, but strangers may be who makes it, and fill no terminal."""

    _left = _MOST_SAID

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        if self._left:
            self._left -= 1
            super().emit(record)


def _become_nobody() -> bool:
    """It has its two sockets; it needs no file, and no child. False where it was nobody much."""
    root = os.geteuid() == 0
    if root:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_FILES, _MOST_FILES))
    # a program that is root's by its mode (su, sudo) would undo all of this
    if ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError("this kernel cannot hold back privileges")
    return root


def main() -> None:
    """Until whoever started it is gone, or the page has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other process's to answer
    logging.basicConfig(handlers=[_AFewTimes()], level=logging.ERROR)
    listening, control = (socket.socket(fileno=int(each)) for each in sys.argv[1:])
    pages.load()
    nobody = _become_nobody()
    asyncio.run(server.serve(listening, control))
    if nobody:
        os._exit(0)  # whatever would be written now may not be


if __name__ == "__main__":
    main()
