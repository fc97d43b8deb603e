"""Several long commands, a few at a time, and every line that they say. Standard library only.

Ctrl-C ends them all, and waits until they have ended.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

LANES: Final = 2 * (os.cpu_count() or 1)
"""Twice as many as processors: what runs here waits for radios most of its time. With one more,
two tests at once missed the minute that a phone had."""
END_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Errand:
    """One command, and what to call it."""

    name: str
    command: Sequence[str]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command went: its exit code, and after how many seconds."""

    errand: Errand
    code: int
    took_s: float


class Lanes:
    """`tell` is called with every line, by several threads."""

    def __init__(self, tell: Callable[[Errand, str], None], lanes: int = LANES) -> None:
        self._tell = tell
        self._lanes = lanes
        self._mutex = threading.Lock()
        self._running: list[subprocess.Popen[str]] = []
        self._ending = False

    def carry_out(self, errands: Sequence[Errand]) -> list[Ended]:
        """Returns when all have ended, whatever became of them."""
        with ThreadPoolExecutor(self._lanes) as pool:
            waiting = [pool.submit(self._run, errand) for errand in errands]
            try:
                return [ended for each in waiting if (ended := each.result())]
            except BaseException:
                self._end()
                raise

    def _run(self, errand: Errand) -> Ended | None:
        began_s = time.monotonic()
        with self._mutex:
            if self._ending:
                return None
            process = subprocess.Popen(
                errand.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C is for us, and we tell it to end
            )
            self._running.append(process)
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                self._tell(errand, line.rstrip("\n"))
        return Ended(errand, process.wait(), time.monotonic() - began_s)

    def _end(self) -> None:
        with self._mutex:
            self._ending = True
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
