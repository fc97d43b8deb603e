"""From when to when something signed is valid, and when to look after one that is not renewed."""

from __future__ import annotations

from typing import Final, NamedTuple

LATE_AT: Final = 6
"""When a sixth of its life is left: renewing began when a third was, and was in vain so long."""
_DAY_S: Final = 86_400


class Term(NamedTuple):
    """Unix seconds: of the first it is valid in, and of the first it is not."""

    since: int
    until: int

    def late(self, now_s: int) -> bool:
        """Whether it should have been renewed; so it is after its end."""
        return now_s >= self.until - (self.until - self.since) // LATE_AT

    def left(self, now_s: int) -> str:
        """For people."""
        if now_s >= self.until:
            return f"ended {_days(now_s - self.until)} ago"
        return f"ends in {_days(self.until - now_s)}"


def _days(length_s: int) -> str:
    days = length_s // _DAY_S
    return f"{days} day{'' if days == 1 else 's'}"
