"""When to try the outside again: exponential, full jitter, reset only by lasting success.

Full jitter, because after a power cut a whole town of gateways comes back at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

FIRST_CEILING_S: Final = 1.0
LAST_CEILING_S: Final = 300.0
STABLE_S: Final = 60.0
"""A connection that lived shorter counts as one more failure, not as success."""

_MOST_FAILURES: Final = 9  # 2 ** 9 seconds is beyond the last ceiling


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often in a row it failed, and since when it works.

    Times are seconds of a clock that never steps (`Instant.boottime_s`).
    """

    failures: int = 0
    up_since_s: float | None = None

    def connected(self, now_s: float) -> Backoff:
        """It works now; the count of failures is kept until it has worked for `STABLE_S`."""
        return replace(self, up_since_s=now_s)

    def failed(self, now_s: float, jitter: float) -> tuple[Backoff, float]:
        """It failed, or stopped working. Returns the state and how many seconds to wait.

        `jitter` is a random number from 0 to 1, drawn anew for every call.
        """
        stable = self.up_since_s is not None and now_s - self.up_since_s >= STABLE_S
        failures = 0 if stable else self.failures
        wait_s = jitter * ceiling_s(failures)
        return Backoff(min(failures + 1, _MOST_FAILURES)), wait_s


def ceiling_s(failures: int) -> float:
    """The longest wait after `failures` earlier failures in a row."""
    return min(LAST_CEILING_S, FIRST_CEILING_S * 2.0 ** min(failures, _MOST_FAILURES))
