from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.backoff import STABLE_S, Backoff, ceiling_s


def waits(backoff: Backoff, times: int, jitter: float = 1.0) -> list[float]:
    found = []
    for _ in range(times):
        backoff, wait_s = backoff.failed(0.0, jitter)
        found.append(wait_s)
    return found


def test_ceilings_double_from_one_second_to_five_minutes():
    assert waits(Backoff(), 11) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_ceilings_stay_put_however_often_it_fails():
    assert waits(Backoff(), 2000)[-1] == ceiling_s(10**9) == 300


@given(st.integers(0, 50), st.floats(0, 1))
def test_jitter_is_full(failures, jitter):
    _, wait_s = Backoff(min(failures, 9)).failed(0.0, jitter)
    assert wait_s == jitter * ceiling_s(failures)


def test_a_connection_that_lasts_resets():
    backoff = Backoff(failures=5).connected(100.0)
    assert backoff.failed(100.0 + STABLE_S, 1.0) == (Backoff(1), 1.0)


def test_a_connection_that_does_not_last_is_one_more_failure():
    backoff = Backoff(failures=5).connected(100.0)
    assert backoff.failed(99.9 + STABLE_S, 1.0) == (Backoff(6), 32.0)


def test_success_counts_once():
    backoff, _ = Backoff(failures=5).connected(0.0).failed(1000.0, 1.0)
    assert backoff.failed(5000.0, 1.0)[1] == 2.0
