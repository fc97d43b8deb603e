import math
from dataclasses import replace
from zoneinfo import ZoneInfo

import cwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto import cbor, cose
from firmware_proto.codes import Action, KeyClass, Presence, Reason
from gatewayd.core.keytoken import (
    KEY_TYPE,
    MAX_TOKEN_BYTES,
    UNLISTED_LIFETIME_S,
    Claims,
    Grant,
    Lending,
    StatusReference,
    TokenIdentity,
    TokenRejected,
    authenticate,
    grants,
    issue,
    unverified,
)
from gatewayd.core.model import ClockState, TimeReading
from gatewayd.core.schedule import ALL_DAYS, DAY_MINUTES, Schedule, Window
from gatewayd.core.statuslist import StatusList
from gatewayd.core.trust import ALL_ACTIONS, ALL_CLASSES, Issuer, Trust

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ISSUER, PHONE, OTHER, LENDER = (ec.derive_private_key(n, ec.SECP256R1()) for n in range(41, 45))
T = 1_800_000_000
DAY = 86400
COPENHAGEN = ZoneInfo("Europe/Copenhagen")
CLOUD = Issuer("cloud", ISSUER.public_key(), None, ALL_ACTIONS, ALL_CLASSES, 400 * DAY)
TRUST = Trust(1, "house-7", {b"k1": CLOUD}, *[OTHER.public_key()] * 4)
CLAIMS = Claims(
    issuer="cloud",
    subject="h-1842",
    audience="house-7",
    cti=b"12345678",
    not_before=T,
    expires=T + DAY,
    issued_at=T,
    key=PHONE.public_key(),
    scope=(("front", Action.OPEN), ("yard", Action.OPEN | Action.BOLT)),
    key_class=KeyClass.RESIDENT,
)
NIGHTS = Schedule(
    "Europe/Copenhagen",
    (Window(ALL_DAYS, 22 * 60, 8 * 60),),
    (Window(1, 0, DAY_MINUTES),),
)
FULL = replace(
    CLAIMS,
    presence=Presence.ARRIVAL,
    status=StatusReference(4711, "https://lists.example/1"),
    schedule=NIGHTS,
    lending=Lending(2 * DAY, LENDER.public_key()),
    once=True,
    seal=OTHER.public_key(),
)


def token(claims: Claims = CLAIMS) -> bytes:
    return issue(claims, ISSUER, b"k1")


def sign(payload: bytes, *, key=ISSUER, kid=b"k1", typ=KEY_TYPE, unprotected=None) -> bytes:
    protected = {cose.HEADER_KID: kid, cose.HEADER_TYP: typ}
    return cose.sign1(payload, key, protected=protected, unprotected=unprotected or {})


def claim_map(claims: Claims = CLAIMS) -> dict:
    return cbor.decode(cose.Sign1.parse(token(claims)).payload)


def reason_of(presented: bytes, trust: Trust = TRUST) -> Reason:
    with pytest.raises(TokenRejected) as caught:
        authenticate(presented, trust)
    assert str(caught.value) == caught.value.reason.name
    return caught.value.reason


def reading(now_s: int = T + 60, state=ClockState.TRUSTED, floor_s: int = T, bound_s=1.0):
    return TimeReading(state, now_s, bound_s, floor_s)


def ask(claims: Claims = CLAIMS, *, issuer: Issuer = CLOUD, **changes) -> tuple[Grant, ...]:
    asked = {
        "audience": "house-7",
        "door": "front",
        "action": Action.OPEN,
        "time": reading(),
        "zone": COPENHAGEN,
    } | changes
    trust = replace(TRUST, issuers={b"k1": issuer})
    return grants(unverified(token(claims)), trust, **asked)


def refusal(claims: Claims = CLAIMS, **how) -> Reason:
    with pytest.raises(TokenRejected) as caught:
        ask(claims, **how)
    return caught.value.reason


# --- issuing and the wrapper ----------------------------------------------------------
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=16)
WINDOWS = st.builds(
    Window, st.integers(1, ALL_DAYS), st.integers(0, DAY_MINUTES - 1), st.integers(1, DAY_MINUTES)
)
KEYS = st.sampled_from([key.public_key() for key in (ISSUER, PHONE, OTHER, LENDER)])
SCOPES = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
    st.integers(1, int(ALL_ACTIONS)).map(Action),
    min_size=1,
    max_size=4,
).map(lambda doors: tuple(doors.items()))
ALL_CLAIMS = st.builds(
    Claims,
    issuer=st.just("cloud"),
    subject=NAMES,
    audience=NAMES,
    cti=st.binary(min_size=8, max_size=8),
    not_before=st.integers(0, T),
    expires=st.integers(T + 1, 2**40 - 1),
    issued_at=st.integers(0, 2**40 - 1),
    key=KEYS,
    scope=SCOPES,
    key_class=st.sampled_from(KeyClass),
    presence=st.sampled_from(Presence),
    status=st.none() | st.builds(StatusReference, st.integers(0, 2**32), NAMES),
    schedule=st.none()
    | st.builds(
        Schedule,
        NAMES,
        st.lists(WINDOWS, min_size=1, max_size=3).map(tuple),
        st.lists(WINDOWS, max_size=3).map(tuple),
    ),
    lending=st.none() | st.builds(Lending, st.integers(0, 2**32), KEYS),
    once=st.booleans(),
    seal=st.none() | KEYS,
)


@given(ALL_CLAIMS)
@settings(max_examples=60)
def test_what_is_issued_authenticates(claims):
    data = token(claims)
    found = authenticate(data, TRUST)
    assert (found.claims, found.key_id, found.parent) == (claims, b"k1", None)
    assert found == unverified(data)
    assert found.key == claims.key
    assert token(found.claims) == data


def test_the_size_of_a_plain_key():
    assert len(token(replace(CLAIMS, scope=(("front", Action.OPEN),)))) <= 270
    assert len(token(FULL)) < 700


@pytest.mark.parametrize("claims", [CLAIMS, FULL], ids=["plain", "full"])
def test_python_cwt_verifies_what_we_issue(claims):
    key = cwt.COSEKey.new({**cose.public_key_to_cose(ISSUER.public_key()), 2: b"k1", 3: -7})
    lasting = replace(claims, not_before=0, expires=2**33)  # python-cwt asks the system's clock
    tagged = b"\xd8\x3d\xd2" + token(lasting)  # and wants the tags that EDHOC's kcwt forbids
    decoded = cwt.decode(tagged, key)
    assert decoded[1] == "cloud"
    assert decoded[4] == 2**33
    assert decoded[7] == b"12345678"
    assert decoded[8] == {1: cose.public_key_to_cose(PHONE.public_key())}
    assert decoded[9] == cbor.encode([["front", 1], ["yard", 5]])


@pytest.mark.parametrize(
    "change",
    [
        {"cti": b"short"},
        {"expires": T},
        {"subject": ""},
        {"subject": "x" * 65},
        {"scope": ()},
        {"scope": (("front", Action(0)),)},
        {"scope": (("front", Action.OPEN), ("front", Action.BOLT))},
        {"scope": (("d" * 33, Action.OPEN),)},
        {"not_before": -1},
        {"expires": 2**40},
        {"expires": 2**70},
        {"subject": "\ud800"},
        {"schedule": Schedule("Europe/Copenhagen", ())},
        {"schedule": Schedule("Europe/Copenhagen", (Window(0, 0, 1),))},
        {"schedule": Schedule("Europe/Copenhagen", (Window(1, 0, 1),) * 33)},
        {"presence": 2.5},
        {"once": 1, "scope": [("front", Action.OPEN)]},
        {"scope": tuple((f"door-{n:03}-of-a-very-long-name", Action.OPEN) for n in range(30))},
    ],
)
def test_nothing_is_issued_that_no_gateway_would_parse(change):
    with pytest.raises(ValueError, match=r"claims|at most 1024"):
        token(replace(CLAIMS, **change))


def test_an_unknown_issuer_is_a_stranger():
    assert reason_of(token(), replace(TRUST, issuers={})) is Reason.UNTRUSTED_ISSUER
    assert reason_of(sign(b"", kid=b"k2")) is Reason.UNTRUSTED_ISSUER
    assert reason_of(token(replace(CLAIMS, issuer="parcels"))) is Reason.UNTRUSTED_ISSUER


def test_anybody_can_mint_himself_a_token():
    forged = issue(CLAIMS, PHONE, b"k1")
    assert reason_of(forged) is Reason.BAD_SIGNATURE
    assert unverified(forged).claims == CLAIMS


def test_a_signature_that_another_made_of_it_names_the_same_token():
    """ECDSA: (r, n - s) verifies wherever (r, s) does."""
    signed = cose.Sign1.parse(token())
    r, s = signed.signature[:32], int.from_bytes(signed.signature[32:], "big")
    twin = cbor.encode(
        [signed.protected_bytes, {}, signed.payload, r + (P256_ORDER - s).to_bytes(32, "big")]
    )
    assert twin != token()
    first, second = authenticate(token(), TRUST), authenticate(twin, TRUST)
    assert first.identity == second.identity == TokenIdentity("cloud", b"12345678")
    assert first.identity.digest() == second.identity.digest()


def test_an_identity_is_issuer_and_number():
    identities = {
        TokenIdentity(issuer, cti).digest() for issuer in ("a", "b") for cti in (b"1", b"2")
    }
    assert len(identities) == 4
    parent = unverified(token())
    child = unverified(token(replace(CLAIMS, cti=b"childcti")))._replace(parent=parent)
    assert child.identity == TokenIdentity(parent.identity, b"childcti")
    assert len(child.identity.digest()) == 32


def test_the_wrapper_is_strict():
    payload = cose.Sign1.parse(token()).payload
    assert sign(payload) == token()
    for bad in (
        sign(payload, typ="application/statuslist+cwt"),
        sign(payload, kid="k1"),
        sign(payload, kid=[]),
        sign(payload, unprotected={-65543: b"a parent"}),
        cose.sign1(payload, ISSUER, protected={4: b"k1"}),
        cose.sign1(payload, ISSUER, protected={4: b"k1", 16: KEY_TYPE, 15: {}}),
        b"\xd2" + token(),
        token() + b"\0",
        token() + bytes(MAX_TOKEN_BYTES),
        b"",
    ):
        assert reason_of(bad) is Reason.MALFORMED_TOKEN


def test_a_token_cut_anywhere_is_malformed():
    whole = token(FULL)
    for length in range(len(whole)):
        assert reason_of(whole[:length]) is Reason.MALFORMED_TOKEN


@given(st.data())
@settings(max_examples=300)
def test_no_mutation_is_believed_or_breaks_anything(data):
    mutated = bytearray(token(FULL))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    if bytes(mutated) != token(FULL):
        assert reason_of(bytes(mutated)) in {
            Reason.MALFORMED_TOKEN,
            Reason.BAD_SIGNATURE,
            Reason.UNTRUSTED_ISSUER,
        }


@given(st.binary(max_size=300))
def test_random_bytes_are_malformed(data):
    assert reason_of(data) is Reason.MALFORMED_TOKEN


# --- claims ------------------------------------------------------------------------------
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**41) | st.binary(max_size=9) | NAMES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(-3, 3) | st.just("status_list"), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(claim_map(FULL))), JUNK)
@settings(max_examples=300)
def test_whatever_an_issuer_signs_is_one_form_or_malformed(name, value):
    payload = cbor.encode({**claim_map(FULL), name: value})
    try:
        found = authenticate(sign(payload), TRUST)
    except TokenRejected as error:
        assert error.reason in {  # noqa: PT017 - either answer is right
            Reason.MALFORMED_TOKEN,
            Reason.UNTRUSTED_ISSUER,
        }
    else:
        assert cose.Sign1.parse(token(found.claims)).payload == payload


@pytest.mark.parametrize("name", sorted(claim_map()))
def test_every_required_claim_is_required(name):
    claims = claim_map()
    del claims[name]
    assert reason_of(sign(cbor.encode(claims))) is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize("name", [0, 10, 38, 40, -1, -65536, -65543, "extra", b"extra"])
def test_an_unknown_claim_refuses(name):
    payload = cbor.encode({**claim_map(), name: 1})
    assert reason_of(sign(payload)) is Reason.MALFORMED_TOKEN


def test_claims_are_a_map():
    for payload in (b"", b"\x80", cbor.encode([1, 2]), b"\xd8\x3d\xa0"):
        assert reason_of(sign(payload)) is Reason.MALFORMED_TOKEN


XY = {1: 2, -1: 1, -2: b"x" * 32, -3: b"y" * 32}
PHONE_KEY = cose.public_key_to_cose(PHONE.public_key())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (5, True),
        (7, "12345678"),
        (8, {}),
        (8, {1: XY}),
        (8, {1: PHONE_KEY, 3: b"kid"}),
        (8, {1: {**PHONE_KEY, 2: b"kid"}}),
        (8, {1: {**PHONE_KEY, -3: True}}),
        (8, {1: {**PHONE_KEY, -3: PHONE_KEY[-2]}}),
        (8, {1: {**PHONE_KEY, -2: b"x" * 31}}),
        (8, {1: {**PHONE_KEY, -2: 5}}),
        (8, {1: {**PHONE_KEY, 1: 1}}),
        (8, {1: {**PHONE_KEY, -1: 2}}),
        (8, {1: {**PHONE_KEY, -1: True}}),
        (8, {1: {**PHONE_KEY, -2: b"\xff" * 32}}),
        (8, {1: {**PHONE_KEY, -3: b"\xff" * 32}}),
        (8, {1: []}),
        (9, [["front", 1]]),
        (9, b""),
        (9, cbor.encode([])),
        (9, cbor.encode([["front"]])),
        (9, cbor.encode([["front", 8]])),
        (9, cbor.encode([["front", True]])),
        (9, cbor.encode([["front", 1], ["front", 2]])),
        (9, cbor.encode([[f"d{n}", 1] for n in range(65)])),
        (65535, {"status_list": {"idx": 1}}),
        (65535, {"status_list": {"idx": 1, "uri": "u", "x": 1}}),
        (65535, {"identifier_list": {}}),
        (65535, []),
        (-65537, ["Europe/Copenhagen", [[1, 0, 60]]]),
        (-65537, ["Europe/Copenhagen", [], []]),
        (-65537, ["Europe/Copenhagen", [[1, 0]], []]),
        (-65537, ["Europe/Copenhagen", [[1, 0, True]], []]),
        (-65537, ["Europe/Copenhagen", [[1, 0, 1441]], []]),
        (-65537, {}),
        (-65538, 6),
        (-65538, True),
        (-65539, 0),
        (-65540, {1: 60}),
        (-65540, {1: 60, 2: PHONE_KEY, 3: 1}),
        (-65541, False),
        (-65541, 1),
        (-65542, XY),
    ],
)
def test_every_claim_has_one_form(name, value):
    payload = cbor.encode({**claim_map(), name: value})
    assert reason_of(sign(payload)) is Reason.MALFORMED_TOKEN


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_point_off_the_curve_is_refused_as_openssl_refuses_it(x, y):
    with pytest.raises(ValueError, match="Invalid EC key"):
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
    payload = cbor.encode({**claim_map(), 8: {1: {**PHONE_KEY, -2: x, -3: y}}})
    assert reason_of(sign(payload)) is Reason.MALFORMED_TOKEN


@given(st.integers(1, P256_ORDER - 1))
@settings(max_examples=40)
def test_every_phone_key_is_accepted(secret):
    key = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
    assert authenticate(token(replace(CLAIMS, key=key)), TRUST).key == key


# --- grants ------------------------------------------------------------------------------------
def test_a_key_grants_what_it_says():
    identity = TokenIdentity("cloud", b"12345678")
    assert ask() == (Grant(identity, KeyClass.RESIDENT, Presence.TAP, False, 0.0),)
    assert ask(door="yard", action=Action.BOLT) == ask()


def test_policy_learns_what_it_must_know():
    claims = replace(FULL, once=False, schedule=replace(NIGHTS, deny=()))
    found = ask(claims, time=reading(1_800_049_000))  # 22:36 in Copenhagen
    identity = TokenIdentity("cloud", b"12345678")
    assert found == (Grant(identity, KeyClass.RESIDENT, Presence.ARRIVAL, True, math.inf),)


def test_scope_is_doors_and_actions():
    assert refusal(door="cellar") is Reason.WRONG_DOOR
    assert refusal(action=Action.BOLT) is Reason.ACTION_NOT_GRANTED
    assert refusal(door="yard", action=Action.UNBOLT) is Reason.ACTION_NOT_GRANTED


def test_another_house_is_another_audience():
    assert refusal(audience="house-8") is Reason.WRONG_AUDIENCE


@pytest.mark.parametrize(
    "limits",
    [
        {"classes": frozenset({KeyClass.DELIVERY})},
        {"actions": Action.BOLT},
        {"doors": frozenset({"yard"})},
        {"max_lifetime_s": DAY - 1},
    ],
    ids=["class", "action", "door", "lifetime"],
)
def test_an_issuer_may_not_grant_more_than_the_operator_allowed(limits):
    assert refusal(issuer=replace(CLOUD, **limits)) is Reason.ISSUER_EXCEEDED
    # and nothing tells whether it would have been in time or for this house
    late = {"time": reading(T + 9 * DAY), "audience": "house-8"}
    assert refusal(issuer=replace(CLOUD, **limits), **late) is Reason.ISSUER_EXCEEDED


def test_within_its_limits_an_issuer_grants():
    limited = Issuer(
        "cloud",
        ISSUER.public_key(),
        frozenset({"front"}),
        Action.OPEN,
        frozenset({KeyClass.RESIDENT}),
        DAY,
    )
    assert ask(issuer=limited) == ask()
    assert refusal(issuer=limited, door="yard") is Reason.ISSUER_EXCEEDED
    assert refusal(issuer=limited, door="cellar") is Reason.WRONG_DOOR


def test_an_issuer_may_have_been_dropped_since():
    with pytest.raises(TokenRejected) as caught:
        grants(
            unverified(token()),
            replace(TRUST, issuers={}),
            audience="house-7",
            door="front",
            action=Action.OPEN,
            time=reading(),
        )
    assert caught.value.reason is Reason.UNTRUSTED_ISSUER


def test_what_cannot_be_revoked_may_not_live_long():
    longest = replace(CLAIMS, expires=T + UNLISTED_LIFETIME_S)
    assert ask(longest) == ask()
    longer = replace(CLAIMS, expires=T + UNLISTED_LIFETIME_S + 1)
    assert refusal(longer) is Reason.ISSUER_EXCEEDED
    assert ask(replace(longer, status=StatusReference(1, "u")))[0].list_age_s == math.inf


LISTED = replace(CLAIMS, status=StatusReference(4, "https://lists.example/1"))
LIST = StatusList("cloud", "https://lists.example/1", T - 10, T + 5 * DAY, 1, b"\x08", b"k1")


def listed(index: int, **changes) -> Claims:
    return replace(LISTED, status=StatusReference(index, LIST.uri), **changes)


def test_a_list_takes_a_key_back_however_old_the_list():
    lists = {LIST.name: LIST}
    assert ask(LISTED, lists=lists)[0].list_age_s == 70.0
    for time in (
        reading(),
        reading(T + 60, ClockState.UNKNOWN, bound_s=math.inf),
        reading(floor_s=T + 20),
    ):
        assert refusal(listed(3), lists=lists, time=time) is Reason.REVOKED
    over = {LIST.name: replace(LIST, expires=T)}
    assert refusal(listed(3), lists=over) is Reason.REVOKED
    assert ask(LISTED, lists=over)[0].list_age_s == math.inf


def test_a_list_vouches_for_nothing_outside_itself():
    assert refusal(listed(8), lists={LIST.name: LIST}) is Reason.REVOKED
    assert refusal(listed(2**40 - 1), lists={LIST.name: LIST}) is Reason.REVOKED


@pytest.mark.parametrize("key_class", list(KeyClass))
def test_no_class_of_key_outlives_its_revocation(key_class):
    assert refusal(listed(3, key_class=key_class), lists={LIST.name: LIST}) is Reason.REVOKED


def test_the_list_of_another_issuer_or_another_list_says_nothing():
    for lists in (
        {},
        {("parcels", LIST.uri): replace(LIST, issuer="parcels")},
        {("cloud", "https://lists.example/2"): replace(LIST, uri="https://lists.example/2")},
        {LIST.name: replace(LIST, signer=b"k0")},
    ):
        assert ask(listed(3), lists=lists)[0].list_age_s == math.inf


def test_what_a_key_does_not_grant_is_said_before_that_it_is_revoked():
    assert refusal(listed(3), lists={LIST.name: LIST}, door="cellar") is Reason.WRONG_DOOR
    assert refusal(listed(3, once=True), lists={LIST.name: LIST}) is Reason.REVOKED
    assert refusal(listed(4, once=True), lists={LIST.name: LIST}) is Reason.USED_UP


@pytest.mark.parametrize("state", [ClockState.TRUSTED, ClockState.HOLDOVER])
def test_with_a_clock_a_key_has_a_beginning_and_an_end(state):
    for now_s in (T, T + DAY - 1):
        assert ask(time=reading(now_s, state)) == ask()
    assert refusal(time=reading(T + DAY, state)) is Reason.EXPIRED
    assert refusal(time=reading(T - 2, state)) is Reason.NOT_YET_VALID


def test_a_clock_that_may_be_slow_does_not_refuse_a_new_key():
    assert ask(time=reading(T - 30, bound_s=30.0)) == ask()
    assert refusal(time=reading(T - 31, bound_s=30.0)) is Reason.NOT_YET_VALID
    assert ask(time=reading(T - 60, bound_s=3000.0)) == ask()
    assert refusal(time=reading(T - 61, bound_s=3000.0)) is Reason.NOT_YET_VALID


@pytest.mark.parametrize("state", ClockState)
@pytest.mark.parametrize("key_class", KeyClass)
def test_what_the_floor_has_passed_is_expired_in_every_state(state, key_class):
    claims = replace(CLAIMS, key_class=key_class)
    assert refusal(claims, time=reading(T, state, floor_s=T + DAY)) is Reason.EXPIRED
    assert ask(claims, time=reading(T, state, floor_s=T + DAY - 1))


def test_without_a_clock_start_and_schedule_are_left_to_policy():
    for now_s in (0, T + 9 * DAY):
        unknown = reading(now_s, ClockState.UNKNOWN, bound_s=math.inf)
        assert ask(time=unknown) == ask()
        assert ask(replace(CLAIMS, schedule=NIGHTS), time=unknown)[0].scheduled


def test_an_emergency_key_looks_at_the_floor_alone():
    claims = replace(CLAIMS, key_class=KeyClass.EMERGENCY, schedule=NIGHTS)
    for now_s in (T - DAY, T + 9 * DAY):
        assert ask(claims, time=reading(now_s))
    assert refusal(claims, door="cellar") is Reason.WRONG_DOOR


def test_a_schedule_is_kept_in_the_wall_time_of_the_door():
    claims = replace(CLAIMS, schedule=NIGHTS)
    friday_noon = 1_800_010_800  # 2027-01-15 12:00 in Copenhagen
    assert refusal(claims, time=reading(friday_noon)) is Reason.OUTSIDE_SCHEDULE
    friday_night = friday_noon + 11 * 3600
    assert ask(claims, time=reading(friday_night))[0].scheduled
    for zone in (None, ZoneInfo("UTC")):
        assert refusal(claims, time=reading(friday_night), zone=zone) is Reason.OUTSIDE_SCHEDULE


def test_a_one_time_key_is_refused_while_its_use_cannot_be_proved():
    assert refusal(replace(CLAIMS, once=True)) is Reason.USED_UP


def test_a_key_that_may_be_lent_opens_for_its_holder():
    assert ask(replace(CLAIMS, lending=Lending(DAY, LENDER.public_key()))) == ask()


def test_a_lent_key_is_refused_until_lending_exists():
    child = unverified(token())._replace(parent=unverified(token()))
    with pytest.raises(TokenRejected) as caught:
        grants(child, TRUST, audience="house-7", door="front", action=Action.OPEN, time=reading())
    assert caught.value.reason is Reason.MALFORMED_TOKEN


def test_reasons_come_in_one_order():
    """Mend one fault after the other; the next one shows."""
    claims = replace(CLAIMS, once=True, schedule=NIGHTS)
    how = {
        "issuer": replace(CLOUD, classes=frozenset()),
        "time": reading(T + DAY),
        "audience": "house-8",
        "door": "cellar",
        "action": Action.UNBOLT,
    }
    seen = []
    for mended in (
        {},
        {"issuer": CLOUD},
        {"time": reading(T)},
        {"audience": "house-7"},
        {"door": "front"},
        {"action": Action.OPEN},
    ):
        how |= mended
        seen.append(refusal(claims, **how))
    seen.append(refusal(replace(claims, schedule=None), **how))
    assert seen == [
        Reason.ISSUER_EXCEEDED,
        Reason.EXPIRED,
        Reason.WRONG_AUDIENCE,
        Reason.WRONG_DOOR,
        Reason.ACTION_NOT_GRANTED,
        Reason.OUTSIDE_SCHEDULE,
        Reason.USED_UP,
    ]
