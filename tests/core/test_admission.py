import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.admission import (
    CROWD,
    CROWD_S,
    IDLE_S,
    IN_A_CROWD,
    MOST_HOLDERS,
    USUAL,
    USUAL_EVERY,
    VISIT_S,
    Evict,
    Links,
    RecentUse,
    RecentUses,
    Stay,
    Strangers,
    Wait,
)


def full(*opened_s: float, cap: int | None = None) -> Links:
    """Links 1, 2, 3…, as many as may stay."""
    links = Links(cap=cap or len(opened_s))
    for number, at_s in enumerate(opened_s, 1):
        links = links.opened(number, at_s)
    return links


def crowded(links: Links, now_s: float) -> Links:
    """The same, after so many evictions that it is a crowd."""
    for number in range(1000, 1000 + CROWD):
        links = links.opened(number, now_s).evicted(number, now_s)
    return links


def test_nobody_goes_while_there_is_a_place():
    links = Links(cap=3).opened(1, 0.0).opened(2, 0.0)
    assert links.decide(1e6) == Stay()
    assert links.opened(3, 0.0).decide(0.0) == Wait(USUAL.silent_s)


def test_one_more_may_come_and_no_more():
    links = Links(cap=2)
    for number in range(3):
        assert links.room
        links = links.opened(number, 0.0)
    assert not links.room
    with pytest.raises(ValueError, match="room"):
        links.opened(9, 0.0)
    with pytest.raises(ValueError, match="room"):
        Links(cap=5).opened(1, 0.0).opened(1, 0.0)


def test_the_oldest_stranger_goes_once_he_has_had_his_chance():
    links = full(1.0, 0.9, 1.1)
    assert links.decide(0.89 + USUAL.silent_s) == Wait(0.9 + USUAL.silent_s)
    assert links.decide(1.05 + USUAL.silent_s) == Evict(2)


def test_a_handshake_goes_on_as_long_as_it_makes_progress_and_ends():
    links = full(0.0, 0.1).closed(2).greeted(1, 0.2).opened(2, 0.9)
    assert links.decide(0.95) == Wait(0.2 + USUAL.quiet_s)
    assert links.decide(0.2 + USUAL.quiet_s) == Evict(1)
    assert links.active(1, 0.95).decide(1.2) == Wait(0.9 + USUAL.silent_s)
    dripping = links
    for step in range(3, 20):
        dripping = dripping.active(1, step / 10).closed(2).opened(2, step / 10)
        assert dripping.decide(step / 10) == (
            Evict(1)
            if step / 10 >= USUAL.whole_s
            else Wait(min(step / 10 + USUAL.silent_s, USUAL.whole_s))
        )


def test_a_holder_goes_only_when_idle_and_after_every_stranger():
    links = full(0.0, 0.0).asked(1, 1.0).answered(1, 1.0)
    assert links.decide(100.0) == Evict(2)
    links = links.asked(2, 2.0).answered(2, 2.0)
    assert links.decide(0.9 + IDLE_S) == Wait(1.0 + IDLE_S)
    assert links.decide(1.0 + IDLE_S) == Evict(1)
    assert links.active(1, 5.0).decide(20.0) == Evict(2)


def test_a_holder_who_waits_for_an_answer_stays():
    links = full(0.0).asked(1, 1.0)
    assert links.decide(1e6) == Wait(math.inf)
    assert links.answered(1, 1e6).decide(1e6) == Evict(1)


def test_a_holder_cannot_stay_for_ever_by_asking_again_and_again():
    links = full(0.0)
    for second in range(1, int(VISIT_S)):
        links = links.asked(1, second).answered(1, second)
        assert links.decide(second) == Wait(min(second + IDLE_S, VISIT_S))
    assert links.decide(VISIT_S) == Evict(1)


def test_in_a_crowd_the_chance_is_short_and_a_place_more_is_kept_free():
    links = full(10.0, 10.0, cap=3)
    assert links.decide(10.2) == Stay()
    links = crowded(links, 10.0)
    assert links.crowded(10.0 + CROWD_S)
    assert links.decide(10.1) == Wait(10.0 + IN_A_CROWD.silent_s)
    assert links.decide(10.0 + IN_A_CROWD.silent_s) == Evict(1)
    assert links.greeted(1, 10.2).greeted(2, 10.2).decide(10.3) == Wait(10.2 + IN_A_CROWD.quiet_s)
    assert links.decide(10.1 + CROWD_S) == Stay()


def test_in_a_crowd_one_link_in_four_has_its_time():
    links = crowded(Links(cap=2).opened(USUAL_EVERY, 0.0), 0.0)
    assert links.decide(0.3) == Wait(USUAL.silent_s)
    assert crowded(Links(cap=2).opened(USUAL_EVERY + 1, 0.0), 0.0).decide(0.3) == Evict(5)


def test_holders_who_yield_are_no_crowd():
    links = full(0.0)
    for number in range(2, 3 * CROWD):
        links = links.asked(number - 1, 1.0).evicted(number - 1, 20.0).opened(number, 20.0)
    assert not links.crowded(20.0)


def test_a_crowd_of_one_place_still_serves():
    links = crowded(Links(cap=1), 0.0)
    assert links.decide(0.0) == Stay()
    assert links.opened(1, 0.0).decide(1.0) == Evict(1)


def test_what_a_link_was_it_stays():
    links = full(0.0).greeted(1, 0.1).asked(1, 0.2).answered(1, 0.25).active(1, 0.3)
    state = links.held[1]
    assert (state.opened_s, state.active_s) == (0.0, 0.3)
    assert (state.greeted, state.authenticated, state.asking) == (True, True, False)


def test_news_of_an_evicted_link_changes_nothing():
    links = full(0.0)
    assert links.greeted(7, 1.0) == links
    assert links.asked(7, 1.0) == links
    assert links.answered(7, 1.0) == links
    assert links.active(7, 1.0) == links
    assert links.closed(7) == links
    assert links.evicted(7, 1.0) == links


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.booleans()), max_size=40))
def test_nobody_is_evicted_before_his_chance(arrivals):
    links, now_s = Links(cap=4), 0.0
    for number, (pause_s, greets, proves) in enumerate(arrivals):
        now_s += pause_s
        match links.decide(now_s):
            case Evict(link):
                gone = links.held[link]
                assert now_s - gone.opened_s >= IN_A_CROWD.silent_s
                assert not gone.greeted or now_s - gone.active_s >= IN_A_CROWD.quiet_s
                assert not gone.authenticated or now_s - gone.active_s >= IDLE_S
                assert not gone.asking
                links = links.evicted(link, now_s)
            case Wait(until_s):
                assert until_s > now_s
                assert len(links.held) >= links.cap - 1
            case Stay():
                assert len(links.held) < links.cap
        if not links.room:
            continue
        links = links.opened(number, now_s)
        if greets:
            links = links.greeted(number, now_s)
        if proves:
            links = links.asked(number, now_s).answered(number, now_s)


def serve(rng: random.Random, links: Links, now_s: float, newest: int) -> tuple[Links, float, int]:
    """Until one holder is through, among forty strangers who know message_1 and never stop."""
    began_s, holder = now_s, -1
    while True:
        now_s += 0.05
        while isinstance(answer := links.decide(now_s), Evict):
            assert answer.link != holder, "an honest handshake was cut short"
            links = links.evicted(answer.link, now_s)
        if holder in links.held:
            there_s = now_s - links.held[holder].opened_s
            if there_s > 0.24:
                return links.closed(holder), now_s - began_s, newest
            if there_s > 0.09:
                links = links.greeted(holder, now_s)
        while links.room:
            newest += 1
            links = links.opened(newest, now_s)
            if holder not in links.held and rng.randrange(41) == 0:
                holder = newest
            else:
                links = links.greeted(newest, now_s)


@pytest.mark.parametrize("seed", range(5))
def test_forty_strangers_without_pause_never_stop_a_holder(seed):
    rng = random.Random(seed)
    links, waits_s, newest = Links(cap=4), [], 0
    for turn in range(40):
        links, wait_s, newest = serve(rng, links, 1000.0 * turn, newest)
        waits_s.append(wait_s)
    # forty-one share five places for 0.3 s on average
    assert statistics.mean(waits_s) < 5


def test_strangers_are_one_entry_a_minute():
    strangers, written = Strangers(), []
    for second in range(1, 181):
        strangers = strangers.refused(float(second))
        strangers, count = strangers.due(float(second))
        if count:
            written.append((second, count))
    assert written == [(61, 61), (122, 61)]


def test_nobody_refused_means_nothing_to_write():
    assert Strangers().due(1e6) == (Strangers(), 0)
    assert Strangers().refused(5.0).refused(9.0).due(64.9) == (Strangers(2, 5.0), 0)
    assert Strangers().refused(5.0).refused(9.0).due(65.0) == (Strangers(), 2)


def test_recent_use_counts_one_minute():
    recent = RecentUse().asked(0.0).asked(30.0).asked(59.9)
    assert [recent.count(at_s) for at_s in (59.95, 60.0, 90.0, 120.0)] == [3, 2, 1, 0]
    assert recent.asked(60.0).asked_s == (30.0, 59.9, 60.0)


def test_recent_use_is_bounded():
    recent = RecentUse()
    for second in range(10):
        recent = recent.asked(float(second), most=4)
    assert recent.asked_s == (6.0, 7.0, 8.0, 9.0)


def test_only_so_many_holders_are_remembered_and_the_longest_silent_go_first():
    uses = RecentUses()
    for number in range(MOST_HOLDERS):
        uses = uses.asked(number.to_bytes(2, "big"), 0.0)
    uses = uses.asked(b"\0\0", 1.0).asked(b"one more", 2.0)
    assert len(uses.holders) == MOST_HOLDERS
    assert uses.count(b"\0\0", 3.0) == 2
    assert uses.count(b"\0\1", 3.0) == 0
    assert uses.count(b"one more", 3.0) == 1
    assert uses.count(b"one more", 62.0) == 0
