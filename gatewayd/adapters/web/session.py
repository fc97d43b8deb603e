"""What the page knows: how far the set-up is, the step that runs, and what each came to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from gatewayd.adapters.web import wire
from gatewayd.adapters.web.wire import Ended, Line, Peer, State, Status, Step, Told

MOST_LINES: Final = 500
LINGER_S: Final = 1.0
"""For the last page to fetch its style."""


@dataclass(slots=True)
class Work:
    """One step, of the page at `path`; `ended` when it is over."""

    step: Step
    path: str
    lines: list[Line] = field(default_factory=list)
    stopping: bool = False
    ended: Ended | None = None

    @property
    def last(self) -> Line:
        """What it said last."""
        return self.lines[-1] if self.lines else Line("")

    @property
    def outcome(self) -> Literal["done", "failed", "unknown"]:
        """Three, never two."""
        code = None if self.ended is None else self.ended.code
        return "done" if code == 0 else "unknown" if code == 3 else "failed"  # noqa: PLR2004 - ExitCode.UNKNOWN


class Session:
    """One installer at one page."""

    def __init__(self, peer: Peer[Told], clock: Callable[[], float], idle_s: float) -> None:
        self._peer = peer
        self._clock = clock
        self._idle_s = idle_s
        self._used_s = clock()
        self._end = asyncio.Event()
        self._why: Literal["finished", "idle", "guessed"] = "idle"
        self.status = Status()
        self.running: Work | None = None
        self.results: dict[str, Work] = {}
        self.files: dict[str, bytes] = {}

    # --- what the page does -------------------------------------------------------------------
    def used(self) -> None:
        """Somebody who may was here."""
        self._used_s = self._clock()

    def begin(self, step: Step, path: str) -> bool:
        """Ask for a step; False while another runs."""
        if self.running is not None:
            return False
        self.running = Work(step, path)
        self._peer.say(step)
        return True

    def stop(self) -> None:
        """As Ctrl-C in the terminal."""
        if self.running is not None:
            self.running.stopping = True
            self._peer.say(wire.Stop())

    def notice(self, said: str) -> None:
        """Into the terminal."""
        self._peer.say(wire.Noticed(said))

    def end(self, why: Literal["finished", "idle", "guessed"]) -> None:
        """The page goes off as soon as what it says now has been fetched."""
        if not self.ended:
            self._why = why
            self._end.set()

    @property
    def ended(self) -> bool:
        """Nothing is done any more."""
        return self._end.is_set()

    # --- what happens to it -------------------------------------------------------------------
    async def over(self) -> None:
        """Until it has ended, perhaps because nobody came for too long."""
        while not self.ended:
            if self.running is not None:
                self.used()
            left_s = self._used_s + self._idle_s - self._clock()
            if left_s <= 0:
                self.end("idle")
            else:
                try:
                    async with asyncio.timeout(min(left_s, self._idle_s / 2)):
                        await self._end.wait()
                except TimeoutError:
                    continue
        await asyncio.sleep(LINGER_S)
        self._peer.say(wire.End(self._why))

    async def listen(self, words: AsyncIterator[Told]) -> None:
        """Until whoever runs the steps is gone."""
        async for word in words:
            match word:
                case State(status):
                    self.status = status
                case Line(text) if text.startswith("next: "):
                    pass  # a command: here it is the next page
                case Line() if self.running is not None:
                    del self.running.lines[: -MOST_LINES + 1]
                    self.running.lines.append(word)
                case Ended() if self.running is not None:
                    self.running.ended = word
                    self.files |= word.files
                    self.results[self.running.path] = self.running
                    self.running = None
                case _:
                    pass
