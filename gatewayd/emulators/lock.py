"""An emulated lock on the air or on a line: connections, sessions and who may command.

Everything real but the steel: it speaks the whole protocol over the port
`Peripheral`, keeps its memory on disk and survives losing power at any point.

    lock = LockEmulator(LockStore(path), Machine(), clock, entropy)
    await lock.run(peripheral)          # until cancelled, or PowerLostError
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from firmware_proto.codes import ID_BYTES
from firmware_proto.credential import GatewayCredential, unverified, verify
from firmware_proto.edhoc import ccs
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.lock_messages import Anchor, Hello
from firmware_proto.lock_session import LockServerSession
from firmware_proto.messages import Message
from firmware_proto.session import (
    CredentialReceived,
    MessageReceived,
    PeerRefused,
    SecretEstablished,
    SessionEvent,
)
from firmware_proto.session_tables import SessionState
from gatewayd.conversation import Conversation, open_for_sending
from gatewayd.emulators.lock_body import Label, LockBody
from gatewayd.emulators.lock_commands import Commands
from gatewayd.emulators.lock_faults import Faults, FaultyLink, PowerLostError
from gatewayd.emulators.lock_gate import HandshakeGate, TokenBucket
from gatewayd.emulators.lock_machine import Machine
from gatewayd.emulators.lock_memory import LockMemory
from gatewayd.emulators.lock_owner import Introduction, Owner
from gatewayd.emulators.lock_state import Limits
from gatewayd.emulators.lock_store import LockStore
from gatewayd.emulators.lock_wire import RADIO, Wire
from gatewayd.ports import LinkClosedError
from gatewayd.ports.process import Clock, Entropy
from gatewayd.ports.radio import Link, Peripheral

HANG_UP_S: Final = 0.5
"""How long the answer to a Claim has to arrive; the gateway hangs up as soon as it has."""
_MAX_REQUESTS: Final = 16
_PEER_ERRORS: Final = (LinkClosedError, RemoteProtocolError, TimeoutError, asyncio.QueueFull)


@dataclass(frozen=True, slots=True)
class LockSettings:
    """How an emulated lock treats those who connect; `limits` and `label` go to its body.

    wire: what carries its words. handshake_s: from connection to the first
    sealed record. handshakes and refill_s: the token bucket. links:
    connections served at once.
    """

    wire: Wire = RADIO
    handshake_s: float = 8.0
    handshakes: int = 8
    refill_s: float = 5.0
    links: int = 1
    limits: Limits = field(default_factory=Limits)
    label: Label = field(default_factory=Label)


def lock_credential(memory: LockMemory) -> bytes:
    """The lock's CCS: what a gateway is told about it at commissioning."""
    return ccs(memory.door, memory.key.public_key(), memory.key_id)


class LockEmulator:
    """One lock. Make a new one on the same store and machine after PowerLostError."""

    def __init__(  # noqa: PLR0913 - what a lock is made of
        self,
        store: LockStore,
        machine: Machine,
        clock: Clock,
        entropy: Entropy,
        *,
        faults: Faults | None = None,
        settings: LockSettings | None = None,
    ) -> None:
        self.settings = settings or LockSettings()
        self.faults = faults or Faults()
        self._clock = clock
        self._entropy = entropy
        self._bucket = TokenBucket(self.settings.handshakes, self.settings.refill_s)
        self.body = LockBody(
            store,
            machine,
            lambda: int(self._now_s() * 1000),
            faults=self.faults,
            limits=self.settings.limits,
            label=self.settings.label,
        )
        self.owner = Owner(self.body)
        self.commands = Commands(self.body, self.settings.label.events_per_answer)
        self._pushers: set[Callable[[], None]] = set()
        self.body.on_change = self.changed

    async def run(self, peripheral: Peripheral) -> None:
        """Serve gateways until cancelled; returns when it belongs to somebody else, or nobody.

        Its radio then has something else to say. PowerLostError when a fault took the power.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.body.run(), name="lock body")
                for number in range(self.settings.links):
                    group.create_task(self._serve(peripheral), name=f"lock link {number}")
        except BaseExceptionGroup as errors:
            if errors.subgroup(_OwnerChangedError) is not None:
                return
            if errors.subgroup(PowerLostError) is None:
                raise
        raise PowerLostError("the lock is dark")

    async def _serve(self, peripheral: Peripheral) -> None:
        claimed = self.body.memory.claimed
        while self.body.memory.claimed is claimed:
            link = await peripheral.accept()
            try:
                self.body.connected()
                await _Connection(self, FaultyLink(link, self.faults)).run()
            finally:
                await asyncio.shield(link.close())
        raise _OwnerChangedError

    def changed(self) -> None:
        """Every connection is to look at what is new."""
        for push in self._pushers:
            push()

    # --- what a connection needs ---------------------------------------------------------
    def hello(self) -> Hello:
        """First words of a connection."""
        memory = self.body.memory
        return Hello(
            session=memory.secret.session if memory.secret else None,
            epoch=memory.epoch,
            nonce=self._entropy.token_bytes(ID_BYTES),
            clock_ms=self.body.now_ms,
        )

    def session(self, link: Link) -> LockServerSession:
        """A fresh session for one connection."""
        memory, wire = self.body.memory, self.settings.wire
        return wire.session(
            HandshakeGate(wire.framing(link), self._bucket, self._now_s),
            hello=self.hello(),
            secret=memory.secret,
            ephemeral=self._entropy.private_key(),
            connection_id=self._entropy.token_bytes(1),
            static_key=memory.key,
            credential=lock_credential(memory),
            key_id=memory.key_id,
        )

    def _now_s(self) -> float:
        return self._clock.instant().boottime_s

    def judge(self, session: LockServerSession, shown: bytes | None) -> None:
        """Trust a gateway or refuse it. RemoteProtocolError when it does not hold its key.

        `exp` is ignored on purpose: the lock's clock is set by gateways.
        """
        memory = self.body.memory
        if memory.gateways_key is None:  # nobody's: it believes whoever can talk, and obeys none
            stranger = _read(unverified, shown)
            session.refuse() if stranger is None else session.trust(stranger.key)
            return
        gateway = _read(partial(verify, gateways_key=memory.gateways_key), shown)
        generation = gateway.doors.get(memory.door) if gateway is not None else None
        if gateway is None or generation is None or generation < memory.generation:
            session.refuse()
            return
        session.trust(gateway.key)
        if generation > memory.generation:
            self.body.keep(memory.raised(generation, self.body.now_ms))

    async def answer(self, message: Message, introduced: Introduction) -> list[Message]:
        """The answers to one message, in order."""
        standing = self.body.memory.standing
        answer = self.owner.answer(message, introduced)
        if self.body.memory.standing != standing:
            self.changed()
        return [answer] if answer is not None else await self.commands.answer(message)

    def subscribe(self, push: Callable[[], None]) -> None:
        """Call `push` after every change of state."""
        self._pushers.add(push)

    def unsubscribe(self, push: Callable[[], None]) -> None:
        """No longer."""
        self._pushers.discard(push)


def _read(
    read: Callable[[bytes], GatewayCredential], shown: bytes | None
) -> GatewayCredential | None:
    try:
        return read(shown or b"")
    except RemoteProtocolError:
        return None


class _OwnerChangedError(Exception):
    """The lock was claimed or reset."""


class _Connection:
    """One gateway connected: reads, answers in order, and pushes the state when it changes."""

    def __init__(self, lock: LockEmulator, link: FaultyLink) -> None:
        self._lock = lock
        self._talk = Conversation(link, lock.session(link))
        self._standing = lock.body.memory.standing
        self._answering = False
        self._shown: bytes | None = None
        self._requests: asyncio.Queue[Message] = asyncio.Queue(_MAX_REQUESTS)
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until the gateway goes, errs, asks too much or takes too long."""
        if self._lock.settings.wire.greets:
            self._talk.session.begin()
        push = self._changed.set
        self._lock.subscribe(push)
        tasks = {
            asyncio.create_task(self._read(), name="lock reads"),
            asyncio.create_task(self._answer(), name="lock answers"),
            asyncio.create_task(self._push(), name="lock pushes"),
        }
        # No TaskGroup: in Python 3.11 it drops a cancellation that meets an error,
        # and here errors are how every connection ends.
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._lock.unsubscribe(push)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, _PEER_ERRORS):
                raise error

    async def _read(self) -> None:
        async with asyncio.timeout(self._lock.settings.handshake_s) as patience:
            while True:
                event = await self._talk.next_event()
                self._handle(event)
                if isinstance(event, MessageReceived):
                    patience.reschedule(None)

    def _handle(self, event: SessionEvent) -> None:
        match event:
            case CredentialReceived(credential=shown):
                self._shown = shown
                before = self._lock.body.memory.standing
                self._lock.judge(self._talk.session, shown)
                self._standing = self._lock.body.memory.standing
                if self._standing != before:
                    self._lock.changed()
            case MessageReceived(message):
                self._requests.put_nowait(message)
            case SecretEstablished(secret):
                memory = self._lock.body.memory
                if memory.claimed and not self._overtaken:
                    self._lock.body.keep(replace(memory, secret=secret))
            case PeerRefused():
                raise LinkClosedError("the gateway refused this lock")
            case _:
                raise AssertionError(event)

    async def _answer(self) -> None:
        faults = self._lock.faults
        while True:
            message = await self._requests.get()
            self._stand()
            self._answering = True
            introduced = Introduction(self._shown, self._talk.session.binding)
            for answer in await self._lock.answer(message, introduced):
                await asyncio.sleep(faults.answer_after_s)
                if not faults.mute:
                    await self._send(answer)
            if isinstance(message, Anchor):  # who brings it stays until the next handshake
                self._standing = self._lock.body.memory.standing
            if self._overtaken:
                await asyncio.sleep(HANG_UP_S)
            self._stand()
            self._answering = False

    async def _push(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._talk.session.state is SessionState.ESTABLISHED and not self._answering:
                self._stand()
            if self._may_report:
                await self._send(self._lock.body.state(None))

    @property
    def _overtaken(self) -> bool:
        """Whether another connection has changed whose the lock is, or which gateways it obeys."""
        return self._lock.body.memory.standing != self._standing

    def _stand(self) -> None:
        if self._overtaken:
            raise LinkClosedError("it obeys somebody else now")

    @property
    def _may_report(self) -> bool:
        """Whether the gateway may be told something that it has not asked for."""
        lock = self._lock
        established = self._talk.session.state is SessionState.ESTABLISHED
        return established and lock.settings.wire.reports and not lock.faults.mute

    async def _send(self, message: Message) -> None:
        if not open_for_sending(self._talk.session):
            raise LinkClosedError("the session has ended")
        await self._talk.send(message)
        # The first sealed answer establishes the new secret: store it before anything else.
        event = self._talk.session.next_event()
        if event is not None:
            self._handle(event)
