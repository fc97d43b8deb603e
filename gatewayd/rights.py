"""May this holder open this door now? The shell of `core.policy`: time, trust, who asked lately.

Nothing here awaits: a decision and what it counts are one step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from firmware_proto.codes import Action, Presence, Reason
from gatewayd.core import keytoken, policy
from gatewayd.core.admission import RecentUses
from gatewayd.core.keytoken import KeyToken, TokenRejected
from gatewayd.core.model import Decision, DoorId
from gatewayd.core.policy import DoorSettings, OpenRequest, Situation
from gatewayd.lists import StatusLists
from gatewayd.timekeeper import Timekeeper
from gatewayd.trusted import Trusted


@dataclass(frozen=True, slots=True)
class DoorIdentity:
    """What never changes about a door while the daemon runs."""

    id: DoorId
    latch_ms: int
    zone: ZoneInfo
    settings: DoorSettings


class Rights:
    """At one door."""

    def __init__(
        self,
        door: DoorIdentity,
        trusted: Trusted,
        timekeeper: Timekeeper,
        lists: StatusLists,
        log: Callable[[], Reason] = lambda: Reason.OK,
    ) -> None:
        self._door = door
        self._trusted = trusted
        self._timekeeper = timekeeper
        self._lists = lists
        self._log = log
        self._recent = RecentUses()

    def decide(self, token: KeyToken, action: Action, presence: Presence) -> Decision:
        """Counts nothing; see `asked`."""
        time, trust = self._timekeeper.reading(), self._trusted.now
        try:
            grants = keytoken.grants(
                token,
                trust,
                audience=trust.group,
                door=self._door.id,
                action=action,
                time=time,
                zone=self._door.zone,
                lists=self._lists.held,
            )
        except TokenRejected as rejected:
            return Decision(allowed=False, reason=rejected.reason)
        if action is not Action.OPEN:  # the one movement that a door of this version makes
            return Decision(allowed=False, reason=Reason.ACTION_NOT_GRANTED)
        recent = self._recent.count(token.identity.digest(), self._now_s())
        return policy.decide(
            grants,
            OpenRequest(self._door.id, action, presence),
            Situation(self._door.settings, time, recent=recent, log=self._log()),
        )

    def asked(self, token: KeyToken) -> None:
        """This holder asked for an opening; the policy's `rate` counts them."""
        self._recent = self._recent.asked(token.identity.digest(), self._now_s())

    def _now_s(self) -> float:
        return self._timekeeper.instant().boottime_s
