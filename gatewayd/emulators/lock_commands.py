"""What gateways may ask of a lock that is theirs: each message, and the answers to it.

The owner's part, claiming and what follows from it, is `lock_owner`.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

from firmware_proto import messages
from firmware_proto.codes import Fault, Outcome, Reason
from firmware_proto.lock_messages import (
    AckEvents,
    Bolt,
    Done,
    Event,
    GetEvents,
    GetState,
    SetTime,
    Unbolt,
    Unlatch,
)
from firmware_proto.messages import FaultMessage, GetResult, Message
from gatewayd.core.model import Verdict
from gatewayd.emulators.lock_body import LockBody
from gatewayd.emulators.lock_faults import PowerCut
from gatewayd.emulators.lock_memory import NEVER_SEEN
from gatewayd.emulators.lock_state import CONFIRMED, NotNowError, Turn

_TURNS: Final[dict[type[Message], Turn]] = {
    Unlatch: Turn.UNLATCH,
    Unbolt: Turn.UNBOLT,
    Bolt: Turn.BOLT,
}
_EXPIRED: Final = Verdict(Outcome.REFUSED, Reason.COMMAND_EXPIRED)


class Commands:
    """Gateways' messages to one body; `events` are told in one answer at most."""

    def __init__(self, body: LockBody, events: int) -> None:
        self._body = body
        self._events_per_answer = events

    async def answer(self, message: Message) -> list[Message]:
        """The answers to one message, in order. Returns when a commanded movement has ended."""
        if isinstance(message, Unlatch | Unbolt | Bolt):
            return [await self._obey(message)]
        match message:
            case GetResult(command=bytes(command)):
                answers: list[Message] = [self._result(message.request, command)]
            case GetState():
                answers = [self._body.state(message.request)]
            case GetEvents():
                answers = self._events(message)
            case AckEvents():
                self._body.keep(self._body.memory.acknowledged(message.upto))
                answers = [self._done(message.request, CONFIRMED)]
            case SetTime():
                offset = message.time_s * 1000 - self._body.now_ms
                self._body.keep(replace(self._body.memory, offset_ms=offset))
                answers = [self._done(message.request, CONFIRMED)]
            case _:
                answers = [FaultMessage(None, Fault.UNEXPECTED)]
        return answers

    async def _obey(self, message: Unlatch | Unbolt | Bolt) -> Message:
        content = hashlib.sha256(messages.encode(message)).digest()
        known = self._body.memory.command(message.request)
        if known is not None and known.content != content:
            return FaultMessage(message.request, Fault.ID_REUSED)
        refused = self._begin(message, content) if known is None else None
        if refused is not None:
            return refused
        await self._body.ended(message.request)
        self._body.faults.cut(PowerCut.BEFORE_ANSWER)
        return self._result(message.request, message.request)

    def _begin(self, message: Unlatch | Unbolt | Bolt, content: bytes) -> Message | None:
        """Store a command and start it, or say why not."""
        if self._body.now_ms > message.deadline_ms:
            return self._done(message.request, _EXPIRED)
        if self._body.memory.running is not None:
            return FaultMessage(message.request, Fault.BUSY)
        hold_ms = message.duration_ms if isinstance(message, Unlatch) else 0
        try:
            self._body.begin(message.request, content, _TURNS[type(message)], hold_ms)
        except NotNowError:
            return FaultMessage(message.request, Fault.BUSY)
        return None

    def _result(self, request: bytes, command: bytes) -> Message:
        known = self._body.memory.command(command)
        if known is None:
            return self._done(request, NEVER_SEEN)
        if known.verdict is None:
            return FaultMessage(request, Fault.BUSY)
        return self._done(request, known.verdict)

    def _events(self, message: GetEvents) -> list[Message]:
        kept = self._body.memory.events_after(message.after, self._events_per_answer)
        answers: list[Message] = [
            Event(message.request, event.index, event.clock_ms, event.kind, event.value)
            for event in kept
        ]
        return [*answers, self._done(message.request, CONFIRMED)]

    def _done(self, request: bytes, verdict: Verdict) -> Done:
        return Done(request, verdict.outcome, verdict.reason, self._body.now_ms)
