"""What runs when the daemon runs: the named tasks of one gateway, its start and its orderly stop.

Wired by `gatewayd.app`; knows ports and shells, no adapter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from firmware_proto.codes import Outcome, Reason
from gatewayd.core.model import (
    INTERRUPTED,
    ClockState,
    Command,
    CommandId,
    DoorId,
    EntryKind,
    Fact,
    TimeReading,
    Verdict,
)
from gatewayd.door import Door
from gatewayd.messages import Message, about
from gatewayd.phones import Phones
from gatewayd.ports import StorageError
from gatewayd.ports.lock import Lock
from gatewayd.ports.process import Pulse, Supervisor
from gatewayd.ports.radio import Peripheral
from gatewayd.ports.storage import AuditLog
from gatewayd.refusals import Refusals
from gatewayd.timekeeper import Timekeeper
from gatewayd.vitals import TaskPulse, Vitals

_log: Final = logging.getLogger(__name__)

SETTLE_S: Final = 5.0
"""How long an orderly stop waits for an opening that has begun."""
RESOLVE_S: Final = 1.0
"""How soon a lock is asked about outcomes that are unknown; doubled while it cannot say."""
RESOLVE_AT_MOST_S: Final = 300.0
LOOK_S: Final = 5.0
"""How often tasks are looked at when no supervisor asks for it more often."""
FIRST_SIGN_S: Final = 30.0
"""Within which every task shows its first sign of life."""
ASKING_S: Final = 60.0
"""More than one question to a lock takes, with the dial before it and the record after it."""
STARTED: Final = Verdict(Outcome.CONFIRMED, Reason.OK)


@dataclass(frozen=True, slots=True)
class Work:
    """A task to run until the daemon stops.

    It is given a pulse and must show life by it: the watchdog is fed only
    while every task does, and none of them may end by itself.
    """

    name: str
    run: Callable[[Pulse], Coroutine[object, object, None]]


@dataclass(slots=True)
class Daemon:
    """One gateway. `extra` is what the composition root adds: the uplink, locks to keep warm."""

    log: AuditLog
    timekeeper: Timekeeper
    doors: Mapping[DoorId, Door]
    locks: Mapping[DoorId, Lock]
    phones: Phones
    refusals: Refusals
    supervisor: Supervisor
    tasks: asyncio.TaskGroup
    extra: tuple[Work, ...] = ()
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """Set it to stop in good order."""
    watchdog_s: float = LOOK_S
    """How often the supervisor wants to hear that we live."""
    retired: bool = False
    """Its log is closed: not even the start is written down."""
    troubles: Callable[[], str] = str
    """What is wrong with locks, in words; shown to the supervisor when it changes."""

    async def serve(self, peripheral: Peripheral) -> None:
        """Start, serve phones until `stop` is set, then stop. Ends every task it started."""
        await self._begin()
        work = (
            Work("phones", lambda pulse: self.phones.serve(peripheral, pulse)),
            Work("refusals", self.refusals.count),
            Work("clock", lambda pulse: self.timekeeper.keep(self._clock_changed, pulse)),
            *(Work(f"unknown outcomes {id_}", partial(self._resolve, id_)) for id_ in self.doors),
            *self.extra,
        )
        vitals = Vitals(lambda: self.timekeeper.instant().boottime_s)
        running = [
            self.tasks.create_task(
                _watched(each, vitals.watch(each.name, FIRST_SIGN_S)), name=each.name
            )
            for each in work
        ]
        running.append(self.tasks.create_task(self._feed(vitals), name="watchdog"))
        self.supervisor.ready()
        self.supervisor.status(self._line())
        _log.info("serving %s", ", ".join(self.doors) or "no doors")
        try:
            await self.stop.wait()
        finally:
            self.supervisor.stopping()
            await self._finish(running)

    async def _begin(self) -> None:
        if self.retired:
            _log.error(
                "the operator has retired this gateway: it opens nothing any more",
                extra=about(Message.RETIRED),
            )
            return
        time = self.timekeeper.reading()
        for command in await self.log.unsettled():
            fact = Fact(time, EntryKind.OUTCOME, command.door, INTERRUPTED, command.intent_seq)
            _log.warning(
                "door %s: a command was cut short; outcome unknown",
                command.door,
                extra=about(Message.OUTCOME_UNKNOWN, door=command.door),
            )
            await self._say(fact, settles=command.id)
        await self._say(Fact(time, EntryKind.STARTED, None, STARTED))

    async def _say(self, fact: Fact, settles: CommandId | None = None) -> None:
        """A log that fails keeps nobody from being served; what it is owed, it gets later."""
        try:
            await self.log.append(fact, settles=settles)
        except StorageError as error:
            _log.error("not recorded: %s", error, extra=about(Message.LOG_FAILED))

    async def _finish(self, running: list[asyncio.Task[None]]) -> None:
        """No new phones; let openings end and be answered; then let everything else go."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self.phones.drain()
                await asyncio.gather(*(door.settled() for door in self.doors.values()))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*(door.stop() for door in self.doors.values()))
        await asyncio.gather(*(lock.close() for lock in self.locks.values()))

    async def _clock_changed(self, reading: TimeReading) -> None:
        outcome = Outcome.CONFIRMED if reading.state is ClockState.TRUSTED else Outcome.UNKNOWN
        state = reading.state.name.lower()
        _log.info("the clock is %s now", state, extra=about(Message.CLOCK_CHANGED, clock=state))
        await self._say(Fact(reading, EntryKind.CLOCK, None, Verdict(outcome, Reason.OK)))

    async def _resolve(self, door_id: DoorId, pulse: Pulse) -> None:
        """Ask one lock what became of UNKNOWN commands; never send one again.

        More and more rarely, and sooner again after an opening: the lock may be back.
        """
        door = self.doors[door_id]
        wait_s: float | None = RESOLVE_S
        while True:
            wait_s = await _rest(door, wait_s, pulse)
            pulse.beat(ASKING_S)
            try:
                answers = [
                    await _ask(door, command, pulse)
                    for command in await self.log.unresolved()
                    if command.door == door_id
                ]
            except StorageError as error:
                _log.error("unknown outcomes: %s", error)
                answers = [False]
            wait_s = None if all(answers) else min(2 * (wait_s or RESOLVE_S), RESOLVE_AT_MOST_S)

    def _line(self) -> str:
        troubles = self.troubles()
        return f"serving {len(self.doors)} doors" + (f"; {troubles}" if troubles else "")

    async def _feed(self, vitals: Vitals) -> None:
        """Tell the supervisor that we live, for as long as every task has shown life."""
        told: tuple[str, ...] = ()
        shown = self._line()
        while not self.stop.is_set():
            if self._line() != shown:
                shown = self._line()
                self.supervisor.status(shown)
            silent = vitals.silent()
            if not silent:
                self.supervisor.alive()
            elif silent != told:
                _log.error(
                    "no sign of life, so the watchdog is not fed: %s",
                    ", ".join(silent),
                    extra=about(Message.NO_SIGN_OF_LIFE),
                )
            told = silent
            await asyncio.sleep(self.watchdog_s)


async def _rest(door: Door, wait_s: float | None, pulse: Pulse) -> float | None:
    """Until a lock is to be asked again; None waits for the next opening. Returns the wait."""
    pulse.waits()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await door.ended.wait()
            door.ended.clear()
            wait_s = RESOLVE_S
            await asyncio.sleep(RESOLVE_S)
    return wait_s


async def _ask(door: Door, command: Command, pulse: Pulse) -> bool:
    """Whether the lock could say what became of the command."""
    pulse.beat(ASKING_S)
    return await door.resolve(command)


async def _watched(work: Work, pulse: TaskPulse) -> None:
    try:
        await work.run(pulse)
    finally:
        pulse.ended()
