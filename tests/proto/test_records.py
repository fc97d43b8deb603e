from __future__ import annotations

import cbor2
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto import cbor, records
from firmware_proto.codes import MAX_MESSAGE_BYTES, Fault
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from tests.support.handshakes import run
from tests.support.parsing import REFUSED, parsed_or_refused

KEYS = {
    "key_i2r": bytes(range(16)),
    "key_r2i": bytes(range(16, 32)),
    "iv_i2r": bytes(range(32, 45)),
    "iv_r2i": bytes(range(45, 58)),
}
HEADER = bytes.fromhex("a101181e")


def pair() -> tuple[records.Records, records.Records]:
    return (
        records.Records.from_keys(**KEYS, initiator=True),
        records.Records.from_keys(**KEYS, initiator=False),
    )


def refused(receiver: records.Records, data: bytes, fault: Fault) -> None:
    """`data` is refused for `fault`, and nothing works any more."""
    with pytest.raises(RemoteProtocolError) as caught:
        receiver.open(data)
    assert caught.value.fault is fault
    for use in (receiver.open, receiver.seal):
        with pytest.raises(LocalProtocolError, match="ended with a failure"):
            use(data)


def test_records_pass_in_both_directions_after_a_handshake():
    done = run()
    initiator = records.derive(done.initiator, initiator=True)
    responder = records.derive(done.responder, initiator=False)
    for number in range(300):
        text = bytes([number % 256]) * number
        assert responder.open(initiator.seal(text)) == text
        assert initiator.open(responder.seal(text)) == text


def test_a_record_is_the_cose_encrypt0_of_its_parts():
    sender, _ = pair()
    sender.seal(b"zero")
    record = cbor2.loads(sender.seal(b"one"))
    assert record[:2] == [HEADER, {6: b"\x01"}]
    nonce = bytearray(KEYS["iv_i2r"])
    nonce[-1] ^= 1
    # RFC 9052 §5.3, with another implementation of CBOR
    associated = cbor2.dumps(["Encrypt0", HEADER, cbor2.dumps(["gatewayd record", 0])])
    cipher = AESCCM(KEYS["key_i2r"], 16)
    assert cipher.decrypt(bytes(nonce), record[2], associated) == b"one"


def test_each_direction_has_its_own_key_iv_and_name():
    sender, receiver = pair()
    refused(sender, sender.seal(b"reflected"), Fault.AUTHENTICATION_FAILED)
    same = {**KEYS, "key_r2i": KEYS["key_i2r"], "iv_r2i": KEYS["iv_i2r"]}
    sender = records.Records.from_keys(**same, initiator=True)
    refused(sender, sender.seal(b"reflected"), Fault.AUTHENTICATION_FAILED)
    assert receiver.seal(b"") != pair()[0].seal(b"")


def test_a_record_is_opened_once():
    sender, receiver = pair()
    record = sender.seal(b"text")
    assert receiver.open(record) == b"text"
    refused(receiver, record, Fault.REPLAYED)


def test_an_old_record_is_a_replay_even_when_it_is_forged():
    sender, receiver = pair()
    for _ in range(3):
        receiver.open(sender.seal(b""))
    refused(receiver, cbor.encode([HEADER, {6: b"\x01"}, bytes(16)]), Fault.REPLAYED)


def test_a_missing_record_is_noticed():
    sender, receiver = pair()
    sender.seal(b"lost")
    refused(receiver, sender.seal(b"next"), Fault.OUT_OF_ORDER)


def test_another_connection_does_not_take_it():
    sender, _ = pair()
    other = {**KEYS, "key_i2r": bytes(16)}
    receiver = records.Records.from_keys(**other, initiator=False)
    refused(receiver, sender.seal(b"text"), Fault.AUTHENTICATION_FAILED)


def test_every_changed_byte_is_noticed():
    sender, _ = pair()
    record = sender.seal(b"text")
    for index in range(len(record)):
        changed = bytearray(record)
        changed[index] ^= 0x01
        _, receiver = pair()
        with pytest.raises(RemoteProtocolError):
            receiver.open(bytes(changed))


def test_cut_off_or_prolonged_it_is_refused():
    sender, _ = pair()
    record = sender.seal(b"text")
    for wrong in [record[:end] for end in range(len(record))] + [record + b"\x00", record * 2]:
        _, receiver = pair()
        refused(receiver, wrong, Fault.MALFORMED)


@pytest.mark.parametrize(
    "items",
    [
        5,
        [],
        [HEADER, {6: b"\x00"}],
        [{1: 30}, {6: b"\x00"}, bytes(16)],
        [bytes.fromhex("a1010a"), {6: b"\x00"}, bytes(16)],
        [b"", {1: 30, 6: b"\x00"}, bytes(16)],
        [HEADER, [], bytes(16)],
        [HEADER, {}, bytes(16)],
        [HEADER, {5: bytes(13)}, bytes(16)],
        [HEADER, {4: b"kid", 6: b"\x00"}, bytes(16)],
        [HEADER, {6: 0}, bytes(16)],
        [HEADER, {6: b""}, bytes(16)],
        [HEADER, {6: b"\x00\x00"}, bytes(16)],
        [HEADER, {6: b"\x00\x01"}, bytes(16)],
        [HEADER, {6: b"\x01" + bytes(5)}, bytes(16)],
        [HEADER, {6: b"\x00"}, None],
        [HEADER, {6: b"\x00"}, "text"],
    ],
)
def test_other_structures_are_malformed(items):
    refused(pair()[1], cbor.encode(items), Fault.MALFORMED)


@pytest.mark.parametrize("length", [0, 1, 15])
def test_a_ciphertext_shorter_than_its_tag_is_not_authentic(length):
    record = cbor.encode([HEADER, {6: b"\x00"}, bytes(length)])
    refused(pair()[1], record, Fault.AUTHENTICATION_FAILED)


def test_sizes_end_where_messages_end():
    sender, receiver = pair()
    full = bytes(records.MAX_PLAINTEXT_BYTES)
    sender._sending.counter = receiver._receiving.counter = 2**40 - 1  # as long as it can be
    record = sender.seal(full)
    assert len(record) == len(full) + records.MAX_OVERHEAD_BYTES == MAX_MESSAGE_BYTES - 1
    assert receiver.open(record) == full
    sender, receiver = pair()
    with pytest.raises(LocalProtocolError, match="too large"):
        sender.seal(full + b"\x00")
    assert receiver.open(sender.seal(b"still usable")) == b"still usable"
    refused(receiver, bytes(MAX_MESSAGE_BYTES + 1), Fault.TOO_LARGE)


def test_counters_of_every_length_and_their_end():
    for counter in (0, 255, 256, 65535, 65536, 2**24, 2**32 - 1, 2**40 - 1):
        sender, receiver = pair()
        sender._sending.counter = receiver._receiving.counter = counter
        assert receiver.open(sender.seal(b"text")) == b"text"
    with pytest.raises(LocalProtocolError, match="as many records"):
        sender.seal(b"text")


def test_no_two_counters_share_a_nonce():
    sender, _ = pair()
    nonces = set()
    for counter in [*range(600), 2**32, 2**40 - 1]:
        sender._sending.counter = counter
        nonces.add(sender._sending.nonce())
    assert len(nonces) == 602


@pytest.mark.parametrize(
    "change",
    [{"key_i2r": bytes(15)}, {"key_r2i": bytes(32)}, {"iv_i2r": b""}, {"iv_r2i": bytes(12)}],
)
def test_keys_of_other_lengths_are_our_own_mistake(change):
    with pytest.raises(LocalProtocolError, match="16 bytes"):
        records.Records.from_keys(**{**KEYS, **change}, initiator=True)


def test_secrets_do_not_show_in_representations():
    sender, _ = pair()
    assert KEYS["iv_i2r"].hex() not in repr(sender._sending)
    assert repr(KEYS["iv_i2r"]) not in repr(sender._sending)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_conversation_arrives_in_order(conversation):
    initiator, responder = pair()
    for from_initiator, text in conversation:
        sender, receiver = (initiator, responder) if from_initiator else (responder, initiator)
        assert receiver.open(sender.seal(text)) == text


@given(st.binary(max_size=80))
@settings(max_examples=100, deadline=None)
def test_noise_is_refused(noise):
    for data in (noise, cbor.encode([HEADER, {6: b"\x00"}, noise])):
        assert parsed_or_refused(pair()[1].open, data) is REFUSED
