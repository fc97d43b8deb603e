from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.schedule import ALL_DAYS, DAY_MINUTES, Schedule, Window

COPENHAGEN = ZoneInfo("Europe/Copenhagen")
MONDAY, SATURDAY, SUNDAY = 1, 1 << 5, 1 << 6


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def clock(hours: int, minutes: int = 0) -> int:
    return hours * 60 + minutes


def is_open(text: str, *allow: Window, deny: tuple[Window, ...] = ()) -> bool:
    return Schedule("Europe/Copenhagen", allow, deny).is_open(utc(text), COPENHAGEN)


def test_now_is_converted_to_wall_time():
    weekdays = Window(0b0011111, clock(8), clock(9))
    assert not is_open("2026-11-23T06:59:59", weekdays)
    assert is_open("2026-11-23T07:00:00", weekdays)
    assert is_open("2026-11-23T15:59:59", weekdays)
    assert not is_open("2026-11-23T16:00:00", weekdays)
    assert not is_open("2026-11-22T12:00:00", weekdays)
    # in summer the same wall time is an hour earlier
    assert is_open("2026-07-06T06:00:00", weekdays)
    assert not is_open("2026-07-06T15:00:00", weekdays)


def test_any_window_allows_and_any_denial_wins():
    morning, evening = Window(ALL_DAYS, clock(7), 60), Window(ALL_DAYS, clock(19), 60)
    assert is_open("2026-11-23T06:30:00", morning, evening)
    assert is_open("2026-11-23T18:30:00", morning, evening)
    assert not is_open("2026-11-23T12:00:00", morning, evening)
    no_mondays = (Window(SUNDAY, 0, 1), Window(MONDAY, 0, DAY_MINUTES))
    assert not is_open("2026-11-23T06:30:00", morning, deny=no_mondays)
    assert is_open("2026-11-24T06:30:00", morning, deny=no_mondays)


def test_a_window_runs_past_midnight_from_the_day_it_started():
    night = Window(SATURDAY, clock(22), clock(8))
    assert is_open("2026-11-21T21:00:00", night)
    assert is_open("2026-11-21T23:30:00", night)  # Sunday 00:30
    assert is_open("2026-11-22T04:59:00", night)
    assert not is_open("2026-11-22T05:00:00", night)
    assert not is_open("2026-11-22T21:30:00", night)
    assert not is_open("2026-11-20T23:30:00", night)  # Saturday 00:30


def test_sunday_night_runs_into_monday():
    night = Window(SUNDAY, clock(23), clock(2))
    assert is_open("2026-11-22T23:30:00", night)
    assert not is_open("2026-11-23T23:30:00", night)


def test_the_night_the_clock_goes_back_opens_the_repeated_hour_twice():
    # 25 October 2026: 03:00 summer time becomes 02:00; 02:00-03:00 passes twice
    window = Window(SUNDAY, clock(2, 15), 30)
    assert [is_open(f"2026-10-25T{at}", window) for at in ("00:14", "00:15", "00:44", "00:45")] == [
        False,
        True,
        True,
        False,
    ]
    assert [is_open(f"2026-10-25T{at}", window) for at in ("01:14", "01:15", "01:44", "01:45")] == [
        False,
        True,
        True,
        False,
    ]


def test_a_shift_over_the_night_the_clock_goes_back_lasts_an_hour_longer():
    shift = Window(SATURDAY, clock(22), clock(8))  # until 06:00 on the wall
    assert is_open("2026-10-24T20:00", shift)
    assert is_open("2026-10-25T04:59", shift)
    assert not is_open("2026-10-25T05:00", shift)


def test_the_night_the_clock_goes_forward_skips_what_does_not_exist():
    # 29 March 2026: 02:00 becomes 03:00
    missing = Window(SUNDAY, clock(2, 15), 30)
    for minute in range(180):
        assert not is_open(f"2026-03-29T{minute // 60:02}:{minute % 60:02}", missing)
    across = Window(SUNDAY, clock(1, 30), clock(2))
    assert [is_open(f"2026-03-29T{at}", across) for at in ("00:29", "00:30", "01:29", "01:30")] == [
        False,
        True,
        True,
        False,
    ]


def test_a_shift_over_the_night_the_clock_goes_forward_lasts_an_hour_less():
    shift = Window(SATURDAY, clock(22), clock(8))
    assert is_open("2026-03-28T21:00", shift)
    assert is_open("2026-03-29T03:59", shift)
    assert not is_open("2026-03-29T04:00", shift)


def test_the_zone_of_another_place_never_opens():
    schedule = Schedule("Europe/Copenhagen", (Window(ALL_DAYS, 0, DAY_MINUTES),))
    assert schedule.is_open(utc("2026-11-23T12:00"), COPENHAGEN)
    assert not schedule.is_open(utc("2026-11-23T12:00"), ZoneInfo("Europe/Stockholm"))


@pytest.mark.parametrize(
    "window",
    [
        (0, 0, 60),
        (128, 0, 60),
        (-1, 0, 60),
        (1, -1, 60),
        (1, 1440, 60),
        (1, 0, 0),
        (1, 0, 1441),
    ],
)
def test_a_window_has_bounds(window):
    assert not Window(*window).is_valid()


@given(
    st.integers(1, ALL_DAYS),
    st.integers(0, DAY_MINUTES - 1),
    st.integers(1, DAY_MINUTES),
    st.integers(0, 7 * DAY_MINUTES - 1),
)
def test_a_window_covers_exactly_its_minutes_of_the_week(days, start, duration, minute):
    window = Window(days, start, duration)
    assert window.is_valid()
    covered = any(
        days >> day & 1 and (minute - day * DAY_MINUTES - start) % (7 * DAY_MINUTES) < duration
        for day in range(7)
    )
    assert window.contains(minute // DAY_MINUTES, minute % DAY_MINUTES) == covered
