"""protocol.cddl and the code agree, on what is right and on what is wrong."""

from __future__ import annotations

import re
from enum import IntEnum

import pytest
from hypothesis import given, settings
from pycddl import ValidationError

from firmware_proto import cbor, codes, credential, edhoc, records
from firmware_proto.cose import key_id
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.fields import Boolean, Bytes, Enumeration, Point, Text, Unsigned
from firmware_proto.lock_messages import Hello, Resume
from firmware_proto.lock_session import COMMANDS, LOCK_SAYS
from firmware_proto.messages import SEALED, GetResult, decode, decode_plain, encode
from firmware_proto.phone_session import GATEWAY_SAYS, PHONE_SAYS
from firmware_proto.resumption import ResumptionSecret
from firmware_proto.resumption import records as resumed
from tests.support import wire
from tests.support.messages import (
    ALL_TYPES,
    ANY_MESSAGE,
    ANY_PLAIN,
    CDDL,
    example,
    rows,
    schema,
)
from tests.vectorgen import example as published

SEALED_SCHEMA = schema("sealed-message")
PLAIN_SCHEMAS = {Hello: schema("hello"), Resume: schema("resume")}


def agreed(cls: type, data: bytes) -> bool:
    """Whether both accept; they must not differ."""
    try:
        decode(data) if cls in SEALED.values() else decode_plain(cls, data)
        by_code = True
    except RemoteProtocolError:
        by_code = False
    try:
        PLAIN_SCHEMAS.get(cls, SEALED_SCHEMA).validate_cbor(data)
        by_schema = True
    except ValidationError:
        by_schema = False
    assert by_code == by_schema, data.hex()
    return by_code


@given(ANY_MESSAGE)
@settings(max_examples=100, deadline=None)
def test_the_schema_accepts_every_message(message):
    assert agreed(type(message), encode(message))


@given(ANY_PLAIN)
@settings(max_examples=40, deadline=None)
def test_the_schema_accepts_every_plain_message(message):
    assert agreed(type(message), encode(message))


def wrong_values(row) -> list[object]:  # noqa: PLR0911 - a kind of field each
    """Values that a field must not hold."""
    common: list[object] = [None, {}, [], -1, 2**53]
    match row.rule:
        case Unsigned(most, least):
            return [*common, b"", "", True, most + 1, *([least - 1] if least else [])]
        case Bytes(least, most):
            return [*common, "", 5, bytes(most + 1), *([bytes(least - 1)] if least else [])]
        case Text(_, most):
            return [*common, b"a", "", 5, "a" * (most + 1), "ä" * (most // 2 + 1)]
        case Enumeration(kind):
            known = {int(member) for member in kind}
            return [*common, "", True, *sorted(set(range(100)) - known)]
        case Boolean():
            return [*common, 0, 1, "", b""]
        case Point():  # whether it is on the curve, CDDL cannot say
            return [*common, "", 5, bytes(63), bytes(65)]
        case _:
            # Only here, because cddl-rs lets a non-empty array stand for a bool.
            return [*common, 0, 1, "", b"", [1, 2], [1, 101, True], [65536, 1, True], [1, 1, 1]]


@pytest.mark.parametrize("cls", ALL_TYPES)
def test_both_refuse_every_wrong_field(cls):
    for full in (True, False):
        whole = cbor.decode(encode(example(cls, full=full)))
        assert agreed(cls, cbor.encode(whole))
        for row in rows(cls):
            for value in wrong_values(row):
                assert not agreed(cls, cbor.encode({**whole, row.key: value}))
        for key in [row.key for row in rows(cls) if not row.optional]:
            assert not agreed(cls, cbor.encode({k: v for k, v in whole.items() if k != key}))
        for unknown in (63, 64, -1, "type"):
            assert not agreed(cls, cbor.encode({**whole, unknown: 0}))


def test_both_refuse_every_unknown_type():
    for number in set(range(70)) - set(SEALED):
        assert not agreed(GetResult, cbor.encode({0: number}))


@pytest.mark.parametrize(
    ("rule", "direction"),
    [
        ("phone-message", PHONE_SAYS),
        ("gateway-message", GATEWAY_SAYS),
        ("command", COMMANDS),
        ("lock-message", LOCK_SAYS),
    ],
)
def test_the_directions_of_the_schema_are_those_of_the_sessions(rule, direction):
    directed = schema(rule)
    for cls in SEALED.values():
        for full in (True, False):
            message = example(cls, full=full)
            if direction.allows(message):
                directed.validate_cbor(encode(message))
            else:
                with pytest.raises(ValidationError):
                    directed.validate_cbor(encode(message))


@pytest.mark.parametrize(
    ("rule", "enum"),
    [
        ("action", codes.Action),
        ("presence", codes.Presence),
        ("item", codes.Item),
        ("outcome", codes.Outcome),
        ("reason", codes.Reason),
        ("fault", codes.Fault),
        ("bolt-state", codes.BoltState),
        ("latch-state", codes.LatchState),
        ("door-state", codes.DoorState),
        ("mechanism", codes.Mechanism),
        ("event-kind", codes.EventKind),
    ],
)
def test_the_numbers_are_those_of_the_code(rule: str, enum: type[IntEnum]):
    found = re.search(rf"^{rule} = &\(([^)]*)\)", CDDL, re.MULTILINE)
    assert found is not None
    pairs = re.findall(r"([a-z-]+): (\d+)", found[1])
    assert {name.upper().replace("-", "_"): int(number) for name, number in pairs} == {
        member.name: int(member) for member in enum
    }


def test_records_and_their_contexts():
    hello = encode(Hello(b"session1", 1, bytes(16), 0))
    resume = encode(Resume(b"session1", bytes(16)))
    secret = ResumptionSecret(b"session1", bytes(32))
    sealed = resumed(secret, hello, resume, initiator=True).seal(b"")
    schema("record").validate_cbor(sealed)
    protected, unprotected, ciphertext = cbor.decode(sealed)
    schema("record-protected").validate_cbor(protected)
    for direction in records.Direction:
        schema("record-context").validate_cbor(cbor.encode([records.CONTEXT, int(direction)]))
    for wrong in ([protected, {6: b""}, ciphertext], [protected, unprotected], [b"", {}, b""]):
        with pytest.raises(ValidationError):
            schema("record").validate_cbor(cbor.encode(wrong))
    with pytest.raises(ValidationError):
        schema("record-protected").validate_cbor(cbor.encode({1: 31}))


def test_lock_credentials():
    ccs = edhoc.ccs("street", wire.LOCK_KEY.public_key(), key_id(wire.LOCK_KEY.public_key()))
    schema("lock-credential").validate_cbor(ccs)
    with pytest.raises(ValidationError):
        schema("lock-credential").validate_cbor(cbor.encode({2: "lock"}))


def test_key_tokens():
    schema("key-token").validate_cbor(published.TOKEN)
    protected, _, payload, _ = cbor.decode(published.TOKEN)
    schema("key-token-protected").validate_cbor(protected)
    schema("key-claims").validate_cbor(payload)
    claims = cbor.decode(payload)
    with pytest.raises(ValidationError):
        schema("key-claims").validate_cbor(cbor.encode({**claims, 7: bytes(7)}))
    schema("key-scope").validate_cbor(claims[9])
    for wrong in (["street", 8], ["street", 0], ["street"]):
        with pytest.raises(ValidationError):
            schema("key-scope").validate_cbor(cbor.encode([wrong]))


def test_gateway_credentials():
    data = credential.issue(
        credential.GatewayCredential(
            gateway="gw-1",
            doors={"street": 1, "cellar": 2},
            group="house",
            issued_at=1_700_000_000,
            expires=1_800_000_000,
            key=wire.GATEWAY_KEY.public_key(),
            log_key=bytes(32),
            receipt_key=wire.key(1005).public_key(),
        ),
        wire.OPERATOR,
        b"gateways-1",
    )
    schema("gateway-credential").validate_cbor(data)
    protected, _, claims, _ = cbor.decode(data)
    schema("gateway-credential-protected").validate_cbor(protected)
    schema("gateway-claims").validate_cbor(claims)
    with pytest.raises(ValidationError):
        schema("gateway-claims").validate_cbor(cbor.encode({**cbor.decode(claims), 99: 0}))
