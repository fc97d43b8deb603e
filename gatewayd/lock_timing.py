"""How long a gateway waits for its locks, and how it treats their links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

UNUSED_LINK_S: Final = 12.0
"""How long the link to a battery lock is kept after its last use."""


@dataclass(frozen=True, slots=True)
class LockTiming:
    """Seconds, unless the name says otherwise.

    ready_s: dialling, Hello, handshake and the first question together.
    state_s: for an answer without movement. answer_s: how long a lock
    may take over a movement. ttl_ms: how long a command stays valid on the
    lock's own clock. clock_stale_s: an older reading of that clock is taken
    anew. spacing_s: least time between commands. keep_s: an unused link is
    dropped after so long; None keeps it. retry_at_most_s: the longest wait
    before a link that is to be kept is dialled again; short where a dial
    disturbs nobody. poll_s: how often a lock whose link is kept is asked how it
    is; None relies on what it reports.
    """

    ready_s: float = 8.0
    state_s: float = 3.0
    answer_s: float = 10.0
    ttl_ms: int = 5_000
    clock_stale_s: float = 600.0
    spacing_s: float = 0.25
    keep_s: float | None = None
    retry_at_most_s: float = 300.0
    poll_s: float | None = None


PER_USE: Final = LockTiming(keep_s=UNUSED_LINK_S)
"""A battery lock: dialled when somebody prepares or opens."""
KEPT: Final = LockTiming()
"""A battery lock at a busy door: it reports by itself."""
WIRED: Final = LockTiming(state_s=2.0, clock_stale_s=5.0, retry_at_most_s=10.0, poll_s=30.0)
"""A wire is never busy and costs no battery: its link is kept, and looked at before a command.
It is polled, because on half-duplex lines a lock reports nothing, and to notice a cut wire."""
