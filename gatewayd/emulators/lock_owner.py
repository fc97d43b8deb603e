"""Whose an emulated lock is: claims, anchors, resets; and its button, its lamp and its settings.

The rules are PROTOCOL.md's, "Claiming", in its order. Each change is one durable
write before the answer leaves.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from firmware_proto import claiming
from firmware_proto.claiming import Purpose
from firmware_proto.codes import Fault, Outcome, Reason
from firmware_proto.credential import verify
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.lock_messages import (
    Anchor,
    Bolt,
    Claim,
    Configure,
    Done,
    FactoryReset,
    Identify,
    Unbolt,
    Unlatch,
)
from firmware_proto.messages import FaultMessage, Message
from firmware_proto.statements import Anchoring, Reset
from gatewayd.core.model import Verdict
from gatewayd.emulators.lock_body import LockBody
from gatewayd.emulators.lock_faults import PowerCut
from gatewayd.emulators.lock_memory import LockMemory
from gatewayd.emulators.lock_state import CONFIRMED

_OWNERS_ONLY: Final = (Unlatch, Unbolt, Bolt, Configure, Anchor, FactoryReset)
_BUTTON_MS: Final = int(claiming.BUTTON_S * 1000)


@dataclass(frozen=True, slots=True)
class Introduction:
    """How a gateway came to be trusted: its credential, and the handshake's binding."""

    credential: bytes | None
    binding: bytes | None


class _RefusedError(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.verdict = Verdict(Outcome.REFUSED, reason)


class Owner:
    """Answers what is about belonging. `on_identify` is told for how many milliseconds."""

    def __init__(self, body: LockBody) -> None:
        self.on_identify: Callable[[int], None] = lambda _: None
        self._body = body
        self._pressed_ms: int | None = None

    def press(self) -> None:
        """Somebody presses the button inside the housing."""
        self._pressed_ms = self._body.now_ms

    def answer(self, message: Message, introduced: Introduction) -> Message | None:
        """The answer, or None where the message is the body's affair."""
        if isinstance(message, _OWNERS_ONLY) and not self._body.memory.claimed:
            return self._done(message.request, Verdict(Outcome.REFUSED, Reason.UNCLAIMED))
        match message:
            case Claim() | Anchor() | Configure() | FactoryReset():
                fault = self._fault(message)
                if fault is not None:
                    return FaultMessage(message.request, fault)
                return self._change(message, introduced)
            case Identify():
                self.on_identify(message.duration_ms)
                return self._done(message.request, CONFIRMED)
            case _:
                return None

    def _fault(self, message: Message) -> Fault | None:
        if not isinstance(message, FactoryReset):
            return None
        if (message.proof is None) is (message.statement is None):
            return Fault.MALFORMED
        return Fault.BUSY if self._body.memory.running is not None else None

    def _change(
        self, message: Claim | Anchor | Configure | FactoryReset, introduced: Introduction
    ) -> Message:
        body = self._body
        try:
            memory = self._changed(message, introduced)
        except _RefusedError as error:
            return self._done(message.request, error.verdict)
        if memory.epoch != body.memory.epoch:
            self._pressed_ms = None  # a press serves once
        body.faults.cut(PowerCut.BEFORE_STORING)
        body.keep(memory)
        body.faults.cut(PowerCut.AFTER_STORING)
        body.faults.cut(PowerCut.BEFORE_ANSWER)
        return self._done(message.request, CONFIRMED)

    def _changed(
        self, message: Claim | Anchor | Configure | FactoryReset, introduced: Introduction
    ) -> LockMemory:
        """What it is to remember, or _RefusedError."""
        memory = self._body.memory
        match message:
            case Claim():
                return self._claimed(message, introduced)
            case Anchor(statement=statement):
                return memory.anchored(_next(memory, statement), self._body.now_ms)
            case Configure(ajar_ms=ajar_ms):
                return replace(memory, ajar_ms=ajar_ms)
            case FactoryReset(proof=bytes(proof)):
                self._prove(proof, introduced, Purpose.RESET)
            case FactoryReset(statement=statement):
                _check_reset(memory, statement or b"")
        return memory.released()

    def _claimed(self, claim: Claim, introduced: Introduction) -> LockMemory:
        memory = self._body.memory
        if memory.claimed:
            raise _RefusedError(Reason.ALREADY_CLAIMED)
        self._prove(claim.proof, introduced, Purpose.CLAIM)
        try:
            gateway = verify(introduced.credential or b"", claim.gateways_key)
        except RemoteProtocolError:
            raise _RefusedError(Reason.UNTRUSTED_GATEWAY) from None
        generation = gateway.doors.get(claim.door)
        if generation is None:
            raise _RefusedError(Reason.WRONG_GATEWAY_DOOR)
        return memory.taken(claim, generation, self._body.now_ms)

    def _prove(self, proof: bytes, introduced: Introduction, purpose: Purpose) -> None:
        secret, binding = self._body.memory.claim_secret, introduced.binding
        if (
            secret is None
            or binding is None
            or not hmac.compare_digest(proof, claiming.proof(secret, binding, purpose))
        ):
            raise _RefusedError(Reason.BAD_CLAIM)
        pressed_ms = self._pressed_ms
        if pressed_ms is None or self._body.now_ms - pressed_ms > _BUTTON_MS:
            raise _RefusedError(Reason.BUTTON_NEEDED)

    def _done(self, request: bytes, verdict: Verdict) -> Done:
        return Done(request, verdict.outcome, verdict.reason, self._body.now_ms)


def _next(memory: LockMemory, statement: bytes) -> Anchoring:
    """The anchor that follows the lock's own. A lock that was made claimed knows no root."""
    if memory.root_key is None:
        raise _RefusedError(Reason.BAD_SIGNATURE)
    try:
        anchoring = Anchoring.verify(statement, memory.root_key)
    except RemoteProtocolError as error:
        raise _RefusedError(_told(error)) from None
    if anchoring.serial != memory.serial + 1:
        raise _RefusedError(Reason.OLD_STATEMENT)
    return anchoring


def _check_reset(memory: LockMemory, statement: bytes) -> None:
    if memory.command_key is None:
        raise _RefusedError(Reason.BAD_SIGNATURE)
    try:
        reset = Reset.verify(statement, memory.command_key)
    except RemoteProtocolError as error:
        raise _RefusedError(_told(error)) from None
    if reset != Reset(memory.key_id, memory.epoch):
        raise _RefusedError(Reason.OLD_STATEMENT)


def _told(error: RemoteProtocolError) -> Reason:
    bad_signature = error.fault is Fault.AUTHENTICATION_FAILED
    return Reason.BAD_SIGNATURE if bad_signature else Reason.MALFORMED_TOKEN
