"""Two real ends of a connection and a byte pump between them, with fixed keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose, edhoc
from firmware_proto.framing import Framing, GattFraming, WholeFrames
from firmware_proto.lock_messages import Hello
from firmware_proto.lock_session import (
    LineLockServerSession,
    LockClientSession,
    LockServerSession,
)
from firmware_proto.phone_session import GatewaySession, PhoneSession
from firmware_proto.resumption import ResumptionSecret
from firmware_proto.session import (
    CredentialReceived,
    HelloReceived,
    Session,
    SessionEvent,
)

CHANNEL = b"\xc1\x7a"
EPOCH = 3
LOCK_KEY_ID = b"lock-1"


def key(number: int) -> ec.EllipticCurvePrivateKey:
    """A P-256 key that anybody can compute. For tests only."""
    return ec.derive_private_key(number, ec.SECP256R1())


OPERATOR = key(1001)
PHONE_KEY = key(1002)
GATEWAY_KEY = key(1003)
LOCK_KEY = key(1004)


def token(subject: str, holder: ec.EllipticCurvePrivateKey, *, padding: int = 0) -> bytes:
    """A CWT that binds a subject to a key; sessions look at no other claim."""
    claims = {2: subject, 8: {1: cose.public_key_to_cose(holder.public_key())}}
    if padding:
        claims[7] = bytes(padding)
    return cose.sign1(cbor.encode(claims), OPERATOR, protected={})


PHONE_TOKEN = token("holder", PHONE_KEY)
GATEWAY_TOKEN = token("gateway", GATEWAY_KEY)
LOCK_CCS = edhoc.ccs("lock", LOCK_KEY.public_key(), LOCK_KEY_ID)
SECRET = ResumptionSecret(b"session1", bytes(range(32)))


def subject_key(credential: bytes) -> ec.EllipticCurvePublicKey:
    """The key a token is bound to, after checking the operator's signature."""
    signed = cose.Sign1.parse(credential)
    signed.verify(OPERATOR.public_key())
    return cose.public_key_from_cose(cbor.decode(signed.payload)[8][1])


def phone(mtu: int = 185, *, ephemeral: int = 1, channel: bytes = CHANNEL) -> PhoneSession:
    return PhoneSession(
        GattFraming(mtu, channel),
        ephemeral=key(ephemeral),
        connection_id=b"\x0a",
        static_key=PHONE_KEY,
        credential=PHONE_TOKEN,
    )


def gateway(mtu: int = 185, *, ephemeral: int = 2) -> GatewaySession:
    return GatewaySession(
        GattFraming(mtu, None),
        ephemeral=key(ephemeral),
        connection_id=b"\x0b",
        static_key=GATEWAY_KEY,
        credential=GATEWAY_TOKEN,
    )


def lock_client(mtu: int = 185, *, ephemeral: int = 3, nonce: int = 1) -> LockClientSession:
    return _client(GattFraming(mtu, CHANNEL), ephemeral, nonce)


def line_client(*, ephemeral: int = 3, nonce: int = 1) -> LockClientSession:
    return _client(WholeFrames(), ephemeral, nonce)


def _client(framing: Framing, ephemeral: int, nonce: int) -> LockClientSession:
    return LockClientSession(
        framing,
        ephemeral=key(ephemeral),
        connection_id=b"\x0c",
        static_key=GATEWAY_KEY,
        credential=GATEWAY_TOKEN,
        resume_nonce=bytes([nonce]) * 16,
    )


def lock_server(
    mtu: int = 185,
    *,
    ephemeral: int = 4,
    nonce: int = 9,
    secret: ResumptionSecret | None = SECRET,
) -> LockServerSession:
    return _server(LockServerSession, GattFraming(mtu, None), ephemeral, nonce, secret)


def line_server(
    *, ephemeral: int = 4, nonce: int = 9, secret: ResumptionSecret | None = SECRET
) -> LineLockServerSession:
    return _server(LineLockServerSession, WholeFrames(), ephemeral, nonce, secret)


_Server = TypeVar("_Server", bound=LockServerSession)


def _server(
    cls: type[_Server],
    framing: Framing,
    ephemeral: int,
    nonce: int,
    secret: ResumptionSecret | None,
) -> _Server:
    return cls(
        framing,
        hello=Hello(None if secret is None else secret.session, EPOCH, bytes([nonce]) * 16, 5000),
        secret=secret,
        ephemeral=key(ephemeral),
        connection_id=b"\x0d",
        static_key=LOCK_KEY,
        credential=LOCK_CCS,
        key_id=LOCK_KEY_ID,
    )


def trusting(session: Session, event: SessionEvent) -> None:
    """What a caller does with the events that ask it something: believes everybody."""
    if isinstance(event, CredentialReceived):
        if event.credential is None:
            session.trust(LOCK_KEY.public_key(), LOCK_CCS)
        else:
            session.trust(subject_key(event.credential))


def resuming(secret: ResumptionSecret) -> Callable[[Session, SessionEvent], None]:
    """A gateway that resumes where the Hello names this secret's session."""

    def answer(session: Session, event: SessionEvent) -> None:
        if isinstance(event, HelloReceived) and isinstance(session, LockClientSession):
            if event.hello.session == secret.session:
                session.resume(secret)
            else:
                session.handshake()
        else:
            trusting(session, event)

    return answer


def choosing_handshake(session: Session, event: SessionEvent) -> None:
    if isinstance(event, HelloReceived) and isinstance(session, LockClientSession):
        session.handshake()
    else:
        trusting(session, event)


@dataclass
class Pump:
    """Carries fragments until both ends are quiet; keeps all of them and every event."""

    initiator: Session
    responder: Session
    answer: Callable[[Session, SessionEvent], None] = trusting
    events: dict[int, list[SessionEvent]] = field(default_factory=lambda: {0: [], 1: []})
    sent: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def heard_by_initiator(self) -> list[SessionEvent]:
        return self.events[0]

    @property
    def heard_by_responder(self) -> list[SessionEvent]:
        return self.events[1]

    def run(self) -> None:
        """RemoteProtocolError of either end comes out."""
        ends = (self.initiator, self.responder)
        moved = True
        while moved:
            moved = False
            for side, session in enumerate(ends):
                for fragment in session.data_to_send():
                    moved = True
                    self.sent.append((side, fragment))
                    ends[1 - side].receive_data(fragment)
                    self.take(1 - side)
                moved = self.take(side) or moved

    def take(self, side: int) -> bool:
        """Let one end tell its events; True when there was one."""
        session = (self.initiator, self.responder)[side]
        told = False
        while (event := session.next_event()) is not None:
            told = True
            self.events[side].append(event)
            self.answer(session, event)
        return told

    def bytes_from(self, side: int) -> list[bytes]:
        return [fragment for sender, fragment in self.sent if sender == side]
