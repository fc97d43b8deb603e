from __future__ import annotations

from dataclasses import replace

import cbor2
import cwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto import cbor, cose, credential
from firmware_proto.codes import Fault
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from tests.support.handshakes import private_key
from tests.support.parsing import REFUSED, parsed_or_refused

OPERATOR = private_key(0x5001)
GATEWAY = private_key(0x5002)
RECEIPTS = private_key(0x5003)
CREDENTIAL = credential.GatewayCredential(
    gateway="gateway-1",
    doors={"front": 3, "yard": 0},
    group="house-7",
    issued_at=1_800_000_000,
    expires=1_900_000_000,
    key=GATEWAY.public_key(),
    log_key=bytes(range(32)),
    receipt_key=RECEIPTS.public_key(),
)
ISSUED = credential.issue(CREDENTIAL, OPERATOR, b"operator")
CLAIMS = cbor.decode(cose.Sign1.parse(ISSUED).payload)
KEY = cose.public_key_to_cose(GATEWAY.public_key())


def signed(claims=CLAIMS, *, protected=None, unprotected=None, key=OPERATOR) -> bytes:
    """A credential with other claims or headers, properly signed."""
    return cose.sign1(
        cbor.encode(claims),
        key,
        protected={16: credential.CREDENTIAL_TYPE} if protected is None else protected,
        unprotected={4: b"operator"} if unprotected is None else unprotected,
    )


def test_what_is_issued_verifies():
    assert credential.verify(ISSUED, OPERATOR.public_key()) == CREDENTIAL
    assert signed() == ISSUED


def test_another_implementation_verifies_it():
    pem = OPERATOR.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    key = cwt.COSEKey.from_pem(pem, kid=b"operator", alg="ES256")
    tagged = cbor2.dumps(cbor2.CBORTag(18, cbor2.loads(ISSUED)))
    claims = cwt.CWT.new(leeway=10**10).decode(tagged, key)
    assert claims[2] == "gateway-1"
    assert claims[4] == 1_900_000_000
    assert claims[8] == {1: KEY}


def test_only_the_operators_key_verifies_it():
    for other in (GATEWAY, RECEIPTS):
        with pytest.raises(RemoteProtocolError) as caught:
            credential.verify(ISSUED, other.public_key())
        assert caught.value.fault is Fault.AUTHENTICATION_FAILED
    with pytest.raises(RemoteProtocolError, match="does not verify"):
        credential.verify(signed(key=GATEWAY), OPERATOR.public_key())


def test_headers_are_exactly_these():
    good = credential.CREDENTIAL_TYPE
    for protected, unprotected, detail in (
        ({}, None, "other protected"),
        ({16: good, 3: 61}, None, "other protected"),
        ({16: "application/gatewayd-key+cwt"}, None, "another type"),
        ({16: 61}, None, "another type"),
        (None, {}, "other unprotected"),
        (None, {4: b"operator", 5: b"x"}, "other unprotected"),
        (None, {4: "operator"}, "kid is no byte string"),
        ({16: good, 4: b"operator"}, {}, "other protected"),
    ):
        with pytest.raises(RemoteProtocolError, match=detail) as caught:
            credential.verify(
                signed(protected=protected, unprotected=unprotected), OPERATOR.public_key()
            )
        assert caught.value.fault is Fault.MALFORMED


DOORS, GROUP, LOG_KEY, RECEIPT_KEY = -65601, -65602, -65603, -65604


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({1: "issuer"}, "unknown or missing"),
        ({-65605: 1}, "unknown or missing"),
        ({2: b"gateway"}, "a name"),
        ({2: ""}, "a name"),
        ({2: "g" * 65}, "a name"),
        ({2: "\u00fc" * 33}, "a name"),
        ({GROUP: 7}, "a name"),
        ({4: -1}, "a number"),
        ({4: True}, "a number"),
        ({4: 2**63}, "a number"),
        ({4: "1900000000"}, "a number"),
        ({6: None}, "a number"),
        ({4: 1_800_000_000}, "expires before"),
        ({8: KEY}, "cnf holds"),
        ({8: {1: KEY, 2: b"x"}}, "cnf holds"),
        ({8: [KEY]}, "cnf holds"),
        ({8: {1: {**KEY, -3: KEY[-2]}}}, "not a point"),
        ({DOORS: {}}, "no doors"),
        ({DOORS: ["front"]}, "no doors"),
        ({DOORS: {"": 1}}, "a name"),
        ({DOORS: {7: 1}}, "a name"),
        ({DOORS: {"d" * 33: 1}}, "a name"),
        ({DOORS: {"front": -1}}, "a number"),
        ({DOORS: {"front": True}}, "a number"),
        ({LOG_KEY: bytes(31)}, "log key"),
        ({LOG_KEY: "k" * 32}, "log key"),
        ({RECEIPT_KEY: KEY}, "two purposes"),
        ({RECEIPT_KEY: {}}, "unknown or missing"),
    ],
)
def test_claims_are_refused_for_their_reason(changes, detail):
    with pytest.raises(RemoteProtocolError, match=detail) as caught:
        credential.verify(signed({**CLAIMS, **changes}), OPERATOR.public_key())
    assert caught.value.fault is Fault.MALFORMED


@pytest.mark.parametrize("claim", sorted(CLAIMS))
def test_no_claim_may_be_missing(claim):
    fewer = {name: value for name, value in CLAIMS.items() if name != claim}
    with pytest.raises(RemoteProtocolError, match="unknown or missing claims"):
        credential.verify(signed(fewer), OPERATOR.public_key())


def test_claims_are_a_map():
    with pytest.raises(RemoteProtocolError, match="unknown or missing claims"):
        credential.verify(signed([]), OPERATOR.public_key())


@pytest.mark.parametrize(
    "changes",
    [
        {"gateway": ""},
        {"doors": {}},
        {"doors": {"front": -1}},
        {"group": "g" * 65},
        {"expires": 1_800_000_000},
        {"expires": 1.5},
        {"log_key": b""},
        {"receipt_key": GATEWAY.public_key()},
        {"key": ec.derive_private_key(7, ec.SECP384R1()).public_key()},
    ],
)
def test_what_no_one_would_accept_is_not_issued(changes):
    with pytest.raises(LocalProtocolError):
        credential.issue(replace(CREDENTIAL, **changes), OPERATOR, b"operator")


def test_it_is_refused_cut_off_at_every_byte_and_prolonged():
    wrong = [ISSUED[:end] for end in range(len(ISSUED))] + [ISSUED + b"\x00", b"\xd2" + ISSUED]
    for data in wrong:
        with pytest.raises(RemoteProtocolError):
            credential.verify(data, OPERATOR.public_key())


def again(data: bytes) -> bytes:
    """Verified and issued anew: RFC 6979 makes that the same bytes."""
    found = credential.verify(data, OPERATOR.public_key())
    return credential.issue(found, OPERATOR, cose.Sign1.parse(data).unprotected[4])


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
numbers = st.integers(0, 2**63 - 1)


@given(
    st.builds(
        replace,
        st.just(CREDENTIAL),
        gateway=names,
        group=names,
        doors=st.dictionaries(names, numbers, min_size=1, max_size=6),
        issued_at=st.integers(0, 1_899_999_999),
        log_key=st.binary(min_size=32, max_size=32),
    )
)
@settings(max_examples=60, deadline=None)
def test_any_credential_comes_back(made):
    issued = credential.issue(made, OPERATOR, b"operator")
    assert credential.verify(issued, OPERATOR.public_key()) == made
    assert again(issued) == issued


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_verifies_was_issued_in_these_bytes(data):
    changed = bytearray(ISSUED)
    for _ in range(data.draw(st.integers(0, 2))):
        changed[data.draw(st.integers(0, len(ISSUED) - 1))] = data.draw(st.integers(0, 255))
    issued = parsed_or_refused(again, bytes(changed))
    assert issued is REFUSED or issued == changed


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**64 - 1) | st.binary(max_size=33) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(CLAIMS)), values)
@settings(max_examples=100, deadline=None)
def test_signed_nonsense_raises_nothing_else(claim, value):
    nonsense = signed({**CLAIMS, claim: value})
    issued = parsed_or_refused(again, nonsense)
    assert issued is REFUSED or issued == nonsense
