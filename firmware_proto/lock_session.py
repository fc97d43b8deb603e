"""Both ends of a gateway's connection to a lock: resumed as a rule, by a handshake when needed."""

from __future__ import annotations

from typing import ClassVar, Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import edhoc, resumption
from firmware_proto.codes import Fault, FrameKind
from firmware_proto.edhoc import Completed
from firmware_proto.edhoc_wire import KID
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.framing import Framing
from firmware_proto.lock_messages import (
    AckEvents,
    Anchor,
    Bolt,
    Claim,
    Configure,
    Done,
    Event,
    FactoryReset,
    GetEvents,
    GetState,
    Hello,
    Identify,
    Resume,
    SetTime,
    State,
    Unbolt,
    Unlatch,
)
from firmware_proto.messages import FaultMessage, GetResult, decode_plain, encode
from firmware_proto.resumption import ResumptionSecret
from firmware_proto.session import Direction, HelloReceived, SessionEvent
from firmware_proto.session_roles import InitiatorSession, ResponderSession
from firmware_proto.session_tables import (
    LINE_LOCK_SERVER,
    LOCK_CLIENT,
    LOCK_CLIENT_DEADLINES,
    LOCK_SERVER,
    LOCK_SERVER_DEADLINES,
    Input,
    SessionState,
)

COMMANDS: Final = Direction(
    frozenset(
        {
            *(Unlatch, Unbolt, Bolt),
            *(GetState, GetResult, GetEvents, AckEvents, SetTime, FaultMessage),
            *(Configure, Identify, Claim, Anchor, FactoryReset),
        }
    ),
    asks_by_command=True,
)
LOCK_SAYS: Final = Direction(frozenset({State, Done, Event, FaultMessage}), asks_by_command=True)


class LockClientSession(InitiatorSession):
    """The gateway's end. Waits for the lock's Hello; then the caller chooses.

    `resume_nonce` (16 bytes) must be fresh. The caller resumes when it holds
    the secret of the session and epoch that the Hello names; else it does a
    handshake. A lock that refuses a resumption sends the constant error:
    forget the secret and dial again.
    """

    TABLE: ClassVar = LOCK_CLIENT
    DEADLINES: ClassVar = LOCK_CLIENT_DEADLINES
    SAYS: ClassVar = COMMANDS
    HEARS: ClassVar = LOCK_SAYS
    PEER_BY_KEY_ID: ClassVar = True

    _hello: Hello
    _hello_bytes: bytes

    def __init__(  # noqa: PLR0913 - what a handshake needs, all by name
        self,
        framing: Framing,
        *,
        ephemeral: ec.EllipticCurvePrivateKey,
        connection_id: bytes,
        static_key: ec.EllipticCurvePrivateKey,
        credential: bytes,
        resume_nonce: bytes,
    ) -> None:
        super().__init__(
            framing,
            SessionState.AWAITING_HELLO,
            ephemeral=ephemeral,
            connection_id=connection_id,
            static_key=static_key,
            id_cred=edhoc.kcwt_id(credential),
            credential=credential,
        )
        self._resume_nonce = resume_nonce

    def resume(self, secret: ResumptionSecret) -> None:
        """Queue Resume; records may follow in the same flight."""
        target = self._allowed(Input.CHOOSE_RESUME)
        if secret.session != self._hello.session:
            raise LocalProtocolError("this secret is not of the session that the Hello names")
        body = encode(Resume(secret.session, self._resume_nonce))
        self._records = resumption.records(secret, self._hello_bytes, body, initiator=True)
        self._queue(FrameKind.RESUME, body)
        self._state = target

    def handshake(self) -> None:
        """Queue message_1."""
        target = self._allowed(Input.CHOOSE_HANDSHAKE)
        self._start()
        self._state = target

    def _handshake(self, kind: Input, body: bytes) -> SessionEvent:
        if kind is Input.MESSAGE_2:
            return self._receive_message_2(body)
        self._hello, self._hello_bytes = decode_plain(Hello, body), body
        return HelloReceived(self._hello)

    def _completed(self, completed: Completed) -> None:
        super()._completed(completed)
        self._secret = ResumptionSecret.from_handshake(completed)


class LockServerSession(ResponderSession):
    """The lock's end. `hello` has a fresh nonce and names the session of `secret`, or none.

    `credential` is the lock's CCS and `key_id` the key id within it.
    """

    TABLE: ClassVar = LOCK_SERVER
    DEADLINES: ClassVar = LOCK_SERVER_DEADLINES
    SAYS: ClassVar = LOCK_SAYS
    HEARS: ClassVar = COMMANDS

    def __init__(  # noqa: PLR0913 - what a handshake needs, all by name
        self,
        framing: Framing,
        *,
        hello: Hello,
        secret: ResumptionSecret | None,
        ephemeral: ec.EllipticCurvePrivateKey,
        connection_id: bytes,
        static_key: ec.EllipticCurvePrivateKey,
        credential: bytes,
        key_id: bytes,
    ) -> None:
        super().__init__(
            framing,
            SessionState.START,
            ephemeral=ephemeral,
            connection_id=connection_id,
            static_key=static_key,
            id_cred={KID: key_id},
            credential=credential,
        )
        if hello.session != (None if secret is None else secret.session):
            raise LocalProtocolError("the Hello must name the session of the secret, or none")
        self._hello_bytes = encode(hello)
        self._remembered = secret

    def begin(self) -> None:
        """Queue Hello."""
        target = self._allowed(Input.BEGIN)
        self._queue(FrameKind.HELLO, self._hello_bytes)
        self._state = target

    def _handshake(self, kind: Input, body: bytes) -> SessionEvent | None:
        if kind is Input.MESSAGE_3:
            return self._receive_message_3(body)
        if kind is Input.MESSAGE_1:
            self._receive_message_1(body)
        else:
            self._receive_resume(body)
        return None

    def _receive_resume(self, body: bytes) -> None:
        resume = decode_plain(Resume, body)
        if self._remembered is None or resume.session != self._remembered.session:
            raise RemoteProtocolError(Fault.AUTHENTICATION_FAILED, "resume of another session")
        self._records = resumption.records(
            self._remembered, self._hello_bytes, body, initiator=False
        )

    def _completed(self, completed: Completed) -> None:
        super()._completed(completed)
        self._secret = ResumptionSecret.from_handshake(completed)


class LineLockServerSession(LockServerSession):
    """The lock's end on a serial line: says Hello when the gateway attaches, and not by itself.

    `begin` is not for it. An Attach that comes again gets the same Hello;
    one that comes after Resume or message_1 ends this session, and the caller
    gives it to a new one.
    """

    TABLE: ClassVar = LINE_LOCK_SERVER

    def _handshake(self, kind: Input, body: bytes) -> SessionEvent | None:
        if kind is not Input.ATTACH:
            return super()._handshake(kind, body)
        if body:
            raise RemoteProtocolError(Fault.MALFORMED, "Attach has no body")
        self._queue(FrameKind.HELLO, self._hello_bytes)
        return None
