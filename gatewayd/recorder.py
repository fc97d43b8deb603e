"""The log as the doors see it: with a reserve behind it, and well again by itself.

As long as the log takes entries this adds nothing. From the first that it does not
take in time, `trouble` says why, for policy to decide by; nothing more is
written until `keep` has found the log well, so that no opening waits for a dying
disk. What was refused meanwhile lies in the reserve, or is counted: the log
takes over the one, and a GAP entry says the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from firmware_proto.codes import Outcome, Reason
from gatewayd.core import reserve as slots
from gatewayd.core.model import (
    Asked,
    Command,
    CommandId,
    EntryKind,
    Fact,
    PastRequest,
    Verdict,
)
from gatewayd.core.recent import MOST, RecentRequests
from gatewayd.core.reserve import Reserved
from gatewayd.ports import StorageError
from gatewayd.ports.process import Pulse
from gatewayd.ports.storage import AuditLog, Memory, Reserve
from gatewayd.timekeeper import Timekeeper
from gatewayd.vitals import UNWATCHED

_log: Final = logging.getLogger(__name__)

COMMIT_S: Final = 1.0
"""An entry that takes longer to be durable is a log that fails (LOG_SLOW)."""
RETRY_S: Final = 2.0
"""How often a log in trouble is tried."""


@dataclass(slots=True)
class Recorder:
    """`ports.storage.AuditLog` over another one. Call `begin` once, and run `keep`."""

    log: AuditLog
    memory: Memory
    timekeeper: Timekeeper
    secret: bytes
    reserve_file: Reserve | None = None
    noticed: Callable[[], None] = lambda: None
    """Told whenever the log has grown."""
    counts: Counter[str] = field(default_factory=Counter)

    _trouble: Reason = Reason.OK
    _since_s: float = 0.0
    _ill: asyncio.Event = field(default_factory=asyncio.Event)
    _hanging: asyncio.Future[object] | None = None
    _missing: int = 0
    _may_land: list[Fact] = field(default_factory=list)
    _pending: list[Reserved] = field(default_factory=list)
    _merged: int = 0
    _next: int = 1
    _owed: dict[CommandId, tuple[Fact, bool]] = field(default_factory=dict)
    _in_doubt: set[CommandId] = field(default_factory=set)
    _recent: RecentRequests = field(default_factory=RecentRequests)

    # --- for policy, status and journal ------------------------------------------------
    @property
    def trouble(self) -> Reason:
        """OK, or which of `model.LOG_TROUBLES`."""
        return self._trouble

    @property
    def missing(self) -> int:
        """Entries that neither the log nor the reserve has, and no GAP entry tells of yet."""
        return self._missing

    def __str__(self) -> str:
        return "" if self._trouble is Reason.OK else _words(self._trouble)

    # --- ports.storage.AuditLog ------------------------------------------------------------------
    async def append(
        self,
        fact: Fact,
        *,
        command: Command | None = None,
        asked: Asked | None = None,
        settles: CommandId | None = None,
    ) -> int:
        """See `ports.storage.AuditLog`. Where it fails, the entry is missing, or in `reserve`."""
        error = StorageError(_words(self._trouble), reason=self._trouble)
        if self._trouble is Reason.OK:
            try:
                seq = await self.log.append(fact, command=command, asked=asked, settles=settles)
            except StorageError as failed:
                self._fell_ill(failed)
                error = failed
                self._in_doubt.update([command.id] if command else ())
            else:
                self._remember(fact, asked, settles, seq)
                self.noticed()
                return seq
        self._missing += 1
        if settles is not None:
            self._owed[settles] = (fact, True)
        if error.late is not None:
            self._may_land.append(fact)
            error.late.add_done_callback(lambda late: self._landed(fact, late))
        raise error

    def noticed_elsewhere(self, error: StorageError) -> None:
        """Something else was not kept on the same disk, or not found there."""
        self._fell_ill(error)

    async def past_request(self, request_key: bytes) -> PastRequest | None:
        """See `ports.storage.AuditLog`; while the log cannot be read, what this run remembers."""
        recent = self._recent.past(request_key)
        if self._trouble is not Reason.OK and recent is not None:
            return recent
        try:
            past = await self.log.past_request(request_key)
        except StorageError as error:
            self._fell_ill(error)
            if recent is None:
                raise
            past = recent
        return past

    async def unsettled(self) -> Sequence[Command]:
        """See `ports.storage.AuditLog`."""
        return await self.log.unsettled()

    async def unresolved(self) -> Sequence[Command]:
        """See `ports.storage.AuditLog`."""
        return await self.log.unresolved()

    async def merge(self, records: Sequence[Reserved], upto: int, gap: Fact | None = None) -> None:
        """See `ports.storage.AuditLog`."""
        await self.log.merge(records, upto, gap)

    # --- when the log has failed ------------------------------------------------------------
    async def reserve(
        self,
        fact: Fact,
        *,
        command: Command | None = None,
        asked: Asked | None = None,
        settles: CommandId | None = None,
        emergency: bool = False,
    ) -> None:
        """Write what `append` has just failed to write. StorageError when that fails, too."""
        number = self._next
        if self.reserve_file is None:
            raise StorageError("there is no reserve", reason=self._trouble)
        if not slots.room(self._merged + 1, number, emergency=emergency):
            await self._count_durably()
            raise StorageError("the reserve is used up", reason=self._trouble)
        self._next += 1
        record = Reserved(number, fact, command, asked, settles)
        try:
            await self.reserve_file.write(slots.slot_of(number), record.encode(self.secret))
        except StorageError as error:
            if error.late is not None:
                self._in_doubt.update([command.id] if command else ())
                error.late.add_done_callback(lambda late: self._reserved_late(record, late))
            elif self._next == number + 1:
                self._next = number  # nothing stands there, and nothing will
            raise
        self._reserved(record)
        self._remember(fact, asked, settles, None)
        if command is not None:
            self._in_doubt.discard(command.id)

    def unrecorded(self, asked: Asked) -> None:
        """An emergency opens though nothing took its entry: asked again, it is not sent again."""
        self.counts["unrecorded"] += 1
        self._recent.put(asked, PastRequest(asked.content), self._most)

    def abandoned(self, command: Command, reason: Reason) -> None:
        """This command is never sent; should its record yet appear, the log is to say so."""
        if command.id not in self._in_doubt:
            return  # nobody tried to write it
        self._in_doubt.remove(command.id)
        refused = Verdict(Outcome.REFUSED, reason)
        fact = Fact(self.timekeeper.reading(), EntryKind.OUTCOME, command.door, refused)
        self._owed[command.id] = (fact, False)

    # --- well again ---------------------------------------------------------------------------
    async def begin(self) -> None:
        """Take over what an earlier run left in the reserve; the log may still be ill."""
        stored = await self.memory.load(slots.MERGED_NAME)
        self._merged = int.from_bytes(stored or b"", "big")
        self._next = self._merged + 1
        if self.reserve_file is None:
            return
        try:
            held = await self.reserve_file.read()
        except StorageError as error:
            _log.error("the reserve cannot be read: %s", error)
            self.reserve_file = None
            return
        left = slots.found(self.secret, held, self._merged)
        if not left:
            if slots.found(self.secret, held, 0):  # taken over, and the power went before the rest
                await self._clear()
            return
        self._next = left[-1].number + 1
        self._missing = sum(each.fact.about for each in left if each.fact.kind is EntryKind.GAP)
        self._pending = [each for each in left if each.fact.kind is not EntryKind.GAP]
        self._trouble = Reason.LOG_UNAVAILABLE
        self._ill.set()
        for each in self._pending:
            self._remember(each.fact, each.asked, each.settles, None)
        await self.recover()

    async def keep(self, pulse: Pulse = UNWATCHED, retry_s: float = RETRY_S) -> None:
        """Try a log in trouble until it is well; runs for ever. A disk that hangs is waited for."""
        while True:
            pulse.waits()
            await self._ill.wait()
            if not await self.recover():
                await asyncio.sleep(retry_s)

    async def recover(self) -> bool:
        """Is the log well? Then it has taken over all that it was owed."""
        if self._trouble is Reason.OK:
            return True
        if self._hanging is not None and not self._hanging.done():
            return False
        began_s = self._now_s()
        try:
            while self._pending:
                await self._take_over()
            await self._pay()
            await self._close_gap()
        except StorageError as error:
            self._fell_ill(error)
            return False
        self.noticed()
        if self._now_s() - began_s > COMMIT_S:
            self._trouble = Reason.LOG_SLOW
            return False
        if self._pending:  # an opening came in between
            return False
        _log.warning("the log is well again after %d s", self._now_s() - self._since_s)
        self._trouble = Reason.OK
        self._ill.clear()
        await self._clear()
        return True

    async def _take_over(self) -> None:
        taken = tuple(self._pending)
        await self.log.merge(taken, taken[-1].number)
        self._merged = taken[-1].number
        self._pending = [each for each in self._pending if each not in taken]
        self.counts["taken over"] += len(taken)

    async def _pay(self) -> None:
        """Outcomes that had no place; commands that the log does not know have none now either."""
        waiting = {command.id for command in await self.log.unsettled()}
        doubted = {command.id for command in await self.log.unresolved()}
        for id_, (fact, counted) in tuple(self._owed.items()):
            if id_ in (doubted if fact.kind is EntryKind.RESOLVED else waiting):
                await self.log.append(fact, settles=id_)
                self._missing -= counted
            self._owed.pop(id_, None)

    async def _close_gap(self) -> None:
        missing = self._missing
        verdict = Verdict(Outcome.UNKNOWN if missing else Outcome.CONFIRMED, self._trouble)
        gap = Fact(self.timekeeper.reading(), EntryKind.GAP, None, verdict, missing)
        upto = self._pending[0].number - 1 if self._pending else self._next - 1
        await self.log.merge((), upto, gap)
        self._merged = upto
        self._missing -= missing
        self.counts["missed"] += missing

    async def _clear(self) -> None:
        """Nothing of it is needed; a failure leaves what the log knows to pass over."""
        if self.reserve_file is None or self._pending or self._merged < self._next - 1:
            return
        try:
            await self.reserve_file.clear()
        except StorageError as error:
            _log.warning("the reserve was not emptied: %s", error)

    # --- inside --------------------------------------------------------------------------------
    def _fell_ill(self, error: StorageError) -> None:
        if error.late is not None:
            self._hanging = error.late
        if self._trouble is Reason.OK:
            self._since_s = self._now_s()
            self.counts["troubles"] += 1
            _log.error("the log takes nothing: %s", error)
        self._trouble = error.reason
        self._ill.set()

    def _landed(self, fact: Fact, late: asyncio.Future[object]) -> None:
        """What was given up came through after all, or did not."""
        if fact in self._may_land:
            self._may_land.remove(fact)
            self._missing -= not late.cancelled() and late.exception() is None

    def _reserved(self, record: Reserved) -> None:
        self._pending.append(record)
        self._pending.sort(key=lambda each: each.number)
        self._missing -= 1
        self.counts["reserved entries"] += 1
        if record.fact in self._may_land:
            self._may_land.remove(record.fact)
        if record.settles is not None:
            self._owed.pop(record.settles, None)

    def _reserved_late(self, record: Reserved, late: asyncio.Future[object]) -> None:
        if not late.cancelled() and late.exception() is None and record.number > self._merged:
            self._reserved(record)

    async def _count_durably(self) -> None:
        """The ring is full: a restart must at least know how many entries are missing."""
        assert self.reserve_file is not None  # noqa: S101 - asked by the caller
        gone = Verdict(Outcome.UNKNOWN, self._trouble)
        fact = Fact(self.timekeeper.reading(), EntryKind.GAP, None, gone, self._missing)
        count = Reserved(self._next - 1, fact)  # no number of its own: those are for entries
        await self.reserve_file.write(slots.COUNT_SLOT, count.encode(self.secret))

    def _remember(
        self, fact: Fact, asked: Asked | None, settles: CommandId | None, seq: int | None
    ) -> None:
        if fact.kind is EntryKind.INTENT:
            self.counts["openings"] += 1
        self._recent.remember(fact, asked, settles, seq, most=self._most)

    @property
    def _most(self) -> int:
        """So many requests are remembered: while the log cannot be read, also the reserve's."""
        return MOST if self._trouble is Reason.OK else slots.SLOTS

    def _now_s(self) -> float:
        return self.timekeeper.instant().boottime_s


def _words(trouble: Reason) -> str:
    return trouble.name.lower().replace("_", " ")
