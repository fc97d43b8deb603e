"""The shell of one door: who begins an opening, who joins, and what became of earlier requests.

Whether an `Open` is new is decided in one step without awaiting (`_admit`), so
two phones can never both be first. Who may open is `gatewayd.rights`, the opening
itself `gatewayd.opening`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Final

from firmware_proto.codes import ID_BYTES, Action, Outcome, Presence, Reason
from gatewayd import joining
from gatewayd.budget import Budget
from gatewayd.core import requests, unlock
from gatewayd.core.keytoken import KeyToken
from gatewayd.core.model import (
    INTERRUPTED,
    NEVER,
    Asked,
    Command,
    CommandId,
    Decision,
    EntryKind,
    Fact,
    PastRequest,
    Verdict,
    WithoutLog,
)
from gatewayd.dialling import Dialling
from gatewayd.opening import Answer, Opening, Reach, not_logged
from gatewayd.ports import StorageError
from gatewayd.ports.lock import Lock
from gatewayd.rights import DoorIdentity, Rights
from gatewayd.surroundings import Surroundings

_log: Final = logging.getLogger(__name__)

ALREADY_OPEN: Final = Verdict(Outcome.CONFIRMED, Reason.ALREADY_OPEN)
NEVER_ASKED: Final = Verdict(Outcome.REFUSED, Reason.NEVER_ASKED)


class RequestConflictError(Exception):
    """A known request id with other content; the phone gets the fault ID_REUSED."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a holder asks of this door. `request_id` is scoped to the token."""

    token: KeyToken
    request_id: bytes
    action: Action
    presence: Presence


@dataclass(frozen=True, slots=True)
class Ordered:
    """What the operator asks of this door, who has decided already that it may be.

    `name` is the order's (`Statement.name`): for the log, and the scope of the id.
    """

    id: bytes
    name: bytes


@dataclass(frozen=True, slots=True)
class Answering:
    """A request whose answer is being made."""

    asked: requests.Request
    _answer: asyncio.Task[Answer]

    async def answered(self) -> Answer:
        """Wait for it; cancelling the waiter changes nothing."""
        return await asyncio.shield(self._answer)


class Door:
    """One logical door, bound to one lock; `budget` where that lives on batteries."""

    def __init__(
        self,
        identity: DoorIdentity,
        lock: Lock,
        around: Surroundings,
        budget: Budget | None = None,
    ) -> None:
        self.identity = identity
        self.ended = asyncio.Event()
        """Set whenever an opening has ended; whoever waits for that clears it."""
        self._lock = lock
        self._around = around
        self._budget = budget
        self._rights = Rights(
            identity, around.trusted, around.timekeeper, around.lists, lambda: around.log.trouble
        )
        self._dialling = Dialling(identity.id, lock, around.tasks)
        self._reach = Reach(
            identity.id, identity.latch_ms, lock, self._dialling.reached, around.log,
            around.timekeeper,
        )  # fmt: skip
        self._gate = asyncio.Lock()
        self._opening: Opening | None = None
        self._confirmed: requests.Confirmed | None = None
        self._confirmed_by = CommandId(b"")
        self._running: asyncio.Task[None] | None = None
        self._answering: dict[bytes, Answering] = {}

    # --- what phones ask ------------------------------------------------------------
    def prepare(self, token: KeyToken) -> Decision:
        """Dial the lock before the tap, if this holder may open now and its battery allows it."""
        decision = self._rights.decide(token, Action.OPEN, Presence.TAP)
        if decision.allowed and self._budget and not self._budget.prepare(token.identity.digest()):
            return Decision(allowed=False, reason=Reason.RATE_LIMITED)
        if decision.allowed:
            _, effects = unlock.advance(unlock.Unlock(), unlock.Prepared())
            if unlock.Dial() in effects:
                self._dialling.start()
        return decision

    async def open(self, ask: Ask) -> Answer:
        """Decide, record, act. RequestConflictError for a request id with other content.

        Cancelling the caller does not stop an opening that has begun.
        """
        asked = self._request(ask)
        refusal = Reason.BUSY
        async with self._gate:
            answering = self._answering.get(asked.key)
            if answering is None:
                try:
                    past = await self._around.log.past_request(asked.key)
                except StorageError:
                    past = None  # the log is in trouble now, and that is for policy to judge
                admission, decision = self._admit(ask, asked, past)
                if isinstance(admission, requests.Conflict):
                    raise RequestConflictError
                if isinstance(admission, requests.Replay):
                    return past_answer(past)
                if not decision.allowed:
                    refusal = decision.reason
                elif not isinstance(admission, requests.Busy):
                    if self._budget:
                        self._budget.opened(ask.token.identity.digest())
                    answering = self._answer(asked, admission, decision.without_log)
        if answering is None:
            return Answer(await self._around.refusals.write(ask.token, self.identity.id, refusal))
        if answering.asked != asked:
            raise RequestConflictError
        return await answering.answered()

    async def obey(self, order: Ordered) -> Answer:
        """Record, act: as `open`, for the operator, and by the log alone.

        The entry that names the order comes first; what follows is about it.
        """
        asked = self._ordered(order)
        async with self._gate:
            try:
                past = await self._around.log.past_request(asked.key)
                admission = self._admission(asked, past)
                if isinstance(admission, requests.Replay):
                    return past_answer(past)
                verdict = Verdict(Outcome.UNKNOWN, Reason.OK)
                fact = replace(self._fact(EntryKind.ORDERED, verdict), order=order.name)
                seq = await self._around.log.append(fact)
            except StorageError as error:
                return Answer(Verdict(Outcome.REFUSED, error.reason))
            answering = self._answer(asked, admission, NEVER, seq)
        return await answering.answered()

    async def became_of(self, order: Ordered) -> Answer:
        """What the log knows of an order that was heard before. StorageError."""
        return past_answer(await self._around.log.past_request(self._ordered(order).key))

    def _answer(
        self,
        asked: requests.Request,
        admission: requests.Admission,
        without_log: WithoutLog,
        ordered: int = 0,
    ) -> Answering:
        """A task of the door's own: whoever asks the same again waits for the same answer.

        Until that is on disk nobody else could know that this was asked. `ordered`: the
        entry with the operator's order.
        """
        if isinstance(admission, requests.New):
            self._begin(asked, without_log, ordered)
        task = self._around.tasks.create_task(
            self._share(asked, self._opening, without_log, ordered),
            name=f"answer {self.identity.id}",
        )
        self._answering[asked.key] = Answering(asked, task)
        task.add_done_callback(lambda _: self._answering.pop(asked.key))
        return self._answering[asked.key]

    async def _share(
        self,
        asked: requests.Request,
        opening: Opening | None,
        without_log: WithoutLog,
        ordered: int,
    ) -> Answer:
        """The answer of the opening that `asked` began, joined, or came just after."""
        if opening is None:
            return await self._note(asked, self._confirmed_by, ALREADY_OPEN, without_log, ordered)
        answer = await opening.answered()
        while not_logged(answer.verdict):  # there is no command to share in
            mine = opening.in_flight.request == asked
            if mine or answer.verdict.reason not in without_log.reserve:
                return answer
            # this key may open without the log, though the one that it joined might not
            opening = self._opening or self._begin(asked, without_log)
            answer = await opening.answered()
        if opening.in_flight.request == asked:
            return answer
        command = opening.in_flight.command
        return await self._note(asked, command, answer.verdict, without_log, ordered)

    def running(self, request_key: bytes) -> Answering | None:
        """The answer that is being made for this request, whoever began the opening."""
        return self._answering.get(request_key)

    async def settled(self) -> None:
        """Wait until no opening runs; for an orderly stop."""
        while self._opening is not None:
            await self._opening.answered()

    async def stop(self) -> None:
        """End what still runs; the log will say of it that the daemon was restarted."""
        running = [task for task in (self._running, self._dialling.task) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def resolve(self, command: Command) -> bool:
        """Ask the lock what became of an UNKNOWN; True when the log now has the answer.

        A lock that says itself that it cannot know will not know later either.
        """
        verdict = await self._lock.result_of(command.id)
        if verdict is None:
            return False
        fact = self._fact(EntryKind.RESOLVED, verdict, about=command.intent_seq)
        await self._around.log.append(fact, settles=command.id)
        _log.info("door %s: an unknown outcome was %s", self.identity.id, verdict.outcome.name)
        return True

    # --- deciding, without awaiting ---------------------------------------------------
    def _request(self, ask: Ask) -> requests.Request:
        scope = ask.token.identity.digest()
        return self._named(scope, ask.request_id, ask.action, ask.presence)

    def _ordered(self, order: Ordered) -> requests.Request:
        return self._named(order.name, order.id, Action.OPEN, Presence.TAP)

    def _named(
        self, scope: bytes, id_: bytes, action: Action, presence: Presence
    ) -> requests.Request:
        return requests.request(
            self._around.secret, scope, id_, door=self.identity.id, action=action, presence=presence
        )

    def _admission(self, asked: requests.Request, past: PastRequest | None) -> requests.Admission:
        return requests.admit(
            asked,
            past=past,
            in_flight=None if self._opening is None else self._opening.in_flight,
            last_confirmed=self._confirmed,
            now_s=self._around.timekeeper.instant().boottime_s,
        )

    def _admit(
        self, ask: Ask, asked: requests.Request, past: PastRequest | None
    ) -> tuple[requests.Admission, Decision]:
        admission = self._admission(asked, past)
        decision = self._rights.decide(ask.token, ask.action, ask.presence)
        if not isinstance(admission, requests.Replay | requests.Conflict):
            self._rights.asked(ask.token)
        return admission, decision

    # --- acting -------------------------------------------------------------------------
    def _begin(self, asked: requests.Request, without_log: WithoutLog, ordered: int = 0) -> Opening:
        command = CommandId(self._around.entropy.token_bytes(ID_BYTES))
        opening = Opening(requests.InFlight(asked, command), self._reach, without_log, ordered)
        self._opening = opening
        self._running = self._around.tasks.create_task(
            self._run(opening), name=f"opening {self.identity.id}"
        )
        return opening

    async def _run(self, opening: Opening) -> None:
        """Run one opening; the door is free again only when its end is on disk."""
        try:
            answer = await opening.run()
            async with self._gate:  # nobody is between asking the log and `_admit`
                self._opening = None
                if answer.verdict.outcome is Outcome.CONFIRMED:
                    now_s = self._around.timekeeper.instant().boottime_s
                    self._confirmed_by = opening.in_flight.command
                    self._confirmed = requests.Confirmed(
                        opening.in_flight.request.action, now_s + self.identity.latch_ms / 1000
                    )
                opening.close(answer)
        finally:
            self._opening = None
            self.ended.set()
            opening.close(Answer(INTERRUPTED))  # only where the daemon is stopping

    # --- writing ------------------------------------------------------------------------
    async def _note(
        self,
        asked: requests.Request,
        command: CommandId,
        verdict: Verdict,
        without_log: WithoutLog,
        ordered: int,
    ) -> Answer:
        shared = Asked(asked.key, asked.content, command)
        fact = self._fact(EntryKind.JOINED, verdict, ordered)
        return await joining.note(self._around.log, fact, shared, without_log)

    def _fact(self, kind: EntryKind, verdict: Verdict, about: int = 0) -> Fact:
        return Fact(self._around.timekeeper.reading(), kind, self.identity.id, verdict, about)


def past_answer(past: PastRequest | None) -> Answer:
    """What the log knows of a request that does not run any more."""
    if past is None:
        return Answer(NEVER_ASKED)
    # A record without outcome that no longer runs was cut short.
    return Answer(past.verdict or INTERRUPTED, past.record)
