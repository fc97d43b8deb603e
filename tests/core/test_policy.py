import math

import pytest

from firmware_proto.codes import Action, KeyClass, Presence, Reason
from gatewayd.core.keytoken import Grant, TokenIdentity
from gatewayd.core.model import (
    LOG_TROUBLES,
    ClockState,
    Decision,
    DoorId,
    TimeReading,
    WithoutLog,
)
from gatewayd.core.policy import (
    DEFAULTS,
    DISK_TROUBLES,
    RULES,
    ClassSettings,
    DoorSettings,
    OpenRequest,
    Situation,
    decide,
)

T = 1_800_000_000
KNOWN = TimeReading(ClockState.TRUSTED, T, 1.0, T)
HELD_OVER = TimeReading(ClockState.HOLDOVER, T, 100.0, T)
UNKNOWN = TimeReading(ClockState.UNKNOWN, T, math.inf, T)
DAY = 86400.0
TAP = OpenRequest(DoorId("front"), Action.OPEN, Presence.TAP)
ARRIVAL = OpenRequest(DoorId("front"), Action.OPEN, Presence.ARRIVAL)
OTHERS = [key_class for key_class in KeyClass if key_class is not KeyClass.EMERGENCY]


def grant(
    key_class=KeyClass.RESIDENT, presence=Presence.TAP, *, scheduled=False, list_age_s=0.0
) -> Grant:
    return Grant(TokenIdentity("op", b"c" * 8), key_class, presence, scheduled, list_age_s)


def ask(*grants: Grant, request=TAP, own: ClassSettings | None = None, **situation) -> Reason:
    settings = DoorSettings(dict.fromkeys(KeyClass, own) if own else {})
    situation = {"time": KNOWN} | situation
    decision = decide(grants, request, Situation(settings, **situation))
    assert decision.allowed == (decision.reason is Reason.OK)
    return decision.reason


def test_a_key_in_good_times_opens():
    for key_class in KeyClass:
        for time in (KNOWN, HELD_OVER):
            assert ask(grant(key_class), time=time) is Reason.OK


def test_nobody_is_allowed_by_nothing():
    with pytest.raises(ValueError, match="no grants"):
        ask()


def test_every_class_has_defaults_and_a_door_may_override_them():
    assert set(DEFAULTS) == set(KeyClass)
    own = ClassSettings(rate=3)
    settings = DoorSettings({KeyClass.GUEST: own})
    assert settings.of(KeyClass.GUEST) is own
    assert settings.of(KeyClass.SERVICE) is DEFAULTS[KeyClass.SERVICE]


@pytest.mark.parametrize(
    ("key_class", "scheduled", "door_opens", "expected"),
    [
        (KeyClass.RESIDENT, False, True, Reason.OK),
        (KeyClass.RESIDENT, False, False, Reason.TIME_UNKNOWN),
        (KeyClass.RESIDENT, True, True, Reason.TIME_UNKNOWN),
        (KeyClass.SERVICE, False, True, Reason.TIME_UNKNOWN),
        (KeyClass.DELIVERY, False, True, Reason.TIME_UNKNOWN),
        (KeyClass.GUEST, False, True, Reason.TIME_UNKNOWN),
        (KeyClass.EMERGENCY, True, False, Reason.OK),
    ],
)
def test_unknown_time(key_class, scheduled, door_opens, expected):
    own = ClassSettings(unknown_time=door_opens)
    asked = grant(key_class, scheduled=scheduled)
    assert ask(asked, own=own, time=UNKNOWN) is expected
    for time in (KNOWN, HELD_OVER):
        assert ask(asked, own=own, time=time) is Reason.OK


@pytest.mark.parametrize("key_class", OTHERS)
def test_a_list_may_be_as_old_as_the_door_says(key_class):
    own = ClassSettings(stale_list_s=DAY)
    for age_s, expected in ((0.0, Reason.OK), (DAY, Reason.OK), (DAY + 1, Reason.STALE_LIST)):
        assert ask(grant(key_class, list_age_s=age_s), own=own) is expected
    assert ask(grant(key_class, list_age_s=math.inf), own=own) is Reason.STALE_LIST
    assert ask(grant(key_class, list_age_s=math.inf), own=ClassSettings()) is Reason.OK


def test_by_default_no_list_held_stops_everybody_but_residents_and_the_fire_brigade():
    allowed = {
        key_class
        for key_class in KeyClass
        if ask(grant(key_class, list_age_s=math.inf)) is Reason.OK
    }
    assert allowed == {KeyClass.RESIDENT, KeyClass.EMERGENCY}


@pytest.mark.parametrize("key_class", OTHERS)
def test_arrival_needs_token_and_door(key_class):
    door = ClassSettings(arrival=True)
    assert ask(grant(key_class, Presence.ARRIVAL), request=ARRIVAL, own=door) is Reason.OK
    for presence, own in (
        (Presence.TAP, door),
        (Presence.ARRIVAL, ClassSettings()),
        (Presence.TAP, ClassSettings()),
    ):
        assert ask(grant(key_class, presence), request=ARRIVAL, own=own) is Reason.TAP_REQUIRED
        assert ask(grant(key_class, presence), request=TAP, own=own) is Reason.OK


def test_arrival_is_off_by_default():
    for key_class in OTHERS:
        assert ask(grant(key_class, Presence.ARRIVAL), request=ARRIVAL) is Reason.TAP_REQUIRED


def test_the_rate_counts_what_was_asked_before():
    own = ClassSettings(rate=3)
    assert ask(grant(), own=own, recent=2) is Reason.OK
    assert ask(grant(), own=own, recent=3) is Reason.RATE_LIMITED
    assert ask(grant(), recent=10**6) is Reason.OK


def test_in_an_emergency_every_state_opens():
    worst = grant(KeyClass.EMERGENCY, scheduled=True, list_age_s=math.inf)
    own = ClassSettings(stale_list_s=0, rate=0)
    assert ask(worst, request=ARRIVAL, own=own, time=UNKNOWN, recent=99) is Reason.OK


def test_every_link_of_a_key_must_be_allowed():
    guest = grant(KeyClass.GUEST, list_age_s=math.inf)
    assert ask(grant(), grant()) is Reason.OK
    assert ask(grant(), guest) is Reason.STALE_LIST
    assert ask(guest, grant()) is Reason.STALE_LIST


def test_the_first_rule_gives_the_reason():
    own = ClassSettings(stale_list_s=0, rate=0)
    state = {"time": UNKNOWN, "recent": 9}
    asked = grant(KeyClass.GUEST, list_age_s=math.inf)
    seen = []
    for mend in ({}, {"own": ClassSettings(rate=0)}, {"time": KNOWN}):
        state |= {"own": own, "request": ARRIVAL} | mend
        own = state["own"]
        seen.append(ask(asked, **state))
    state["request"] = TAP
    seen.append(ask(asked, **state))
    seen.extend(ask(asked, own=ClassSettings(), log=each) for each in sorted(LOG_TROUBLES))
    assert seen == [*(reason for reason, _ in RULES), *sorted(LOG_TROUBLES)]


@pytest.mark.parametrize("trouble", sorted(LOG_TROUBLES))
def test_a_log_that_takes_nothing_stops_whom_the_door_says(trouble):
    for key_class in KeyClass:
        emergency = key_class is KeyClass.EMERGENCY
        opens = emergency or (key_class is KeyClass.RESIDENT and trouble in DISK_TROUBLES.values())
        assert ask(grant(key_class), log=trouble) is (Reason.OK if opens else trouble)
        own = ClassSettings(log_unavailable=frozenset({trouble}))
        assert ask(grant(key_class), own=own, log=trouble) is Reason.OK
        own = ClassSettings(log_unavailable=LOG_TROUBLES - {trouble})
        assert ask(grant(key_class), own=own, log=trouble) is (Reason.OK if emergency else trouble)


def test_a_decision_tells_what_holds_without_the_log():
    def without(*classes: KeyClass) -> WithoutLog:
        grants = tuple(map(grant, classes))
        return decide(grants, TAP, Situation(DoorSettings(), KNOWN)).without_log

    disk = frozenset(DISK_TROUBLES.values())
    assert without(KeyClass.EMERGENCY) == WithoutLog(LOG_TROUBLES, unrecorded=True)
    assert without(KeyClass.RESIDENT) == WithoutLog(disk)
    assert without(KeyClass.EMERGENCY, KeyClass.RESIDENT) == WithoutLog(disk)
    assert without(KeyClass.EMERGENCY, KeyClass.GUEST) == WithoutLog()


def test_a_decision_is_one_reason():
    own = DoorSettings(dict.fromkeys(KeyClass, ClassSettings()))
    assert decide((grant(),), TAP, Situation(own, KNOWN)) == Decision(
        allowed=True, reason=Reason.OK
    )
