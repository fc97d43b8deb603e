"""What every private key of a gateway does: one in a file, one in a secure element."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from firmware_proto import cose, edhoc
from gatewayd import keyfiles
from gatewayd.device_keys import DeviceKey, KeyDeviceError, KeyUse
from gatewayd.extras import KeyDevices
from tests.support import softhsm

Make = Callable[[KeyUse], ec.EllipticCurvePrivateKey]
ECDSA = ec.ECDSA(hashes.SHA256())


def in_a_file(directory: Path) -> Make:
    def make(use: KeyUse) -> ec.EllipticCurvePrivateKey:
        path = directory / f"{use.name}.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        keyfiles.create_files({path: keyfiles.private_pem(key)})
        return keyfiles.read_gateway_key(path, "key", use, KeyDevices().open)

    return make


def in_an_element(directory: Path) -> Make:
    token = softhsm.fresh(directory)

    def make(use: KeyUse) -> ec.EllipticCurvePrivateKey:
        path = directory / f"{use.name}.pem"
        uri = KeyDevices().make(token.uri, f"key {use.name}", use)
        keyfiles.create_files({path: f"{uri.text()}\n".encode()})
        return keyfiles.read_gateway_key(path, "key", use, KeyDevices().open)

    return make


@pytest.fixture(params=[in_a_file, pytest.param(in_an_element, marks=softhsm.needed)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    made: Make = request.param(tmp_path)
    return made


def new() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_both_sides_of_an_exchange_get_the_same(make: Make) -> None:
    key = make(KeyUse.EXCHANGE)
    for _ in range(20):  # also secrets that begin with a zero, once in a while
        other = new()
        ours = key.exchange(ec.ECDH(), other.public_key())
        assert ours == other.exchange(ec.ECDH(), key.public_key())
        assert len(ours) == 32


def test_it_is_on_p256(make: Make) -> None:
    key = make(KeyUse.EXCHANGE)
    cose.check_curve(key)
    cose.check_curve(key.public_key())
    assert key.key_size == 256


def test_what_it_signs_verifies_and_nothing_else(make: Make) -> None:
    key = make(KeyUse.SIGN)
    data = os.urandom(100)
    signature = key.sign(data, ECDSA)
    key.public_key().verify(signature, data, ECDSA)
    with pytest.raises(InvalidSignature):
        key.public_key().verify(signature, data + b"!", ECDSA)
    hashed = hashes.Hash(hashes.SHA256())
    hashed.update(data)
    given = key.sign(hashed.finalize(), ec.ECDSA(Prehashed(hashes.SHA256())))
    key.public_key().verify(given, data, ECDSA)


def test_it_signs_cose(make: Make) -> None:
    key = make(KeyUse.SIGN)
    signed = cose.Sign1.parse(cose.sign1(b"payload", key, protected={}))
    signed.verify(key.public_key())


@pytest.mark.parametrize("responds", [True, False])
def test_it_is_a_static_key_of_edhoc(make: Make, responds: bool) -> None:
    ours, theirs = make(KeyUse.EXCHANGE), new()
    responder, initiator = (ours, theirs) if responds else (theirs, ours)
    message_1, waiting = edhoc.start(new(), b"\x01")
    message_2, heard = edhoc.receive_message_1(message_1).send(
        new(), b"\x02", responder, {4: b"r"}, b"\xa0"
    )
    known = waiting.receive(message_2).authenticate(responder.public_key(), b"\xa0")
    message_3, one = known.send(initiator, {4: b"i"}, b"\xa1")
    other = heard.receive(message_3).authenticate(initiator.public_key(), b"\xa1")
    assert one.export(40000, b"", 16) == other.export(40000, b"", 16)


def test_it_is_the_same_when_it_is_read_again(make: Make, tmp_path: Path) -> None:
    key = make(KeyUse.SIGN)
    again = keyfiles.read_gateway_key(tmp_path / "SIGN.pem", "key", KeyUse.SIGN, KeyDevices().open)
    assert again.public_key() == key.public_key()


@softhsm.needed
def test_one_in_an_element_is_not_given_away(tmp_path: Path) -> None:
    key = in_an_element(tmp_path)(KeyUse.SIGN)
    assert isinstance(key, DeviceKey)
    with pytest.raises(KeyDeviceError, match="cannot be read"):
        keyfiles.private_pem(key)
    with pytest.raises(KeyDeviceError, match="cannot be read"):
        key.private_numbers()
