"""Serves phones: every link gets a session, every holder an answer, every stranger the same one.

Laws of this file:

* Until the holder of a genuine token has proved to hold its key, whatever
  fails gets the session's one constant error; the reason goes to the journal
  and, counted, into one log entry a minute.
* One phone's fault is that phone's: it ends its own task and no other.
* Links are few; `core.admission` says who yields.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.codes import Fault, Outcome, Presence, Reason
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.framing import GattFraming
from firmware_proto.messages import FaultMessage, GetResult, Message, Open, Prepare, Result
from firmware_proto.phone_session import GatewaySession
from firmware_proto.session import CredentialReceived, MessageReceived, PeerRefused
from firmware_proto.session_tables import SessionState
from gatewayd.conversation import Conversation
from gatewayd.core import keytoken, receipt
from gatewayd.core.admission import Evict, Links, Refuse, Strangers
from gatewayd.core.keytoken import KeyToken, TokenRejected
from gatewayd.core.model import DoorId, EntryKind, Fact, TimeReading, Verdict
from gatewayd.core.receipt import Receipt
from gatewayd.core.requests import request_key
from gatewayd.door import Ask, Door, RequestConflictError, Surroundings, past_answer
from gatewayd.lock_connection import GatewayIdentity
from gatewayd.opening import Answer
from gatewayd.ports import Link, LinkClosedError, Peripheral, Pulse, StorageError
from gatewayd.vitals import UNWATCHED

_log: Final = logging.getLogger(__name__)

UNKNOWN_DOOR: Final = Verdict(Outcome.REFUSED, Reason.UNKNOWN_DOOR)
READY: Final = Verdict(Outcome.CONFIRMED, Reason.OK)

TURN_S: Final = 30.0
"""More than letting somebody in, turning him away or counting him takes."""


@dataclass(frozen=True, slots=True)
class Receipts:
    """What a receipt is made with. `origin` names the log."""

    key: ec.EllipticCurvePrivateKey
    origin: str


class _Strange(Exception):  # noqa: N818 - a way out of a conversation, not an error of ours
    """The peer is no holder, or stopped behaving like one; `reason` is for us alone."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class Phones:
    """Everybody who is connected now, up to `cap` links."""

    def __init__(
        self,
        identity: GatewayIdentity,
        receipts: Receipts,
        doors: Mapping[DoorId, Door],
        around: Surroundings,
        *,
        cap: int,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._identity = identity
        self._receipts = receipts
        self._doors = doors
        self._around = around
        self._links = Links(cap)
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._sessions: dict[int, GatewaySession] = {}
        self._strangers = Strangers()
        self._newest = 0

    async def serve(self, peripheral: Peripheral, pulse: Pulse = UNWATCHED) -> None:
        """Accept phones until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                pulse.waits()
                link = await peripheral.accept()
                pulse.beat(TURN_S)
                if not self._make_room():
                    self.counts["turned away"] += 1
                    await link.close()
                    continue
                self._newest += 1
                number = self._newest
                self._links = self._links.opened(number, self._now_s())
                self._serving[number] = group.create_task(
                    self._serve(number, link), name=f"phone {number}"
                )

    def _make_room(self) -> bool:
        """Room for one more link, where need be by ending another one."""
        now_s = self._now_s()
        for number, session in self._sessions.items():
            held = self._links.held.get(number)
            silent = session.state is SessionState.AWAITING_MESSAGE_1
            if held is not None and not held.greeted and not silent:
                self._links = self._links.greeted(number, now_s)
        answer = self._links.decide(now_s)
        if isinstance(answer, Evict):
            self.counts["evicted"] += 1
            self._serving[answer.link].cancel()
            self._links = self._links.closed(answer.link)
        return not isinstance(answer, Refuse)

    async def count_strangers(self, pulse: Pulse = UNWATCHED) -> None:
        """One log entry a minute for everybody who was refused; runs for ever."""
        while True:
            pulse.beat(TURN_S)
            await asyncio.sleep(1)
            self._strangers, count = self._strangers.due(self._now_s())
            if count:
                verdict = Verdict(Outcome.REFUSED, Reason.STRANGER)
                await self._write(Fact(self._time(), EntryKind.STRANGERS, None, verdict, count))

    # --- one link -------------------------------------------------------------------
    async def _serve(self, number: int, link: Link) -> None:
        try:
            await self._converse(number, link)
        except LinkClosedError:
            self.counts["left"] += 1
        except _Strange as strange:
            self._refused(strange.reason)
        except TimeoutError:
            if number in self._links.held and not self._links.held[number].authenticated:
                self._refused(Reason.STRANGER)
        except Exception:  # noqa: BLE001 - a bug of ours must not close the door to everybody
            self.counts["our fault"] += 1
            _log.exception("phone %d: a fault of ours", number)
        finally:
            self._links = self._links.closed(number)
            self._serving.pop(number, None)
            self._sessions.pop(number, None)
            await asyncio.shield(link.close())

    async def _converse(self, number: int, link: Link) -> None:
        entropy = self._around.entropy
        session = GatewaySession(
            GattFraming(link.mtu, None),
            ephemeral=entropy.private_key(),
            connection_id=entropy.token_bytes(1),
            static_key=self._identity.key,
            credential=self._identity.credential,
        )
        talk = Conversation(link, session)
        self._sessions[number] = session
        token = await self._identify(talk)
        while True:
            try:
                event = await talk.next_event()
            except RemoteProtocolError as error:
                await self._broken(number, session, error)
                return
            match event:
                case MessageReceived(message):
                    self._links = self._links.authenticated(number, self._now_s())
                    await talk.send(await self._answer(token, message))
                case PeerRefused():
                    self.counts["refused us"] += 1
                    return
                case _:
                    raise AssertionError(event)

    async def _identify(self, talk: Conversation[GatewaySession]) -> KeyToken:
        """Whose key is it, and does the peer hold it? _Strange otherwise, after the error."""
        try:
            event = await talk.next_event()
            presented = event.credential if isinstance(event, CredentialReceived) else None
            token = keytoken.authenticate(presented or b"", self._around.trust)
        except TokenRejected as rejected:
            raise await self._constant_error(talk, rejected.reason) from None
        except RemoteProtocolError:
            raise await self._constant_error(talk, Reason.STRANGER) from None
        try:
            talk.session.trust(token.key)
        except RemoteProtocolError:
            raise await self._constant_error(talk, Reason.BAD_PROOF) from None
        return token

    async def _constant_error(self, talk: Conversation[GatewaySession], reason: Reason) -> _Strange:
        talk.session.refuse()
        await talk.flush()
        return _Strange(reason)

    async def _broken(
        self, number: int, session: GatewaySession, error: RemoteProtocolError
    ) -> None:
        """The peer broke the protocol after its token was accepted."""
        if not session.authenticated:
            raise _Strange(Reason.STRANGER)
        _log.warning("phone %d: %s", number, error)
        self.counts[f"broken: {error.fault.name.lower()}"] += 1
        if error.fault is Fault.REPLAYED:
            verdict = Verdict(Outcome.REFUSED, Reason.REPLAYED)
            await self._write(Fact(self._time(), EntryKind.REFUSAL, None, verdict))

    # --- what holders ask -------------------------------------------------------------
    async def _answer(self, token: KeyToken, message: Message) -> Message:
        match message:
            case Prepare(door):
                return self._prepare(token, door)
            case Open():
                return await self._open(token, message)
            case GetResult(request):
                return self._result(token, request, await self._result_of(token, request))
            case _:  # the session lets nothing else through but faults
                return FaultMessage(None, Fault.UNEXPECTED)

    def _prepare(self, token: KeyToken, door_id: str) -> Result:
        door = self._doors.get(DoorId(door_id))
        if door is None:
            return Result(None, UNKNOWN_DOOR.outcome, UNKNOWN_DOOR.reason)
        decision = door.prepare(token)
        if decision.allowed:
            return Result(None, READY.outcome, READY.reason)
        return Result(None, Outcome.REFUSED, decision.reason)

    async def _open(self, token: KeyToken, message: Open) -> Message:
        door = self._doors.get(DoorId(message.door))
        if door is None:
            await self._write(Fact(self._time(), EntryKind.REFUSAL, None, UNKNOWN_DOOR))
            return Result(message.request, UNKNOWN_DOOR.outcome, UNKNOWN_DOOR.reason)
        try:
            answer = await door.open(
                Ask(token, message.request, message.action, Presence(message.presence))
            )
        except RequestConflictError:
            return FaultMessage(message.request, Fault.ID_REUSED)
        return self._result(token, message.request, answer)

    async def _result_of(self, token: KeyToken, request_id: bytes) -> Answer:
        """What became of an earlier `Open` of this holder, at whichever door."""
        key = request_key(self._around.secret, token.identity.digest(), request_id)
        for door in self._doors.values():
            opening = door.running(key)
            if opening is not None:
                return await opening.answered()
        try:
            return past_answer(await self._around.log.past_request(key))
        except StorageError:
            return Answer(Verdict(Outcome.REFUSED, Reason.LOG_UNAVAILABLE))

    def _result(self, token: KeyToken, request: bytes, answer: Answer) -> Result:
        verdict = answer.verdict
        certified = None
        if verdict.outcome is Outcome.CONFIRMED and answer.record is not None:
            record = answer.record
            statement = Receipt(
                record.door,
                receipt.cut_to_minute(record.time_s),
                token.identity.digest(),
                verdict.outcome,
                self._receipts.origin,
                record.seq,
            )
            certified = receipt.issue(statement, self._receipts.key)
        return Result(request, verdict.outcome, verdict.reason, certified)

    # --- bookkeeping ------------------------------------------------------------------
    def _refused(self, reason: Reason) -> None:
        self.counts[f"stranger: {reason.name.lower()}"] += 1
        self._strangers = self._strangers.refused(self._now_s())
        _log.info("a stranger was refused: %s", reason.name.lower())

    async def _write(self, fact: Fact) -> None:
        try:
            await self._around.log.append(fact)
        except StorageError as error:
            _log.error("not recorded: %s", error)

    def _time(self) -> TimeReading:
        return self._around.timekeeper.reading()

    def _now_s(self) -> float:
        return self._around.timekeeper.instant().boottime_s
