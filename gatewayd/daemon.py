"""What runs when the daemon runs: the named tasks of one gateway, its start and its orderly stop.

Wired by `gatewayd.app`; knows ports and shells, no adapter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Final

from firmware_proto.codes import Outcome, Reason
from gatewayd.core.model import ClockState, DoorId, EntryKind, Fact, TimeReading, Verdict
from gatewayd.door import Door
from gatewayd.phones import Phones
from gatewayd.ports import AuditLog, Lock, Peripheral, StorageError, Supervisor
from gatewayd.refusals import Refusals
from gatewayd.timekeeper import Timekeeper

_log: Final = logging.getLogger(__name__)

SETTLE_S: Final = 5.0
"""How long an orderly stop waits for an opening that has begun."""
RESOLVE_S: Final = 1.0
"""How soon a lock is asked about outcomes that are unknown; doubled while it cannot say."""
RESOLVE_AT_MOST_S: Final = 300.0
CUT_SHORT: Final = Verdict(Outcome.UNKNOWN, Reason.RESTARTED)
STARTED: Final = Verdict(Outcome.CONFIRMED, Reason.OK)


@dataclass(frozen=True, slots=True)
class Work:
    """A task to run until the daemon stops."""

    name: str
    task: Coroutine[object, object, None]


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

    async def serve(self, peripheral: Peripheral) -> None:
        """Start, serve phones until `stop` is set, then stop. Ends every task it started."""
        await self._begin()
        work = (
            Work("phones", self.phones.serve(peripheral)),
            Work("refusals", self.refusals.count()),
            Work("clock", self.timekeeper.keep(self._clock_changed)),
            *(Work(f"unknown outcomes {id_}", self._resolve(id_)) for id_ in self.doors),
            *self.extra,
        )
        running = [self.tasks.create_task(each.task, name=each.name) for each in work]
        self.supervisor.ready()
        self.supervisor.status(f"serving {len(self.doors)} doors")
        _log.info("serving %s", ", ".join(self.doors))
        try:
            await self.stop.wait()
        finally:
            self.supervisor.stopping()
            await self._finish(running)

    async def _begin(self) -> None:
        """Say in the log what the last run could not: commands without outcome are UNKNOWN."""
        time = self.timekeeper.reading()
        for command in await self.log.unsettled():
            fact = Fact(time, EntryKind.OUTCOME, command.door, CUT_SHORT, command.intent_seq)
            await self.log.append(fact, settles=command.id)
            _log.warning("door %s: a command was cut short; outcome unknown", command.door)
        await self.log.append(Fact(time, EntryKind.STARTED, None, STARTED))

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
        _log.info("the clock is %s now", reading.state.name.lower())
        try:
            await self.log.append(Fact(reading, EntryKind.CLOCK, None, Verdict(outcome, Reason.OK)))
        except StorageError as error:
            _log.error("not recorded: %s", error)

    async def _resolve(self, door_id: DoorId) -> None:
        """Ask one lock what became of UNKNOWN commands; never send one again.

        More and more rarely, and sooner again after an opening: the lock may be back.
        """
        door = self.doors[door_id]
        wait_s: float | None = RESOLVE_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await door.ended.wait()
                    door.ended.clear()
                    wait_s = RESOLVE_S
                    await asyncio.sleep(RESOLVE_S)
            try:
                answers = [
                    await door.resolve(command)
                    for command in await self.log.unresolved()
                    if command.door == door_id
                ]
            except StorageError as error:
                _log.error("unknown outcomes: %s", error)
                answers = [False]
            wait_s = None if all(answers) else min(2 * (wait_s or RESOLVE_S), RESOLVE_AT_MOST_S)
