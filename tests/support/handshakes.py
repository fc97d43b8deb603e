"""Keys, credentials and whole EDHOC handshakes for tests; every key is fixed."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import edhoc


def private_key(number: int) -> ec.EllipticCurvePrivateKey:
    """A P-256 key made of a small number."""
    return ec.derive_private_key(number, ec.SECP256R1())


EPHEMERAL_I = private_key(0x1001)
EPHEMERAL_R = private_key(0x1002)
STATIC_I = private_key(0x2001)
STATIC_R = private_key(0x2002)
CRED_I = edhoc.ccs("initiator", STATIC_I.public_key(), b"\x2b")
CRED_R = edhoc.ccs("responder", STATIC_R.public_key(), b"\x32")
ID_CRED_I = {4: b"\x2b"}
ID_CRED_R = {4: b"\x32"}


@dataclass(frozen=True)
class Handshake:
    """Every message and both ends of one complete run."""

    messages: tuple[bytes, bytes, bytes]
    initiator: edhoc.Completed
    responder: edhoc.Completed


def until_message_2() -> tuple[edhoc.AwaitingMessage2, bytes, edhoc.AwaitingMessage3]:
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
    received = edhoc.receive_message_1(message_1)
    message_2, responder = received.send(EPHEMERAL_R, b"\x08", STATIC_R, ID_CRED_R, CRED_R)
    return initiator, message_2, responder


def until_message_3() -> tuple[edhoc.Completed, bytes, edhoc.AwaitingMessage3]:
    initiator, message_2, responder = until_message_2()
    authenticated = initiator.receive(message_2).authenticate(STATIC_R.public_key(), CRED_R)
    message_3, completed = authenticated.send(STATIC_I, ID_CRED_I, CRED_I)
    return completed, message_3, responder


def run() -> Handshake:
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
    received = edhoc.receive_message_1(message_1)
    message_2, responder = received.send(EPHEMERAL_R, b"\x08", STATIC_R, ID_CRED_R, CRED_R)
    authenticated = initiator.receive(message_2).authenticate(STATIC_R.public_key(), CRED_R)
    message_3, completed = authenticated.send(STATIC_I, ID_CRED_I, CRED_I)
    done = responder.receive(message_3).authenticate(STATIC_I.public_key(), CRED_I)
    return Handshake((message_1, message_2, message_3), completed, done)
