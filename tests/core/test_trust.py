import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor, cose
from firmware_proto.codes import Action, Fault, KeyClass
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.trust import (
    ALL_ACTIONS,
    ALL_CLASSES,
    TRUST_TYPE,
    Issuer,
    Trust,
    sign_bundle,
    verify_bundle,
)

ROOT, ISSUER, OTHER, *ROLES = (ec.derive_private_key(n, ec.SECP256R1()) for n in range(11, 18))
TRUST = Trust(
    3,
    "house-7",
    {
        b"a": Issuer("cloud", ISSUER.public_key(), None, ALL_ACTIONS, ALL_CLASSES, 90 * 86400),
        b"b": Issuer(
            "parcels",
            OTHER.public_key(),
            frozenset({"yard", "front"}),
            Action.OPEN,
            frozenset({KeyClass.DELIVERY}),
            86400,
        ),
    },
    *(key.public_key() for key in ROLES),
)
GOOD = sign_bundle(TRUST, ROOT)
BODY = cbor.decode(cose.Sign1.parse(GOOD).payload)


def fault_of(data: bytes, key=ROOT) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        verify_bundle(data, key.public_key())
    return caught.value.fault


def signed(body, *, typ=TRUST_TYPE, **headers) -> bytes:
    return cose.sign1(cbor.encode(body), ROOT, protected={cose.HEADER_TYP: typ}, **headers)


def changed(path: tuple, value) -> bytes:
    body = cbor.decode(cbor.encode(BODY))
    place = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return signed(body)


def test_what_root_signed_comes_back():
    assert verify_bundle(GOOD, ROOT.public_key()) == TRUST


def test_only_root_signs():
    assert fault_of(GOOD, OTHER) is Fault.AUTHENTICATION_FAILED
    assert fault_of(sign_bundle(TRUST, ISSUER)) is Fault.AUTHENTICATION_FAILED


def test_truncated_or_longer_is_refused():
    for length in range(0, len(GOOD), 7):
        assert fault_of(GOOD[:length]) is Fault.MALFORMED
    assert fault_of(GOOD + b"\0") is Fault.MALFORMED


def test_another_type_of_statement_is_refused():
    assert signed(BODY) == GOOD
    assert fault_of(signed(BODY, typ="application/other")) is Fault.MALFORMED
    assert fault_of(signed(BODY, unprotected={4: b"k"})) is Fault.MALFORMED
    assert fault_of(cose.sign1(cbor.encode(BODY), ROOT, protected={})) is Fault.MALFORMED


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((0,), 2),
        ((0,), True),
        ((1,), True),
        ((1,), "3"),
        ((2,), b"house-7"),
        ((3,), []),
        ((3, "text"), []),
        ((3, b""), []),
        ((3, b"x" * 17), []),
        ((3, b"b"), []),
        ((3, b"b", 0), 5),
        ((3, b"b", 1), {}),
        ((3, b"b", 2), ["yard", "front"]),
        ((3, b"b", 2), ["front", "front"]),
        ((3, b"b", 2), ["front", 5]),
        ((3, b"b", 3), 0),
        ((3, b"b", 3), 8),
        ((3, b"b", 3), True),
        ((3, b"b", 4), [9]),
        ((3, b"b", 4), ["guest"]),
        ((3, b"b", 4), [[]]),
        ((3, b"b", 4), [4, 3]),
        ((3, b"b", 4), [3, 3]),
        ((3, b"b", 5), True),
        ((3, b"b", 5), None),
        ((4,), {}),
        ((7,), None),
    ],
)
def test_every_field_is_checked(path, value):
    assert fault_of(changed(path, value)) is Fault.MALFORMED


def test_more_or_fewer_fields_are_another_format():
    assert fault_of(signed([*BODY, 1])) is Fault.MALFORMED
    assert fault_of(signed(BODY[:-1])) is Fault.MALFORMED
    assert fault_of(signed({})) is Fault.MALFORMED


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.binary(max_size=4) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.binary(max_size=3), inner),
    max_leaves=8,
)


@given(st.integers(0, 7), VALUES)
def test_nothing_but_a_protocol_error_comes_of_what_root_signs(position, value):
    try:
        verify_bundle(changed((position,), value), ROOT.public_key())
    except RemoteProtocolError as error:
        assert error.fault is Fault.MALFORMED  # noqa: PT017 - either answer is right
