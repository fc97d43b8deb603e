"""A phone at one gateway: handshake, judgement of its credential, one question at a time."""

from __future__ import annotations

import asyncio

from firmware_proto import credential
from firmware_proto.codes import Fault, Reason
from firmware_proto.credential import GatewayCredential
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.framing import GattFraming
from firmware_proto.messages import FaultMessage, GetResult, Message
from firmware_proto.phone_messages import Chunk, Collect, Deliver, Open, Prepare, Result
from firmware_proto.phone_session import PhoneSession
from firmware_proto.session import CredentialReceived, MessageReceived, PeerRefused
from gatewayd.conversation import Conversation, NotSentError, open_for_sending, random_channel
from gatewayd.emulators.wallet import Wallet
from gatewayd.ports import LinkClosedError, RadioError
from gatewayd.ports.process import Entropy
from gatewayd.ports.radio import Link

Answer = Result | FaultMessage | None
"""None: the gateway refused with the constant answer that strangers get."""


class TurnedAwayError(Exception):
    """The phone and this gateway do not trust each other; `reason` is the phone's."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class Visit:
    """Connected to a gateway that may serve the door. `leave` it when done."""

    def __init__(self, talk: Conversation[PhoneSession], shown: GatewayCredential) -> None:
        self.credential = shown
        self._talk = talk

    @property
    def exchanges(self) -> int:
        """Application round trips so far, the handshake's among them."""
        return self._talk.round_trips

    async def ask(self, question: Prepare | Open | GetResult | Deliver) -> Answer:
        """Send one question and wait for its answer.

        Raises NotSentError when it cannot have arrived; LinkClosedError,
        TimeoutError or RemoteProtocolError when it may have.
        """
        request = None if isinstance(question, Prepare) else question.request
        answer = await self._exchange(question, request)
        if isinstance(answer, Chunk):
            raise RemoteProtocolError(Fault.UNEXPECTED, "nobody wanted to collect anything")
        return answer

    async def collect(self, question: Collect) -> Chunk | Answer:
        """Fetch something. Raises as `ask`."""
        return await self._exchange(question, question.request)

    async def _exchange(self, question: Message, request: bytes | None) -> Chunk | Answer:
        if not open_for_sending(self._talk.session):
            raise NotSentError("the gateway has ended the session")
        await self._talk.send(question)
        while True:
            event = await self._talk.next_event()
            if isinstance(event, PeerRefused):
                return None
            if isinstance(event, MessageReceived):
                match event.message:
                    case (Result() | Chunk()) as result if result.request == request:
                        return result
                    case FaultMessage() as fault:
                        return fault

    async def leave(self) -> None:
        """Disconnect."""
        await asyncio.shield(self._talk.link.close())


async def visit(link: Link, wallet: Wallet, door: str, now_s: float, entropy: Entropy) -> Visit:
    """Shake hands as far as message_2 and judge who answers. Closes the link on failure.

    message_3 leaves with the first question. `now_s` is the phone's idea of
    Unix time. TurnedAwayError; RadioError when the link went first.
    """
    session = PhoneSession(
        GattFraming(link.mtu, random_channel(entropy)),
        ephemeral=entropy.private_key(),
        connection_id=entropy.token_bytes(1),
        static_key=wallet.key,
        credential=wallet.token,
    )
    talk = Conversation(link, session)
    try:
        return await _shake_hands(talk, wallet, door, now_s)
    except RemoteProtocolError as error:
        await asyncio.shield(link.close())
        raise TurnedAwayError(Reason.UNTRUSTED_GATEWAY) from error
    except (LinkClosedError, TimeoutError) as error:
        await asyncio.shield(link.close())
        raise RadioError(f"the gateway went away: {error}") from error
    except BaseException:
        await asyncio.shield(link.close())
        raise


async def _shake_hands(
    talk: Conversation[PhoneSession], wallet: Wallet, door: str, now_s: float
) -> Visit:
    talk.session.begin()
    event = await talk.next_event()
    if not isinstance(event, CredentialReceived):
        raise TurnedAwayError(Reason.STRANGER)
    try:
        shown = judge(event.credential, wallet, door, now_s)
        talk.session.trust(shown.key)
    except TurnedAwayError:
        talk.session.refuse()
        await talk.flush()
        raise
    # Its key is proved: only now may its word raise what this phone insists on.
    wallet.raise_generation(door, shown.doors[door])
    return Visit(talk, shown)


def judge(shown: bytes | None, wallet: Wallet, door: str, now_s: float) -> GatewayCredential:
    """The credential, if this phone may talk to its holder about `door`. TurnedAwayError.

    The user chose the door: a gateway that serves another one is not asked,
    so nobody can lead the phone to a door it does not stand at.
    """
    try:
        gateway = credential.verify(shown or b"", wallet.gateways_key)
    except RemoteProtocolError as error:
        raise TurnedAwayError(Reason.UNTRUSTED_GATEWAY) from error
    # the names of doors are unique within a group only
    if door not in gateway.doors or gateway.group != wallet.group:
        raise TurnedAwayError(Reason.WRONG_GATEWAY_DOOR)
    if now_s >= gateway.expires:
        raise TurnedAwayError(Reason.UNTRUSTED_GATEWAY)
    if gateway.doors[door] < wallet.generations.get(door, 0):
        raise TurnedAwayError(Reason.OLD_GENERATION)
    return gateway
