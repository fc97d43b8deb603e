"""Labels, proofs and what the operator signs for locks: strict, whole, of one handshake only."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from pycddl import ValidationError

from firmware_proto import cbor, cose
from firmware_proto.claiming import Label, Purpose, nobodys_credential, proof
from firmware_proto.codes import Fault
from firmware_proto.credential import unverified, verify
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.fields import Point
from firmware_proto.lock_messages import GetState
from firmware_proto.statements import Anchoring, Reset
from tests.support import wire
from tests.support.messages import schema
from tests.vectorgen import claims, example

ROOT = wire.key(2001)
COMMAND = wire.key(2002)
ANCHORING = Anchoring(3, wire.OPERATOR.public_key(), COMMAND.public_key())
RESET = Reset(bytes(range(8)), 5)


# --- the binding ------------------------------------------------------------------------------
def handshaken() -> wire.Pump:
    pump = wire.Pump(example.client_session(), example.lock_session(None), wire.choosing_handshake)

    def believing(session, event) -> None:
        if getattr(event, "key_id", None) is not None:
            session.trust(example.KEYS["lock"].public_key(), example.LOCK_CCS)
        elif getattr(event, "credential", None) is not None:
            session.trust(example.KEYS["gateway"].public_key())
        else:
            wire.choosing_handshake(session, event)

    pump.answer = believing
    pump.responder.begin()
    pump.run()
    pump.initiator.send(GetState(bytes(16)))
    pump.run()
    return pump


def test_both_ends_of_a_handshake_have_the_binding_of_the_vector():
    pump = handshaken()
    expected = example.lock_trace()["binding"]
    assert pump.initiator.binding == pump.responder.binding == expected


def test_another_handshake_has_another_binding_and_a_resumption_none():
    pump = wire.Pump(
        wire.lock_client(ephemeral=31), wire.lock_server(secret=None), wire.choosing_handshake
    )
    pump.responder.begin()
    pump.run()
    pump.initiator.send(GetState(bytes(16)))
    pump.run()
    assert pump.initiator.binding == pump.responder.binding
    assert pump.initiator.binding not in {None, example.lock_trace()["binding"]}
    resumed = wire.Pump(wire.lock_client(), wire.lock_server(), wire.resuming(wire.SECRET))
    resumed.responder.begin()
    resumed.run()
    resumed.initiator.send(GetState(bytes(16)))
    resumed.run()
    assert resumed.initiator.binding is None
    assert resumed.responder.binding is None


def test_a_proof_is_of_one_secret_one_handshake_and_one_purpose():
    made = {
        proof(secret, binding, purpose)
        for secret in (bytes(16), bytes(15) + b"\x01")
        for binding in (bytes(32), bytes(31) + b"\x01")
        for purpose in Purpose
    }
    assert len(made) == 8
    assert {len(each) for each in made} == {32}


def test_what_is_proven_is_in_the_schema():
    proven = schema("proven")
    for purpose in Purpose:
        proven.validate_cbor(cbor.encode([purpose.value, bytes(32)]))
    with pytest.raises(ValidationError):
        proven.validate_cbor(cbor.encode(["gatewayd", bytes(32)]))


def test_nobodys_credential_is_in_the_schema():
    schema("lock-credential").validate_cbor(nobodys_credential(wire.LOCK_KEY.public_key()))


# --- labels -----------------------------------------------------------------------------------
@given(st.integers(1, 2**40), st.binary(min_size=16, max_size=16))
@settings(max_examples=50, deadline=None)
def test_a_label_is_read_as_it_was_printed(number, secret):
    label = Label(wire.key(number).public_key(), secret)
    assert Label.parse(label.text()) == label
    assert Label.parse(f"  {label.text().lower().replace('-', ' ')}\n") == label


def test_every_letter_of_a_label_counts():
    text = claims.label().text()
    for at in range(len(text)):
        for wrong in (text[:at] + text[at + 1 :], text[:at] + text[at:][::-1], text + text[at]):
            if wrong.replace("-", "") == text.replace("-", ""):
                continue
            with pytest.raises(RemoteProtocolError) as caught:
                Label.parse(wrong)
            assert caught.value.fault is Fault.MALFORMED
    swapped = text[:20] + "234"[text[20] == "2"] + text[21:]
    with pytest.raises(RemoteProtocolError, match="letter is wrong"):
        Label.parse(swapped)


@given(st.text(max_size=200) | st.binary(max_size=80).map(lambda data: "GWL1" + data.hex()))
@settings(max_examples=200)
def test_anything_else_is_no_label(text):
    with pytest.raises(RemoteProtocolError):
        Label.parse(text)


def test_a_label_never_shows_its_secret_and_has_the_right_length():
    assert "secret" not in repr(claims.label())
    with pytest.raises(LocalProtocolError):
        Label(wire.LOCK_KEY.public_key(), bytes(15))


# --- statements -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("statement", "key", "rule"),
    [(ANCHORING, ROOT, "anchor"), (RESET, COMMAND, "reset")],
)
def test_a_statement_is_whole_of_its_signer_and_in_the_schema(statement, key, rule):
    data = statement.sign(key)
    assert type(statement).verify(data, key.public_key()) == statement
    assert len(data) < 512
    schema(f"{rule}-statement").validate_cbor(data)
    protected, _, payload, _ = cbor.decode(data)
    schema(f"{rule}-protected").validate_cbor(protected)
    schema(f"{rule}-payload").validate_cbor(payload)
    for wrong in (*(data[:at] for at in range(len(data))), data + b"\x00"):
        with pytest.raises(RemoteProtocolError):
            type(statement).verify(wrong, key.public_key())
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(RemoteProtocolError):
            type(statement).verify(changed, key.public_key())
    with pytest.raises(RemoteProtocolError) as caught:
        type(statement).verify(data, wire.LOCK_KEY.public_key())
    assert caught.value.fault is Fault.AUTHENTICATION_FAILED


def test_headers_that_nobody_asked_for_are_refused():
    payload = cbor.decode(RESET.sign(COMMAND))[2]
    kind = Reset.TYP
    for protected, unprotected in (({}, {}), ({16: kind, 4: b"k"}, {}), ({16: kind}, {4: b"k"})):
        data = cose.sign1(payload, COMMAND, protected=protected, unprotected=unprotected)
        with pytest.raises(RemoteProtocolError):
            Reset.verify(data, COMMAND.public_key())


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_arbitrary_bytes_are_no_statement(data):
    for cls in (Anchoring, Reset):
        with pytest.raises(RemoteProtocolError):
            cls.verify(data, ROOT.public_key())
        signed = cose.sign1(data, ROOT, protected={16: cls.TYP})
        with pytest.raises(RemoteProtocolError):
            cls.verify(signed, ROOT.public_key())


def test_a_statement_out_of_bounds_is_not_signed():
    with pytest.raises(LocalProtocolError):
        Reset(bytes(7), 5).sign(COMMAND)


# --- what a lock without an operator reads --------------------------------------------------------
def test_a_credential_can_be_read_without_being_believed():
    trusted = verify(example.CREDENTIAL, example.KEYS["gateways"].public_key())
    assert unverified(example.CREDENTIAL) == trusted
    changed = example.CREDENTIAL[:-1] + bytes([example.CREDENTIAL[-1] ^ 1])
    assert unverified(changed) == trusted
    for wrong in (b"", example.TOKEN, example.CREDENTIAL[:-1], example.CREDENTIAL + b"\x00"):
        with pytest.raises(RemoteProtocolError):
            unverified(wrong)


def test_a_point_is_on_its_curve():
    rule = Point()
    key = wire.LOCK_KEY.public_key()
    assert rule.from_wire(rule.to_wire(key)) == key
    for wrong in (bytes(64), bytes(63), "a" * 64, None):
        with pytest.raises(ValueError, match=r"."):
            rule.from_wire(wrong)
    with pytest.raises(TypeError):
        rule.to_wire(b"key")
    with pytest.raises(LocalProtocolError):
        rule.to_wire(ec.derive_private_key(5, ec.SECP384R1()).public_key())
