"""EDHOC with another implementation (lakers) as the peer, in both roles."""

from __future__ import annotations

import lakers
import pytest

from firmware_proto import edhoc
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from tests.support.handshakes import (
    CRED_I,
    CRED_R,
    EPHEMERAL_I,
    EPHEMERAL_R,
    ID_CRED_I,
    ID_CRED_R,
    STATIC_I,
    STATIC_R,
)

KCCS = 14
SHARED_LABELS = (0, 1, 23)
"""lakers 0.6.2 writes an exporter label as one raw byte, which is CBOR up to 23 only."""


def raw(key) -> bytes:
    return key.private_numbers().private_value.to_bytes(32, "big")


def by_value(cred: bytes) -> dict:
    return {KCCS: edhoc.cbor.decode(cred)}


TRANSFERS = [
    (lakers.CredentialTransfer.ByReference, ID_CRED_I, ID_CRED_R),
    (lakers.CredentialTransfer.ByValue, by_value(CRED_I), by_value(CRED_R)),
]
CONNECTION_IDS = [b"\x00", b"\x17", b"\x20", b"\x37", b"\x18", b"\x38", b"\xff"]


@pytest.mark.parametrize(("transfer", "id_cred_i", "id_cred_r"), TRANSFERS)
@pytest.mark.parametrize("with_message_4", [True, False])
def test_lakers_responds(transfer, id_cred_i, id_cred_r, with_message_4):
    peer = lakers.EdhocResponder(r=raw(STATIC_R), cred_r=lakers.Credential(CRED_R))
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
    peer.process_message_1(message_1)
    message_2 = peer.prepare_message_2(transfer, None, [])

    received = initiator.receive(message_2)
    assert received.id_cred == id_cred_r
    authenticated = received.authenticate(STATIC_R.public_key(), CRED_R)
    message_3, completed = authenticated.send(STATIC_I, id_cred_i, CRED_I)

    _, ead_3 = peer.parse_message_3(message_3)
    assert ead_3 == []
    peer.verify_message_3(lakers.Credential(CRED_I))
    if with_message_4:
        assert completed.check_message_4(peer.prepare_message_4([])) == ()
    else:
        peer.completed_without_message_4()
    for label in SHARED_LABELS:
        assert completed.export(label, b"ctx", 32) == bytes(peer.edhoc_exporter(label, b"ctx", 32))


@pytest.mark.parametrize(("transfer", "id_cred_i", "id_cred_r"), TRANSFERS)
@pytest.mark.parametrize("with_message_4", [True, False])
def test_lakers_initiates(transfer, id_cred_i, id_cred_r, with_message_4):
    peer = lakers.EdhocInitiator()
    message_1 = peer.prepare_message_1(b"\x0b")
    message_2, responder = edhoc.receive_message_1(message_1).send(
        EPHEMERAL_R, b"\x08", STATIC_R, id_cred_r, CRED_R
    )
    peer.parse_message_2(message_2)
    peer.verify_message_2(raw(STATIC_I), lakers.Credential(CRED_I), lakers.Credential(CRED_R))
    message_3, _ = peer.prepare_message_3(transfer, [])

    received = responder.receive(message_3)
    assert received.id_cred == id_cred_i
    completed = received.authenticate(STATIC_I.public_key(), CRED_I)
    if with_message_4:
        peer.process_message_4(completed.make_message_4())
    else:
        peer.completed_without_message_4()
    for label in SHARED_LABELS:
        assert completed.export(label, b"ctx", 32) == bytes(peer.edhoc_exporter(label, b"ctx", 32))


@pytest.mark.parametrize("connection_id", CONNECTION_IDS)
def test_one_byte_connection_ids_are_understood_both_ways(connection_id):
    peer = lakers.EdhocResponder(r=raw(STATIC_R), cred_r=lakers.Credential(CRED_R))
    message_1, initiator = edhoc.start(EPHEMERAL_I, connection_id)
    c_i, _ = peer.process_message_1(message_1)
    assert bytes(c_i) == connection_id
    message_2 = peer.prepare_message_2(lakers.CredentialTransfer.ByReference, connection_id, [])
    received = initiator.receive(message_2)
    authenticated = received.authenticate(STATIC_R.public_key(), CRED_R)
    _, completed = authenticated.send(STATIC_I, ID_CRED_I, CRED_I)
    assert completed.connection_ids == (connection_id, connection_id)


def test_lakers_ead_is_bound_and_its_critical_items_refused():
    for critical in (False, True):
        peer = lakers.EdhocResponder(r=raw(STATIC_R), cred_r=lakers.Credential(CRED_R))
        message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
        peer.process_message_1(message_1)
        item = lakers.EADItem(11, critical, b"\x01\x02")
        message_2 = peer.prepare_message_2(lakers.CredentialTransfer.ByReference, b"\x08", [item])
        if critical:
            with pytest.raises(RemoteProtocolError, match="critical EAD") as caught:
                initiator.receive(message_2)
            assert caught.value.fault is Fault.UNSUPPORTED
            continue
        received = initiator.receive(message_2)
        assert [item.label for item in received.ead] == [11]
        received.authenticate(STATIC_R.public_key(), CRED_R)


def test_lakers_reads_our_ead():
    peer = lakers.EdhocResponder(r=raw(STATIC_R), cred_r=lakers.Credential(CRED_R))
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07", ead=[edhoc.Ead(12, b"\x40")])
    _, ead_1 = peer.process_message_1(message_1)
    assert [(item.label(), item.is_critical()) for item in ead_1] == [(12, False)]
    message_2 = peer.prepare_message_2(lakers.CredentialTransfer.ByReference, b"\x08", [])
    initiator.receive(message_2).authenticate(STATIC_R.public_key(), CRED_R)


def test_an_impostor_with_the_right_name_fails_at_both():
    impostor = lakers.EdhocResponder(r=raw(STATIC_I), cred_r=lakers.Credential(CRED_R))
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
    impostor.process_message_1(message_1)
    message_2 = impostor.prepare_message_2(lakers.CredentialTransfer.ByReference, b"\x08", [])
    with pytest.raises(RemoteProtocolError, match="MAC does not match"):
        initiator.receive(message_2).authenticate(STATIC_R.public_key(), CRED_R)

    peer = lakers.EdhocResponder(r=raw(STATIC_R), cred_r=lakers.Credential(CRED_R))
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
    peer.process_message_1(message_1)
    message_2 = peer.prepare_message_2(lakers.CredentialTransfer.ByReference, b"\x08", [])
    authenticated = initiator.receive(message_2).authenticate(STATIC_R.public_key(), CRED_R)
    message_3, _ = authenticated.send(EPHEMERAL_R, ID_CRED_I, CRED_I)
    peer.parse_message_3(message_3)
    with pytest.raises(ValueError, match="MacVerificationFailed"):
        peer.verify_message_3(lakers.Credential(CRED_I))
