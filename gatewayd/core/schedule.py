"""Weekly windows in wall time: when a key may be used.

*Now* is converted to local time, never wall time to UTC, so there is no wall
time that does not exist or exists twice. On the night when the clock goes
back, a window over the repeated hour is open in both; on the night when it
goes forward, a window that lies wholly within the missing hour does not open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

DAY_MINUTES: Final = 24 * 60
ALL_DAYS: Final = 0x7F


class Window(NamedTuple):
    """`days`: bit 0 is Monday, the day on which the window starts.

    `start` is a minute of that day (0..1439), `duration` counts minutes of
    wall time (1..1440) and may run past midnight.
    """

    days: int
    start: int
    duration: int

    def is_valid(self) -> bool:
        """Within the ranges above, on at least one day."""
        return (
            0 < self.days <= ALL_DAYS
            and 0 <= self.start < DAY_MINUTES
            and 0 < self.duration <= DAY_MINUTES
        )

    def contains(self, weekday: int, minute: int) -> bool:
        """Monday is 0; `minute` is the minute of the day."""
        if self.days >> weekday & 1 and 0 <= minute - self.start < self.duration:
            return True
        # the part after midnight belongs to the window that started the day before
        yesterday = (weekday - 1) % 7
        return bool(self.days >> yesterday & 1) and (
            minute + DAY_MINUTES - self.start < self.duration
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """`zone` is an IANA name. Open within any window of `allow`, except within one of `deny`."""

    zone: str
    allow: tuple[Window, ...]
    deny: tuple[Window, ...] = ()

    def is_open(self, now_s: int, zone: ZoneInfo) -> bool:
        """At `now_s` (Unix time)? `zone` is the door's; another zone than ours is never open."""
        if zone.key != self.zone:
            return False
        local = datetime.fromtimestamp(now_s, zone)
        weekday, minute = local.weekday(), local.hour * 60 + local.minute
        return _any(self.allow, weekday, minute) and not _any(self.deny, weekday, minute)


def _any(windows: Iterable[Window], weekday: int, minute: int) -> bool:
    return any(window.contains(weekday, minute) for window in windows)
