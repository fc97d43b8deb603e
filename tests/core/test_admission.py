import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.admission import (
    HANDSHAKE_GRACE_S,
    IDLE_S,
    SILENT_GRACE_S,
    Admit,
    Evict,
    Links,
    RecentUse,
    Refuse,
    Strangers,
)


def full(*opened_s: float) -> Links:
    links = Links(cap=len(opened_s))
    for number, at_s in enumerate(opened_s):
        links = links.opened(number, at_s)
    return links


def test_there_is_room_until_the_cap():
    links = Links(cap=2)
    assert links.decide(0.0) == Admit()
    links = links.opened(1, 0.0)
    assert links.decide(0.0) == Admit()
    assert links.opened(2, 0.0).decide(0.0) == Refuse()


def test_nobody_is_held_beyond_the_cap_or_twice():
    with pytest.raises(ValueError, match="room"):
        full(0.0).opened(9, 0.0)
    with pytest.raises(ValueError, match="room"):
        Links(cap=5).opened(1, 0.0).opened(1, 0.0)


def test_the_oldest_stranger_goes_once_he_has_had_his_chance():
    links = full(1.0, 0.9, 1.1)
    assert links.decide(0.89 + SILENT_GRACE_S) == Refuse()
    assert links.decide(1.05 + SILENT_GRACE_S) == Evict(1)


def test_a_handshake_under_way_has_longer():
    links = full(0.0, 0.1).greeted(0, 0.2)
    assert links.decide(0.5) == Evict(1)
    assert links.closed(1).opened(2, 1.49).decide(1.49) == Refuse()
    assert links.decide(HANDSHAKE_GRACE_S) == Evict(0)


def test_a_holder_goes_only_when_idle_and_after_every_stranger():
    links = full(0.0, 0.0).authenticated(0, 1.0)
    assert links.decide(100.0) == Evict(1)
    links = links.authenticated(1, 2.0)
    assert links.decide(1.0 + IDLE_S) == Refuse()
    assert links.decide(1.1 + IDLE_S) == Evict(0)
    assert links.active(0, 5.0).decide(20.0) == Evict(1)


def test_what_a_link_was_it_stays():
    links = full(0.0).greeted(0, 0.1).authenticated(0, 0.2).active(0, 0.3)
    state = links.held[0]
    assert (state.opened_s, state.active_s, state.greeted, state.authenticated) == (
        0.0,
        0.3,
        True,
        True,
    )


def test_news_of_an_evicted_link_changes_nothing():
    links = full(0.0)
    assert links.greeted(7, 1.0) == links
    assert links.authenticated(7, 1.0) == links
    assert links.active(7, 1.0) == links
    assert links.closed(7) == links


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.booleans()), max_size=12))
def test_a_handshake_within_its_grace_is_never_evicted(arrivals):
    links, now_s = Links(cap=4), 0.0
    for number, (pause_s, greets, proves) in enumerate(arrivals):
        now_s += pause_s
        match links.decide(now_s):
            case Evict(link):
                gone = links.held[link]
                assert now_s - gone.opened_s >= SILENT_GRACE_S
                assert not gone.greeted or now_s - gone.opened_s >= HANDSHAKE_GRACE_S
                assert not gone.authenticated or now_s - gone.active_s > IDLE_S
                links = links.closed(link)
            case Refuse():
                continue
            case Admit():
                assert len(links.held) < links.cap
        links = links.opened(number, now_s)
        if greets:
            links = links.greeted(number, now_s)
        if proves:
            links = links.authenticated(number, now_s)


def serve(rng: random.Random, links: Links, now_s: float) -> tuple[Links, float]:
    """Until one holder (number -1) is through, among forty strangers who never stop."""
    started_s, admitted_s = now_s, math.inf
    while now_s < admitted_s + 0.6:
        now_s += 0.05
        waiting = [number for number in range(-1, 40) if number not in links.held]
        for number in rng.sample(waiting, len(waiting)):
            answer = links.decide(now_s)
            if isinstance(answer, Refuse):
                break
            if isinstance(answer, Evict):
                assert answer.link != -1, "an honest handshake was cut short"
                links = links.closed(answer.link)
            links = links.opened(number, now_s)
            if number == -1:
                admitted_s = now_s
                links = links.greeted(number, now_s)
    return links.authenticated(-1, now_s).closed(-1), now_s - started_s


@pytest.mark.parametrize("seed", range(5))
def test_forty_strangers_without_pause_never_stop_a_holder(seed):
    rng = random.Random(seed)
    links, waits_s = Links(cap=8), []
    for turn in range(20):
        links, wait_s = serve(rng, links, 1000.0 * turn)
        waits_s.append(wait_s)
    # forty-one share eight links for 0.3 s each: 1.5 s to get one, 0.6 s for the handshake
    assert statistics.median(waits_s) < 3
    assert max(waits_s) < 15


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
    assert Strangers().due_at_s() is None
    assert Strangers().refused(5.0).due_at_s() == 65.0
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
