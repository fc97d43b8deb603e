"""How well a lock is reached from where the gateway hangs: what twenty dials and some ears say.

A percentile is the nearest rank: a time that was really measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

DIALS: Final = 20
FLOOR_DBM: Final = -90
"""Weaker than this most receivers begin to lose packets; the margin is counted from here."""
MARGIN_DB: Final = 10
"""A person in the door, a wet coat or a parcel takes about as much."""
SUCCESS: Final = 0.95
LATE_MS: Final = 5_000
"""A holder who waits for longer taps again."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Of one lock. took_ms: of the dials that succeeded. strength_dbm: empty for a wire."""

    dials: int
    took_ms: Sequence[int]
    strength_dbm: Sequence[int] = ()

    @property
    def succeeded(self) -> int:
        """How many dials came to something."""
        return len(self.took_ms)

    def percentile_ms(self, percent: int) -> int | None:
        """Nearest rank; None where no dial succeeded."""
        if not self.took_ms:
            return None
        rank = max(1, ceil(len(self.took_ms) * percent / 100))
        return sorted(self.took_ms)[rank - 1]

    @property
    def median_dbm(self) -> int | None:
        """How strong its advertisements are heard."""
        heard = sorted(self.strength_dbm)
        return heard[(len(heard) - 1) // 2] if heard else None

    @property
    def margin_db(self) -> int | None:
        """How much weaker it may become before packets are lost."""
        return None if self.median_dbm is None else self.median_dbm - FLOOR_DBM

    @property
    def faults(self) -> tuple[str, ...]:
        """What is not good enough, in words; nothing where the place is fit."""
        said = []
        if self.succeeded < self.dials * SUCCESS:
            said.append(f"only {self.succeeded} of {self.dials} dials succeeded")
        late = self.percentile_ms(95)
        if late is not None and late > LATE_MS:
            said.append(f"one dial in twenty takes {late / 1000:.1f} s or more")
        if self.margin_db is not None and self.margin_db < MARGIN_DB:
            said.append(f"only {self.margin_db} dB above where packets are lost")
        return tuple(said)
