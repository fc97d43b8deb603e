"""The gateway's end for tests of phones: the real session, and a door that only counts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from firmware_proto.codes import Fault, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.framing import GattFraming
from firmware_proto.messages import FaultMessage, GetResult, Message
from firmware_proto.phone_messages import Open, Prepare, Result
from firmware_proto.phone_session import GatewaySession
from firmware_proto.session import CredentialReceived, MessageReceived, PeerRefused
from gatewayd.conversation import Conversation
from gatewayd.core import keytoken, receipt
from gatewayd.core.model import DoorId, Verdict
from gatewayd.core.receipt import Receipt
from gatewayd.lock_connection import GatewayIdentity
from gatewayd.ports import LinkClosedError
from gatewayd.ports.radio import Link, Peripheral
from tests.support.household import NOW, Dice, Operator

OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)


@dataclass(slots=True)
class Doorman:
    """Serves every phone with `verdict`; `opened` lists the requests for which the door moved."""

    operator: Operator
    identity: GatewayIdentity
    verdict: Verdict = OPENED
    strangers: bool = False
    silent: bool = False
    fault: Fault | None = None
    receipt_key_differs: bool = False
    receipt_door: str | None = None
    opened: list[bytes] = field(default_factory=list)
    heard: list[Message] = field(default_factory=list)
    known: dict[bytes, Verdict] = field(default_factory=dict)
    dice: Dice = field(default_factory=lambda: Dice(7))

    @contextlib.asynccontextmanager
    async def on_duty(self, peripheral: Peripheral) -> AsyncIterator[None]:
        async def serve() -> None:
            async with asyncio.TaskGroup() as group:
                while True:
                    group.create_task(self._one(await peripheral.accept()))

        task = asyncio.create_task(serve())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _one(self, link: Link) -> None:
        session = GatewaySession(
            GattFraming(link.mtu, None),
            ephemeral=self.dice.private_key(),
            connection_id=self.dice.token_bytes(1),
            static_key=self.identity.key,
            credential=self.identity.credential,
        )
        with contextlib.suppress(LinkClosedError, RemoteProtocolError, TimeoutError):
            await self._converse(Conversation(link, session))
        await link.close()

    async def _converse(self, talk: Conversation[GatewaySession]) -> None:
        token = b""
        while True:
            match await talk.next_event():
                case CredentialReceived(credential=bytes(token)):
                    if self.strangers:
                        talk.session.refuse()
                        await talk.flush()
                        return
                    talk.session.trust(keytoken.unverified(token).key)
                case MessageReceived(message):
                    self.heard.append(message)
                    answer = self._answer(message, token)
                    if not self.silent:
                        await talk.send(answer)
                case PeerRefused():
                    return

    def _answer(self, message: Message, token: bytes) -> Message:
        if self.fault is not None:
            return FaultMessage(None, self.fault)
        match message:
            case Prepare():
                return Result(None, Outcome.CONFIRMED, Reason.OK, None)
            case GetResult(request, None):
                verdict = self.known.get(request, Verdict(Outcome.REFUSED, Reason.NEVER_ASKED))
                return Result(request, verdict.outcome, verdict.reason, None)
            case Open():
                verdict = self.known.setdefault(message.request, self.verdict)
                if verdict == OPENED and message.request not in self.opened:
                    self.opened.append(message.request)
                signed = self._receipt(message.door, token, verdict)
                return Result(message.request, verdict.outcome, verdict.reason, signed)
        raise AssertionError(message)

    def _receipt(self, door: str, token: bytes, verdict: Verdict) -> bytes:
        key = self.dice.private_key() if self.receipt_key_differs else self.operator.receipts
        holder = keytoken.unverified(token).identity.digest()
        body = Receipt(
            DoorId(self.receipt_door or door),
            receipt.cut_to_minute(NOW),
            holder,
            verdict.outcome,
            "example.org/log",
            5,
        )
        return receipt.issue(body, key)
