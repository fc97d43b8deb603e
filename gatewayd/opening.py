"""One opening, from the decision to the reply: carries out what `core.unlock` says, in its order.

Laws of this file: the command is made before the record that names it and sent
after it; an opening belongs to the door, so a phone that goes away changes
nothing; every port's failure becomes an event of the table.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, assert_never

from firmware_proto.codes import Outcome, Reason
from gatewayd.core import unlock
from gatewayd.core.model import (
    LOG_TROUBLES,
    NEVER,
    Asked,
    Command,
    DoorId,
    EntryKind,
    Fact,
    Record,
    Verdict,
    WithoutLog,
)
from gatewayd.core.requests import InFlight
from gatewayd.messages import Message, about
from gatewayd.ports import StorageError
from gatewayd.ports.lock import Lock
from gatewayd.recorder import Recorder
from gatewayd.timekeeper import Timekeeper

_log: Final = logging.getLogger(__name__)

NOT_LOGGED: Final = Verdict(Outcome.REFUSED, Reason.LOG_UNAVAILABLE)


def not_logged(verdict: Verdict) -> bool:
    """Refused for nothing but the log: there is no command, and nothing was remembered."""
    return verdict.outcome is Outcome.REFUSED and verdict.reason in LOG_TROUBLES


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended, and the log entry that says so; without one there is no receipt."""

    verdict: Verdict
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """What an opening needs of its door."""

    door: DoorId
    latch_ms: int
    lock: Lock
    dial: Callable[[], Awaitable[bool]]
    """Make the lock ready; shared by everybody who waits for it. False: not reached in time."""
    log: Recorder
    timekeeper: Timekeeper


@dataclass(slots=True)
class Stopwatch:
    """When each step of one opening ended, in milliseconds from its start; for people only."""

    timekeeper: Timekeeper
    started_s: float = field(init=False)
    steps: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.started_s = self.timekeeper.instant().boottime_s

    def lap(self, step: str) -> None:
        """`step` is done."""
        passed_s = self.timekeeper.instant().boottime_s - self.started_s
        self.steps[step] = round(passed_s * 1000)

    def __str__(self) -> str:
        return " ".join(f"{step}={passed}ms" for step, passed in self.steps.items())


class Opening:
    """One opening that runs, and the answer that everybody who joined it waits for."""

    def __init__(
        self, in_flight: InFlight, reach: Reach, without_log: WithoutLog = NEVER, ordered: int = 0
    ) -> None:
        self.in_flight = in_flight
        self._without_log = without_log
        self._recorded = True
        request = in_flight.request
        self._announced = Command(in_flight.command, reach.door)
        self._asked = Asked(request.key, request.content, in_flight.command)
        self._reach = reach
        self._intent = self._fact(EntryKind.INTENT, Verdict(Outcome.UNKNOWN, Reason.OK), ordered)
        self._watch = Stopwatch(reach.timekeeper)
        self._answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    async def answered(self) -> Answer:
        """Wait for the answer; cancelling the waiter does not stop the opening."""
        return await asyncio.shield(self._answer)

    def close(self, answer: Answer) -> None:
        """Tell everybody who waits."""
        if not self._answer.done():
            self._answer.set_result(answer)

    async def run(self) -> Answer:
        """Drive the table until it closes. Raises nothing but cancellation."""
        answer = Answer(NOT_LOGGED)
        pending: set[asyncio.Task[unlock.Event]] = set()
        try:
            allowed = unlock.Allowed(emergency=self._without_log.unrecorded)
            state, effects = unlock.advance(unlock.Unlock(), allowed)
            while True:
                for effect in effects:
                    if isinstance(effect, unlock.Reply):
                        answer = Answer(effect.verdict, self._record_of(effect.seq))
                    else:
                        pending.add(self._start(effect))
                if state.phase is unlock.Phase.CLOSED:
                    break
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                effects = ()
                for task in done:
                    state, more = unlock.advance(state, task.result())
                    effects += more
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        _log.info(
            "door %s: %s %s, %s",
            self._reach.door,
            answer.verdict.outcome.name.lower(),
            answer.verdict.reason.name.lower(),
            self._watch,
        )
        return answer

    def _start(
        self,
        effect: unlock.Record
        | unlock.Reserve
        | unlock.Dial
        | unlock.Command
        | unlock.RecordOutcome,
    ) -> asyncio.Task[unlock.Event]:
        match effect:
            case unlock.Record():
                work = self._record()
            case unlock.Reserve():
                work = self._reserve()
            case unlock.Dial():
                work = self._dial()
            case unlock.Command():
                work = self._command()
            case unlock.RecordOutcome():
                work = self._record_outcome(effect)
            case _:
                assert_never(effect)
        step = type(effect).__name__.lower()
        return asyncio.create_task(self._timed(step, work), name=f"{step} {self._reach.door}")

    async def _timed(self, step: str, work: Awaitable[unlock.Event]) -> unlock.Event:
        event = await work
        self._watch.lap(step)
        return event

    async def _record(self) -> unlock.Event:
        try:
            seq = await self._reach.log.append(
                self._intent, command=self._announced, asked=self._asked
            )
        except StorageError as error:
            if error.reason in self._without_log.reserve:
                return unlock.LogFailed()
            return self._not_recorded(error)
        return unlock.Recorded(seq)

    async def _reserve(self) -> unlock.Event:
        emergency = self._without_log.unrecorded
        try:
            await self._reach.log.reserve(
                self._intent, command=self._announced, asked=self._asked, emergency=emergency
            )
        except StorageError as error:
            if not emergency:
                return self._not_recorded(error)
            _log.error("door %s: an emergency opens unrecorded: %s", self._reach.door, error)
            self._reach.log.unrecorded(self._asked)
            self._recorded = False
            return unlock.Unrecorded()
        return unlock.Reserved()

    def _not_recorded(self, error: StorageError) -> unlock.Event:
        door = self._reach.door
        known = about(Message.LOG_FAILED, door=door)
        _log.error("door %s: not opened, the log failed: %s", door, error, extra=known)
        self._reach.log.abandoned(self._announced, error.reason)
        return unlock.RecordFailed(error.reason)

    async def _dial(self) -> unlock.Event:
        return unlock.LinkReady() if await self._reach.dial() else unlock.LinkFailed()

    async def _command(self) -> unlock.Event:
        verdict = await self._reach.lock.unlatch(self.in_flight.command, self._reach.latch_ms)
        return unlock.Finished(verdict)

    async def _record_outcome(self, effect: unlock.RecordOutcome) -> unlock.Event:
        fact = self._fact(effect.kind, effect.verdict, about=effect.intent_seq or 0)
        try:
            seq = await self._reach.log.append(fact, settles=self.in_flight.command)
        except StorageError as error:
            if not self._recorded or not await self._outcome_reserved(fact):
                door = self._reach.door
                known = about(Message.LOG_FAILED, door=door)
                _log.error("door %s: outcome not recorded: %s", door, error, extra=known)
            return unlock.OutcomeNotRecorded()
        return unlock.OutcomeRecorded(seq)

    async def _outcome_reserved(self, fact: Fact) -> bool:
        """Of a command that is recorded: whoever opened it, this is not left to a guess."""
        try:
            await self._reach.log.reserve(fact, settles=self.in_flight.command, emergency=True)
        except StorageError:
            return False
        return True

    def _record_of(self, seq: int | None) -> Record | None:
        if seq is None:
            return None
        return Record(seq, self._reach.door, self._reach.timekeeper.reading().now_s)

    def _fact(self, kind: EntryKind, verdict: Verdict, about: int = 0) -> Fact:
        return Fact(self._reach.timekeeper.reading(), kind, self._reach.door, verdict, about)
