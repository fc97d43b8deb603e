"""Who is silent: late, or ended; never who waits and never who is in time."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.heartbeat import Heartbeat, Rest

NAMES = ("clock", "phones", "uplink")


def test_nobody_is_watched_at_first() -> None:
    assert Heartbeat().silent(1e9) == ()


def test_a_task_is_late_after_its_time_and_not_at_it() -> None:
    heart = Heartbeat().beat("clock", 10.0, 5.0)
    assert heart.silent(15.0) == ()
    assert heart.silent(15.001) == ("clock",)
    assert heart.beat("clock", 16.0, 5.0).silent(20.0) == ()


def test_a_task_may_wait_for_ever_and_then_promise_again() -> None:
    heart = Heartbeat().beat("phones", 0.0, 1.0).waits("phones")
    assert heart.signs == {"phones": Rest.WAITING}
    assert heart.silent(1e9) == ()
    assert heart.beat("phones", 50.0, 1.0).silent(52.0) == ("phones",)


def test_what_has_ended_is_silent_at_once_and_stays_so() -> None:
    heart = Heartbeat().beat("uplink", 0.0, 100.0).waits("phones").ended("uplink").ended("phones")
    assert heart.silent(0.0) == ("phones", "uplink")
    with pytest.raises(ValueError, match="uplink has ended"):
        heart.beat("uplink", 0.0, 1.0)
    with pytest.raises(ValueError, match="phones has ended"):
        heart.waits("phones")
    assert heart.ended("uplink") == heart


@pytest.mark.parametrize("within_s", [0.0, -1.0, inf, nan])
def test_a_promise_that_cannot_be_broken_is_none(within_s: float) -> None:
    with pytest.raises(ValueError, match="is no period"):
        Heartbeat().beat("clock", 0.0, within_s)


def test_signs_of_one_task_are_not_signs_of_another() -> None:
    heart = Heartbeat().beat("clock", 0.0, 1.0).beat("phones", 0.0, 9.0)
    assert heart.silent(5.0) == ("clock",)
    assert heart.silent(10.0) == ("clock", "phones")


steps = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(("beat", "waits", "ended")),
        st.floats(0.1, 10.0),  # until the next step
        st.floats(0.1, 10.0),  # what is promised
    ),
    max_size=30,
)


@given(steps)
def test_silent_is_who_has_ended_or_broke_the_last_promise(
    history: list[tuple[str, str, float, float]],
) -> None:
    heart, now_s = Heartbeat(), 0.0
    due: dict[str, float] = {}
    for name, step, pause_s, within_s in history:
        now_s += pause_s
        if due.get(name) == -inf:
            continue
        if step == "beat":
            heart, due[name] = heart.beat(name, now_s, within_s), now_s + within_s
        elif step == "waits":
            heart, due[name] = heart.waits(name), inf
        else:
            heart, due[name] = heart.ended(name), -inf
        expected = tuple(sorted(each for each, at_s in due.items() if now_s > at_s))
        assert heart.silent(now_s) == expected
