"""Token Status Lists: the draft's own vectors, and whatever a stranger may make of one."""

import json
import math
import zlib
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.model import ClockState, TimeReading
from gatewayd.core.statuslist import (
    LIST_TYPE,
    MAX_ARRAY_BYTES,
    MAX_LIST_BYTES,
    SIGN1_TAG,
    SKEW_S,
    StatusList,
    believed,
    inflate,
    judge,
    sign,
    unverified,
    verify,
)
from gatewayd.core.trust import ALL_ACTIONS, ALL_CLASSES, Issuer, Trust
from tests.support.parsing import REFUSED, parsed_or_refused

VECTORS = json.loads((Path(__file__).parent / "vectors" / "statuslist.json").read_text())
ISSUER, OTHER, STRANGER = (ec.derive_private_key(n, ec.SECP256R1()) for n in range(71, 74))
T = 1_800_000_000
DAY = 86400


def issuer(name: str, key: ec.EllipticCurvePublicKey) -> Issuer:
    return Issuer(name, key, None, ALL_ACTIONS, ALL_CLASSES, 400 * DAY)


TRUST = Trust(
    1,
    "house-7",
    {
        b"k1": issuer("cloud", ISSUER.public_key()),
        b"k2": issuer("parcels", OTHER.public_key()),
    },
    *[OTHER.public_key()] * 4,
)
LIST = StatusList("cloud", "https://lists.example/1", T, T + 60 * DAY, 1, b"\xb9\xa3", b"k1")
GOOD = sign(LIST, ISSUER)
CLAIMS = cbor.decode(cose.Sign1.parse(GOOD[1:]).payload)
BODY = CLAIMS[65533]


def fault_of(data: bytes, trust: Trust = TRUST) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        verify(data, trust)
    return caught.value.fault


def signed(claims, *, key=ISSUER, typ=LIST_TYPE, protected=None, unprotected=None) -> bytes:
    headers = {cose.HEADER_KID: b"k1", cose.HEADER_TYP: typ} if protected is None else protected
    data = cose.sign1(cbor.encode(claims), key, protected=headers, unprotected=unprotected or {})
    return SIGN1_TAG + data


def reading(now_s: int = T, state=ClockState.TRUSTED, bound_s: float = 1.0, floor_s: int = T - DAY):
    return TimeReading(state, now_s, bound_s, floor_s)


UNKNOWN = reading(T, ClockState.UNKNOWN, math.inf)


# --- the draft's vectors -----------------------------------------------------------------
@pytest.mark.parametrize("vector", VECTORS["lists"], ids=lambda v: f"{v['bits']}x{v['entries']}")
def test_the_drafts_lists_say_what_the_draft_says(vector):
    body = cbor2.loads(bytes.fromhex(vector["cbor"]))
    assert body["bits"] == vector["bits"]
    statuses = inflate(body["lst"], 2**20)
    assert len(statuses) == vector["entries"] * vector["bits"] // 8
    held = replace(LIST, bits=vector["bits"], statuses=statuses)
    against = {index for index, value in vector["statuses"] if value}
    assert against
    near = {index + step for index in against for step in (-1, 0, 1)} | {0, vector["entries"] - 1}
    for index in near & set(range(vector["entries"])):
        assert held.vouches_for(index) == (index not in against)
    for outside in (vector["entries"], vector["entries"] + 1, 2**39):
        assert not held.vouches_for(outside)


def test_the_drafts_token_is_one_but_for_the_order_of_its_claims():
    token = VECTORS["token"]
    data = bytes.fromhex(token["cwt"])
    x, y = (int(token[each], 16) for each in "xy")
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    genuine = cose.Sign1.parse(data[1:])
    genuine.verify(key)
    trust = replace(TRUST, issuers={bytes.fromhex(token["kid"]): issuer("example", key)})
    assert fault_of(data, trust) is Fault.MALFORMED  # we take deterministic CBOR only
    assert data[:1] == SIGN1_TAG
    claims = cbor2.loads(genuine.payload)
    found = verify(signed(claims, protected=genuine.protected, unprotected={4: b"k1"}), TRUST)
    assert found.uri == token["uri"]
    assert (found.issued_at, found.expires) == (token["issued_at"], token["expires"])
    assert (found.ttl_s, found.bits, found.statuses) == (token["ttl"], 1, b"\xb9\xa3")


def test_a_list_of_ten_thousand_is_small():
    statuses = bytearray(1250)
    for index in range(37, 10_000, 100):
        statuses[index // 8] |= 1 << index % 8
    assert len(sign(replace(LIST, statuses=bytes(statuses)), ISSUER)) < 400


# --- the wrapper ---------------------------------------------------------------------------
@given(
    st.builds(
        StatusList,
        st.just("cloud"),
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=64),
        st.integers(1, T),
        st.integers(T + 1, 2**40 - 1),
        st.sampled_from([1, 2, 4, 8]),
        st.binary(min_size=1, max_size=64),
        st.just(b"k1"),
        st.none() | st.integers(1, 2**40 - 1),
    )
)
@settings(max_examples=50)
def test_what_is_signed_comes_back(status_list):
    data = sign(status_list, ISSUER)
    assert verify(data, TRUST) == status_list
    assert unverified(data) == replace(status_list, issuer="")


@pytest.mark.parametrize(
    "wrong",
    [
        {"uri": ""},
        {"uri": "u" * 257},
        {"issued_at": T + 61 * DAY},
        {"issued_at": 0},
        {"expires": 2**40},
        {"bits": 3},
        {"statuses": b""},
        {"statuses": bytes(MAX_ARRAY_BYTES + 1)},
        {"statuses": b"".join(zlib.crc32(bytes(n)).to_bytes(4, "big") for n in range(17_000))},
        {"ttl_s": 0},
        {"bits": True},
    ],
)
def test_no_list_is_signed_that_nobody_would_take(wrong):
    with pytest.raises(ValueError, match=r"."):
        sign(replace(LIST, **wrong), ISSUER)


def test_a_list_speaks_for_its_signer_only():
    assert verify(signed(CLAIMS), TRUST) == LIST
    by_other = signed(CLAIMS, key=OTHER, protected={4: b"k2", 16: LIST_TYPE})
    assert verify(by_other, TRUST).name == ("parcels", LIST.uri)
    for stranger in (
        signed(CLAIMS, key=OTHER),
        signed(CLAIMS, key=STRANGER),
        signed(CLAIMS, key=STRANGER, protected={4: b"k3", 16: LIST_TYPE}),
    ):
        assert fault_of(stranger) is Fault.AUTHENTICATION_FAILED


@pytest.mark.parametrize(
    ("protected", "unprotected"),
    [
        ({16: LIST_TYPE}, {}),
        ({4: b"k1"}, {16: LIST_TYPE}),
        ({4: b"k1"}, {}),
        ({4: "k1", 16: LIST_TYPE}, {}),
        ({4: b"k1", 16: LIST_TYPE, 3: 0}, {}),
        ({4: b"k1", 16: LIST_TYPE}, {3: 0}),
        ({4: b"k1", 16: LIST_TYPE}, {4: b"k1"}),
        ({4: b"k1", 16: "application/gatewayd-key+cwt"}, {}),
    ],
)
def test_other_headers_are_refused(protected, unprotected):
    data = signed(CLAIMS, protected=protected, unprotected=unprotected)
    assert fault_of(data) is Fault.MALFORMED


def test_the_key_id_may_stand_unprotected():
    assert verify(signed(CLAIMS, protected={16: LIST_TYPE}, unprotected={4: b"k1"}), TRUST) == LIST


def test_only_the_one_tag():
    assert fault_of(GOOD[1:]) is Fault.MALFORMED
    assert fault_of(b"\xd8\x3d" + GOOD) is Fault.MALFORMED  # the CWT tag, which must not be there
    assert fault_of(SIGN1_TAG + GOOD) is Fault.MALFORMED
    assert fault_of(b"") is Fault.MALFORMED
    assert fault_of(SIGN1_TAG + bytes(MAX_LIST_BYTES)) is Fault.TOO_LARGE


def test_truncated_longer_or_changed_is_refused():
    for length in range(len(GOOD)):
        assert fault_of(GOOD[:length]) is Fault.MALFORMED
    assert fault_of(GOOD + b"\0") is Fault.MALFORMED
    for place in range(len(GOOD)):
        changed = bytearray(GOOD)
        changed[place] ^= 1
        assert parsed_or_refused(lambda data: verify(data, TRUST), bytes(changed)) is REFUSED


@given(st.binary(max_size=400))
def test_anything_else_is_refused(data):
    assert parsed_or_refused(lambda each: verify(each, TRUST), data) is REFUSED
    assert parsed_or_refused(lambda each: verify(each, TRUST), SIGN1_TAG + data) is REFUSED


# --- claims, genuinely signed ----------------------------------------------------------------
@pytest.mark.parametrize("name", [2, 4, 6, 65533])
def test_every_claim_is_needed(name):
    assert fault_of(signed({k: v for k, v in CLAIMS.items() if k != name})) is Fault.MALFORMED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (1, "cloud"),
        (2, ""),
        (2, b"u"),
        (2, "u" * 257),
        (4, T),
        (4, "T"),
        (4, 2**40),
        (6, True),
        (6, 0),
        (6, -1),
        (65534, 0),
        (65534, -1),
        (65533, []),
        (65533, {"bits": 1}),
        (65533, {**BODY, "aggregation_uri": "u"}),
        (65533, {**BODY, "bits": 3}),
        (65533, {**BODY, "bits": True}),
        (65533, {**BODY, "bits": "1"}),
        (65533, {**BODY, "lst": "text"}),
        (65533, {**BODY, "lst": b""}),
        (65533, {**BODY, "lst": zlib.compress(b"")}),
        (65533, {**BODY, "lst": BODY["lst"][:-1]}),
        (65533, {**BODY, "lst": BODY["lst"] + b"\0"}),
        (65533, {**BODY, "lst": b"\0" + BODY["lst"]}),
    ],
)
def test_every_claim_has_one_form(name, value):
    assert fault_of(signed({**CLAIMS, name: value})) is Fault.MALFORMED


def test_a_payload_that_is_no_map_is_refused():
    assert fault_of(signed([CLAIMS])) is Fault.MALFORMED


@given(
    st.recursive(
        st.none() | st.integers(-(2**64), 2**64 - 1) | st.binary() | st.text(),
        st.lists,
        max_leaves=5,
    )
)
@settings(max_examples=50)
def test_whatever_a_list_holds_is_read_or_refused(value):
    for name in CLAIMS:
        parsed_or_refused(lambda each: verify(each, TRUST), signed({**CLAIMS, name: value}))


def test_a_bomb_is_not_inflated():
    bomb = zlib.compress(bytes(50_000_000), 9)  # 48 kB
    assert fault_of(signed({**CLAIMS, 65533: {"bits": 1, "lst": bomb}})) is Fault.TOO_LARGE
    assert len(inflate(zlib.compress(bytes(MAX_ARRAY_BYTES)))) == MAX_ARRAY_BYTES


# --- which list is to be held -------------------------------------------------------------------
def refusal(new, held, time) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        judge(new, held, time)
    return caught.value.fault


def test_a_list_is_taken_once():
    assert judge(LIST, None, reading())
    assert not judge(LIST, LIST, reading())


def test_never_an_older_list():
    newer = replace(LIST, issued_at=T + 1)
    assert judge(newer, LIST, reading(T + 1))
    assert refusal(LIST, newer, reading(T + 1)) is Fault.REPLAYED
    as_old = replace(LIST, statuses=b"\0\0")
    assert refusal(as_old, LIST, reading()) is Fault.REPLAYED
    assert refusal(LIST, newer, UNKNOWN) is Fault.REPLAYED


def test_a_list_that_is_over_is_not_taken():
    for time in (
        reading(LIST.expires),
        reading(T, ClockState.UNKNOWN, math.inf, floor_s=LIST.expires),
        reading(LIST.expires + 5, ClockState.HOLDOVER),
    ):
        assert refusal(LIST, None, time) is Fault.CLOCK_EXPIRED
    assert judge(LIST, None, reading(LIST.expires - 1))


def test_a_list_from_the_future_is_not_taken_and_shuts_nobody_out():
    early = replace(LIST, issued_at=T + SKEW_S + 2, expires=T + 70 * DAY)
    assert refusal(early, None, reading()) is Fault.CLOCK_EXPIRED
    assert judge(early, None, reading(bound_s=2.0))
    assert judge(early, None, UNKNOWN)  # who knows
    assert judge(LIST, early, reading())  # now it is known
    assert refusal(LIST, early, reading(T + 1)) is Fault.REPLAYED


def test_age():
    assert LIST.age_s(reading(T + 5)) == 5.0
    assert LIST.age_s(reading(T - 5)) == 0.0
    assert LIST.age_s(reading(LIST.expires - 1)) == 60 * DAY - 1
    assert LIST.age_s(reading(LIST.expires)) == math.inf
    assert LIST.age_s(reading(T, floor_s=LIST.expires)) == math.inf
    assert LIST.age_s(UNKNOWN) == math.inf


def test_a_list_goes_with_the_key_that_signed_it():
    lists = {LIST.name: LIST}
    assert believed(lists, LIST.name, TRUST) is LIST
    assert believed(lists, ("parcels", LIST.uri), TRUST) is None
    without = replace(TRUST, issuers={b"k2": TRUST.issuers[b"k2"]})
    assert believed(lists, LIST.name, without) is None
