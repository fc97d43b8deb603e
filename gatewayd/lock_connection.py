"""One connection of a gateway to a lock: resumed or shaken hands, then questions and answers.

`locks.py` decides when to connect and what silence means; this module only
carries. Every answer is matched to its question by id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.codes import ID_BYTES
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.framing import Framing
from firmware_proto.lock_messages import Hello
from firmware_proto.lock_session import LockClientSession
from firmware_proto.messages import Message
from firmware_proto.resumption import ResumptionSecret
from firmware_proto.session import (
    CredentialReceived,
    HelloReceived,
    MessageReceived,
    PeerRefused,
    SecretEstablished,
    SessionEvent,
)
from gatewayd.conversation import Conversation, NotSentError, open_for_sending
from gatewayd.device_keys import KeyDeviceError, apart
from gatewayd.ports import LinkClosedError, RadioError
from gatewayd.ports.process import Entropy
from gatewayd.ports.radio import Link


@dataclass(frozen=True, slots=True)
class LockIdentity:
    """What commissioning told the gateway: the lock's key, and its CCS with the key's id."""

    address: str
    public_key: ec.EllipticCurvePublicKey
    credential: bytes
    key_id: bytes


@dataclass(slots=True)
class GatewayIdentity:
    """The gateway's static key and its credential, signed by the operator."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    credential: bytes

    def show(self, credential: bytes) -> None:
        """Another one for the same key, from the next handshake on."""
        self.credential = credential


@dataclass(frozen=True, slots=True)
class Remembered:
    """A resumption secret and the lock's epoch in which it was made. Kept in memory only."""

    secret: ResumptionSecret
    epoch: int

    def fits(self, hello: Hello) -> bool:
        """True when the lock says that it remembers the same session."""
        return (hello.session, hello.epoch) == (self.secret.session, self.epoch)


class LockConnection:
    """A live connection. Make it with `connect`, end it with `close`."""

    def __init__(
        self,
        talk: Conversation[LockClientSession],
        hello: Hello,
        heard: Callable[[Message], None],
        *,
        resumed: bool,
    ) -> None:
        self.hello = hello
        self.resumed = resumed
        self.remembered: Remembered | None = None
        self._talk = talk
        self._heard = heard
        self._asked: dict[bytes, asyncio.Future[Message]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._abandoned = False

    @property
    def alive(self) -> bool:
        """False once the link is gone or the lock broke the protocol."""
        return self._reader is not None and not self._reader.done() and not self._abandoned

    @property
    def binding(self) -> bytes | None:
        """What only the two ends of this handshake know; None where it was resumed."""
        return self._talk.session.binding

    async def ask(self, message: Message, within_s: float) -> Message:
        """Send one request and wait for its answer.

        Raises:
            NotSentError: it cannot have arrived.
            LinkClosedError: it may have arrived.
            TimeoutError: no answer within `within_s` seconds.
        """
        request = getattr(message, "request", None)
        if not isinstance(request, bytes):
            raise TypeError("only messages with a request id have an answer")
        if not self.alive or not open_for_sending(self._talk.session):
            raise NotSentError("the connection is gone")
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[request] = answer
        try:
            async with asyncio.timeout(within_s):
                await self._talk.send(message)
                return await answer
        finally:
            self._asked.pop(request, None)
            answer.cancel()

    def abandon(self) -> None:
        """Disconnect soon, without waiting for it; `close` may still be called."""
        self._abandoned = True
        if self._reader is not None:
            self._reader.cancel()

    async def gone(self) -> None:
        """Return when the connection has ended."""
        if self._reader is not None:
            await asyncio.wait({self._reader})

    async def close(self) -> None:
        """Disconnect and end the reading task."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        await self._talk.link.close()

    def start(self) -> None:
        """Begin to read; from now on answers and reports arrive."""
        self._reader = asyncio.create_task(self._read(), name="lock connection")

    async def _read(self) -> None:
        reason: BaseException = LinkClosedError("the connection to the lock was closed")
        try:
            while True:
                self._take(await self._talk.next_event(patient=True))
        except (LinkClosedError, RemoteProtocolError, LocalProtocolError) as error:
            reason = error
        finally:
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(LinkClosedError(str(reason)))
            await asyncio.shield(self._talk.link.close())

    def _take(self, event: SessionEvent) -> None:
        match event:
            case MessageReceived(message):
                self._answered(message)
            case SecretEstablished(secret):
                self.remembered = Remembered(secret, self.hello.epoch)
            case PeerRefused():
                raise LinkClosedError("the lock refused this gateway")
            case _:  # Hello and credentials come before `start`
                raise AssertionError(event)

    def _answered(self, message: Message) -> None:
        answer = self._asked.get(getattr(message, "request", None) or b"")
        if answer is not None and not answer.done():
            answer.set_result(message)
        else:
            self._heard(message)


async def connect(  # noqa: PLR0913 - both ends' identities and what was remembered
    link: Link,
    lock: LockIdentity,
    gateway: GatewayIdentity,
    entropy: Entropy,
    *,
    framing: Framing,
    remembered: Remembered | None,
    heard: Callable[[Message], None],
) -> LockConnection:
    """Hello, then Resume where both remember the session, else a handshake. Closes on failure.

    `heard` gets every message that answers nothing: reports, and late answers.
    RadioError when it does not come about; nothing was commanded.
    """
    session = LockClientSession(
        framing,
        ephemeral=entropy.private_key(),
        connection_id=entropy.token_bytes(1),
        static_key=gateway.key,
        credential=gateway.credential,
        resume_nonce=entropy.token_bytes(ID_BYTES),
    )
    talk = Conversation(link, session)
    try:
        hello = await _hello(talk)
        known = remembered if remembered is not None and remembered.fits(hello) else None
        if known is not None:
            session.resume(known.secret)
        else:
            await _shake_hands(talk, lock, gateway)
    except (LinkClosedError, RemoteProtocolError, TimeoutError, KeyDeviceError) as error:
        await asyncio.shield(link.close())
        raise RadioError(f"no session with the lock: {error}") from error
    except BaseException:
        await asyncio.shield(link.close())
        raise
    return LockConnection(talk, hello, heard, resumed=known is not None)


async def _hello(talk: Conversation[LockClientSession]) -> Hello:
    event = await talk.next_event()
    if not isinstance(event, HelloReceived):
        raise LinkClosedError("the lock refused before it said Hello")
    return event.hello


async def _shake_hands(
    talk: Conversation[LockClientSession], lock: LockIdentity, gateway: GatewayIdentity
) -> None:
    """message_1 out, message_2 judged; message_3 leaves with the first request."""
    talk.session.handshake()
    event = await talk.next_event()
    if not isinstance(event, CredentialReceived):
        raise LinkClosedError("the lock refused this gateway")
    if event.key_id != lock.key_id:
        talk.session.refuse()
        await talk.flush()
        raise LinkClosedError("this is another lock")
    prove = partial(talk.session.trust, lock.public_key, lock.credential)
    await apart(gateway.key, prove)
