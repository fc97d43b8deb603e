"""What a finding about a machine is, and what makes one: a check, given what was observed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Generic, TypeVar

MOST_DIGITS: Final = 18
"""Of a number that is believed: it fits into 64 bits. Python refuses to read thousands."""


def number(text: str) -> int | None:
    """The decimal number that `text` is, as programs write one; None for anything else."""
    believed = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    return int(text) if believed else None


class Severity(IntEnum):
    """How much a finding matters; a higher number is worse."""

    FINE = 0
    NOT_LOOKED_AT = 1
    """Nobody looked, and why."""
    NOTE = 2
    """Good to know; nothing has to be done."""
    WARNING = 3
    """Works, and will disappoint somebody one day."""
    ERROR = 4
    """Doors will not open, or the log will not hold."""

    @property
    def word(self) -> str:
        """For people and programs."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `remedy` is empty exactly when nothing has to be done."""

    check: str
    severity: Severity
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class NotSeen:
    """Stands for an observation that could not be made; `remedy` says how it can be."""

    why: str
    remedy: str = ""


Seen = TypeVar("Seen")
Judgement = Callable[[Seen], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Check(Generic[Seen]):
    """`judge` is given the observation of this name, which has type `kind`."""

    name: str
    kind: type[Seen]
    judge: Judgement[Seen]

    def findings(self, observed: object) -> tuple[Finding, ...]:
        """What follows from the observation. TypeError for one of another kind."""
        if isinstance(observed, NotSeen):
            return (Finding(self.name, Severity.NOT_LOOKED_AT, observed.why, observed.remedy),)
        if not isinstance(observed, self.kind):
            raise TypeError(f"{self.name}: {type(observed).__name__} is no {self.kind.__name__}")
        return tuple(self.judge(observed))
