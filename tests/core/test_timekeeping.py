import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor
from gatewayd.core.model import ClockState, Instant
from gatewayd.core.timekeeping import (
    AGREEMENT_S,
    DRIFT,
    FRESH_S,
    HOLDOVER_BOUND_S,
    TRUSTED_BOUND_S,
    DamagedTimeError,
    Timekeeping,
    TimeRefusal,
    TimeRefusedError,
)

T = 1_800_000_000
NONCE = b"n" * 16
DAY = 86400.0


def at(boottime_s: float, wall_s: float = T, boot: str = "boot-1") -> Instant:
    return Instant(boot, boottime_s, wall_s)


def trusted(*, battery_clock: bool = False, wall_s: float = T) -> Timekeeping:
    asked = Timekeeping(battery_clock=battery_clock).asked(NONCE, at(100.0, wall_s))
    return asked.answered(NONCE, T, at(100.2, wall_s))


def refusal(call, *arguments) -> TimeRefusal:
    with pytest.raises(TimeRefusedError) as caught:
        call(*arguments)
    assert str(caught.value) == caught.value.refusal.value
    return caught.value.refusal


# --- a fresh answer ---------------------------------------------------------------
def test_without_an_answer_time_is_unknown():
    reading = Timekeeping().reading(at(1.0, wall_s=T + 0.9))
    assert (reading.state, reading.now_s, reading.floor_s) == (ClockState.UNKNOWN, T, 0)
    assert reading.bound_s == math.inf


def test_a_fresh_answer_is_trusted_within_half_the_round_trip():
    reading = trusted().reading(at(100.2))
    assert (reading.state, reading.now_s) == (ClockState.TRUSTED, T)
    assert reading.bound_s == pytest.approx(0.1 + 0.5, abs=0.002)


def test_time_goes_on_by_the_boot_clock_and_the_bound_by_drift():
    reading = trusted().reading(at(100.2 + DAY, wall_s=0))
    assert reading.state is ClockState.TRUSTED
    assert reading.now_s == T + DAY
    assert reading.bound_s == pytest.approx(0.6 + DRIFT * DAY, abs=0.01)


def test_a_step_of_the_wall_clock_is_not_believed():
    for wall_s in (0, T - 3600, T + 3600, T * 2):
        assert trusted().reading(at(160.2, wall_s)).now_s == T + 60


def test_trusted_becomes_holdover_becomes_unknown():
    time = trusted()
    for bound_s, before, after in (
        (TRUSTED_BOUND_S, ClockState.TRUSTED, ClockState.HOLDOVER),
        (HOLDOVER_BOUND_S, ClockState.HOLDOVER, ClockState.UNKNOWN),
    ):
        age_s = (bound_s - 0.6) / DRIFT
        assert time.reading(at(100.2 + age_s - 100)).state is before
        assert time.reading(at(100.2 + age_s + 100)).state is after


def test_an_answer_must_be_to_the_question_that_is_open():
    asked = Timekeeping().asked(NONCE, at(1.0))
    assert refusal(Timekeeping().answered, NONCE, T, at(1.0)) is TimeRefusal.NOT_ASKED
    assert refusal(asked.answered, b"m" * 16, T, at(1.1)) is TimeRefusal.NOT_ASKED
    assert asked.answered(NONCE, T, at(1.2)).anchor is not None
    again = asked.asked(b"m" * 16, at(1.1))
    assert refusal(again.answered, NONCE, T, at(1.2)) is TimeRefusal.NOT_ASKED


def test_an_answer_counts_once():
    assert refusal(trusted().answered, NONCE, T, at(100.3)) is TimeRefusal.NOT_ASKED


def test_an_answer_must_be_quick_and_within_the_boot():
    asked = Timekeeping().asked(NONCE, at(100.0))
    assert asked.answered(NONCE, T, at(100.0 + FRESH_S)).anchor is not None
    for late in (at(100.01 + FRESH_S), at(99.9), at(100.5, boot="boot-2")):
        assert refusal(asked.answered, NONCE, T, late) is TimeRefusal.TOO_LATE


def test_an_answer_below_the_floor_is_refused():
    asked = Timekeeping(floor_s=T).asked(NONCE, at(1.0))
    assert refusal(asked.answered, NONCE, T - 1, at(1.1)) is TimeRefusal.BELOW_FLOOR
    later = trusted().asked(NONCE, at(100.2 + DAY))
    before = T + int(DAY) - 20
    assert refusal(later.answered, NONCE, before, at(100.3 + DAY)) is TimeRefusal.BELOW_FLOOR


def test_a_nonce_has_sixteen_bytes():
    with pytest.raises(ValueError, match="16"):
        Timekeeping().asked(b"short", at(1.0))


# --- the floor ----------------------------------------------------------------------
def test_the_floor_rises_only():
    time = Timekeeping().raised(T).raised(T - 5)
    assert time.floor_s == T
    assert time.reading(at(1.0, wall_s=5)).now_s == T


def test_a_signed_answer_raises_the_floor():
    assert trusted().floor_s == T


def test_what_has_certainly_passed_is_kept():
    later = at(100.2 + DAY)
    assert trusted().reading(later).floor_s == T + int(DAY) - 9
    assert trusted().kept(later).floor_s == T + int(DAY) - 9
    assert Timekeeping(floor_s=5).kept(at(1.0)).floor_s == 5


@given(st.lists(st.tuples(st.integers(0, 2**33), st.integers(0, 20), st.integers(0, 2**33))))
def test_no_sequence_of_events_lowers_floor_or_reading(events):
    time, boottime_s, floor_s = Timekeeping(battery_clock=True), 0.0, 0
    for step, (time_s, pause_s, wall_s) in enumerate(events):
        boottime_s += pause_s
        now = at(boottime_s, wall_s, boot=f"boot-{step // 3}")
        time = time.started(now).asked(NONCE, now)
        try:
            time = time.answered(NONCE, time_s, at(boottime_s + 1, wall_s, now.boot_id))
        except TimeRefusedError:
            assert time_s < time.reading(at(boottime_s + 1, wall_s, now.boot_id)).floor_s
        boottime_s += 1
        reading = time.reading(at(boottime_s, wall_s, now.boot_id))
        assert reading.now_s >= reading.floor_s >= floor_s
        floor_s = time.kept(at(boottime_s, wall_s, now.boot_id)).floor_s
        assert floor_s == reading.floor_s
        time = time.raised(floor_s)
        assert Timekeeping.decode(time.encode(), battery_clock=True) == time.started(now)


# --- restarts -------------------------------------------------------------------------
def test_a_restart_within_the_boot_loses_nothing_but_the_question():
    time = trusted().asked(NONCE, at(101.0))
    again = Timekeeping.decode(time.encode()).started(at(110.2, wall_s=5))
    assert again.question is None
    assert again.reading(at(110.2)).state is ClockState.TRUSTED
    assert again.reading(at(110.2)) == time.reading(at(110.2))


def test_a_battery_carries_time_over_a_power_cut():
    off = trusted(battery_clock=True)
    now = at(5.0, T + DAY, boot="boot-2")
    on = off.started(now)
    assert off.reading(now) == on.reading(now)
    reading = on.reading(at(65.0, 0, boot="boot-2"))
    assert (reading.state, reading.now_s) == (ClockState.HOLDOVER, T + DAY + 60)
    assert reading.bound_s == pytest.approx(0.6 + 2.0 + DRIFT * DAY, abs=0.02)
    assert reading.floor_s == T


def test_two_power_cuts_add_up():
    time = trusted(battery_clock=True)
    for boot in (2, 3):
        time = time.started(at(5.0, T + boot * 100, boot=f"boot-{boot}"))
    reading = time.reading(at(5.0, boot="boot-3"))
    assert (reading.state, reading.now_s) == (ClockState.HOLDOVER, T + 300)
    assert reading.bound_s > 4.6


def test_without_a_believable_battery_a_power_cut_makes_time_unknown():
    now = at(5.0, T + DAY, boot="boot-2")
    for off in (
        trusted(),
        trusted(battery_clock=True, wall_s=T + AGREEMENT_S + 1),
        trusted(battery_clock=True, wall_s=T - AGREEMENT_S - 1),
        trusted(battery_clock=True).raised(T + 2 * int(DAY)),
    ):
        assert off.reading(now).state is ClockState.UNKNOWN
        assert off.started(now).reading(now).state is ClockState.UNKNOWN
        assert off.reading(now).floor_s == off.floor_s


def test_a_dead_battery_makes_time_unknown_and_later_steps_do_not_revive_it():
    time = trusted(battery_clock=True).started(at(5.0, wall_s=0, boot="boot-2"))
    reading = time.reading(at(500.0, T + DAY, boot="boot-2"))
    assert reading.state is ClockState.UNKNOWN
    assert reading.floor_s == T


def test_a_battery_that_ran_ahead_for_years_is_unknown():
    late = at(5.0, T + 500 * DAY, boot="boot-2")
    assert trusted(battery_clock=True).started(late).reading(late).state is ClockState.UNKNOWN


# --- provisioning -----------------------------------------------------------------------
def test_a_time_signed_at_provisioning_is_trusted_when_the_wall_clock_agrees():
    for wall_s in (T - 0.5, T, T + 30.0):
        reading = Timekeeping().provisioned(T, at(1.0, wall_s)).reading(at(1.0))
        assert reading.state is ClockState.TRUSTED
        assert abs(reading.now_s - T) <= reading.bound_s
        assert reading.floor_s >= T - 1


def test_it_is_no_time_when_the_wall_clock_disagrees():
    for wall_s in (T - 2, T + AGREEMENT_S):
        found = refusal(Timekeeping().provisioned, T, at(1.0, wall_s))
        assert found is TimeRefusal.WALL_CLOCK_DISAGREES


def test_it_is_no_time_where_there_was_one_before():
    for before in (trusted(), Timekeeping(floor_s=1)):
        assert refusal(before.provisioned, T, at(1.0)) is TimeRefusal.PROVISIONED_BEFORE


# --- storing ---------------------------------------------------------------------------
def test_what_is_stored_comes_back():
    for time in (Timekeeping(), Timekeeping(floor_s=T), trusted()):
        assert Timekeeping.decode(time.encode()) == time
        assert Timekeeping.decode(time.encode(), battery_clock=True).battery_clock


def test_a_damaged_value_is_an_error():
    good = trusted().encode()
    for length in range(len(good)):
        with pytest.raises(DamagedTimeError):
            Timekeeping.decode(good[:length])
    anchor = cbor.decode(good)[2]
    for bad in (
        good + b"\0",
        cbor.encode([2, T, None]),
        cbor.encode([True, T, None]),
        cbor.encode([1, T]),
        cbor.encode([1, True, None]),
        cbor.encode([1, T, anchor[:-1]]),
        cbor.encode([1, T, [anchor[0], True, *anchor[2:]]]),
        cbor.encode([1, T, [*anchor[:-1], 1]]),
    ):
        with pytest.raises(DamagedTimeError):
            Timekeeping.decode(bad)


@given(st.binary(max_size=60))
def test_other_bytes_are_damage_or_time(data):
    try:
        time = Timekeeping.decode(data)
    except DamagedTimeError:
        return
    assert time.encode() == data


# --- spoofed NTP --------------------------------------------------------------------------
@pytest.mark.parametrize("step_s", [-30 * 365 * DAY, -DAY, -120.0, 120.0, DAY, 30 * 365 * DAY])
def test_a_stepped_wall_clock_moves_nothing_and_is_noticed(step_s):
    known = trusted()
    honest, stepped = at(200.0, wall_s=T + 100), at(200.0, wall_s=T + 100 + step_s)
    assert known.reading(stepped) == known.reading(honest)
    assert known.kept(stepped) == known.kept(honest)
    assert known.wall_strays(stepped)
    assert not known.wall_strays(honest)
    assert not Timekeeping().wall_strays(stepped)


def test_a_wall_clock_spoofed_forwards_before_a_start_expires_nothing_for_good():
    before = trusted(battery_clock=True)
    restarted = before.started(at(5.0, T + 30 * DAY, boot="boot-2"))
    reading = restarted.reading(at(5.0, T + 30 * DAY, boot="boot-2"))
    assert (reading.state, reading.floor_s) == (ClockState.HOLDOVER, T)
    known = restarted.kept(at(500.0, T + 30 * DAY, boot="boot-2"))
    assert known.floor_s == T
    asked = known.asked(NONCE, at(600.0, T + 30 * DAY, boot="boot-2"))
    right = asked.answered(NONCE, T + 600, at(600.1, T + 30 * DAY, boot="boot-2"))
    assert right.reading(at(600.1, boot="boot-2")).now_s == T + 600
    far = before.started(at(5.0, T + 9 * 365 * DAY, boot="boot-2"))
    assert far.reading(at(5.0, T, boot="boot-2")).state is ClockState.UNKNOWN


def test_a_wall_clock_spoofed_backwards_before_a_start_brings_nothing_back():
    before = trusted(battery_clock=True)
    for wall_s in (0.0, T - DAY, T - 1.0):
        restarted = before.started(at(5.0, wall_s, boot="boot-2"))
        reading = restarted.reading(at(5.0, wall_s, boot="boot-2"))
        assert (reading.state, reading.floor_s) == (ClockState.UNKNOWN, T)
        assert reading.now_s >= T


# --- what a root takes back ---------------------------------------------------------------
def test_only_a_floor_beyond_what_is_named_is_lowered():
    wrong = trusted().raised(T + 10**9)
    for above_s, floor_s in ((T + 10**9, T + 10**9), (T + 10**9 - 1, T - 5)):
        assert wrong.lowered(above_s, T - 5, at(200.0)).floor_s == floor_s
    right = wrong.lowered(T + 10**8, T, at(200.0))
    assert (right.anchor, right.question) == (None, None)
    assert right.reading(at(200.0)).state is ClockState.UNKNOWN
    assert right.lowered(T + 10**8, T - 10**6, at(200.0)) is right
