"""Who may hold one of the few links, and how strangers are counted.

Limits on the unauthenticated only schedule; they never refuse a holder. A new
link takes the place of the stranger who has had the longest chance. Everybody
has a grace first, or strangers who reconnect without pause would push out
honest handshakes: a silent link a short one (a phone writes message_1 as soon
as it is connected), one whose handshake is under way a longer one. An
authenticated link yields only when it has been idle for a while.

All times are seconds of a clock that never steps (`Instant.boottime_s`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

SILENT_GRACE_S: Final = 0.3
HANDSHAKE_GRACE_S: Final = 1.5
IDLE_S: Final = 10.0
MINUTE_S: Final = 60


@dataclass(frozen=True, slots=True)
class LinkState:
    """What counts of one link. `greeted`: a well-formed message_1 has arrived."""

    opened_s: float
    active_s: float
    greeted: bool = False
    authenticated: bool = False

    def may_go(self, now_s: float) -> bool:
        """Has this link had its chance?"""
        if self.authenticated:
            return now_s - self.active_s > IDLE_S
        grace_s = HANDSHAKE_GRACE_S if self.greeted else SILENT_GRACE_S
        return now_s - self.opened_s >= grace_s

    def rank(self) -> tuple[bool, float]:
        """Smaller goes first: strangers by age, then the longest idle holder."""
        return self.authenticated, self.active_s if self.authenticated else self.opened_s


@dataclass(frozen=True, slots=True)
class Admit:
    """There is room."""


@dataclass(frozen=True, slots=True)
class Evict:
    """Close `link`, then admit the new one."""

    link: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Close the new link; nobody here has had his chance yet."""


Answer = Admit | Evict | Refuse


@dataclass(frozen=True, slots=True)
class Links:
    """The links held now, at most `cap`. Every method returns the next state.

    A link is known by a number that the shell gives it and never uses twice.
    Events about a link that is not held change nothing: it has just been evicted.
    """

    cap: int
    held: Mapping[int, LinkState] = field(default_factory=dict)

    def decide(self, now_s: float) -> Answer:
        """May one more link be held? Does not change the state."""
        if len(self.held) < self.cap:
            return Admit()
        leaving = [(state.rank(), link) for link, state in self.held.items() if state.may_go(now_s)]
        return Evict(min(leaving)[1]) if leaving else Refuse()

    def opened(self, link: int, now_s: float) -> Links:
        """`link` was admitted. ValueError beyond the cap, or for a number in use."""
        if link in self.held or len(self.held) >= self.cap:
            raise ValueError("no room for this link")
        return replace(self, held={**self.held, link: LinkState(now_s, now_s)})

    def greeted(self, link: int, now_s: float) -> Links:
        """`link` sent a well-formed message_1."""
        return self._changed(link, now_s, greeted=True)

    def authenticated(self, link: int, now_s: float) -> Links:
        """`link` has proved to be a holder."""
        return self._changed(link, now_s, authenticated=True)

    def active(self, link: int, now_s: float) -> Links:
        """`link` sent a whole message."""
        return self._changed(link, now_s)

    def closed(self, link: int) -> Links:
        """`link` is gone; harmless when it is not held."""
        return replace(
            self, held={number: state for number, state in self.held.items() if number != link}
        )

    def _changed(
        self, link: int, now_s: float, *, greeted: bool = False, authenticated: bool = False
    ) -> Links:
        state = self.held.get(link)
        if state is None:
            return self
        changed = LinkState(
            state.opened_s,
            now_s,
            greeted=state.greeted or greeted,
            authenticated=state.authenticated or authenticated,
        )
        return replace(self, held={**self.held, link: changed})


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

    def due_at_s(self) -> float | None:
        """When `due` will have something; None while nobody was refused."""
        return self.since_s + MINUTE_S if self.count else None


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
