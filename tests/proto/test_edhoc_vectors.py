"""RFC 9529: §3 byte for byte in both roles, §4 refused for the named reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, edhoc, edhoc_keys, edhoc_wire
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError

VECTORS = Path(__file__).parent / "vectors"
TRACE = {
    name: bytes.fromhex(value)
    for name, value in json.loads((VECTORS / "rfc9529_3.json").read_text()).items()
    if name != "source"
}
INVALID = json.loads((VECTORS / "rfc9529_4.json").read_text())["cases"]


def private_key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(TRACE[name], "big"), ec.SECP256R1())


X, Y, SK_I, SK_R = (private_key(name) for name in ("x", "y", "sk_i", "sk_r"))


def begin() -> tuple[bytes, edhoc.AwaitingMessage2]:
    return edhoc.start(X, TRACE["c_i"], suites=(6, 2))


def answer(message_1: bytes) -> tuple[bytes, edhoc.AwaitingMessage3]:
    return edhoc.receive_message_1(message_1).send(
        Y, TRACE["c_r"], SK_R, cbor.decode(TRACE["id_cred_r"]), TRACE["cred_r"]
    )


def test_credentials_are_those_of_the_trace():
    assert edhoc.ccs("example.edu", SK_R.public_key(), b"\x32") == TRACE["cred_r"]
    assert edhoc.ccs("42-50-31-FF-EF-37-32-39", SK_I.public_key(), b"\x2b") == TRACE["cred_i"]


def test_a_suite_that_we_lack_is_refused_before_the_negotiated_one():
    with pytest.raises(RemoteProtocolError, match="the selected suite") as caught:
        edhoc.receive_message_1(TRACE["first_message_1"])
    assert caught.value.fault is Fault.UNSUPPORTED


def test_the_initiator_sends_the_trace():
    message_1, awaiting = begin()
    assert message_1 == TRACE["message_1"]

    received = awaiting.receive(TRACE["message_2"])
    assert received.id_cred == {4: b"\x32"}
    assert received.ead == ()
    assert received._state.transcript == TRACE["th_2"]
    assert received._state.prk == TRACE["prk_2e"]
    assert received._plaintext == TRACE["plaintext_2"]
    assert received._content.mac == TRACE["mac_2"]

    authenticated = received.authenticate(SK_R.public_key(), TRACE["cred_r"])
    assert authenticated._state.transcript == TRACE["th_3"]
    assert authenticated._state.prk == TRACE["prk_3e2m"]

    message_3, completed = authenticated.send(
        SK_I, cbor.decode(TRACE["id_cred_i"]), TRACE["cred_i"]
    )
    assert message_3 == TRACE["message_3"]
    assert completed._state.prk == TRACE["prk_4e3m"]
    assert completed.transcript_hash == TRACE["th_4"]
    assert completed.connection_ids == (TRACE["c_i"], TRACE["c_r"])
    assert completed.check_message_4(TRACE["message_4"]) == ()


def test_the_responder_sends_the_trace():
    message_2, awaiting = answer(TRACE["message_1"])
    assert message_2 == TRACE["message_2"]
    assert awaiting._state.transcript == TRACE["th_3"]
    assert awaiting._state.prk == TRACE["prk_3e2m"]

    received = awaiting.receive(TRACE["message_3"])
    assert received.id_cred == {4: b"\x2b"}
    assert received._plaintext == TRACE["plaintext_3"]
    assert received._content.mac == TRACE["mac_3"]

    completed = received.authenticate(SK_I.public_key(), TRACE["cred_i"])
    assert completed._state.prk == TRACE["prk_4e3m"]
    assert completed.transcript_hash == TRACE["th_4"]
    assert completed.make_message_4() == TRACE["message_4"]


def test_the_exporter_gives_the_oscore_parameters():
    _, awaiting = answer(TRACE["message_1"])
    received = awaiting.receive(TRACE["message_3"])
    completed = received.authenticate(SK_I.public_key(), TRACE["cred_i"])
    assert completed._exporter == TRACE["prk_exporter"]
    assert completed.export(0, b"", 16) == TRACE["oscore_master_secret"]
    assert completed.export(1, b"", 8) == TRACE["oscore_master_salt"]


@pytest.mark.parametrize(
    ("prk", "label", "context", "expected"),
    [
        ("prk_2e", 0, "th_2", "keystream_2"),
        ("prk_2e", 1, "th_2", "salt_3e2m"),
        ("prk_3e2m", 2, "context_2", "mac_2"),
        ("prk_3e2m", 3, "th_3", "k_3"),
        ("prk_3e2m", 4, "th_3", "iv_3"),
        ("prk_3e2m", 5, "th_3", "salt_4e3m"),
        ("prk_4e3m", 6, "context_3", "mac_3"),
        ("prk_4e3m", 7, "th_4", "prk_out"),
        ("prk_4e3m", 8, "th_4", "k_4"),
        ("prk_4e3m", 9, "th_4", "iv_4"),
    ],
)
def test_every_derivation_of_the_trace(prk, label, context, expected):
    wanted = TRACE[expected]
    assert edhoc_keys.derive(TRACE[prk], label, TRACE[context], len(wanted)) == wanted


def message_2_around(plaintext: bytes) -> bytes:
    """message_2 as a responder with a broken encoder would send it."""
    transcript = edhoc_keys.transcript_2(TRACE["g_y"], TRACE["message_1"])
    peer = edhoc_keys.public_key_from_x(TRACE["g_x"])
    prk = edhoc_keys.prk_2e(transcript, Y, peer)
    ciphertext = edhoc_keys.xor_2(prk, transcript, plaintext)
    return edhoc_wire.compose_ciphertext(TRACE["g_y"] + ciphertext)


def test_the_broken_encoder_is_otherwise_sound():
    assert message_2_around(TRACE["plaintext_2"]) == TRACE["message_2"]


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case["name"])
def test_invalid_traces_are_refused_for_their_reason(case):
    data = bytes.fromhex(case["bytes"])
    _, initiator = begin()
    receive = {
        "message_1": edhoc.receive_message_1,
        "message_2": initiator.receive,
        "PLAINTEXT_2": lambda plaintext: initiator.receive(message_2_around(plaintext)),
    }[case["part"]]
    with pytest.raises(RemoteProtocolError, match=case["detail"]) as caught:
        receive(data)
    assert caught.value.fault is Fault[case["fault"]]


def test_all_invalid_traces_are_here():
    assert len(INVALID) == 15
