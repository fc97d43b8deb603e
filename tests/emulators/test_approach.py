"""Arrivals: edges from far to near, once per approach."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.emulators.approach import Approaches, Nearness
from gatewayd.ports.radio import Sighting

NEARNESS = Nearness(near_dbm=-70, far_dbm=-82, absent_s=10.0, cool_down_s=30.0)
A, B = "F0:00:00:00:00:01", "F0:00:00:00:00:02"


def walk(*strengths: int | None, step_s: float = 1.0) -> list[int]:
    """At which looks A was arrived at; None: not heard."""
    approaches, arrivals = Approaches(NEARNESS), []
    for number, dbm in enumerate(strengths):
        seen = [] if dbm is None else [Sighting(A, dbm)]
        if approaches.looked(seen, number * step_s) == [A]:
            arrivals.append(number)
    return arrivals


def test_coming_near_is_an_arrival_when_it_lasts() -> None:
    assert walk(-90, -80, -70, -69, -60, -60) == [3]
    assert walk(-90, -60, -75, -60, -90, -60) == []  # reflections


def test_from_nowhere_counts_as_far() -> None:
    assert walk(None, -60, -60) == [2]


def test_near_from_the_beginning_is_no_arrival() -> None:
    assert walk(-60, -60, -60) == []
    assert walk(-75, -60, -60) == []  # nor is what lies between


def test_wavering_between_the_two_marks_is_one_visit() -> None:
    assert walk(-90, -60, -60, -75, -81, -75, -60, -60, *[-60] * 40) == [2]


def test_going_and_coming_back_is_another_one_when_some_time_has_passed() -> None:
    assert walk(-90, -60, -60, -90, -60, -60) == [2]  # within the cool-down
    assert walk(-90, -60, -60, *[-90] * 30, -60, -60) == [2, 34]
    # one that falls into the cool-down does not prolong it
    assert walk(-90, -60, -60, *[-90] * 10, -60, -60, *[-90] * 20, -60, -60) == [2, 36]


def test_long_unheard_is_far() -> None:
    assert walk(-90, -60, -60, *[None] * 9, -60, -60, *[-60] * 40) == [2]
    assert walk(-90, -60, -60, *[None] * 40, -60, -60) == [2, 44]


def test_every_gateway_has_its_own_story() -> None:
    approaches = Approaches(NEARNESS)
    approaches.looked([Sighting(A, -90), Sighting(B, -60)], 0)
    approaches.looked([Sighting(B, -50), Sighting(A, -60)], 1)
    assert approaches.looked([Sighting(A, -50), Sighting(B, -60)], 2) == [A]


def test_without_a_strength_nobody_comes_near() -> None:
    approaches = Approaches(NEARNESS)
    for now in range(5):
        assert approaches.looked([Sighting(A, None)], now) == []


@settings(max_examples=100)
@given(st.lists(st.none() | st.integers(-110, -40), max_size=80))
def test_arrivals_are_rare_and_always_of_somebody_near(strengths: list[int | None]) -> None:
    arrivals = walk(*strengths)
    for number in arrivals:
        heard = [dbm for dbm in strengths[: number + 1] if dbm is not None]
        assert min(heard[-2:]) >= NEARNESS.near_dbm  # a look in between may have missed it
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    assert all(gap >= NEARNESS.cool_down_s for gap in gaps)
