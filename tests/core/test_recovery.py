"""The ladder: every rung in its turn, none too often."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.core.recovery import LIMITS, Ladder, Rung


def climb(ladder: Ladder, times: int, now_s: float = 0.0) -> tuple[Ladder, list[Rung]]:
    rungs = []
    for _ in range(times):
        ladder, rung = ladder.failed(now_s)
        rungs.append(rung)
    return ladder, rungs


def test_the_mildest_first_then_each_in_its_turn() -> None:
    _, rungs = climb(Ladder(), 16)
    again = Rung.AGAIN
    assert rungs == [
        *[again] * 3, Rung.POWER_CYCLE, again, Rung.RESTART_ADAPTER, again,
        Rung.RESTART_BLUETOOTHD, *[again] * 7, Rung.GIVE_UP,
    ]  # fmt: skip


def test_a_rung_that_is_not_there_is_not_taken() -> None:
    _, rungs = climb(Ladder(frozenset({Rung.RESTART_ADAPTER})), 8)
    assert rungs[3:] == [Rung.POWER_CYCLE, *[Rung.AGAIN] * 3, Rung.RESTART_BLUETOOTHD]


def test_success_begins_a_new_row_but_limits_stay() -> None:
    ladder, _ = climb(Ladder(frozenset({Rung.RESTART_ADAPTER})), 4, now_s=10.0)
    ladder, rungs = climb(ladder.worked(), 5, now_s=309.0)
    assert rungs == [Rung.AGAIN] * 5
    _, rung = ladder.failed(310.0)
    assert rung is Rung.POWER_CYCLE


@settings(max_examples=50)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1000)), max_size=60))
def test_no_rung_is_taken_more_often_than_it_may(steps: list[float | None]) -> None:
    ladder, now_s = Ladder(), 0.0
    used: dict[Rung, float] = {}
    for step in steps:
        if step is None:
            ladder = ladder.worked()
            continue
        now_s += step
        ladder, rung = ladder.failed(now_s)
        if rung in used:
            assert now_s - used[rung] >= LIMITS[rung].every_s
        assert ladder.failures >= LIMITS[rung].after
        used[rung] = now_s
