"""`gatewayd` with one fault: after SIGUSR1 the task that keeps the clock never wakes up again.

Only tests know this program; it runs in place of the installed one, with its libraries.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

from gatewayd import timekeeper
from gatewayd.cli import main

hung = False


class Sleepless:
    """asyncio, whose sleep may not end."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if hung:
            await asyncio.Event().wait()


def hang(*_: object) -> None:
    global hung  # noqa: PLW0603 - a signal handler has nowhere else to say it
    hung = True


timekeeper.asyncio = Sleepless()  # type: ignore[assignment] # the fault
signal.signal(signal.SIGUSR1, hang)
sys.exit(main())
