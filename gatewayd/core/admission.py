"""Who may hold one of the few links, and how those who ask too often are counted.

Limits on the unauthenticated only schedule; they never refuse a holder. Whoever
connects is served at once, and the radio takes one link more than may stay. When
as many are held as may stay, one must yield, before the next one knocks: the
stranger who has had the longest chance. Everybody has a chance
first, or strangers who reconnect without pause would push out honest
handshakes: a silent link a short one (a phone writes message_1 as soon as it is
connected), a handshake as long as it makes progress and comes to an end. A
holder yields only when idle, or after a long visit, and never while an answer
is being made for it.

All times are seconds of a clock that never steps (`Instant.boottime_s`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Chance:
    """Seconds that a stranger has while others wait.

    silent_s: to write message_1. quiet_s: between two fragments of the
    handshake, while the phone computes and its radio takes turns. whole_s: for
    all of it; at the least MTU 80 fragments cross in both directions.
    """

    silent_s: float
    quiet_s: float
    whole_s: float


USUAL: Final = Chance(0.5, 0.8, 1.5)
IN_A_CROWD: Final = Chance(0.2, 0.25, 0.8)
"""Enough for a quick phone, which writes every connection interval of 15 to 50 ms."""
USUAL_EVERY: Final = 4
"""One link in four has the usual chance also in a crowd: slow phones get through, only later."""
CROWD: Final = 8
CROWD_S: Final = 5.0
"""It is a crowd when so many strangers had to yield within so many seconds."""
IDLE_S: Final = 10.0
"""Of a holder: between `Prepare` and the tap, say."""
VISIT_S: Final = 60.0
"""Of a holder in all, or a few of them could keep everybody else away for ever."""
MINUTE_S: Final = 60
MOST_HOLDERS: Final = 1024


@dataclass(frozen=True, slots=True)
class LinkState:
    """What counts of one link.

    active_s: when a fragment last came or went. greeted: a well-formed
    message_1 has arrived. asking: an answer is being made for this holder.
    """

    opened_s: float
    active_s: float
    greeted: bool = False
    authenticated: bool = False
    asking: bool = False

    def may_go_s(self, chance: Chance) -> float:
        """When this link will have had its chance, if nothing happens until then."""
        if self.asking:
            return math.inf
        if self.authenticated:
            return min(self.active_s + IDLE_S, self.opened_s + VISIT_S)
        if self.greeted:
            return min(self.active_s + chance.quiet_s, self.opened_s + chance.whole_s)
        return self.opened_s + chance.silent_s

    def rank(self) -> tuple[bool, float]:
        """Smaller goes first: strangers by age, then the longest idle holder."""
        return self.authenticated, self.active_s if self.authenticated else self.opened_s


@dataclass(frozen=True, slots=True)
class Stay:
    """Nobody must go."""


@dataclass(frozen=True, slots=True)
class Evict:
    """Close `link`, and say so with `evicted`."""

    link: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody must go, and everybody here has his chance still: decide again at `until_s`.

    Infinite: only when something has changed.
    """

    until_s: float


Answer = Stay | Evict | Wait


@dataclass(frozen=True, slots=True)
class Links:
    """The links held now: fewer than `cap` for long, and never more than one above it.

    Connecting takes a place of the radio for a while, and so does hanging up:
    were all places kept by links that stay, the next one would wait for both.
    In a crowd one more place is kept free for that.

    Every method returns the next state. A link is known by a number that the
    shell gives it, counting up. Events about a link that is not held change
    nothing: it has just been evicted.
    """

    cap: int
    held: Mapping[int, LinkState] = field(default_factory=dict)
    evicted_s: tuple[float, ...] = ()
    """When the last strangers had to yield; `CROWD` times at most."""

    def crowded(self, now_s: float) -> bool:
        """Are strangers coming faster than they can be served at leisure?"""
        return len(self.evicted_s) == CROWD and now_s - self.evicted_s[0] <= CROWD_S

    def decide(self, now_s: float) -> Answer:
        """Must anybody go? Does not change the state."""
        crowded = self.crowded(now_s)
        if len(self.held) < max(self.cap - crowded, 1):
            return Stay()
        may_go_s = {
            link: state.may_go_s(IN_A_CROWD if crowded and link % USUAL_EVERY else USUAL)
            for link, state in self.held.items()
        }
        leaving = [
            (self.held[link].rank(), link) for link, at_s in may_go_s.items() if at_s <= now_s
        ]
        return Evict(min(leaving)[1]) if leaving else Wait(min(may_go_s.values()))

    @property
    def room(self) -> bool:
        """May one more link come?"""
        return len(self.held) <= self.cap

    def opened(self, link: int, now_s: float) -> Links:
        """`link` came. ValueError where there is no room, or for a number in use."""
        if link in self.held or not self.room:
            raise ValueError("no room for this link")
        return replace(self, held={**self.held, link: LinkState(now_s, now_s)})

    def active(self, link: int, now_s: float) -> Links:
        """A fragment of `link` came or went."""
        return self._changed(link, lambda state: replace(state, active_s=now_s))

    def greeted(self, link: int, now_s: float) -> Links:
        """`link` sent a well-formed message_1, and its answer leaves now."""
        return self._changed(link, lambda state: replace(state, active_s=now_s, greeted=True))

    def asked(self, link: int, now_s: float) -> Links:
        """`link` has proved to be a holder and waits for an answer."""
        return self._changed(
            link, lambda state: replace(state, active_s=now_s, authenticated=True, asking=True)
        )

    def answered(self, link: int, now_s: float) -> Links:
        """`link` has its answer."""
        return self._changed(link, lambda state: replace(state, active_s=now_s, asking=False))

    def evicted(self, link: int, now_s: float) -> Links:
        """`link` had to yield."""
        state = self.held.get(link)
        if state is None or state.authenticated:
            return self.closed(link)
        return replace(self.closed(link), evicted_s=(*self.evicted_s, now_s)[-CROWD:])

    def closed(self, link: int) -> Links:
        """`link` is gone; harmless when it is not held."""
        return replace(
            self, held={number: state for number, state in self.held.items() if number != link}
        )

    def _changed(self, link: int, change: Callable[[LinkState], LinkState]) -> Links:
        state = self.held.get(link)
        return self if state is None else replace(self, held={**self.held, link: change(state)})


@dataclass(frozen=True, slots=True)
class Strangers:
    """Counts refused strangers into one entry a minute, so that nobody can fill the card."""

    count: int = 0
    since_s: float = 0.0

    def refused(self, now_s: float) -> Strangers:
        """One more stranger was refused; the first one starts the minute."""
        return Strangers(self.count + 1, self.since_s if self.count else now_s)

    def due(self, now_s: float) -> tuple[Strangers, int]:
        """How many to write into one STRANGERS entry now; 0 means write nothing."""
        if self.count and now_s - self.since_s >= MINUTE_S:
            return Strangers(), self.count
        return self, 0


@dataclass(frozen=True, slots=True)
class RecentUse:
    """When one holder asked within the last minute; the policy's `rate` reads `count`."""

    asked_s: tuple[float, ...] = ()

    def asked(self, now_s: float, *, most: int = 256) -> RecentUse:
        """One more `Open`; keeps at most `most` times, the latest ones."""
        recent = (*(at for at in self.asked_s if now_s - at < MINUTE_S), now_s)
        return RecentUse(recent[-most:])

    def count(self, now_s: float) -> int:
        """How many `Open`s in the minute before `now_s`; 0 means that this may be forgotten."""
        return sum(now_s - at < MINUTE_S for at in self.asked_s)


@dataclass(frozen=True, slots=True)
class RecentUses:
    """Of every holder; beyond `MOST_HOLDERS` the longest silent one is forgotten first."""

    holders: Mapping[bytes, RecentUse] = field(default_factory=dict)

    def count(self, holder: bytes, now_s: float) -> int:
        """How often this holder asked in the minute before `now_s`."""
        return self.holders.get(holder, RecentUse()).count(now_s)

    def asked(self, holder: bytes, now_s: float) -> RecentUses:
        """Once more."""
        holders = {other: use for other, use in self.holders.items() if other != holder}
        holders[holder] = self.holders.get(holder, RecentUse()).asked(now_s)
        if len(holders) > MOST_HOLDERS:
            del holders[next(iter(holders))]
        return RecentUses(holders)
