"""The message codec: what parses re-encodes identically, everything else is refused by name."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto import cbor, codes, messages
from firmware_proto.codes import Action, Fault, Key, MessageType, Outcome, Presence, Reason
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.fields import Battery
from firmware_proto.lock_messages import Hello, Resume, SetTime, State
from firmware_proto.messages import SEALED, decode, decode_plain, encode, padded
from firmware_proto.phone_messages import (
    MAX_RECEIPT_BYTES,
    MIN_RECEIPT_BYTES,
    RESULT_BYTES,
    Open,
    Prepare,
    Result,
)
from tests.support.messages import ALL_TYPES, ANY_MESSAGE, ANY_PLAIN, example, rows


def parse(cls: type, data: bytes) -> object:
    return decode(data) if cls in SEALED.values() else decode_plain(cls, data)


def fault_of(data: bytes) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(data)
    return caught.value.fault


def test_every_type_has_a_dataclass_and_its_own_keys():
    assert {codes.MessageType(number) for number in SEALED} == set(MessageType)
    for cls in ALL_TYPES:
        keys = [row.key for row in rows(cls)]
        assert len(set(keys)) == len(keys) == len(fields(cls))
        assert Key.TYPE not in keys


def test_known_encoding():
    message = Open(bytes(range(16)), "street", Action.OPEN, Presence.TAP)
    data = bytes.fromhex("a500020150000102030405060708090a0b0c0d0e0f02667374726565740301 0402")
    assert encode(message) == data
    assert decode(data) == message


@given(ANY_MESSAGE)
@settings(max_examples=200)
def test_what_is_encoded_parses_to_the_same(message):
    data = encode(message)
    assert decode(data) == message
    assert encode(decode(data)) == data
    assert len(data) <= codes.MAX_MESSAGE_BYTES - 64


@given(ANY_PLAIN)
@settings(max_examples=50)
def test_plain_messages_likewise(message):
    data = encode(message)
    assert decode_plain(type(message), data) == message
    other = Resume if isinstance(message, Hello) else Hello
    with pytest.raises(RemoteProtocolError):
        decode_plain(other, data)


@given(st.binary(max_size=80) | ANY_MESSAGE.map(encode), st.data())
@settings(max_examples=200)
def test_arbitrary_bytes_parse_to_themselves_or_are_refused(data, draw):
    if data and draw.draw(st.booleans()):
        at = draw.draw(st.integers(0, len(data) - 1))
        data = data[:at] + bytes([draw.draw(st.integers(0, 255))]) + data[at + 1 :]
    try:
        message = decode(data)
    except RemoteProtocolError:
        return  # any other exception fails the test
    assert encode(message) == data


@pytest.mark.parametrize("cls", ALL_TYPES)
@pytest.mark.parametrize("full", [True, False])
def test_every_truncation_and_every_trailing_byte_is_refused(cls, full):
    data = encode(example(cls, full=full))
    assert parse(cls, data) == example(cls, full=full)
    for length in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            parse(cls, data[:length])
    with pytest.raises(RemoteProtocolError):
        parse(cls, data + b"\x00")


@pytest.mark.parametrize("cls", ALL_TYPES)
def test_a_missing_an_unknown_and_a_null_key_are_refused(cls):
    whole = cbor.decode(encode(example(cls)))
    optional = {row.key for row in rows(cls) if row.optional}
    for key in whole:
        without = {name: value for name, value in whole.items() if name != key}
        if key in optional:
            assert parse(cls, cbor.encode(without)) is not None
        else:
            with pytest.raises(RemoteProtocolError):
                parse(cls, cbor.encode(without))
        with pytest.raises(RemoteProtocolError):
            parse(cls, cbor.encode({**whole, key: None}))
    for unknown in (63, 99, -1, "door", b"\x00"):
        with pytest.raises(RemoteProtocolError):
            parse(cls, cbor.encode({**whole, unknown: 0}))


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x80", b"\xa0", b"\xa1\x02\x61a", b"\xa1\x00\xf5"]
)
def test_what_is_no_message_is_malformed(data):
    assert fault_of(data) is Fault.MALFORMED


@pytest.mark.parametrize("number", [0, 6, 15, 18, 44, 51, 62, 64, 2**32])
def test_an_unknown_type_is_unsupported(number):
    assert fault_of(cbor.encode({0: number})) is Fault.UNSUPPORTED


@pytest.mark.parametrize("bits", [0, 3, 5, 6, 7, 8, -1, True])
def test_an_action_is_exactly_one_known_bit(bits):
    data = cbor.encode({0: 2, 1: bytes(16), 2: "street", 3: bits, 4: 2})
    assert fault_of(data) is Fault.MALFORMED


@pytest.mark.parametrize(
    "battery", [7, [], [1, 2], [1, 2, True, 0], [65536, 2, True], [1, 101, True], [1, 2, 0]]
)
def test_batteries_that_are_none(battery):
    whole = cbor.decode(encode(example(State)))
    assert fault_of(cbor.encode({**whole, 21: battery})) is Fault.MALFORMED


@pytest.mark.parametrize(
    "message",
    [
        Prepare(""),
        Prepare("d" * 33),
        Prepare("ä" * 17),
        Prepare("\ud800"),
        Prepare(b"street"),
        Open(bytes(15), "street", Action.OPEN, Presence.TAP),
        Open(bytearray(16), "street", Action.OPEN, Presence.TAP),
        Open(bytes(16), "street", Action.OPEN | Action.BOLT, Presence.TAP),
        Open(bytes(16), "street", 1, Presence.TAP),
        Open(None, "street", Action.OPEN, Presence.TAP),
        SetTime(bytes(16), -1),
        SetTime(bytes(16), 2**53),
        SetTime(bytes(16), True),
        SetTime(bytes(16), 1.0),
        replace(example(State), tamper=0),
        replace(example(State), battery=[1, 2, True]),
        replace(example(State), battery=(1, 2)),
        replace(example(State), battery=Battery(1, 200, True)),
        Result(None, Outcome.CONFIRMED, Reason.OK, bytes(MIN_RECEIPT_BYTES - 1)),
    ],
)
def test_what_may_not_be_said_is_our_own_error(message):
    with pytest.raises(LocalProtocolError):
        encode(message)


@pytest.mark.parametrize("request_id", [None, bytes(16)])
@pytest.mark.parametrize("reason", [Reason.OK, Reason.NEVER_ASKED])
def test_every_result_has_one_length(request_id, reason):
    for size in (None, *range(MIN_RECEIPT_BYTES, MAX_RECEIPT_BYTES + 1)):
        receipt = None if size is None else bytes(size)
        result = padded(Result(request_id, Outcome.REFUSED, reason, receipt))
        data = encode(result)
        assert len(data) == RESULT_BYTES
        assert padded(result) == result
        assert replace(decode(data), padding=b"") == replace(result, padding=b"")


def test_padding_lengths_next_to_the_growth_of_a_byte_string_head():
    # A receipt this long cannot be sent, so the short paddings never occur in
    # a Result; the arithmetic holds for them all the same.
    assert messages.padding_for(23) == 23
    assert messages.padding_for(25) == 24
    assert messages.padding_for(256) == 255
    assert messages.padding_for(258) == 256


def test_every_fault_answers_the_three_questions():
    assert set(codes.FAULTS) == set(Fault)
    assert all(meaning.refresh for meaning in codes.FAULTS.values())
