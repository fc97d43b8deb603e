from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor, cose
from firmware_proto.codes import Action, Fault, KeyClass
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from gatewayd.cloud.authority import Authority, GatewayKeys
from gatewayd.core.trust import (
    ALL_ACTIONS,
    ALL_CLASSES,
    MAX_BUNDLE_BYTES,
    TRUST_TYPE,
    Issuer,
    Role,
    Trust,
    sign_bundle,
    verify_bundle,
    verify_credential,
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
    roots=(ROOT.public_key(), OTHER.public_key()),
    recovery=ISSUER.public_key(),
    witnesses={"cloud.example/witness": b"w" * 32},
    others={Role.COMMAND: (OTHER.public_key(),)},
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


def test_any_of_several_keys_may_have_signed_it():
    keys = (OTHER.public_key(), ROOT.public_key())
    assert verify_bundle(GOOD, *keys) == TRUST
    with pytest.raises(RemoteProtocolError):
        verify_bundle(GOOD)


def test_the_keys_of_a_role_begin_with_the_one_in_use():
    assert TRUST.keys(Role.COMMAND) == (ROLES[1].public_key(), OTHER.public_key())
    assert TRUST.keys(Role.TIME) == (TRUST.time_key,)
    assert TRUST.keys(Role.GATEWAYS) == (TRUST.gateways_key,)


def test_what_no_gateway_would_take_is_not_signed():
    for wrong in (
        replace(TRUST, roots=()),
        replace(TRUST, group=""),
        replace(TRUST, issuers={bytes([n]): TRUST.issuers[b"b"] for n in range(200)}),
    ):
        with pytest.raises(LocalProtocolError):
            sign_bundle(wrong, ROOT)
    assert fault_of(GOOD + bytes(MAX_BUNDLE_BYTES)) is Fault.MALFORMED


def test_a_credential_may_be_signed_by_any_key_of_the_role():
    authority, keys = Authority.create("house-7"), GatewayKeys.create()
    data = authority.gateway_credential("gw", {"front": 1}, keys, issued_at=1, expires=2)
    trust = authority.trust()
    assert verify_credential(data, trust).gateway == "gw"
    going = {Role.GATEWAYS: (OTHER.public_key(), trust.gateways_key)}
    later = replace(trust, gateways_key=ROOT.public_key(), others=going)
    assert verify_credential(data, later).gateway == "gw"
    with pytest.raises(RemoteProtocolError):
        verify_credential(data, TRUST)


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
        ((0,), 3),
        ((0,), True),
        ((1,), True),
        ((1,), "3"),
        ((2,), b"house-7"),
        ((3,), []),
        ((3,), {}),
        ((3, 1), None),
        ((3,), 9 * BODY[3][:1]),
        ((3,), 2 * BODY[3][:1]),
        ((4,), 5),
        ((5,), []),
        ((5, "text"), []),
        ((5, b""), []),
        ((5, b"x" * 17), []),
        ((5, b"b"), []),
        ((5, b"b", 0), 5),
        ((5, b"b", 1), {}),
        ((5, b"b", 2), ["yard", "front"]),
        ((5, b"b", 2), ["front", "front"]),
        ((5, b"b", 2), ["front", 5]),
        ((5, b"b", 3), 0),
        ((5, b"b", 3), 8),
        ((5, b"b", 3), True),
        ((5, b"b", 4), [9]),
        ((5, b"b", 4), ["guest"]),
        ((5, b"b", 4), [[]]),
        ((5, b"b", 4), [4, 3]),
        ((5, b"b", 4), [3, 3]),
        ((5, b"b", 5), True),
        ((5, b"b", 5), None),
        ((0,), 1),
        ((1,), 0),
        ((1,), 2**63),
        ((2,), ""),
        ((2,), "x" * 65),
        ((6,), []),
        ((7,), None),
        ((8,), 5 * BODY[6]),
        ((9,), {}),
        ((10,), []),
        ((10,), {"": b"w" * 32}),
        ((10,), {5: b"w" * 32}),
        ((10,), {"w": b"w" * 31}),
        ((10,), {f"w{n}": b"w" * 32 for n in range(9)}),
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


@given(st.integers(0, 10), VALUES)
def test_nothing_but_a_protocol_error_comes_of_what_root_signs(position, value):
    try:
        verify_bundle(changed((position,), value), ROOT.public_key())
    except RemoteProtocolError as error:
        assert error.fault is Fault.MALFORMED  # noqa: PT017 - either answer is right
