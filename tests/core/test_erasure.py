"""What is to be forgotten, as it is said and as it is remembered."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.erasure import (
    MAX_ENTRIES,
    MAX_RUNS,
    REMEMBERED,
    DamagedErasuresError,
    Erase,
    Erased,
    Erasures,
    Run,
)


@given(st.sets(st.integers(0, 2**63 - 1), min_size=2, max_size=40))
def test_an_order_comes_back(borders) -> None:
    ascending = sorted(borders)[: len(borders) // 2 * 2]
    runs = tuple(Run(at, at) for at in ascending)
    order = Erase(runs)
    assert Erase.of(cbor.decode(cbor.encode(order.body()))) == order
    assert order.last == ascending[-1]


@pytest.mark.parametrize(
    "body",
    [
        [], None, 7, [7], [[]], [[1]], [[1, 2, 3]], [[2, 1]], [[-1, 2]], [[0, 2**63]],
        [[True, 2]], [[0, True]], [["1", 2]], [[1, 3], [3, 4]], [[5, 6], [1, 2]],
        [[0, MAX_ENTRIES]], [[0, MAX_ENTRIES - 1], [MAX_ENTRIES, MAX_ENTRIES]],
        [[2 * at, 2 * at] for at in range(MAX_RUNS + 1)],
    ],
)  # fmt: skip
def test_what_is_no_order(body) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Erase.of(body)
    assert caught.value.fault is Fault.MALFORMED


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.binary(max_size=9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4),
)


@given(ANY)
def test_whatever_is_signed_is_an_erasure_or_refused(body) -> None:
    for read in (Erase.of, Erased.of):
        with contextlib.suppress(RemoteProtocolError):
            assert read(body).body() == body


def test_the_largest_ones() -> None:
    assert Erase.of([[0, MAX_ENTRIES - 1]]).runs == (Run(0, MAX_ENTRIES - 1),)
    assert len(Erase.of([[2 * at, 2 * at] for at in range(MAX_RUNS)]).runs) == MAX_RUNS


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.booleans())
def test_an_answer_comes_back(entries, seq, clean) -> None:
    erased = Erased(entries, seq, clean)
    assert Erased.of(cbor.decode(cbor.encode(erased.body()))) == erased


@pytest.mark.parametrize(
    "body", [[], [1, 2], [1, 2, 3], [1, 2, True, 0], [-1, 2, True], [1, True, True], None, "x"]
)
def test_what_is_no_answer(body) -> None:
    with pytest.raises(RemoteProtocolError):
        Erased.of(body)


def test_the_last_orders_are_remembered_and_read() -> None:
    known = Erasures()
    for number in range(REMEMBERED + 3):
        known = known.and_(number.to_bytes(16, "big"), Erased(number, number))
    assert len(known.done) == REMEMBERED
    assert min(known.done) == (3).to_bytes(16, "big")
    assert Erasures.decode(known.encode()) == known


def test_damaged_memory_is_noticed() -> None:
    good = Erasures().and_(b"a" * 16, Erased(1, 2)).encode()
    for length in range(len(good)):
        with pytest.raises(DamagedErasuresError):
            Erasures.decode(good[:length])
    for wrong in (
        good + b"\0", cbor.encode([2, []]), cbor.encode([True, []]), cbor.encode([1]),
        cbor.encode([1, [[b"a", 1, 2]]]), cbor.encode([1, [7]]), cbor.encode([1, [[b"a" * 16, 1]]]),
        cbor.encode([1, [[b"a" * 16, 1, 2], [b"a" * 16, 1, 2]]]),
    ):  # fmt: skip
        with pytest.raises(DamagedErasuresError):
            Erasures.decode(wrong)
