"""One phone, one gateway, one lock with keys that anybody can compute, and what they say.

The sessions of `firmware_proto` produce the frames; `derivation` produces the
values between them, and both must agree.
"""

from __future__ import annotations

from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import credential, edhoc, messages
from firmware_proto.codes import Action, FrameKind, KeyClass, Outcome, Presence, Reason
from firmware_proto.cose import key_id
from firmware_proto.framing import GattFraming, WholeFrames
from firmware_proto.lock_messages import Done, Hello, Resume, Unlatch
from firmware_proto.lock_session import (
    LineLockServerSession,
    LockClientSession,
    LockServerSession,
)
from firmware_proto.phone_messages import Open, Result
from firmware_proto.phone_session import GatewaySession, PhoneSession
from firmware_proto.resumption import ResumptionSecret
from gatewayd.core import claims, keytoken
from tests.support.wire import Pump
from tests.vectorgen import derivation
from tests.vectorgen.derivation import Side, Trace

DOOR = "street"
CHANNEL = bytes.fromhex("c17a")
REQUEST = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
COMMAND = bytes.fromhex("101112131415161718191a1b1c1d1e1f")
NONCE_LOCK = bytes.fromhex("a0a1a2a3a4a5a6a7a8a9aaabacadaeaf")
NONCE_GATEWAY = bytes.fromhex("b0b1b2b3b4b5b6b7b8b9babbbcbdbebf")
EPOCH = 1
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def key(name: str) -> ec.EllipticCurvePrivateKey:
    """The private key is SHA-256 of "gatewayd test key: " and the name, modulo the order."""
    number = int.from_bytes(sha256(f"gatewayd test key: {name}".encode()).digest(), "big")
    return ec.derive_private_key(number % _ORDER, ec.SECP256R1())


NAMES = (
    *("gateways", "issuer", "gateway", "gateway receipts", "phone", "lock"),
    *("phone ephemeral", "gateway ephemeral", "gateway dials", "lock ephemeral"),
)
KEYS = {name: key(name) for name in NAMES}

CREDENTIAL = credential.issue(
    credential.GatewayCredential(
        gateway="gateway-1",
        doors={DOOR: 1},
        group="house-1",
        issued_at=1_750_000_000,
        expires=1_900_000_000,
        key=KEYS["gateway"].public_key(),
        log_key=sha256(b"gatewayd test log key").digest(),
        receipt_key=KEYS["gateway receipts"].public_key(),
    ),
    KEYS["gateways"],
    b"gateways-1",
)
TOKEN = keytoken.issue(
    claims.Claims(
        issuer="issuer-1",
        subject="holder-1",
        audience="house-1",
        cti=bytes.fromhex("c0c1c2c3c4c5c6c7"),
        not_before=1_750_000_000,
        expires=1_750_100_000,
        issued_at=1_750_000_000,
        key=KEYS["phone"].public_key(),
        scope=((DOOR, Action.OPEN),),
        key_class=KeyClass.RESIDENT,
        presence=Presence.TAP,
    ),
    KEYS["issuer"],
    b"issuer-1",
)
LOCK_KEY_ID = key_id(KEYS["lock"].public_key())
LOCK_CCS = edhoc.ccs(DOOR, KEYS["lock"].public_key(), LOCK_KEY_ID)

OPEN = Open(REQUEST, DOOR, Action.OPEN, Presence.TAP)
OPENED = messages.padded(Result(REQUEST, Outcome.CONFIRMED, Reason.OK))
UNLATCH = Unlatch(COMMAND, 9_000, 3_000)
DONE = Done(COMMAND, Outcome.CONFIRMED, Reason.OK, 5_400)

PHONE_ID, GATEWAY_ID, DIALLER_ID, LOCK_ID = b"\x0a", b"\x2b", b"\x05", b"\x81"


def by_value(cwt: bytes) -> bytes:
    """ID_CRED {13: CWT}."""
    return b"\xa1\x0d" + cwt


def frame(kind: FrameKind, body: bytes) -> bytes:
    return bytes([kind]) + body


# --- the phone's relation ------------------------------------------------------------------
def phone_side() -> Side:
    known = by_value(TOKEN)
    return Side(KEYS["phone ephemeral"], KEYS["phone"], PHONE_ID, known, known, TOKEN)


def gateway_side() -> Side:
    known = by_value(CREDENTIAL)
    return Side(KEYS["gateway ephemeral"], KEYS["gateway"], GATEWAY_ID, known, known, CREDENTIAL)


def phone_session(mtu: int = 185) -> PhoneSession:
    return PhoneSession(
        GattFraming(mtu, CHANNEL),
        ephemeral=KEYS["phone ephemeral"],
        connection_id=PHONE_ID,
        static_key=KEYS["phone"],
        credential=TOKEN,
    )


def gateway_session(mtu: int = 185) -> GatewaySession:
    return GatewaySession(
        GattFraming(mtu, None),
        ephemeral=KEYS["gateway ephemeral"],
        connection_id=GATEWAY_ID,
        static_key=KEYS["gateway"],
        credential=CREDENTIAL,
    )


def phone_trace() -> Trace:
    """Every value of one opening, from the ephemeral keys to the sealed result."""
    trace = derivation.handshake(phone_side(), gateway_side())
    _add_records(trace, messages.encode(OPEN), messages.encode(OPENED))
    return trace


def phone_frames(mtu: int = 185) -> tuple[list[bytes], list[bytes]]:
    """The fragments that the phone and the gateway really write."""

    def trusting(session, event) -> None:
        if hasattr(event, "credential"):
            peer = "gateway" if isinstance(session, PhoneSession) else "phone"
            session.trust(KEYS[peer].public_key())

    pump = Pump(phone_session(mtu), gateway_session(mtu), trusting)
    pump.initiator.begin()
    pump.run()
    pump.initiator.send(OPEN)
    pump.run()
    pump.responder.send(OPENED)
    pump.run()
    return pump.bytes_from(0), pump.bytes_from(1)


# --- the lock's relation --------------------------------------------------------------------
def dialling_side() -> Side:
    known = by_value(CREDENTIAL)
    return Side(KEYS["gateway dials"], KEYS["gateway"], DIALLER_ID, known, known, CREDENTIAL)


def lock_side() -> Side:
    known = b"\xa1\x04" + derivation.bstr(LOCK_KEY_ID)
    plain = derivation.bstr(LOCK_KEY_ID)
    return Side(KEYS["lock ephemeral"], KEYS["lock"], LOCK_ID, known, plain, LOCK_CCS)


def client_session(mtu: int = 185) -> LockClientSession:
    return LockClientSession(
        GattFraming(mtu, CHANNEL),
        ephemeral=KEYS["gateway dials"],
        connection_id=DIALLER_ID,
        static_key=KEYS["gateway"],
        credential=CREDENTIAL,
        resume_nonce=NONCE_GATEWAY,
    )


def lock_session(secret: ResumptionSecret | None, mtu: int = 185) -> LockServerSession:
    return LockServerSession(
        GattFraming(mtu, None),
        hello=hello(secret),
        secret=secret,
        ephemeral=KEYS["lock ephemeral"],
        connection_id=LOCK_ID,
        static_key=KEYS["lock"],
        credential=LOCK_CCS,
        key_id=LOCK_KEY_ID,
    )


def line_session(secret: ResumptionSecret | None) -> LineLockServerSession:
    return LineLockServerSession(
        WholeFrames(),
        hello=hello(secret),
        secret=secret,
        ephemeral=KEYS["lock ephemeral"],
        connection_id=LOCK_ID,
        static_key=KEYS["lock"],
        credential=LOCK_CCS,
        key_id=LOCK_KEY_ID,
    )


def hello(secret: ResumptionSecret | None) -> Hello:
    return Hello(None if secret is None else secret.session, EPOCH, NONCE_LOCK, 5_000)


def lock_trace() -> Trace:
    """The handshake of a gateway with a lock that remembers nothing."""
    trace = derivation.handshake(dialling_side(), lock_side())
    _add_records(trace, messages.encode(UNLATCH), messages.encode(DONE))
    return trace


def secret() -> ResumptionSecret:
    trace = lock_trace()
    return ResumptionSecret(trace["session id"], trace["resumption secret"])


def resumption_trace() -> Trace:
    """The next connection of the same two."""
    known = secret()
    trace = Trace({"resumption secret": known.secret})
    greeting = trace.put("Hello", messages.encode(hello(known)))
    resume = trace.put("Resume", messages.encode(Resume(known.session, NONCE_GATEWAY)))
    more = derivation.resumption(known.secret, NONCE_LOCK, NONCE_GATEWAY, greeting, resume)
    trace.values.update(more.values)
    _add_records(trace, messages.encode(UNLATCH), messages.encode(DONE))
    return trace


def lock_frames(known: ResumptionSecret | None) -> tuple[list[bytes], list[bytes]]:
    """The fragments that the gateway and the lock really write."""

    def answer(session, event) -> None:
        if hasattr(event, "hello"):
            session.resume(known) if known is not None else session.handshake()
        elif hasattr(event, "credential") and event.credential is None:
            session.trust(KEYS["lock"].public_key(), LOCK_CCS)
        elif hasattr(event, "credential"):
            session.trust(KEYS["gateway"].public_key())

    pump = Pump(client_session(), lock_session(known), answer)
    pump.responder.begin()
    pump.run()
    pump.initiator.send(UNLATCH)
    pump.run()
    pump.responder.send(DONE)
    pump.run()
    return pump.bytes_from(0), pump.bytes_from(1)


def _add_records(trace: Trace, request: bytes, answer: bytes) -> None:
    trace.put("first request", request)
    trace.put(
        "first record of the initiator",
        derivation.seal_record(
            trace["key initiator to responder"], trace["IV initiator to responder"], 0, 0, request
        ),
    )
    trace.put("first answer", answer)
    trace.put(
        "first record of the responder",
        derivation.seal_record(
            trace["key responder to initiator"], trace["IV responder to initiator"], 1, 0, answer
        ),
    )
