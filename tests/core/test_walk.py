"""What twenty dials say of a lock, at the edges."""

from __future__ import annotations

import pytest

from gatewayd.core.walk import FLOOR_DBM, LATE_MS, MARGIN_DB, Reach


@pytest.mark.parametrize(
    ("took", "p50", "p95"),
    [
        ([], None, None),
        ([7], 7, 7),
        ([2, 1], 1, 2),
        (list(range(1, 21)), 10, 19),
        (list(range(100, 0, -1)), 50, 95),
    ],
)
def test_percentiles_are_times_that_were_measured(took, p50, p95):
    reach = Reach(20, took)
    assert (reach.percentile_ms(50), reach.percentile_ms(95)) == (p50, p95)
    assert reach.percentile_ms(0) == (min(took) if took else None)


@pytest.mark.parametrize(
    ("heard", "median", "margin"),
    [((), None, None), ((-70,), -70, 20), ((-60, -90), -90, 0), ((-50, -95, -80), -80, 10)],
)
def test_the_margin_is_that_of_the_median(heard, median, margin):
    reach = Reach(1, [1], heard)
    assert (reach.median_dbm, reach.margin_db) == (median, margin)


def test_what_is_not_good_enough_is_said():
    fine = Reach(20, [300] * 19, [FLOOR_DBM + MARGIN_DB])
    assert fine.faults == ()
    assert Reach(20, [LATE_MS] * 20).faults == ()
    bad = Reach(20, [LATE_MS + 1] * 18, [FLOOR_DBM + MARGIN_DB - 1])
    assert bad.faults == (
        "only 18 of 20 dials succeeded",
        "one dial in twenty takes 5.0 s or more",
        "only 9 dB above where packets are lost",
    )
    assert Reach(20, []).faults == ("only 0 of 20 dials succeeded",)
