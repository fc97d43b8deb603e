"""What is kept of a lock's words, what is told to whom, and what never leaves the building."""

import json
from dataclasses import replace

import pytest

from firmware_proto.codes import BoltState, DoorState, LatchState, Mechanism
from firmware_proto.fields import Battery
from firmware_proto.lock_messages import State
from gatewayd.core.lock_condition import (
    MOST_MOVEMENTS,
    TELL_EVERY_S,
    LockCondition,
    Movements,
    News,
    Trouble,
)

FINE = State(
    request=None,
    bolt=BoltState.UNLOCKED,
    latch=LatchState.REST,
    door_state=DoorState.CLOSED,
    mechanism=Mechanism.OK,
    tamper=False,
    battery=Battery(5800, 87, low=False),
    model="lock",
    firmware="1.2",
    clock_ms=1,
)
BROKEN = {
    Trouble.TAMPERED: replace(FINE, tamper=True),
    Trouble.FORCED: replace(FINE, door_state=DoorState.FORCED),
    Trouble.LOW_BATTERY: replace(FINE, battery=Battery(4600, 12, low=True)),
    Trouble.JAMMED: replace(FINE, mechanism=Mechanism.JAMMED),
    Trouble.UNCALIBRATED: replace(FINE, mechanism=Mechanism.UNCALIBRATED),
    Trouble.LOW_VOLTAGE: replace(FINE, mechanism=Mechanism.LOW_VOLTAGE),
}


def test_nothing_is_known_before_the_first_word():
    assert LockCondition().report(5.0) == {"troubles": []}
    assert LockCondition().news(5.0) == (LockCondition(), ())
    assert not str(LockCondition())


def test_the_last_word_is_kept_and_since_when():
    known = LockCondition().heard(FINE, 10.0).heard(replace(FINE, clock_ms=2), 20.0)
    assert (known.state.clock_ms, known.heard_s) == (2, 20.0)


@pytest.mark.parametrize("trouble", Trouble)
def test_every_trouble_is_told_when_it_begins_and_when_it_is_over(trouble):
    known = LockCondition().heard(FINE, 0.0).heard(BROKEN[trouble], 10.0)
    assert known.troubles == {trouble: 10.0}
    assert known.heard(BROKEN[trouble], 15.0).troubles == {trouble: 10.0}
    assert known.report(10.0)["troubles"] == [trouble.value]
    assert str(known) == trouble.value.replace("_", " ")
    known, news = known.news(10.0)
    assert news == (News(trouble, over=False),)
    assert known.news(1000.0)[1] == ()
    known, news = known.heard(FINE, 1000.0).news(1000.0)
    assert news == (News(trouble, over=True),)
    assert known.report(1000.0)["troubles"] == []


def test_a_lock_that_cannot_make_up_its_mind_is_told_once_a_minute():
    known, told = LockCondition(), []
    for second in range(600):
        known = known.heard(replace(FINE, tamper=second % 2 == 0), float(second))
        known, news = known.news(float(second))
        told.extend(news)
    assert 0 < len(told) <= 600 / TELL_EVERY_S
    assert told[0] == News(Trouble.TAMPERED, over=False)


def test_troubles_at_once_are_told_at_once():
    both = replace(FINE, tamper=True, door_state=DoorState.FORCED)
    _, news = LockCondition().heard(both, 0.0).news(0.0)
    assert {each.trouble for each in news} == {Trouble.TAMPERED, Trouble.FORCED}


def test_the_movements_of_a_loose_contact_are_counted():
    moved = Movements()
    untold = []
    for second in range(150):
        moved = moved.moved(100.0 + second)
        untold.append(moved.untold)
    told = [0] * MOST_MOVEMENTS
    minute = [*told, *range(1, int(TELL_EVERY_S) - MOST_MOVEMENTS + 1)]
    assert untold == [*minute, *minute, *minute[:30]]


def test_a_dial_that_fails_is_known():
    known = LockCondition().heard(FINE, 0.0).dialled(reached=False)
    assert known.report(0.0)["reached"] is False
    assert known.dialled(reached=True).report(0.0)["reached"] is True


def test_what_is_reported():
    known = LockCondition().dialled(reached=True).heard(FINE, 0.0)
    assert json.loads(json.dumps(known.report(2.5 * 86_400))) == {
        "troubles": [],
        "reached": True,
        "model": "lock",
        "firmware": "1.2",
        "heard_days": 2,
        "battery_percent": 87,
        "battery_mv": 5800,
    }


def test_who_comes_and_goes_changes_nothing_that_is_reported():
    """Bolt, latch and leaf move with people, and so does a voltage with the motor."""
    before = LockCondition().heard(FINE, 0.0)
    after = before
    for step, state in enumerate(
        (
            replace(FINE, latch=LatchState.UNLATCHING),
            replace(FINE, latch=LatchState.UNLATCHED, battery=Battery(5600, 84, low=False)),
            replace(FINE, door_state=DoorState.OPEN, bolt=BoltState.LOCKED),
            replace(FINE, door_state=DoorState.AJAR, battery=Battery(5810, 88, low=False)),
        )
    ):
        after = after.heard(state, float(step))
        assert after.report(4.0) == before.report(4.0)


@pytest.mark.parametrize(
    "battery", [Battery(5700, 82, low=False), Battery(5800, 87, low=True), Battery(6000, 92, False)]
)
def test_a_battery_that_has_come_far_is_reported_anew(battery):
    known = LockCondition().heard(FINE, 0.0).heard(replace(FINE, battery=battery), 1.0)
    assert known.battery == battery
