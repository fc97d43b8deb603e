"""Which tasks have shown life lately: bookkeeping for the watchdog.

A task says one of two things: "you will hear of me again within so many
seconds", or "I wait for the outside, for as long as it takes". A task that
said the first and is not heard of in time is silent; so is one that ended.
Only a task may say these things of itself, so a hung one cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf


class Rest(Enum):
    """What a task that is not expected at a certain time is doing."""

    WAITING = "waits for the outside"
    ENDED = "has ended"


Sign = float | Rest
"""The time by which a task is expected to be heard of (in seconds), or why none is."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last sign of every watched task, by name.

    Times are seconds of a clock that never steps (`Instant.boottime_s`).
    """

    signs: Mapping[str, Sign] = field(default_factory=dict)

    def beat(self, name: str, now_s: float, within_s: float) -> Heartbeat:
        """`name` lives, and is expected again within `within_s`. The first beat begins a watch.

        ValueError for a period in which nobody could be missed, and for a task that has ended.
        """
        if not 0 < within_s < inf:
            raise ValueError(f"{name}: {within_s} s is no period")
        return self._with(name, now_s + within_s)

    def waits(self, name: str) -> Heartbeat:
        """`name` lives, and cannot say when it will be heard of. ValueError when it has ended."""
        return self._with(name, Rest.WAITING)

    def ended(self, name: str) -> Heartbeat:
        """`name` is over, whatever the reason; it is silent from now on."""
        return Heartbeat({**self.signs, name: Rest.ENDED})

    def silent(self, now_s: float) -> tuple[str, ...]:
        """The tasks that are late or have ended, in alphabetical order; empty when all is well."""
        return tuple(sorted(name for name, sign in self.signs.items() if _is_silent(sign, now_s)))

    def _with(self, name: str, sign: Sign) -> Heartbeat:
        if self.signs.get(name) is Rest.ENDED:
            raise ValueError(f"{name} has ended and cannot come back")
        return Heartbeat({**self.signs, name: sign})


def _is_silent(sign: Sign, now_s: float) -> bool:
    if isinstance(sign, Rest):
        return sign is Rest.ENDED
    return now_s > sign
