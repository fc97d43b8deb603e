"""A phone in a pocket: looks around, prepares on arrival, opens on a tap, or by itself if told to.

Arriving alone opens nothing unless `arrival` is asked for, and then only
where key, door and gateway allow it. A tap opens at any time. Who is stopped
while he opens says so: the outcome is unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

from firmware_proto.codes import ID_BYTES, Outcome, Presence, Reason
from gatewayd.emulators.approach import Approaches, Nearness
from gatewayd.emulators.phone import Phone, Report, Timings
from gatewayd.ports.radio import Lookout


class News(Enum):
    """What the person with the phone may want to know."""

    ARRIVED = "arrived"
    PREPARED = "prepared"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Watch:
    """What to watch for. look_s: of one look around. tap_s: how long a prepared link is held.

    A gateway drops who asks nothing for 10 s (PROTOCOL.md, "Limits and deadlines").
    """

    door: str
    arrival: bool = False
    nearness: Nearness = field(default_factory=Nearness)
    look_s: float = 1.0
    tap_s: float = 8.0


class _NotTappedError(Exception):
    """Nobody tapped while the link was held. It ends the errand, whatever else would be tried."""


class Watcher:
    """One phone that watches one door. `tapped`: set it whenever the person taps."""

    def __init__(
        self,
        phone: Phone,
        lookout: Lookout,
        watch: Watch,
        *,
        news: Callable[[News, str], None],
        ended: Callable[[Report], None],
    ) -> None:
        self.tapped = asyncio.Event()
        self._phone = phone
        self._lookout = lookout
        self._watch = watch
        self._news = news
        self._ended = ended
        self._approaches = Approaches(watch.nearness)
        self._others: set[str] = set()
        self._asked = False

    async def run(self) -> None:
        """Until cancelled. RadioError when there is no radio any more."""
        while True:
            arrived = await self._look()
            if self.tapped.is_set():
                self.tapped.clear()
                self._ended(await self._open())
            for address in arrived:
                if address not in self._others:
                    await self._arrived(address)

    async def _look(self) -> list[str]:
        """One look around, cut short by a tap."""
        look = asyncio.create_task(self._lookout.look(self._watch.look_s), name="look around")
        tap = asyncio.create_task(self.tapped.wait(), name="wait for a tap")
        try:
            await asyncio.wait({look, tap}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (look, tap):
                task.cancel()
            await asyncio.wait({look, tap})
        if look.cancelled():
            return []
        return self._approaches.looked(look.result(), self._phone.now_s())

    async def _open(
        self,
        address: str | None = None,
        presence: Presence = Presence.TAP,
        tap: Awaitable[None] | None = None,
    ) -> Report:
        """Open the door; `tap` as `Phone.open_door` has it."""
        phone = self._phone
        request, began_s = phone.entropy.token_bytes(ID_BYTES), phone.now_s()
        self._asked = tap is None
        try:
            return await phone.open_door(
                self._watch.door, address=address, presence=presence, tap=tap, request=request
            )
        except asyncio.CancelledError:
            if self._asked:
                took = Timings(total_s=phone.now_s() - began_s)
                silent = Reason.LOCK_SILENT
                self._ended(Report(Outcome.UNKNOWN, silent, request, timings=took))
            raise

    async def _arrived(self, address: str) -> None:
        watch = self._watch
        self._news(News.ARRIVED, address)
        try:
            if watch.arrival:
                report = await self._open(address, Presence.ARRIVAL)
            else:
                report = await self._open(address, tap=self._tap(address))
        except _NotTappedError:
            self._news(News.LEFT, address)
            return
        if report.reason is Reason.WRONG_GATEWAY_DOOR:
            self._others.add(address)  # of another door: not visited again
        self._ended(report)

    async def _tap(self, address: str) -> None:
        """The gateway has been asked to prepare."""
        self._news(News.PREPARED, address)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._watch.tap_s):
                await self.tapped.wait()
        if not self.tapped.is_set():
            raise _NotTappedError
        self.tapped.clear()
        self._asked = True
