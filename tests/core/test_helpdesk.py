"""Orders to open, judged: every rule, every border, every byte."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor
from firmware_proto.codes import Fault, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import envelope
from gatewayd.core.envelope import Kind, Statement
from gatewayd.core.helpdesk import (
    LIVES_S,
    MAX_SEEN,
    MOST_A_MINUTE,
    Circumstances,
    DamagedSeenError,
    Open,
    Seen,
    early,
    judge,
)
from gatewayd.core.model import ClockState, TimeReading

T = 1_790_000_000
TIME = TimeReading(ClockState.TRUSTED, T, 2.0, T - 2)
GOOD = Circumstances(TIME, served=True, enabled=True)
ORDER = Open("street", T)


def stated(body, expires=T + 60) -> Statement:
    return Statement(Kind.OPEN, "gw-1", b"i" * 16, expires, body)


def test_a_good_order_is_good() -> None:
    assert Open.of(stated(ORDER.body())) == ORDER
    assert judge(ORDER, T + 60, GOOD) is Reason.OK


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *(
            ({"time": replace(TIME, state=state)}, Reason.TIME_UNKNOWN)
            for state in (ClockState.HOLDOVER, ClockState.UNKNOWN)
        ),
        ({"time": replace(TIME, now_s=T + 59)}, Reason.OK),
        ({"time": replace(TIME, now_s=T + 60)}, Reason.EXPIRED),
        ({"time": replace(TIME, now_s=T + 61)}, Reason.EXPIRED),
        ({"time": replace(TIME, now_s=T - 2)}, Reason.OK),
        ({"time": replace(TIME, now_s=T - 3)}, Reason.NOT_YET_VALID),
        ({"served": False}, Reason.UNKNOWN_DOOR),
        ({"enabled": False}, Reason.ACTION_NOT_GRANTED),
        ({"recent": MOST_A_MINUTE - 1}, Reason.OK),
        ({"recent": MOST_A_MINUTE}, Reason.RATE_LIMITED),
        ({"log": Reason.LOG_FULL}, Reason.LOG_FULL),
    ],
)
def test_each_rule_refuses_alone(changes, reason) -> None:
    assert judge(ORDER, T + 60, replace(GOOD, **changes)) is reason


def test_no_order_is_early_by_a_clock_that_knows_nothing() -> None:
    unknown = TimeReading(ClockState.UNKNOWN, 0, math.inf, 0)
    assert not early(ORDER, unknown)
    assert early(ORDER, replace(TIME, now_s=T - LIVES_S - 3), LIVES_S)
    assert not early(ORDER, replace(TIME, now_s=T - LIVES_S - 2), LIVES_S)


@pytest.mark.parametrize(
    ("body", "expires"),
    [
        (["street", T], T + 61),
        (["street", T], T),
        (["street", T], T - 1),
        (["street", 0], 30),
        (["street", True], 30),
        (["street", -5], 30),
        (["street", str(T)], T + 60),
        (["", T], T + 60),
        (["å" * 17, T], T + 60),
        ([b"street", T], T + 60),
        (["street"], T + 60),
        (["street", T, 0], T + 60),
        ("street", T + 60),
        (["street", envelope.LATEST_S], envelope.LATEST_S + 1),
    ],
)
def test_what_is_no_order_to_open(body, expires) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Open.of(stated(body, expires))
    assert caught.value.fault is Fault.MALFORMED


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(0, 99)
        | st.binary(max_size=9)
        | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3),
    ),
    st.integers(-9, 99),
)
def test_whatever_is_signed_is_an_opening_or_refused(body, expires) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert Open.of(stated(body, expires)).body() == body


def test_the_name_of_an_order_tells_who_signed_it_and_every_field() -> None:
    order = replace(stated(ORDER.body()), signer=b"key")
    others = [
        replace(order, signer=b"other"),
        replace(order, id=b"j" * 16),
        replace(order, expires=T + 59),
        replace(order, body=["cellar", T]),
        replace(order, addressee="gw-2"),
    ]
    names = {each.name for each in (order, *others)}
    assert len(names) == 6
    assert {len(name) for name in names} == {32}
    key = ec.derive_private_key(21, ec.SECP256R1())
    trust = envelope.Trust(1, "g", {}, *(key.public_key() for _ in range(4)))
    first, second = (envelope.opened(envelope.sign(order, key), trust)[0] for _ in range(2))
    assert first.name == second.name  # whatever ECDSA drew


# --- seen ---------------------------------------------------------------------------------
def test_what_was_seen_is_known_until_the_floor_has_passed_it() -> None:
    seen = Seen().and_(b"a" * 16, T + 60, T)
    assert seen is not None
    assert b"a" * 16 in seen
    assert b"b" * 16 not in seen
    kept = seen.and_(b"b" * 16, T + 90, T + 59)
    later = seen.and_(b"b" * 16, T + 90, T + 60)
    assert kept is not None
    assert later is not None
    assert b"a" * 16 in kept
    assert b"a" * 16 not in later


def test_a_flood_finds_no_room_until_it_has_expired() -> None:
    seen = Seen({number.to_bytes(16, "big"): T + 60 for number in range(MAX_SEEN)})
    assert seen.and_(b"x" * 16, T + 60, T) is None
    assert seen.and_(b"x" * 16, T + 120, T + 60) == Seen({b"x" * 16: T + 120})


@given(st.dictionaries(st.binary(min_size=16, max_size=16), st.integers(0, 2**63 - 1), max_size=9))
def test_seen_is_stored_and_read(ids) -> None:
    assert Seen.decode(Seen(ids).encode()) == Seen(ids)


def test_damaged_memory_is_noticed() -> None:
    good = Seen({b"a" * 16: T}).encode()
    for length in range(len(good)):
        with pytest.raises(DamagedSeenError):
            Seen.decode(good[:length])
    for wrong in (
        good + b"\0",
        cbor.encode([2, {}]),
        cbor.encode([True, {}]),
        cbor.encode([1, {b"a": T}]),
        cbor.encode([1, {b"a" * 16: True}]),
        cbor.encode([1, {"a": T}]),
        cbor.encode([1]),
        cbor.encode({}),
    ):
        with pytest.raises(DamagedSeenError):
            Seen.decode(wrong)
