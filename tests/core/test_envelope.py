from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import envelope
from gatewayd.core.envelope import (
    ENVELOPE_TYPE,
    EVERYBODY,
    Floor,
    Kind,
    Retire,
    Statement,
    TimeAnswer,
)
from gatewayd.core.trust import Role, Trust

COMMAND, TIME, OTHER = (ec.derive_private_key(n, ec.SECP256R1()) for n in (21, 22, 23))
TRUST = Trust(
    1,
    "house-7",
    {},
    OTHER.public_key(),
    COMMAND.public_key(),
    TIME.public_key(),
    OTHER.public_key(),
)
US = ("gw-1", "house-7", EVERYBODY)
T = 1_800_000_000
K = bytes(32)
PULL = Statement(Kind.PULL, "gw-1", b"i" * 16, T + 60, [0, 4096])
ANSWER = Statement(Kind.TIME, "gw-1", b"j" * 16, T + 60, TimeAnswer(b"n" * 16, T).body())
GOOD = envelope.sign(PULL, COMMAND)
FIELDS = cbor.decode(cose.Sign1.parse(GOOD).payload)


def verify(data, kind=Kind.PULL, addressees=US, floor_s=T):
    return envelope.verify(data, TRUST, kind=kind, addressees=addressees, floor_s=floor_s)


def fault_of(data, **how) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        verify(data, **how)
    return caught.value.fault


def signed(fields, typ=ENVELOPE_TYPE, **headers) -> bytes:
    return cose.sign1(cbor.encode(fields), COMMAND, protected={cose.HEADER_TYP: typ}, **headers)


def test_what_the_operator_said_comes_back():
    assert verify(GOOD) == PULL
    for addressee in US:
        said = replace(PULL, addressee=addressee)
        assert verify(envelope.sign(said, COMMAND)) == said


def test_each_kind_has_its_key():
    assert verify(envelope.sign(ANSWER, TIME), kind=Kind.TIME) == ANSWER
    for kind, key in ((Kind.PULL, TIME), (Kind.ACK, TIME), (Kind.TIME, COMMAND)):
        data = envelope.sign(replace(PULL, kind=kind), key)
        assert fault_of(data, kind=kind) is Fault.AUTHENTICATION_FAILED


def test_it_must_be_the_kind_expected_and_for_us():
    assert fault_of(GOOD, kind=Kind.ACK) is Fault.UNEXPECTED
    assert fault_of(GOOD, addressees=("gw-2", "house-7")) is Fault.UNEXPECTED


def test_what_the_floor_has_passed_is_over():
    assert verify(GOOD, floor_s=T + 59) == PULL
    assert fault_of(GOOD, floor_s=T + 60) is Fault.CLOCK_EXPIRED


def test_another_type_of_statement_is_refused():
    assert signed(FIELDS) == GOOD
    assert fault_of(signed(FIELDS, typ="application/other")) is Fault.MALFORMED
    assert fault_of(signed(FIELDS, unprotected={4: b"k"})) is Fault.MALFORMED
    assert fault_of(cose.sign1(cbor.encode(FIELDS), COMMAND, protected={})) is Fault.MALFORMED


@pytest.mark.parametrize(
    ("position", "value"),
    [
        *((0, 1), (0, True), (1, 9), (1, True), (1, "1"), (2, b"gw-1"), (3, b"i" * 15)),
        *((4, True), (5, 1), (5, True), (5, 0), (1, 4)),
    ],
)
def test_every_field_is_checked(position, value):
    fields = [*FIELDS[:position], value, *FIELDS[position + 1 :]]
    assert fault_of(signed(fields), floor_s=0) is Fault.MALFORMED


def test_truncated_or_longer_is_refused():
    for length in range(len(GOOD)):
        assert fault_of(GOOD[:length]) is Fault.MALFORMED
    assert fault_of(GOOD + b"\0") is Fault.MALFORMED


def test_what_lasts_is_numbered_and_nothing_else_is():
    order = Statement(Kind.RETIRE, "gw-1", b"r" * 16, T + 60, Retire(9, bytes(32)).body(), 1)
    assert verify(envelope.sign(order, COMMAND), kind=Kind.RETIRE) == order
    for wrong in (None, 0, -1, 2**63, True, "1"):
        data = envelope.sign(replace(order, number=wrong), COMMAND)
        assert fault_of(data, kind=Kind.RETIRE) is Fault.MALFORMED


def test_only_a_root_or_the_recovery_key_mends_the_floor_and_an_expired_floor_cannot_hinder():
    order = Statement(Kind.FLOOR, "gw-1", b"f" * 16, T + 60, Floor(T + 900, T).body())
    roots = replace(TRUST, roots=(OTHER.public_key(),), recovery=TIME.public_key())
    for key in (OTHER, TIME):
        found, signer = envelope.opened(envelope.sign(order, key), roots)
        envelope.check(found, US, floor_s=T + 10**9)
        assert (found, signer) == (order, cose.key_id(key.public_key()))
    with pytest.raises(RemoteProtocolError):
        envelope.opened(envelope.sign(order, COMMAND), roots)
    with pytest.raises(RemoteProtocolError):
        envelope.opened(envelope.sign(order, TIME), replace(roots, recovery=None))
    with pytest.raises(RemoteProtocolError):
        envelope.check(order, ("gw-2",), floor_s=0)


def test_an_overlapping_key_of_a_role_signs_too():
    both = replace(TRUST, others={Role.COMMAND: (OTHER.public_key(),)})
    assert envelope.opened(envelope.sign(PULL, OTHER), both)[0] == PULL


@pytest.mark.parametrize(
    ("form", "bodies"),
    [
        (
            Retire,
            (
                *([], [1], [True, K], [-1, K], [2**63, K], ["1", K], [1, K, 2], None, {}),
                *([1, K + b"k"], [1, "k" * 32]),
            ),
        ),
        (Floor, ([], [1], [5, 5], [4, 5], [5, -1], [True, 0], [5, False], [10**12, 1], None)),
    ],
)
def test_bodies_of_orders_are_read_strictly(form, bodies):
    good = Retire(0, K) if form is Retire else Floor(2, 1)
    assert form.of(good.body()) == good
    for body in bodies:
        with pytest.raises(RemoteProtocolError) as caught:
            form.of(body)
        assert caught.value.fault is Fault.MALFORMED


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(position, change):
    data = bytearray(GOOD)
    data[position] ^= change
    assert fault_of(bytes(data)) in {
        Fault.MALFORMED,
        Fault.AUTHENTICATION_FAILED,
        Fault.UNSUPPORTED,
    }


def test_an_answer_about_time_names_its_nonce():
    answer = TimeAnswer(b"n" * 16, T)
    assert TimeAnswer.of(answer.body()) == answer
    beyond = envelope.LATEST_S + 1
    assert TimeAnswer.of([b"n" * 16, beyond - 1]).time_s == beyond - 1
    for bad in (
        *([], {}, [b"n" * 15, T], [b"n" * 16, T, 1]),
        *([b"n" * 16, True], [b"n" * 16, "T"], [b"n" * 16, beyond]),
    ):
        with pytest.raises(RemoteProtocolError):
            TimeAnswer.of(bad)
