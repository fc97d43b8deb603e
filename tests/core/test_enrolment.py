"""A request only the claim's holder makes; an answer only this operator gives, to this request."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.cloud.authority import Authority, new_key
from gatewayd.core import certificates, enrolment
from gatewayd.core.certificates import Use
from gatewayd.core.enrolment import (
    EnrolmentRefusedError,
    Grant,
    Refusal,
    Request,
    claim_of,
    sign_answer,
    verify_answer,
)
from gatewayd.core.renewal import MAX_RENEWAL_BYTES, RENEWAL_TYPE, Issued
from tests.support.enrolling import CA, DAY_S, GATEWAY, NOW, OPERATOR, Device, make_claim
from tests.support.parsing import REFUSED, parsed_or_refused

CLAIM = make_claim()
CLAIM_KEY = CLAIM.key.public_key()
DEVICE = Device()
REQUEST = DEVICE.request(CLAIM)
SIGNED = REQUEST.sign(CLAIM)
GRANT = DEVICE.grant(CLAIM)


def answer(result: Grant | Refusal = GRANT, by: Authority = OPERATOR, digest: bytes = b"") -> bytes:
    return sign_answer(
        digest or REQUEST.digest,
        result,
        root=by.root.public_key(),
        bundle=by.bundle(),
        gateways=by.gateways,
    )


ANSWER = answer()


# --- the request ---------------------------------------------------------------------
def test_a_request_reads_back_and_is_the_same_each_time() -> None:
    assert Request.verify(SIGNED, CLAIM_KEY) == REQUEST
    assert claim_of(SIGNED) == CLAIM.id
    assert REQUEST.sign(CLAIM) == SIGNED
    assert REQUEST.tls_key == DEVICE.tls.public_key()


def test_whoever_lacks_the_claim_asks_in_vain() -> None:
    forged = REQUEST.sign(make_claim(secret=bytes(16)))
    with pytest.raises(RemoteProtocolError) as raised:
        Request.verify(forged, CLAIM_KEY)
    assert raised.value.fault is Fault.AUTHENTICATION_FAILED


@pytest.mark.parametrize(
    "changes",
    [
        {"claim": bytes(16)},
        {"claim": bytes(15)},
        {"log_key": bytes(31)},
        {"receipt_key": REQUEST.key},
        {"answer_key": REQUEST.receipt_key},
        {"key": DEVICE.tls.public_key()},
        {"certificate_request": b""},
        {"certificate_request": bytes(4096)},
    ],
    ids=range(8),
)
def test_an_authentic_request_that_is_wrong_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError):
        Request.verify(replace(REQUEST, **changes).sign(CLAIM), CLAIM_KEY)  # type: ignore[arg-type]


def signed(
    payload: bytes, kind: str = enrolment.REQUEST_TYPE, **headers: dict[int, object]
) -> bytes:
    return cose.sign1(payload, CLAIM.key, protected={cose.HEADER_TYP: kind}, **headers)  # type: ignore[arg-type]


def test_other_forms_of_a_request_are_refused() -> None:
    payload = cose.Sign1.parse(SIGNED).payload
    fields = cbor.decode(payload)
    assert isinstance(fields, list)
    for other in (
        signed(payload, "application/cwt"),
        signed(payload, unprotected={4: b"kid"}),
        cose.sign1(payload, CLAIM.key, protected={}),
        signed(cbor.encode([True, *fields[1:]])),
        signed(cbor.encode([*fields, 1])),
        signed(cbor.encode(1)),
    ):
        with pytest.raises(RemoteProtocolError):
            Request.verify(other, CLAIM_KEY)


# --- the answer ----------------------------------------------------------------------
def test_a_grant_is_believed_with_all_that_it_brings() -> None:
    found = verify_answer(ANSWER, CLAIM, REQUEST)
    assert found.grant == GRANT
    assert found.bundle == OPERATOR.bundle()
    assert (found.credential.gateway, found.time_s) == (GATEWAY, NOW)
    assert enrolment.seal_info(CLAIM.id) != enrolment.seal_info(bytes(16))


@pytest.mark.parametrize("refusal", Refusal)
def test_a_refusal_is_the_operators_word(refusal: Refusal) -> None:
    with pytest.raises(EnrolmentRefusedError) as raised:
        verify_answer(answer(refusal), CLAIM, REQUEST)
    assert raised.value.refusal is refusal


def test_an_answer_of_somebody_else_or_to_somebody_else_is_not_taken() -> None:
    other = Authority.create(CLAIM.group)
    elsewhere = Authority(
        "elsewhere", OPERATOR.root, OPERATOR.gateways, OPERATOR.command, OPERATOR.time,
        OPERATOR.seal,
    )  # fmt: skip
    impostor = replace(OPERATOR, gateways=new_key())
    swapped = sign_answer(
        REQUEST.digest, GRANT,
        root=OPERATOR.root.public_key(), bundle=OPERATOR.bundle(), gateways=impostor.gateways,
    )  # fmt: skip
    for wrong in (answer(by=other), answer(by=elsewhere), answer(digest=bytes(32)), swapped):
        with pytest.raises(RemoteProtocolError) as raised:
            verify_answer(wrong, CLAIM, REQUEST)
        assert raised.value.fault is Fault.AUTHENTICATION_FAILED


def leaf(name: str = GATEWAY, *, key: object = None, ca: certificates.Authority = CA) -> bytes:
    made = ca.issue(
        name, key or DEVICE.tls.public_key(),  # type: ignore[arg-type]
        use=Use.CLIENT, now_s=NOW, lifetime_s=DAY_S, serial=bytes(16),
    )  # fmt: skip
    return made.der


OTHER_CA = certificates.Authority.create(
    "other", new_key(), now_s=NOW, lifetime_s=DAY_S, serial=bytes(16)
)


@pytest.mark.parametrize(
    "changes",
    [
        {"credential": Device().grant(CLAIM).credential},
        {"credential": DEVICE.grant(make_claim(doors=("street",))).credential},
        {"credential": b""},
        {"certificate": leaf("other")},
        {"certificate": leaf(key=new_key().public_key())},
        {"certificate": leaf(ca=OTHER_CA)},
        {"certificate": b""},
        {"authority": b""},
        {"authorities": (b"",)},
        {"authorities": (1,)},
        {"authorities": (CA.certificate.der,) * 5},
        {"broker": "b" * 201},
        {"time": b""},
    ],
    ids=range(13),
)
def test_a_grant_that_does_not_fit_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError):
        verify_answer(answer(replace(GRANT, **changes)), CLAIM, REQUEST)  # type: ignore[arg-type]


def test_other_forms_of_an_answer_are_refused() -> None:
    fields = cbor.decode(ANSWER)
    assert isinstance(fields, list)
    form, root, bundle, _ = fields
    statements = [
        cose.sign1(payload, OPERATOR.gateways, protected={cose.HEADER_TYP: enrolment.ANSWER_TYPE})
        for payload in (
            cbor.encode([1, REQUEST.digest]),
            cbor.encode([1, b"", 1]),
            cbor.encode([1, REQUEST.digest, 7]),
            cbor.encode([1, REQUEST.digest, True]),
        )
    ]
    for other in (
        *(cbor.encode([form, root, bundle, each]) for each in statements),
        cbor.encode([True, *fields[1:]]),
        cbor.encode([*fields, 1]),
        cbor.encode([form, root, bundle, bytes(enrolment.MAX_ANSWER_BYTES + 1)]),
    ):
        with pytest.raises(RemoteProtocolError):
            verify_answer(other, CLAIM, REQUEST)


# --- the next certificate ------------------------------------------------------------------
def test_a_renewal_is_believed_from_this_operator_for_this_key_alone() -> None:
    key = DEVICE.tls.public_key()
    made = Issued(certificates.Certificate.parse(leaf()), CA.certificate)
    data = made.sign(OPERATOR.gateways)
    assert Issued.verify(data, OPERATOR.trust(), GATEWAY, key) == made
    kind = {cose.HEADER_TYP: RENEWAL_TYPE}
    elsewhere = certificates.Authority.create(
        "another", new_key(), now_s=NOW, lifetime_s=DAY_S, serial=bytes(16)
    )
    for wrong in (
        made.sign(OPERATOR.command),
        Issued(made.certificate, elsewhere.certificate).sign(OPERATOR.gateways),
        cose.sign1(cbor.encode([1]), OPERATOR.gateways, protected=kind),
        answer(),
        cose.sign1(bytes(MAX_RENEWAL_BYTES), OPERATOR.gateways, protected=kind),
        cose.sign1(
            cbor.encode([1, made.certificate.der, made.authority.der]),
            OPERATOR.gateways,
            protected={cose.HEADER_TYP: enrolment.ANSWER_TYPE},
        ),
    ):
        with pytest.raises(RemoteProtocolError):
            Issued.verify(wrong, OPERATOR.trust(), GATEWAY, key)
    for name, other in (("stairwell-8", key), (GATEWAY, new_key().public_key())):
        with pytest.raises(RemoteProtocolError):
            Issued.verify(data, OPERATOR.trust(), name, other)


# --- any bytes ------------------------------------------------------------------------------
PARSERS = {
    "claim_of": (claim_of, SIGNED),
    "request": (lambda data: Request.verify(data, CLAIM_KEY), SIGNED),
    "answer": (lambda data: verify_answer(data, CLAIM, REQUEST), ANSWER),
    "renewal": (
        lambda data: Issued.verify(data, OPERATOR.trust(), GATEWAY, DEVICE.tls.public_key()),
        Issued(certificates.Certificate.parse(leaf()), CA.certificate).sign(OPERATOR.gateways),
    ),
}


@pytest.mark.parametrize("name", PARSERS)
def test_every_truncation_and_every_byte_behind_is_refused(name: str) -> None:
    parse, whole = PARSERS[name]
    parse(whole)
    for wrong in (*(whole[:length] for length in range(len(whole))), whole + b"\0"):
        assert parsed_or_refused(parse, wrong) is REFUSED


@given(st.sampled_from(["request", "answer", "renewal"]), st.data())
def test_no_changed_byte_is_believed(name: str, data: st.DataObject) -> None:
    parse, whole = PARSERS[name]
    at = data.draw(st.integers(0, len(whole) - 1))
    change = data.draw(st.integers(1, 255))
    changed = whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :]
    assert parsed_or_refused(parse, changed) is REFUSED


@given(st.sampled_from(sorted(PARSERS)), st.binary(max_size=120))
def test_nothing_but_the_one_error_comes_out_of_any_bytes(name: str, data: bytes) -> None:
    assert parsed_or_refused(PARSERS[name][0], data) is REFUSED
