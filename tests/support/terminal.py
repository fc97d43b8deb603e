"""A command at a real terminal of 80 columns, beside the loop in which its peers may live."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import pty
import re
import signal
import struct
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

COLUMNS, LINES = 80, 24
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """What is on the screen, and the keyboard."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self.raw = ""
        self._process = process
        self._master = master
        self._grown = asyncio.Condition()
        self._reader = asyncio.create_task(self._read(), name="terminal")

    @property
    def screen(self) -> str:
        """Without colours."""
        return _COLOUR.sub("", self.raw).replace("\r\n", "\n")

    def type(self, text: str) -> None:
        """As somebody at the keyboard; control characters do what they do."""
        os.write(self._master, text.encode())

    def hangs_up(self) -> None:
        """As when the connection to it is lost."""
        self._process.send_signal(signal.SIGHUP)

    async def shows(self, words: str, within_s: float = 60, times: int = 1) -> None:
        """Returns when it says so. AssertionError when it does not."""
        try:
            async with asyncio.timeout(within_s), self._grown:
                await self._grown.wait_for(lambda: self.screen.count(words) >= times)
        except TimeoutError:
            raise AssertionError(f"no {words!r} on the screen:\n{self.screen}") from None

    async def ended(self, within_s: float = 60) -> int:
        """Its exit code. AssertionError when it goes on."""
        try:
            async with asyncio.timeout(within_s):
                await asyncio.shield(self._reader)
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"it goes on:\n{self.screen}") from None

    async def _read(self) -> None:
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        os.set_blocking(self._master, False)
        loop.add_reader(self._master, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                try:
                    data = os.read(self._master, 65_536)
                except BlockingIOError:  # read already
                    continue
                async with self._grown:
                    self.raw += data.decode(errors="replace")
                    self._grown.notify_all()
        except OSError as error:
            if error.errno != errno.EIO:  # its last process has closed it
                raise
        finally:
            loop.remove_reader(self._master)

    async def close(self) -> None:
        """Kill what is left."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
        os.close(self._master)


@asynccontextmanager
async def terminal(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> AsyncIterator[Terminal]:
    """Start it there; ended when the block ends."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=slave, stdout=slave, stderr=slave, cwd=cwd,
            env={**inherited, "TERM": "xterm", **(environment or {})},
            preexec_fn=_take_terminal,
        )  # fmt: skip
    finally:
        os.close(slave)
    found = Terminal(process, master)
    try:
        yield found
    finally:
        await found.close()


def _take_terminal() -> None:
    """The child's own, so that Ctrl-C reaches it."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
