"""Resumption keys: computed a second time by hand, and different for every connection."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from firmware_proto import cbor, edhoc
from firmware_proto.codes import Fault
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.lock_messages import Hello, Resume
from firmware_proto.messages import encode
from firmware_proto.resumption import ResumptionSecret, records
from tests.support.wire import GATEWAY_KEY, LOCK_CCS, LOCK_KEY, LOCK_KEY_ID, PHONE_TOKEN, key

SECRET = ResumptionSecret(b"8 bytes!", bytes(range(32)))
HELLO = encode(Hello(SECRET.session, 2, b"L" * 16, 77))
RESUME = encode(Resume(SECRET.session, b"G" * 16))


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand for at most one block (RFC 5869 §2.3)."""
    return hmac.digest(prk, info + b"\x01", "sha256")[:length]


def test_keys_are_those_of_the_specification():
    prk = hmac.digest(b"L" * 16 + b"G" * 16, SECRET.secret, "sha256")
    transcript = hashlib.sha256(HELLO + RESUME).digest()
    cipher_key = expand(prk, cbor.encode([32774, 0, transcript]), 16)
    iv = expand(prk, cbor.encode([32775, 0, transcript]), 13)
    protected = bytes.fromhex("a101181e")
    external_aad = cbor.encode(["gatewayd record", 0])
    associated = cbor.encode(["Encrypt0", protected, external_aad])
    ciphertext = AESCCM(cipher_key, 16).encrypt(iv, b"first", associated)
    expected = cbor.encode([protected, {6: b"\x00"}, ciphertext])
    assert records(SECRET, HELLO, RESUME, initiator=True).seal(b"first") == expected


def test_both_sides_agree_in_both_directions():
    gateway = records(SECRET, HELLO, RESUME, initiator=True)
    lock = records(SECRET, HELLO, RESUME, initiator=False)
    for number in range(3):
        assert lock.open(gateway.seal(b"command %d" % number)) == b"command %d" % number
        assert gateway.open(lock.seal(b"answer %d" % number)) == b"answer %d" % number


@pytest.mark.parametrize(
    ("secret", "hello", "resume"),
    [
        (ResumptionSecret(SECRET.session, bytes(32)), HELLO, RESUME),
        (SECRET, encode(Hello(SECRET.session, 2, b"M" * 16, 77)), RESUME),
        (SECRET, encode(Hello(SECRET.session, 3, b"L" * 16, 77)), RESUME),
        (SECRET, encode(Hello(SECRET.session, 2, b"L" * 16, 78)), RESUME),
        (SECRET, HELLO, encode(Resume(SECRET.session, b"H" * 16))),
    ],
)
def test_anything_else_gives_other_keys(secret, hello, resume):
    sealed = records(SECRET, HELLO, RESUME, initiator=True).seal(b"open")
    with pytest.raises(RemoteProtocolError) as caught:
        records(secret, hello, resume, initiator=False).open(sealed)
    assert caught.value.fault is Fault.AUTHENTICATION_FAILED


@pytest.mark.parametrize(("hello", "resume"), [(RESUME, RESUME), (HELLO, HELLO), (b"", RESUME)])
def test_other_bytes_are_refused(hello, resume):
    with pytest.raises(RemoteProtocolError):
        records(SECRET, hello, resume, initiator=True)


@pytest.mark.parametrize(("session", "secret"), [(bytes(7), bytes(32)), (bytes(8), bytes(31))])
def test_sizes(session, secret):
    with pytest.raises(LocalProtocolError):
        ResumptionSecret(session, secret)


def test_the_secret_does_not_show():
    assert "secret=" not in repr(SECRET)


def test_both_ends_of_a_handshake_derive_the_same_secret_and_another_handshake_another():
    def secrets(number: int) -> set[ResumptionSecret]:
        message_1, awaiting_2 = edhoc.start(key(number), b"\x01")
        message_2, awaiting_3 = edhoc.receive_message_1(message_1).send(
            key(number + 1), b"\x02", LOCK_KEY, {4: LOCK_KEY_ID}, LOCK_CCS
        )
        lock = awaiting_2.receive(message_2).authenticate(LOCK_KEY.public_key(), LOCK_CCS)
        message_3, initiator = lock.send(GATEWAY_KEY, edhoc.kcwt_id(PHONE_TOKEN), PHONE_TOKEN)
        responder = awaiting_3.receive(message_3).authenticate(
            GATEWAY_KEY.public_key(), PHONE_TOKEN
        )
        return {ResumptionSecret.from_handshake(end) for end in (initiator, responder)}

    first, second = secrets(10), secrets(20)
    assert len(first) == len(second) == 1
    assert first != second
