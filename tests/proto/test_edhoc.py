from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto import cbor, cose, edhoc, edhoc_keys, edhoc_wire
from firmware_proto.codes import MAX_MESSAGE_BYTES, Fault
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from tests.support.handshakes import (
    CRED_I,
    CRED_R,
    EPHEMERAL_I,
    EPHEMERAL_R,
    ID_CRED_I,
    ID_CRED_R,
    STATIC_I,
    STATIC_R,
    private_key,
    run,
    until_message_2,
    until_message_3,
)
from tests.support.parsing import REFUSED, parsed_or_refused

OTHER_CURVE = ec.derive_private_key(7, ec.SECP384R1())
ISSUER = private_key(0x3001)


def respond(message_1: bytes, **changes) -> tuple[bytes, edhoc.AwaitingMessage3]:
    """message_2 to `message_1`, with single arguments replaced."""
    arguments = {
        "ephemeral": EPHEMERAL_R,
        "connection_id": b"\x08",
        "static_key": STATIC_R,
        "id_cred": ID_CRED_R,
        "cred": CRED_R,
        **changes,
    }
    return edhoc.receive_message_1(message_1).send(**arguments)


def token(key: ec.EllipticCurvePublicKey, size: int = 0) -> bytes:
    """A CWT about `key`, made `size` bytes longer by a claim."""
    claims = {8: {1: cose.public_key_to_cose(key)}, 9: bytes(size)}
    return cose.sign1(cbor.encode(claims), ISSUER, protected={}, unprotected={4: b"issuer"})


def plaintext_of(message_2: bytes, message_1: bytes) -> tuple[bytes, bytes, bytes]:
    """G_Y, PLAINTEXT_2 and the key stream of a message_2, seen from EPHEMERAL_I."""
    g_y, ciphertext = edhoc_wire.parse_message_2(message_2)
    transcript = edhoc_keys.transcript_2(g_y, message_1)
    prk = edhoc_keys.prk_2e(transcript, EPHEMERAL_I, edhoc_keys.public_key_from_x(g_y))
    keystream = edhoc_keys.xor_2(prk, transcript, bytes(len(ciphertext)))
    return g_y, edhoc_keys.xor_2(prk, transcript, ciphertext), keystream


def receive_2(data: bytes) -> object:
    return until_message_2()[0].receive(data)


def receive_3(data: bytes) -> object:
    return until_message_3()[2].receive(data)


def receive_4(data: bytes) -> object:
    return run().initiator.check_message_4(data)


RECEIVERS = (edhoc.receive_message_1, receive_2, receive_3, receive_4)
"""Each on a fresh exchange."""


# --- whole runs -----------------------------------------------------------------
def test_both_sides_arrive_at_the_same_keys():
    done = run()
    assert done.initiator.transcript_hash == done.responder.transcript_hash
    assert done.initiator.connection_ids == done.responder.connection_ids == (b"\x07", b"\x08")
    assert (done.initiator.initiator, done.responder.initiator) == (True, False)
    for label, context, length in ((0, b"", 1), (32768, b"", 16), (65535, b"x", 8160)):
        exported = done.initiator.export(label, context, length)
        assert exported == done.responder.export(label, context, length)
        assert len(exported) == length
    assert done.initiator.export(32768, b"", 16) != done.initiator.export(32769, b"", 16)
    assert done.initiator.check_message_4(done.responder.make_message_4()) == ()


@pytest.mark.parametrize("size", [0, 300, 900, 1700])
def test_tokens_by_value_travel_in_both_directions(size):
    cwt_i, cwt_r = token(STATIC_I.public_key(), size), token(STATIC_R.public_key(), size)
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
    message_2, responder = respond(message_1, id_cred=edhoc.kcwt_id(cwt_r), cred=cwt_r)
    received = initiator.receive(message_2)
    assert edhoc.cwt_from_id(received.id_cred) == cwt_r
    authenticated = received.authenticate(STATIC_R.public_key(), cwt_r)
    message_3, completed = authenticated.send(STATIC_I, edhoc.kcwt_id(cwt_i), cwt_i)
    named = responder.receive(message_3)
    assert edhoc.cwt_from_id(named.id_cred) == cwt_i
    done = named.authenticate(STATIC_I.public_key(), cwt_i)
    assert done.transcript_hash == completed.transcript_hash
    assert len(message_3) > size
    assert len(message_3) <= MAX_MESSAGE_BYTES


def test_a_credential_too_large_for_one_message_is_our_own_mistake():
    huge = token(STATIC_R.public_key(), MAX_MESSAGE_BYTES)
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
    with pytest.raises(LocalProtocolError, match="too large"):
        respond(message_1, id_cred=edhoc.kcwt_id(huge), cred=huge)
    larger_than_a_keystream = token(STATIC_R.public_key(), edhoc_keys.MAX_OUTPUT_BYTES)
    with pytest.raises(LocalProtocolError, match="too large"):
        respond(message_1, id_cred=edhoc.kcwt_id(larger_than_a_keystream), cred=b"\xa0")
    message_2, _ = respond(message_1)
    authenticated = initiator.receive(message_2).authenticate(STATIC_R.public_key(), CRED_R)
    with pytest.raises(LocalProtocolError, match="too large"):
        authenticated.send(STATIC_I, edhoc.kcwt_id(huge), huge)


@pytest.mark.parametrize("identifier", [bytes((number,)) for number in range(256)])
def test_every_one_byte_identifier(identifier):
    message_1, initiator = edhoc.start(EPHEMERAL_I, identifier)
    # RFC 9528 §3.3.2: 00..17 and 20..37 travel as they are, all others as byte strings
    as_number = identifier[0] < 0x18 or 0x20 <= identifier[0] < 0x38
    assert message_1.endswith(identifier if as_number else b"\x41" + identifier)
    message_2, _ = respond(message_1, connection_id=identifier, id_cred={4: identifier})
    _, plaintext, _ = plaintext_of(message_2, message_1)
    assert plaintext.startswith((identifier if as_number else b"\x41" + identifier) * 2)
    assert initiator.receive(message_2).id_cred == {4: identifier}


@pytest.mark.parametrize("identifier", [b"", b"\x21\x22", bytes(30)])
def test_identifiers_of_other_lengths(identifier):
    message_1, initiator = edhoc.start(EPHEMERAL_I, identifier)
    message_2, _ = respond(message_1, connection_id=identifier, id_cred={4: identifier})
    received = initiator.receive(message_2)
    authenticated = received.authenticate(STATIC_R.public_key(), CRED_R)
    _, completed = authenticated.send(STATIC_I, {4: identifier}, CRED_I)
    assert completed.connection_ids == (identifier, identifier)


@pytest.mark.parametrize(
    "id_cred", [{4: b"\x32", 5: b"x"}, {34: [-15, b"12345678"]}, {"kind": "own"}, {14: {}}]
)
def test_other_ways_to_name_a_credential_reach_the_application(id_cred):
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
    message_2, _ = respond(message_1, id_cred=id_cred)
    received = initiator.receive(message_2)
    assert received.id_cred == id_cred
    received.authenticate(STATIC_R.public_key(), CRED_R)


# --- each step once -------------------------------------------------------------
def test_no_step_can_be_taken_twice():
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
    received_1 = edhoc.receive_message_1(message_1)
    arguments = (EPHEMERAL_R, b"\x08", STATIC_R, ID_CRED_R, CRED_R)
    message_2, responder = received_1.send(*arguments)
    received_2 = initiator.receive(message_2)
    authenticated = received_2.authenticate(STATIC_R.public_key(), CRED_R)
    message_3, completed_i = authenticated.send(STATIC_I, ID_CRED_I, CRED_I)
    received_3 = responder.receive(message_3)
    completed_r = received_3.authenticate(STATIC_I.public_key(), CRED_I)
    message_4 = completed_r.make_message_4()
    completed_i.check_message_4(message_4)
    for again in (
        lambda: received_1.send(*arguments),
        lambda: initiator.receive(message_2),
        lambda: received_2.authenticate(STATIC_R.public_key(), CRED_R),
        lambda: authenticated.send(STATIC_I, ID_CRED_I, CRED_I),
        lambda: responder.receive(message_3),
        lambda: received_3.authenticate(STATIC_I.public_key(), CRED_I),
        completed_r.make_message_4,
        lambda: completed_i.check_message_4(message_4),
    ):
        with pytest.raises(LocalProtocolError, match="taken already"):
            again()


def test_a_failure_is_final():
    initiator, message_2, responder = until_message_2()
    with pytest.raises(RemoteProtocolError):
        initiator.receive(message_2[:-1])
    with pytest.raises(LocalProtocolError):
        initiator.receive(message_2)
    _, message_3, responder = until_message_3()
    with pytest.raises(RemoteProtocolError):
        responder.receive(message_3[:-1])
    with pytest.raises(LocalProtocolError):
        responder.receive(message_3)


def test_message_4_has_one_direction():
    done = run()
    with pytest.raises(LocalProtocolError, match="responder's"):
        done.initiator.make_message_4()
    with pytest.raises(LocalProtocolError, match="responder's"):
        done.responder.check_message_4(b"\x40")


# --- replays and mixed up exchanges ----------------------------------------------
def test_captured_messages_are_worthless_in_another_exchange():
    captured = run()
    _, message_2, message_3 = captured.messages
    # the responder draws another ephemeral key, so the captured message_3 does not fit
    message_1, initiator = edhoc.start(private_key(0x1003), b"\x07")
    _, responder = respond(message_1, ephemeral=private_key(0x1004))
    with pytest.raises(RemoteProtocolError, match="not authentic") as caught:
        responder.receive(message_3)
    assert caught.value.fault is Fault.AUTHENTICATION_FAILED
    # message_2 decrypts to noise under another message_1
    with pytest.raises(RemoteProtocolError):
        initiator.receive(message_2).authenticate(STATIC_R.public_key(), CRED_R)


def test_a_replayed_message_1_gets_no_further():
    captured = run()
    message_1, _, message_3 = captured.messages
    _, responder = respond(message_1, ephemeral=private_key(0x1004))
    with pytest.raises(RemoteProtocolError, match="not authentic"):
        responder.receive(message_3)


def test_our_own_ephemeral_key_is_not_accepted_as_the_peers():
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
    with pytest.raises(RemoteProtocolError, match="our own ephemeral key") as caught:
        respond(message_1, ephemeral=EPHEMERAL_I)
    assert caught.value.fault is Fault.REPLAYED
    g_x = edhoc_keys.public_x(EPHEMERAL_I.public_key())
    with pytest.raises(RemoteProtocolError, match="our own ephemeral key") as caught:
        initiator.receive(cbor.encode(g_x + bytes(11)))
    assert caught.value.fault is Fault.REPLAYED


def test_nobody_completes_a_handshake_with_itself():
    initiator, message_2, _ = until_message_2()
    authenticated = initiator.receive(message_2).authenticate(STATIC_R.public_key(), CRED_R)
    with pytest.raises(RemoteProtocolError, match="the peer's key is ours"):
        authenticated.send(STATIC_R, ID_CRED_I, CRED_I)
    _, message_3, responder = until_message_3()
    with pytest.raises(RemoteProtocolError, match="the peer's key is ours"):
        responder.receive(message_3).authenticate(STATIC_R.public_key(), CRED_I)


# --- what is bound ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("key", "cred"), [(STATIC_I, CRED_R), (STATIC_R, CRED_I), (STATIC_R, CRED_R + b"\x00")]
)
def test_mac_2_binds_key_and_credential(key, cred):
    initiator, message_2, _ = until_message_2()
    with pytest.raises(RemoteProtocolError, match="MAC does not match") as caught:
        initiator.receive(message_2).authenticate(key.public_key(), cred)
    assert caught.value.fault is Fault.AUTHENTICATION_FAILED


@pytest.mark.parametrize(
    ("key", "cred"), [(ISSUER, CRED_I), (STATIC_I, CRED_R), (STATIC_I, CRED_I + b"\x00")]
)
def test_mac_3_binds_key_and_credential(key, cred):
    _, message_3, responder = until_message_3()
    with pytest.raises(RemoteProtocolError, match="MAC does not match") as caught:
        responder.receive(message_3).authenticate(key.public_key(), cred)
    assert caught.value.fault is Fault.AUTHENTICATION_FAILED


def test_every_changed_bit_of_message_2_is_noticed():
    _, message_2, _ = until_message_2()
    for index in range(len(message_2) * 8):
        changed = bytearray(message_2)
        changed[index // 8] ^= 1 << index % 8
        initiator, _, _ = until_message_2()
        with pytest.raises(RemoteProtocolError):
            initiator.receive(bytes(changed)).authenticate(STATIC_R.public_key(), CRED_R)


def test_every_changed_byte_of_message_3_is_noticed():
    _, message_3, _ = until_message_3()
    for index in range(len(message_3)):
        changed = bytearray(message_3)
        changed[index] ^= 0x80
        _, _, responder = until_message_3()
        with pytest.raises(RemoteProtocolError):
            responder.receive(bytes(changed))


def test_a_changed_message_1_is_noticed_by_the_initiator():
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07", suites=(6, 2))
    downgraded = message_1.replace(b"\x82\x06\x02", b"\x02", 1)
    message_2, _ = respond(downgraded)
    with pytest.raises(RemoteProtocolError):
        initiator.receive(message_2).authenticate(STATIC_R.public_key(), CRED_R)


def test_message_4_is_bound_to_its_handshake():
    one, other = run(), run()
    message_1, initiator = edhoc.start(private_key(0x1003), b"\x07")
    message_2, responder = respond(message_1)
    authenticated = initiator.receive(message_2).authenticate(STATIC_R.public_key(), CRED_R)
    message_3, _ = authenticated.send(STATIC_I, ID_CRED_I, CRED_I)
    done = responder.receive(message_3).authenticate(STATIC_I.public_key(), CRED_I)
    with pytest.raises(RemoteProtocolError, match="not authentic"):
        one.initiator.check_message_4(done.make_message_4())
    # equal keys and ids give equal runs; only fresh ephemeral keys tell runs apart
    assert other.initiator.check_message_4(other.responder.make_message_4()) == ()


# --- cut off and prolonged --------------------------------------------------------
def test_messages_cut_off_or_prolonged_are_refused():
    messages = (*run().messages, run().responder.make_message_4())
    for message, receive in zip(messages, RECEIVERS, strict=True):
        receive(message)
        wrong = [message[:end] for end in range(len(message))]
        wrong += [message + extra for extra in (b"\xf4", b"\xff", b"\x41\x00", b"\x18")]
        for data in wrong:
            with pytest.raises(RemoteProtocolError):
                receive(data)


def test_messages_larger_than_any_are_refused_unread():
    large = cbor.encode(bytes(MAX_MESSAGE_BYTES))
    for receive in RECEIVERS:
        with pytest.raises(RemoteProtocolError) as caught:
            receive(large)
        assert caught.value.fault is Fault.TOO_LARGE


# --- message_1, item by item ------------------------------------------------------
G_X = edhoc_keys.public_x(EPHEMERAL_I.public_key())


@pytest.mark.parametrize(
    ("items", "fault", "detail"),
    [
        ([3, 2, G_X], Fault.MALFORMED, "fewer than four items"),
        (["3", 2, G_X, 7], Fault.MALFORMED, "METHOD is no number"),
        ([True, 2, G_X, 7], Fault.MALFORMED, "METHOD is no number"),
        ([0, 2, G_X, 7], Fault.UNSUPPORTED, "the method"),
        ([1, 2, G_X, 7], Fault.UNSUPPORTED, "the method"),
        ([4, 2, G_X, 7], Fault.UNSUPPORTED, "the method"),
        ([3, "2", G_X, 7], Fault.MALFORMED, "SUITES_I is neither"),
        ([3, True, G_X, 7], Fault.MALFORMED, "SUITES_I is neither"),
        ([3, [], G_X, 7], Fault.MALFORMED, "fewer than two"),
        ([3, [6, "2"], G_X, 7], Fault.MALFORMED, "something else than numbers"),
        ([3, [True, 2], G_X, 7], Fault.MALFORMED, "something else than numbers"),
        ([3, 3, G_X, 7], Fault.UNSUPPORTED, "the selected suite"),
        ([3, [6, 3], G_X, 7], Fault.UNSUPPORTED, "the selected suite"),
        ([3, [2, 3], G_X, 7], Fault.UNSUPPORTED, "passed over"),
        ([3, [2, 2], G_X, 7], Fault.UNSUPPORTED, "passed over"),
        ([3, 2, 5, 7], Fault.MALFORMED, "G_X is no byte string"),
        ([3, 2, G_X + b"\x00", 7], Fault.MALFORMED, "not 32 bytes"),
        ([3, 2, bytes(31), 7], Fault.MALFORMED, "not 32 bytes"),
        ([3, 2, b"\xff" * 32, 7], Fault.MALFORMED, "not a point"),
        ([3, 2, G_X, 24], Fault.MALFORMED, "C_I is not in its one"),
        ([3, 2, G_X, -25], Fault.MALFORMED, "C_I is not in its one"),
        ([3, 2, G_X, False], Fault.MALFORMED, "C_I is not in its one"),
        ([3, 2, G_X, b"\x07"], Fault.MALFORMED, "C_I is not in its one"),
        ([3, 2, G_X, b"\x37"], Fault.MALFORMED, "C_I is not in its one"),
        ([3, 2, G_X, "7"], Fault.MALFORMED, "C_I is not in its one"),
        ([3, 2, G_X, 7, b"x"], Fault.MALFORMED, "EAD is not"),
        ([3, 2, G_X, 7, 1, b"x", b"y"], Fault.MALFORMED, "EAD is not"),
        ([3, 2, G_X, 7, "1"], Fault.MALFORMED, "EAD is not"),
        ([3, 2, G_X, 7, True], Fault.MALFORMED, "EAD is not"),
        ([3, 2, G_X, 7, -1], Fault.UNSUPPORTED, "critical EAD"),
        ([3, 2, G_X, 7, 1, b"x", -40, b""], Fault.UNSUPPORTED, "critical EAD"),
    ],
)
def test_message_1_is_refused_for_its_reason(items, fault, detail):
    with pytest.raises(RemoteProtocolError, match=detail) as caught:
        edhoc.receive_message_1(cbor.encode_sequence(items))
    assert caught.value.fault is fault


# --- plaintexts, item by item -----------------------------------------------------
MAC = bytes(8)
BAD_REST = [
    ([], "too few items"),
    ([-19], "too few items"),
    ([{}, MAC], "ID_CRED is no map or empty"),
    ([{4: b"\x32"}, MAC], "ID_CRED is a map although"),
    ([{4: 5}, MAC], "ID_CRED is a map although"),
    ([{4: 5, 5: 6}, MAC], "kid is no byte string"),
    ([{b"x": 5}, MAC], "label that is a byte string"),
    ([b"\x32", MAC], "ID_CRED is not in its one"),
    ([24, MAC], "ID_CRED is not in its one"),
    ([True, MAC], "ID_CRED is not in its one"),
    (["kid", MAC], "ID_CRED is not in its one"),
    ([[4], MAC], "ID_CRED is not in its one"),
    ([-19, "mac"], "the MAC is no byte string"),
    ([-19, MAC[:7]], "the MAC has another length"),
    ([-19, MAC + b"\x00"], "the MAC has another length"),
    ([-19, MAC, b"x"], "EAD is not"),
    ([-19, MAC, -1], "critical EAD"),
]


@pytest.mark.parametrize(("items", "detail"), BAD_REST)
def test_plaintext_2_is_refused_for_its_reason(items, detail):
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
    plaintext = cbor.encode_sequence([8, *items])
    # from an honest message_2 with as long a plaintext: its key stream
    filler = [edhoc.Ead(0, bytes(len(plaintext) + 300))]
    message_2, _ = respond(message_1, ead=filler)
    g_y, _, _ = plaintext_of(message_2, message_1)
    transcript = edhoc_keys.transcript_2(g_y, message_1)
    prk = edhoc_keys.prk_2e(transcript, EPHEMERAL_R, EPHEMERAL_I.public_key())
    ciphertext = edhoc_keys.xor_2(prk, transcript, plaintext)
    with pytest.raises(RemoteProtocolError, match=detail):
        initiator.receive(edhoc_wire.compose_ciphertext(g_y + ciphertext))


@pytest.mark.parametrize(("items", "detail"), BAD_REST)
def test_plaintext_3_is_refused_for_its_reason(items, detail):
    _, _, responder = until_message_3()
    state = responder._state
    sealed = edhoc_keys.seal_3(state.prk, state.transcript, cbor.encode_sequence(items))
    with pytest.raises(RemoteProtocolError, match=detail):
        responder.receive(edhoc_wire.compose_ciphertext(sealed))


def test_an_empty_plaintext_2_and_a_missing_ciphertext():
    with pytest.raises(RemoteProtocolError, match="the plaintext is empty"):
        edhoc_wire.parse_plaintext_2(b"", 8)
    initiator, _, _ = until_message_2()
    g_y = edhoc_keys.public_x(EPHEMERAL_R.public_key())
    with pytest.raises(RemoteProtocolError, match="message_2 is too short"):
        initiator.receive(cbor.encode(g_y))


@pytest.mark.parametrize(("items", "detail"), [([5], "no byte string"), ([], "not one item")])
def test_message_2_to_4_are_one_byte_string(items, detail):
    data = cbor.encode_sequence(items)
    for receive in RECEIVERS[1:]:
        with pytest.raises(RemoteProtocolError, match=detail):
            receive(data)


# --- external authorization data ----------------------------------------------------
ITEMS = [edhoc.Ead(0), edhoc.Ead(0, b""), edhoc.Ead(300, b"text"), edhoc.Ead(1)]


def test_items_that_are_not_critical_arrive_and_change_nothing():
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07", ead=ITEMS)
    received_1 = edhoc.receive_message_1(message_1)
    assert received_1.ead == tuple(ITEMS)
    message_2, responder = received_1.send(
        EPHEMERAL_R, b"\x08", STATIC_R, ID_CRED_R, CRED_R, ead=ITEMS
    )
    received_2 = initiator.receive(message_2)
    assert received_2.ead == tuple(ITEMS)
    authenticated = received_2.authenticate(STATIC_R.public_key(), CRED_R)
    message_3, completed = authenticated.send(STATIC_I, ID_CRED_I, CRED_I, ead=ITEMS)
    received_3 = responder.receive(message_3)
    assert received_3.ead == tuple(ITEMS)
    done = received_3.authenticate(STATIC_I.public_key(), CRED_I)
    assert completed.check_message_4(done.make_message_4(ead=ITEMS)) == tuple(ITEMS)


def test_a_critical_item_ends_the_exchange_wherever_it_stands():
    critical = [edhoc.Ead(0), edhoc.Ead(-7, b"x")]
    message_1, _ = edhoc.start(EPHEMERAL_I, b"\x07", ead=critical)
    with pytest.raises(RemoteProtocolError, match="critical EAD"):
        edhoc.receive_message_1(message_1)
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
    message_2, _ = respond(message_1, ead=critical)
    with pytest.raises(RemoteProtocolError, match="critical EAD"):
        initiator.receive(message_2)
    initiator, message_2, responder = until_message_2()
    authenticated = initiator.receive(message_2).authenticate(STATIC_R.public_key(), CRED_R)
    message_3, _ = authenticated.send(STATIC_I, ID_CRED_I, CRED_I, ead=critical)
    with pytest.raises(RemoteProtocolError, match="critical EAD"):
        responder.receive(message_3)
    done = run()
    message_4 = done.responder.make_message_4(ead=critical)
    with pytest.raises(RemoteProtocolError, match="critical EAD"):
        done.initiator.check_message_4(message_4)


# --- our own mistakes -----------------------------------------------------------------
def test_only_suite_2_can_be_selected():
    for suites in ((), (6,), (2, 6)):
        with pytest.raises(LocalProtocolError, match="suite 2"):
            edhoc.start(EPHEMERAL_I, b"\x07", suites=suites)


def test_keys_on_other_curves_are_our_own_mistake():
    with pytest.raises(LocalProtocolError, match="P-256"):
        edhoc.start(OTHER_CURVE, b"\x07")
    message_1, _ = edhoc.start(EPHEMERAL_I, b"\x07")
    for change in ({"ephemeral": OTHER_CURVE}, {"static_key": OTHER_CURVE}):
        with pytest.raises(LocalProtocolError, match="P-256"):
            respond(message_1, **change)
    initiator, message_2, _ = until_message_2()
    with pytest.raises(LocalProtocolError, match="P-256"):
        initiator.receive(message_2).authenticate(OTHER_CURVE.public_key(), CRED_R)
    initiator, message_2, _ = until_message_2()
    authenticated = initiator.receive(message_2).authenticate(STATIC_R.public_key(), CRED_R)
    with pytest.raises(LocalProtocolError, match="P-256"):
        authenticated.send(OTHER_CURVE, ID_CRED_I, CRED_I)
    _, message_3, responder = until_message_3()
    with pytest.raises(LocalProtocolError, match="P-256"):
        responder.receive(message_3).authenticate(OTHER_CURVE.public_key(), CRED_I)


@pytest.mark.parametrize("id_cred", [{}, {4: 5}, {b"x": 1}, [4], b"\x32", 1.5])
def test_a_name_that_no_peer_accepts_is_our_own_mistake(id_cred):
    message_1, _ = edhoc.start(EPHEMERAL_I, b"\x07")
    with pytest.raises(LocalProtocolError):
        respond(message_1, id_cred=id_cred)


def test_the_exporter_has_bounds():
    done = run().initiator
    for label, length in ((-1, 16), (65536, 16), (0, 0), (0, 8161)):
        with pytest.raises(LocalProtocolError):
            done.export(label, b"", length)


# --- credentials ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("id_cred", "fault"),
    [
        ({4: b"kid"}, Fault.UNSUPPORTED),
        ({13: [], 4: b"kid"}, Fault.UNSUPPORTED),
        (b"kid", Fault.UNSUPPORTED),
        ({13: b"token"}, Fault.MALFORMED),
        ({13: [1, 2, 3]}, Fault.MALFORMED),
    ],
)
def test_only_a_token_by_value_is_a_token(id_cred, fault):
    with pytest.raises(RemoteProtocolError) as caught:
        edhoc.cwt_from_id(id_cred)
    assert caught.value.fault is fault


# --- properties -----------------------------------------------------------------------
IDENTIFIERS = st.binary(max_size=8)
EADS = st.lists(
    st.builds(edhoc.Ead, st.integers(0, 2**32), st.none() | st.binary(max_size=20)), max_size=4
)


def parse_and_compose(data: bytes) -> bytes:
    return edhoc_wire.compose_message_1(edhoc_wire.parse_message_1(data))


@given(IDENTIFIERS, EADS, st.lists(st.integers(3, 30), max_size=3))
@settings(max_examples=60, deadline=None)
def test_message_1_is_composed_again_to_the_same_bytes(identifier, ead, preferred):
    message_1, _ = edhoc.start(EPHEMERAL_I, identifier, suites=(*preferred, 2), ead=ead)
    assert parse_and_compose(message_1) == message_1


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_message_1_is_composed_again_or_refused(data):
    message = bytearray(edhoc.start(EPHEMERAL_I, b"\x07", ead=ITEMS)[0])
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    again = parsed_or_refused(parse_and_compose, bytes(message))
    assert again is REFUSED or again == message
    assert parsed_or_refused(edhoc.receive_message_1, bytes(message)) is not None


@given(st.binary(max_size=120))
@settings(max_examples=100, deadline=None)
def test_any_plaintext_is_composed_again_or_refused(noise):
    for data in (noise, cbor.encode_sequence([-19, MAC]) + noise):
        parsed = parsed_or_refused(lambda text: edhoc_wire.parse_plaintext_3(text, 8), data)
        assert parsed is REFUSED or edhoc_wire.compose_plaintext(parsed) == data


@given(st.binary(max_size=120))
@settings(max_examples=60, deadline=None)
def test_noise_raises_nothing_else_in_any_step(noise):
    for receive in RECEIVERS:
        for data in (noise, cbor.encode(noise), cbor.encode(G_X[::-1] + noise)):
            assert parsed_or_refused(receive, data) is not None


@given(
    st.recursive(
        st.none() | st.integers() | st.binary(),
        lambda x: st.lists(x) | st.dictionaries(st.integers(0, 20), x),
    )
)
@settings(max_examples=60, deadline=None)
def test_any_id_cred_gives_a_token_or_a_refusal(value):
    assert parsed_or_refused(edhoc.cwt_from_id, value) is not None
