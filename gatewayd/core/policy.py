"""Does the door allow it now? Pure, one table of rules, one reason out.

The token has said yes (`keytoken.grants`); what remains is what the door's
owner decided per class of key, and the state of things. Every link of a key is
asked on its own, and the first rule that refuses gives the reason.

For the emergency class every state opens. Where the log takes nothing, some keys may
open on the reserve; which of them, `Decision.without_log` tells `core.unlock`, since
a log may fail in the middle of an opening.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from firmware_proto.codes import Action, KeyClass, Presence, Reason
from gatewayd.core.keytoken import Grant
from gatewayd.core.model import (
    LOG_TROUBLES,
    ClockState,
    Decision,
    DoorId,
    TimeReading,
    WithoutLog,
)

_DAY_S: Final = 86400.0


@dataclass(frozen=True, slots=True)
class ClassSettings:
    """What one door decided for one class of key."""

    stale_list_s: float = math.inf
    """How old a status list may be; infinite: opens even where none was ever held."""
    unknown_time: bool = False
    """Open while the clock is UNKNOWN? Only for residents, and never for scheduled keys."""
    arrival: bool = False
    """May a key whose token allows it open without a tap?"""
    rate: float = math.inf
    """Openings asked for by one holder within a minute; one more is RATE_LIMITED."""
    log_unavailable: frozenset[Reason] = frozenset()
    """Of `DISK_TROUBLES`: those in which it opens, recorded in the reserve."""


DISK_TROUBLES: Final[Mapping[str, Reason]] = {
    "full": Reason.LOG_FULL,
    "read-only": Reason.LOG_READ_ONLY,
    "io-error": Reason.LOG_IO_ERROR,
    "slow": Reason.LOG_SLOW,
}
"""What a door's owner may decide over. A log that is damaged stops all but emergencies."""

DEFAULTS: Final[Mapping[KeyClass, ClassSettings]] = {
    KeyClass.RESIDENT: ClassSettings(
        unknown_time=True, log_unavailable=frozenset(DISK_TROUBLES.values())
    ),
    KeyClass.SERVICE: ClassSettings(stale_list_s=30 * _DAY_S),
    KeyClass.DELIVERY: ClassSettings(stale_list_s=7 * _DAY_S, rate=20),
    KeyClass.GUEST: ClassSettings(stale_list_s=7 * _DAY_S, rate=20),
    KeyClass.EMERGENCY: ClassSettings(unknown_time=True, log_unavailable=LOG_TROUBLES),
}


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """One door's settings; a class that is not named has those of `DEFAULTS`."""

    classes: Mapping[KeyClass, ClassSettings] = field(default_factory=dict)

    def of(self, key_class: KeyClass) -> ClassSettings:
        """The settings for a class."""
        return self.classes.get(key_class) or DEFAULTS[key_class]


class OpenRequest(NamedTuple):
    """What the holder asks. For `Prepare`, ask as if with a tap: the tap comes later."""

    door: DoorId
    action: Action
    presence: Presence


class Situation(NamedTuple):
    """What the gateway knows at this moment.

    `recent` counts the holder's requests within the last minute without this
    one (`admission.RecentUse`). `log` is OK, or one of `LOG_TROUBLES`.
    """

    settings: DoorSettings
    time: TimeReading
    recent: int = 0
    log: Reason = Reason.OK


Rule = Callable[[Grant, ClassSettings, OpenRequest, Situation], bool]


def _needs_time(grant: Grant, own: ClassSettings, _: OpenRequest, now: Situation) -> bool:
    if now.time.state is not ClockState.UNKNOWN or grant.key_class is KeyClass.EMERGENCY:
        return False
    return grant.scheduled or grant.key_class is not KeyClass.RESIDENT or not own.unknown_time


def _needs_list(grant: Grant, own: ClassSettings, _: OpenRequest, __: Situation) -> bool:
    return grant.list_age_s > own.stale_list_s and grant.key_class is not KeyClass.EMERGENCY


def _needs_tap(grant: Grant, own: ClassSettings, asked: OpenRequest, _: Situation) -> bool:
    if asked.presence is Presence.TAP or grant.key_class is KeyClass.EMERGENCY:
        return False
    return grant.presence is Presence.TAP or not own.arrival


def _too_often(grant: Grant, own: ClassSettings, _: OpenRequest, now: Situation) -> bool:
    return now.recent >= own.rate and grant.key_class is not KeyClass.EMERGENCY


def _troubles(grant: Grant, own: ClassSettings) -> frozenset[Reason]:
    return LOG_TROUBLES if grant.key_class is KeyClass.EMERGENCY else own.log_unavailable


RULES: Final[tuple[tuple[Reason, Rule], ...]] = (
    (Reason.STALE_LIST, _needs_list),
    (Reason.TIME_UNKNOWN, _needs_time),
    (Reason.TAP_REQUIRED, _needs_tap),
    (Reason.RATE_LIMITED, _too_often),
)
"""In the order in which they are asked, revocation as the token's last question; then the log's."""


def decide(grants: tuple[Grant, ...], request: OpenRequest, situation: Situation) -> Decision:
    """The decision over what `keytoken.grants` returned; every link must be allowed.

    ValueError for no grants at all: nobody may be allowed by an empty tuple.
    """
    if not grants:
        raise ValueError("no grants to decide over")
    reserve, emergency = LOG_TROUBLES, True
    for grant in grants:
        own = situation.settings.of(grant.key_class)
        for reason, refuses in RULES:
            if refuses(grant, own, request, situation):
                return Decision(allowed=False, reason=reason)
        reserve &= _troubles(grant, own)
        if situation.log is not Reason.OK and situation.log not in reserve:
            return Decision(allowed=False, reason=situation.log)
        emergency = emergency and grant.key_class is KeyClass.EMERGENCY
    return Decision(True, Reason.OK, WithoutLog(reserve, emergency))
