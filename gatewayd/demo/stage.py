"""What the story is told with: chapters, expectations that can fail, and times taken on the way."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gatewayd.core.model import Verdict
from gatewayd.emulators.phone import Report

POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation."""

    what: str
    wanted: str
    seen: str

    @property
    def holds(self) -> bool:
        """Whether the world behaved."""
        return self.wanted == self.seen


@dataclass(frozen=True, slots=True)
class Opening:
    """Times of one opening, in milliseconds, taken at the phone and at the lock's motor."""

    profile: str
    tap_to_command: int
    parts: dict[str, int]


@dataclass(slots=True)
class Chapter:
    """One scene, its expectations, and what a person should notice."""

    title: str
    checks: list[Check] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def expect(self, what: str, wanted: object, seen: object) -> None:
        """Note an expectation; a step that differs makes the demo fail."""
        self.checks.append(Check(what, _plain(wanted), _plain(seen)))

    def remark(self, text: str) -> None:
        """Something worth knowing that is not an expectation."""
        self.remarks.append(text)

    @property
    def holds(self) -> bool:
        """Whether every expectation holds."""
        return all(check.holds for check in self.checks)


def _plain(value: object) -> str:
    match value:
        case Verdict(outcome, reason) | Report(outcome=outcome, reason=reason):
            return f"{outcome.name.lower()} ({reason.name.lower().replace('_', ' ')})"
        case bool():
            return "yes" if value else "no"
        case bytes():
            return value.hex(" ")
        case None | ():
            return "nothing"
        case _:
            return str(value)


@dataclass(slots=True)
class Record:
    """Everything that was told."""

    chapters: list[Chapter] = field(default_factory=list)
    openings: list[Opening] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the whole story went as it should."""
        return bool(self.chapters) and all(chapter.holds for chapter in self.chapters)

    def profiles(self) -> Iterator[tuple[str, list[Opening]]]:
        """Openings by profile, in the order in which the profiles appeared."""
        for name in dict.fromkeys(opening.profile for opening in self.openings):
            yield name, [each for each in self.openings if each.profile == name]

    def document(self) -> dict[str, object]:
        """For programs."""
        return {
            "holds": self.holds,
            "seconds": round(self.seconds, 1),
            "chapters": [
                {
                    "title": chapter.title,
                    "holds": chapter.holds,
                    "checks": [
                        {"what": c.what, "wanted": c.wanted, "seen": c.seen, "holds": c.holds}
                        for c in chapter.checks
                    ],
                    "remarks": chapter.remarks,
                }
                for chapter in self.chapters
            ],
            "tap_to_command_ms": {
                name: {
                    "median": statistics.median(each.tap_to_command for each in openings),
                    "parts": openings[0].parts,
                    "openings": len(openings),
                }
                for name, openings in self.profiles()
            },
        }


async def until(condition: Callable[[], bool], within_s: float) -> bool:
    """Wait for `condition`; False when it did not come about in time."""
    try:
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110 - nobody here can set an event
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        return False
    return True
