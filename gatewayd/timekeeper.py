"""The shell of `core.timekeeping`: the one place that reads the clocks and stores what is known.

Everybody who needs the time asks `reading()`; nobody else looks at a clock to
learn the date.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from firmware_proto.codes import ID_BYTES
from gatewayd.core.model import ClockState, Instant, TimeReading
from gatewayd.core.timekeeping import (
    DamagedTimeError,
    Timekeeping,
    TimeRefusedError,
)
from gatewayd.ports import StorageError
from gatewayd.ports.process import Clock, Entropy, Pulse
from gatewayd.ports.storage import Memory
from gatewayd.vitals import UNWATCHED

_log: Final = logging.getLogger(__name__)

MEMORY_NAME: Final = "timekeeping"
ASK_S: Final = 6 * 3600.0
"""Signed time is asked for again after so long, though the clock is still TRUSTED."""
AGAIN_S: Final = 1.0
"""A question is not replaced sooner: its answer may be on the way."""
KEEP_S: Final = 300.0
"""How often the floor is persisted: what a power cut may take back at most."""
AGAIN_KEEP_S: Final = 10.0
"""What could not be stored is tried again so soon."""
LOOK_S: Final = 30.0
"""More than one look at the clock takes, with what is stored and told after it."""

StateListener = Callable[[TimeReading], Awaitable[None]]


class Timekeeper:
    """What this gateway knows of time, kept durable."""

    def __init__(self, clock: Clock, memory: Memory, known: Timekeeping) -> None:
        self._clock = clock
        self._memory = memory
        self._known = known
        self._stored = known.encode()

    @classmethod
    async def load(cls, clock: Clock, memory: Memory, *, battery_clock: bool) -> Timekeeper:
        """What was stored, carried into this boot. StorageError when it is damaged."""
        stored = await memory.load(MEMORY_NAME)
        try:
            known = (
                Timekeeping(battery_clock=battery_clock)
                if stored is None
                else Timekeeping.decode(stored, battery_clock=battery_clock)
            )
        except DamagedTimeError as error:
            raise StorageError(f"the stored time is damaged: {error}") from error
        return cls(clock, memory, known.started(clock.instant()))

    @property
    def known(self) -> Timekeeping:
        """The present state, for `core.timekeeping`'s own methods."""
        return self._known

    def instant(self) -> Instant:
        """All the clocks at once."""
        return self._clock.instant()

    def reading(self) -> TimeReading:
        """What time it is, and how sure that is."""
        return self._known.reading(self._clock.instant())

    async def update(self, known: Timekeeping) -> None:
        """Replace what is known; durable when it returns (an open question is not stored).

        StorageError: known, and not durable; `keep` tries again.
        """
        self._known = known
        encoded = known.encode()
        if encoded != self._stored:
            await self._memory.store(MEMORY_NAME, encoded)
            self._stored = encoded

    async def provision(self, time_s: int) -> None:
        """A time that the operator signed when this gateway was set up; believed once, if at all.

        Whatever becomes of it as a time, it is a floor, also on a disk that takes nothing.
        """
        try:
            known = self._known.provisioned(time_s, self._clock.instant())
        except TimeRefusedError:
            known = self._known.raised(time_s)
        with contextlib.suppress(StorageError):
            await self.update(known)

    async def lower(self, above_s: int, to_s: int) -> None:
        """The operator's root takes back a time that was signed wrongly; see `Timekeeping`."""
        await self.update(self._known.lowered(above_s, to_s, self._clock.instant()))

    def ask(self, nonce: bytes) -> None:
        """A question with this nonce leaves now; an older one is dropped."""
        self._known = self._known.asked(nonce, self._clock.instant())

    async def keep(self, changed: StateListener, pulse: Pulse = UNWATCHED) -> None:
        """Persist the floor now and then, and tell when the clock's state changes; runs for ever.

        A floor that cannot be stored is kept in memory and tried again: the
        log will say louder that the disk has failed.
        """
        state: ClockState | None = None
        strayed = False
        kept_s = self.instant().boottime_s
        while True:
            pulse.beat(LOOK_S)
            reading = self.reading()
            if state is not None and reading.state is not state:
                await changed(reading)
            state = reading.state
            if (strays := self._known.wall_strays(self.instant())) and not strayed:
                _log.error("the system's clock was stepped away from signed time; not believed")
            strayed = strays
            owed = self._known.encode() != self._stored
            if self.instant().boottime_s - kept_s >= (AGAIN_KEEP_S if owed else KEEP_S):
                kept_s = self.instant().boottime_s
                with contextlib.suppress(StorageError):
                    await self.update(self._known.kept(self.instant()))
            await asyncio.sleep(1)


class SignedTime:
    """Asks for signed time when what is known grows old; the uplink carries the question."""

    def __init__(self, timekeeper: Timekeeper, entropy: Entropy) -> None:
        self._timekeeper = timekeeper
        self._entropy = entropy
        self._answered_s = float("-inf")
        self._asked_s = float("-inf")

    def question(self, again_s: float = AGAIN_S) -> bytes | None:
        """A fresh nonce when signed time is wanted now, else None.

        again_s: how long an earlier question is left alone. Phones leave it for as long as
        it may be answered (`FRESH_S`), or one of them could spoil the uplink's for ever.
        """
        instant = self._timekeeper.instant()
        trusted = self._timekeeper.reading().state is ClockState.TRUSTED
        recent = trusted and instant.boottime_s - self._answered_s < ASK_S
        if recent or instant.boottime_s - self._asked_s < again_s:
            return None
        nonce = self._entropy.token_bytes(ID_BYTES)
        self._asked_s = instant.boottime_s
        self._timekeeper.ask(nonce)
        return nonce

    def reading(self) -> TimeReading:
        """What time it is now, and how sure that is."""
        return self._timekeeper.reading()

    async def answered(self, nonce: bytes, time_s: int) -> None:
        """The time key has signed this. TimeRefusedError where timekeeping does not believe it."""
        instant = self._timekeeper.instant()
        await self._timekeeper.update(self._timekeeper.known.answered(nonce, time_s, instant))
        self._answered_s = instant.boottime_s
