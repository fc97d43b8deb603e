"""The shell of `core.helpdesk`: carries out the operator's orders to open, each of them once.

An order's id is durable before anything is decided about it, so that "refused" is
final: whoever keeps the order back and brings it again, also after a restart, gets the
same answer and no opening. What becomes of a good one is the door's affair, by the
same steps as for a holder.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Final

from firmware_proto.codes import Fault, Outcome
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.admission import RecentUses
from gatewayd.core.answers import Opened
from gatewayd.core.envelope import Statement
from gatewayd.core.helpdesk import (
    LIVES_S,
    Circumstances,
    DamagedSeenError,
    Open,
    Seen,
    early,
    judge,
)
from gatewayd.core.model import ClockState, DoorId, EntryKind, Fact, Verdict
from gatewayd.device_keys import KeyDeviceError
from gatewayd.door import Door, Ordered
from gatewayd.messages import Message, about
from gatewayd.opening import Answer
from gatewayd.ports import StorageError
from gatewayd.ports.storage import Memory
from gatewayd.receipts import Receipts
from gatewayd.surroundings import Surroundings

_log: Final = logging.getLogger(__name__)

MEMORY_NAME: Final = "openings ordered"
MOST_REFUSALS: Final = 10
"""Refused orders that are written down in a minute, of all doors together."""
_REMEMBERED: Final = 64


class Helpdesk:
    """Of one gateway. Use `load`."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it opens, and what it writes with
        self,
        doors: Mapping[DoorId, Door],
        enabled: Collection[DoorId],
        around: Surroundings,
        receipts: Receipts,
        memory: Memory,
        seen: Seen,
    ) -> None:
        self._doors = doors
        self._enabled = frozenset(enabled)
        self._around = around
        self._receipts = receipts
        self._memory = memory
        self._seen = seen
        self._recent = RecentUses()
        self._turn = asyncio.Lock()
        self._answers: OrderedDict[bytes, asyncio.Task[Opened | None]] = OrderedDict()

    @classmethod
    async def load(
        cls,
        doors: Mapping[DoorId, Door],
        enabled: Collection[DoorId],
        around: Surroundings,
        receipts: Receipts,
        memory: Memory,
    ) -> Helpdesk:
        """With what is stored. StorageError when that is damaged."""
        for door in enabled:
            if door not in doors:
                _log.warning("door %s: a helpdesk may open it, but it is not served", door)
        stored = await memory.load(MEMORY_NAME)
        try:
            seen = Seen() if stored is None else Seen.decode(stored)
        except DamagedSeenError as error:
            raise StorageError(f"the orders that were seen are damaged: {error}") from error
        return cls(doors, enabled, around, receipts, memory, seen)

    async def obey(self, order: Statement) -> Opened | None:
        """Open, or say why not. None: nothing was decided, so nothing can be said.

        The same order again has the same answer. Cancelling the caller stops nothing.
        RemoteProtocolError for an order that is none.
        """
        wanted = Open.of(order)
        answer = self._answers.get(order.id)
        if answer is None:
            answer = self._around.tasks.create_task(
                self._decide(order, wanted), name=f"order to open {wanted.door}"
            )
            self._answers[order.id] = answer
            if len(self._answers) > _REMEMBERED:
                self._answers.popitem(last=False)
        return await asyncio.shield(answer)

    async def _decide(self, order: Statement, wanted: Open) -> Opened | None:
        ordered = Ordered(order.id, order.name)
        door = self._doors.get(wanted.door)
        try:
            if not await self._first(order, wanted):
                past = await door.became_of(ordered) if door else None
                return None if past is None else await self._told(ordered, past)
        except (StorageError, RemoteProtocolError) as error:
            _log.warning("an order to open %s is not considered: %s", wanted.door, error)
            return None
        time, log = self._around.timekeeper.reading(), self._around.log
        now_s, key = self._around.timekeeper.instant().boottime_s, wanted.door.encode()
        reason = judge(
            wanted,
            order.expires,
            Circumstances(
                time,
                served=door is not None,
                enabled=wanted.door in self._enabled,
                recent=self._recent.count(key, now_s),
                log=log.trouble,
            ),
        )
        self._recent = self._recent.asked(key, now_s)
        if reason or door is None:
            verdict = Verdict(Outcome.REFUSED, reason)
            return await self._refused(order, wanted, verdict)
        known = about(Message.ORDERED_OPEN, door=wanted.door)
        _log.warning("door %s: the operator orders it open", wanted.door, extra=known)
        return await self._told(ordered, await door.obey(ordered))

    async def _first(self, order: Statement, wanted: Open) -> bool:
        """Is it heard for the first time? From then on it is remembered.

        While the clock is not TRUSTED nothing opens, and expiries tell little: then
        only this run remembers. RemoteProtocolError for what cannot be remembered.
        """
        time = self._around.timekeeper.reading()
        async with self._turn:
            if order.id in self._seen:
                return False
            if time.state is not ClockState.TRUSTED:
                return True
            if early(wanted, time, LIVES_S):
                raise RemoteProtocolError(Fault.UNEXPECTED, "of a time that is far away")
            seen = self._seen.and_(order.id, order.expires, time.floor_s)
            if seen is None:
                raise RemoteProtocolError(Fault.BUSY, "too many of them within a minute")
            await self._memory.store(MEMORY_NAME, seen.encode())
            self._seen = seen
            return True

    async def _refused(self, order: Statement, wanted: Open, verdict: Verdict) -> Opened:
        reason = verdict.reason.name.lower().replace("_", " ")
        _log.warning(
            "an order to open %s was refused: %s",
            wanted.door,
            reason,
            extra=about(Message.ORDER_REFUSED),
        )
        now_s = self._around.timekeeper.instant().boottime_s
        if self._recent.count(b"", now_s) >= MOST_REFUSALS:
            return Opened(verdict)
        self._recent = self._recent.asked(b"", now_s)
        door = wanted.door if wanted.door in self._doors else None
        time = self._around.timekeeper.reading()
        fact = Fact(time, EntryKind.ORDERED, door, verdict, order=order.name)
        try:
            return Opened(verdict, await self._around.log.append(fact))
        except StorageError as error:
            _log.error("a refusal was not recorded: %s", error, extra=about(Message.LOG_FAILED))
            return Opened(verdict)

    async def _told(self, ordered: Ordered, answer: Answer) -> Opened:
        verdict, record = answer.verdict, answer.record
        if record is None:
            return Opened(verdict)
        try:
            certified = await self._receipts.issue(record, ordered.name, verdict.outcome)
        except KeyDeviceError:  # opened is opened; the device itself has told the journal, once
            certified = None
        return Opened(verdict, record.seq, certified)
