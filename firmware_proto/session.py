"""What the four ends of a connection have in common: frames in, events out, frames queued.

Sans-IO in the manner of h11: the caller feeds fragments to `receive_data`,
takes events from `next_event` until it returns None, and writes what
`data_to_send` returns. After `send` and `trust` it asks `next_event` again:
frames kept meanwhile are looked at only then.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import edhoc, messages
from firmware_proto.codes import MAX_MESSAGE_BYTES, Fault, FrameKind
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.framing import Framing
from firmware_proto.lock_messages import Done, Hello, State
from firmware_proto.messages import FaultMessage, GetResult, Message
from firmware_proto.phone_messages import Chunk, Result
from firmware_proto.records import Records
from firmware_proto.resumption import ResumptionSecret
from firmware_proto.session_tables import (
    FRAMES,
    OUR_TURN,
    Deadlines,
    Input,
    SessionState,
    Table,
)

ERROR_FRAME: Final = bytes([FrameKind.ERROR]) + edhoc.UNSPECIFIED_ERROR
"""The one answer to everything an unauthenticated peer does wrong."""
MAX_CREDENTIAL_BYTES: Final = MAX_MESSAGE_BYTES - 256
"""What is left of message_2 and message_3 for a credential by value."""


# --- events -----------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class CredentialReceived:
    """The peer names its credential; the caller judges it and calls `trust` or `refuse`.

    Exactly one is not None: `credential` is an untagged CWT, verbatim;
    `key_id` refers to a key that the caller must already hold. Nothing is
    proved yet: whoever sent it may have copied it.
    """

    credential: bytes | None
    key_id: bytes | None


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A sealed message of the authenticated peer."""

    message: Message


@dataclass(frozen=True, slots=True)
class PeerRefused:
    """The peer sent the constant error. Not authenticated; the session is closed."""


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """A lock introduced itself; the caller calls `resume` or `handshake`."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class SecretEstablished:
    """Sealed records have gone both ways: this secret replaces the older one of this peer."""

    secret: ResumptionSecret


SessionEvent = (
    CredentialReceived | MessageReceived | PeerRefused | HelloReceived | SecretEstablished
)


class Direction(NamedTuple):
    """What one side of a relation may say; `asks_by_command` splits `GetResult` in two."""

    types: frozenset[type[Message]]
    asks_by_command: bool

    def allows(self, message: Message) -> bool:
        """True when a message of this direction may look like this."""
        if isinstance(message, GetResult) and (message.command is not None) != self.asks_by_command:
            return False
        return type(message) in self.types


class Session(ABC):
    """One end of one connection; done with when it is closed or a RemoteProtocolError came out."""

    TABLE: ClassVar[Table]
    DEADLINES: ClassVar[Deadlines]
    SAYS: ClassVar[Direction]
    HEARS: ClassVar[Direction]
    INITIATOR: ClassVar[bool]

    # Set by every arrow into KEYED.
    _records: Records

    def __init__(self, framing: Framing, state: SessionState) -> None:
        self._framing = framing
        self._state = state
        self._inbox: deque[bytes] = deque()
        self._outbox: list[bytes] = []
        self._broken: RemoteProtocolError | None = None  # to be raised after what came before it
        self._failure: RemoteProtocolError | None = None
        self._authenticated = False
        self._asked = 0
        self._secret: ResumptionSecret | None = None

    # --- what the caller sees -------------------------------------------------------
    @property
    def state(self) -> SessionState:
        """Where this end stands."""
        return self._state

    @property
    def authenticated(self) -> bool:
        """True once the peer has proved to hold the key that the caller trusted."""
        return self._authenticated

    @property
    def deadline_s(self) -> float | None:
        """Seconds the peer may take, counted from the last change of state or message.

        Not from the last fragment: a slow sender gains nothing. None: no limit.
        """
        allowance = self.DEADLINES[self._state]
        return allowance.asked_s if self._asked else allowance.idle_s

    @property
    def held(self) -> int:
        """Bytes kept of what the peer sent: incomplete and not yet looked at."""
        return self._framing.held + sum(map(len, self._inbox))

    def receive_data(self, fragment: bytes) -> None:
        """Take one fragment. Never raises; what is wrong comes out of `next_event`."""
        if self._state is SessionState.CLOSED or self._broken is not None:
            return
        try:
            self._inbox.extend(self._framing.receive(fragment))
        except RemoteProtocolError as error:
            self._broken = error
            return
        if self.held > MAX_MESSAGE_BYTES:
            self._inbox.clear()
            self._broken = RemoteProtocolError(Fault.TOO_LARGE, "more data than one link may hold")

    def next_event(self) -> SessionEvent | None:
        """What happened next; None when more data, or the caller's decision, is needed.

        RemoteProtocolError is final, and raised again by every later call.
        Write what `data_to_send` returns all the same: it holds the constant
        error, where one is due.
        """
        if self._failure is not None:
            raise self._failure
        try:
            return self._advance()
        except RemoteProtocolError as error:
            self._fail(error)
            raise

    def trust(self, public_key: ec.EllipticCurvePublicKey, credential: bytes | None = None) -> None:
        """The credential is acceptable; its key is `public_key`.

        `credential` is needed, verbatim, where the peer only named a key id.
        RemoteProtocolError when the peer does not hold the private key.
        """
        target = self._allowed(Input.TRUST)
        try:
            self._prove(public_key, credential)
        except RemoteProtocolError as error:
            self._fail(error)
            raise
        self._authenticated = True
        self._state = target

    def send(self, message: Message) -> None:
        """Queue one sealed message; every `Result` is padded to one length.

        LocalProtocolError when the state, the direction or a field forbids it.
        """
        target = self._allowed(Input.SEND)
        if not self.SAYS.allows(message):
            raise LocalProtocolError(f"{type(message).__name__} is not for this side to say")
        self._queue_sealed(message)
        self._count(message, asking=self.INITIATOR)
        self._state = target

    def refuse(self) -> None:
        """Close. A peer not yet authenticated gets the constant error, nobody else anything."""
        if self._state is not SessionState.CLOSED:
            self._close(Input.REFUSE)

    def data_to_send(self) -> list[bytes]:
        """Fragments to write, in order; each is returned once."""
        outbox, self._outbox = self._outbox, []
        return [fragment for frame in outbox for fragment in self._framing.cut(frame)]

    # --- what the four ends fill in ---------------------------------------------------
    @abstractmethod
    def _handshake(self, kind: Input, body: bytes) -> SessionEvent | None:
        """Take a frame that the table allows and that is neither a record nor an error."""

    @abstractmethod
    def _prove(self, public_key: ec.EllipticCurvePublicKey, credential: bytes | None) -> None:
        """Check that the peer holds the key; RemoteProtocolError when it does not."""

    # --- inside -----------------------------------------------------------------------
    def _advance(self) -> SessionEvent | None:
        if self._secret is not None and self._state is SessionState.ESTABLISHED:
            secret, self._secret = self._secret, None
            return SecretEstablished(secret)
        while self._inbox and self._state not in OUR_TURN:
            event = self._step(self._inbox.popleft())
            if event is not None:
                return event
        if self._broken is not None and self._state is not SessionState.CLOSED:
            raise self._broken
        return None

    def _step(self, frame: bytes) -> SessionEvent | None:
        kind = FRAMES.get(frame[0])
        if kind is None:
            raise RemoteProtocolError(Fault.UNSUPPORTED, "frame of an unknown kind")
        target = self.TABLE[self._state].get(kind)
        if target is None:
            raise RemoteProtocolError(
                Fault.UNEXPECTED, f"{kind.name.lower()} while {self._state.name.lower()}"
            )
        if kind is Input.ERROR:
            # Its body is not looked at, and an error is never answered (RFC 9528 §6).
            self._inbox.clear()
            self._outbox.clear()
            self._state = target
            return PeerRefused()
        event = (
            self._opened(frame[1:]) if kind is Input.RECORD else self._handshake(kind, frame[1:])
        )
        self._state = target
        return event

    def _opened(self, body: bytes) -> MessageReceived:
        plaintext = self._records.open(body)
        # After a resumption this is the proof that the peer knows the secret.
        self._authenticated = True
        try:
            message = self._understood(plaintext)
        except RemoteProtocolError as error:
            self._queue_sealed(FaultMessage(None, error.fault))
            raise
        self._count(message, asking=not self.INITIATOR)
        return MessageReceived(message)

    def _understood(self, plaintext: bytes) -> Message:
        message = messages.decode(plaintext)
        if not self.HEARS.allows(message):
            raise RemoteProtocolError(Fault.UNEXPECTED, "message of the other direction")
        return message

    def _count(self, message: Message, *, asking: bool) -> None:
        """Keep count of requests without an answer; only deadlines depend on it."""
        if asking:
            self._asked += not isinstance(message, FaultMessage)
        elif isinstance(message, Result | Chunk | Done | FaultMessage) or (
            isinstance(message, State) and message.request is not None
        ):
            self._asked = max(0, self._asked - 1)

    def _allowed(self, decision: Input) -> SessionState:
        target = self.TABLE[self._state].get(decision)
        if target is None:
            raise LocalProtocolError(
                f"{decision.name.lower()} is not possible while {self._state.name.lower()}"
            )
        return target

    def _queue(self, kind: FrameKind, body: bytes) -> None:
        self._outbox.append(bytes([kind]) + body)

    def _queue_sealed(self, message: Message) -> None:
        whole = messages.padded(message) if isinstance(message, Result) else message
        self._queue(FrameKind.RECORD, self._records.seal(messages.encode(whole)))

    def _fail(self, error: RemoteProtocolError) -> None:
        self._failure = error
        self._close(Input.FAIL)

    def _close(self, why: Input) -> None:
        self._state = self.TABLE[self._state][why]
        self._inbox.clear()
        if not self._authenticated:
            # What was queued before would tell how far the stranger came.
            self._outbox = [ERROR_FRAME]
