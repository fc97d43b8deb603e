from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor, cose
from firmware_proto.codes import MAX_DOOR_ID_BYTES, Fault, Outcome
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import receipt
from gatewayd.core.model import DoorId
from gatewayd.core.receipt import RECEIPT_TYPE, Receipt, cut_to_minute

GATEWAY, OTHER = (ec.derive_private_key(n, ec.SECP256R1()) for n in (31, 32))
VISIT = Receipt(
    DoorId("front"), 1_800_000_000, b"t" * 32, Outcome.CONFIRMED, "gatewayd/gw-1/log", 42
)
GOOD = receipt.issue(VISIT, GATEWAY)
FIELDS = cbor.decode(cose.Sign1.parse(GOOD).payload)


def fault_of(data, key=GATEWAY) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        receipt.verify(data, key.public_key())
    return caught.value.fault


def signed(fields, typ=RECEIPT_TYPE, **headers) -> bytes:
    return cose.sign1(cbor.encode(fields), GATEWAY, protected={cose.HEADER_TYP: typ}, **headers)


RECEIPTS = st.builds(
    Receipt,
    door=st.text(max_size=8).map(DoorId),
    minute_s=st.integers(0, 2**33).map(cut_to_minute),
    token=st.binary(min_size=32, max_size=32),
    outcome=st.sampled_from(Outcome),
    origin=st.text(max_size=20),
    seq=st.integers(0, 2**40),
)


@given(RECEIPTS)
def test_what_is_issued_verifies(given_out):
    data = receipt.issue(given_out, GATEWAY)
    assert receipt.verify(data, GATEWAY.public_key()) == given_out


def test_it_tells_the_minute_and_never_the_second():
    assert cut_to_minute(1_800_000_059) == 1_800_000_000
    with pytest.raises(ValueError, match="minute"):
        receipt.issue(replace(VISIT, minute_s=1_800_000_001), GATEWAY)


def test_it_fits_into_a_reply():
    largest = replace(VISIT, door=DoorId("d" * MAX_DOOR_ID_BYTES), seq=2**40, origin="o" * 64)
    assert len(receipt.issue(largest, GATEWAY)) < 300


def test_another_gateway_did_not_sign_it():
    assert fault_of(GOOD, OTHER) is Fault.AUTHENTICATION_FAILED


def test_truncated_or_longer_is_refused():
    for length in range(len(GOOD)):
        assert fault_of(GOOD[:length]) is Fault.MALFORMED
    assert fault_of(GOOD + b"\0") is Fault.MALFORMED


def test_another_type_of_statement_is_refused():
    assert signed(FIELDS) == GOOD
    assert fault_of(signed(FIELDS, typ="application/other")) is Fault.MALFORMED
    assert fault_of(signed(FIELDS, unprotected={4: b"k"})) is Fault.MALFORMED
    assert fault_of(cose.sign1(cbor.encode(FIELDS), GATEWAY, protected={})) is Fault.MALFORMED


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, 2),
        (1, 5),
        (2, 1_800_000_001),
        (2, False),
        (3, b"t" * 31),
        (4, 4),
        (4, True),
        (5, b""),
        (6, True),
        (6, None),
    ],
)
def test_every_field_is_checked(position, value):
    fields = [*FIELDS[:position], value, *FIELDS[position + 1 :]]
    assert fault_of(signed(fields)) is Fault.MALFORMED
