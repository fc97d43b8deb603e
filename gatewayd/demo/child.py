"""The daemon as a child process: started, listened to, stopped, or killed without warning."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

START_S: Final = 60.0
_STEPS: Final = re.compile(r"(\w+)=(\d+)ms")


class ChildError(Exception):
    """The daemon did not do what a daemon does; the message ends with its last words."""


class Child:
    """One run of `gatewayd run`, its journal read as it comes."""

    def __init__(self, config: Path, *, program: Sequence[str] = ("-m", "gatewayd")) -> None:
        self.lines: list[str] = []
        self._config = config
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._grown = asyncio.Condition()

    async def start(self) -> None:
        """Returns when phones are being served. ChildError otherwise."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, *self._program, "run", "-c", str(self._config), "--verbose"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._reader = asyncio.create_task(self._read(self._process), name="journal of the child")
        await self.line(lambda line: "serving " in line, START_S)

    @property
    def pid(self) -> int:
        """ChildError when it does not run."""
        if self._process is None:
            raise ChildError("the daemon does not run")
        return self._process.pid

    async def line(self, wanted: Callable[[str], bool], within_s: float, *, skip: int = 0) -> str:
        """The first line after `skip` lines, said or to come, that is `wanted`. ChildError."""
        try:
            async with asyncio.timeout(within_s), self._grown:
                while True:
                    for line in self.lines[skip:]:
                        if wanted(line):
                            return line
                    if self._reader is None or self._reader.done():
                        raise ChildError(f"the daemon ended\n{self.last_words()}")
                    await self._grown.wait()
        except TimeoutError:
            raise ChildError(
                f"the daemon did not say it within {within_s:.0f} s\n{self.last_words()}"
            ) from None

    async def kill(self) -> None:
        """SIGKILL: no chance to say goodbye."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return await self._end(signal.SIGTERM)

    async def ended(self) -> None:
        """Return when it runs no more, for whatever reason."""
        if self._reader is not None:
            await asyncio.wait({self._reader})

    def last_words(self) -> str:
        """The end of the journal."""
        return "\n".join(self.lines[-15:])

    async def _end(self, number: signal.Signals) -> int:
        process, reader = self._process, self._reader
        if process is None or reader is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(START_S):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            code = await process.wait()
        await reader
        self._process = None
        return code

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        if process.stderr is None:
            raise ChildError("no journal")
        async for line in process.stderr:
            async with self._grown:
                self.lines.append(line.decode(errors="replace").rstrip())
                self._grown.notify_all()
        async with self._grown:
            self._grown.notify_all()


def steps_of(line: str) -> dict[str, int]:
    """The milliseconds that an opening's line in the journal tells, by step."""
    return {name: int(passed) for name, passed in _STEPS.findall(line)}
