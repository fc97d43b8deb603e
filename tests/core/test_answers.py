"""Answers to orders: only the gateway's, only to this order, whole or not at all."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import answers
from gatewayd.core.answers import Opened
from gatewayd.core.checkpoint import Verifier
from gatewayd.core.envelope import Kind
from gatewayd.core.model import Verdict

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
ORIGIN = "gatewayd/stairwell-7"
LOG = Verifier(ORIGIN, KEY.public_key().public_bytes_raw())
REQUEST = b"r" * 16
OPENED = Opened(Verdict(Outcome.CONFIRMED, Reason.OK), 7, b"receipt")
GOOD = answers.sign(Kind.OPEN, REQUEST, OPENED.body(), ORIGIN, KEY)


def fault(data: bytes, kind: Kind = Kind.OPEN, request: bytes = REQUEST) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        answers.verify(data, kind, request, LOG)
    return caught.value.fault


def test_an_answer_comes_back() -> None:
    assert Opened.of(answers.verify(GOOD, Kind.OPEN, REQUEST, LOG)) == OPENED


def test_it_is_of_this_gateway_and_to_this_order() -> None:
    assert fault(GOOD, request=b"s" * 16) is Fault.REPLAYED
    assert fault(GOOD, kind=Kind.PULL) is Fault.MALFORMED
    forged = answers.sign(Kind.OPEN, REQUEST, OPENED.body(), ORIGIN, OTHER)
    elsewhere = answers.sign(Kind.OPEN, REQUEST, OPENED.body(), "gatewayd/other", KEY)
    for data in (forged, elsewhere):
        assert fault(data) is Fault.AUTHENTICATION_FAILED
    assert answers.seal_info(ORIGIN, REQUEST) != answers.seal_info(ORIGIN, b"s" * 16)


def test_every_byte_counts() -> None:
    for length in range(len(GOOD)):
        assert fault(GOOD[:length])
    assert fault(GOOD + b"\0")
    for at in range(len(GOOD)):
        assert fault(GOOD[:at] + bytes([GOOD[at] ^ 1]) + GOOD[at + 1 :])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-1, 9) | st.binary(max_size=20),
        lambda inner: st.lists(inner, max_size=6),
    )
)
def test_what_is_signed_and_no_answer_is_none(payload) -> None:
    aad = answers._aad(ORIGIN)
    data = cose.sign1(cbor.encode(payload), KEY, protected={}, external_aad=aad)
    assert fault(data) in {Fault.MALFORMED, Fault.REPLAYED}


def test_no_other_version_and_no_true_for_one() -> None:
    for version, kind in ((2, 6), (True, 6), (1, 7)):
        payload = cbor.encode([version, kind, REQUEST, None])
        data = cose.sign1(payload, KEY, protected={}, external_aad=answers._aad(ORIGIN))
        assert fault(data) is Fault.MALFORMED


@given(
    st.sampled_from(Outcome),
    st.sampled_from(Reason),
    st.none() | st.integers(0, 2**63 - 1),
    st.none() | st.binary(),
)
def test_every_outcome_comes_back(outcome, reason, seq, receipt) -> None:
    opened = Opened(Verdict(outcome, reason), seq, receipt)
    assert Opened.of(cbor.decode(cbor.encode(opened.body()))) == opened


@pytest.mark.parametrize(
    "body",
    [
        [1, 0, None], [1, 0, None, None, None], [True, 0, None, None], [1, True, None, None],
        [9, 0, None, None], [1, 999, None, None], [1, 0, -1, None], [1, 0, True, None],
        [1, 0, 2**63, None], [1, 0, None, "x"], [], None, "x",
    ],
)  # fmt: skip
def test_no_other_body_is_an_opening(body) -> None:
    with pytest.raises(RemoteProtocolError):
        Opened.of(body)
