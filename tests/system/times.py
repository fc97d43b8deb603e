"""What the tests measured: written down in the machine, printed as a table at the end of the run.

Standard library only: the host's side of the harness reads it, too.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.bench.number import Bar, Number, table

LOGS: Final = Path(os.environ.get("GATEWAYD_VM", "."))
FILE: Final = "numbers.jsonl"


class Stopwatch:
    """Times of one test, printed as they come and kept for the table."""

    def __init__(self, test: str) -> None:
        self.test = test
        self._began_s = time.monotonic()

    def lap_s(self) -> float:
        """Seconds since the last lap."""
        now_s = time.monotonic()
        began_s, self._began_s = self._began_s, now_s
        return now_s - began_s

    def say(self, what: str, seconds: float) -> None:
        """One time that is interesting by the way: in the output of the test only."""
        print(f"{what}: {seconds * 1000:.0f} ms")

    def recovered(self, after: str, seconds: float, most_s: float | None = None) -> None:
        """How long a fault was felt. `most_s`: what the product promises, not what is asserted."""
        bar = None if most_s is None else Bar("<=", most_s)
        self.note(Number(after, seconds, "s", "", bar))

    def note(self, number: Number) -> None:
        """One line of the table."""
        print(f"{number.name}: {number.rounded:g} {number.unit}")
        bar = number.bar and [number.bar.sense, number.bar.limit]
        line = {
            "name": number.name,
            "value": number.rounded,
            "unit": number.unit,
            "how": number.how,
            "bar": bar,
        }
        with (LOGS / FILE).open("a") as file:
            file.write(json.dumps({"test": self.test, **line}) + "\n")


def told(*shares: Path) -> Iterator[str]:
    """The tables of these runs: recovery times first, then what has a method to it."""
    numbers = [_number(line) for share in shares for line in _lines(share)]
    recoveries = [number for number in numbers if not number.how]
    measured = [number for number in numbers if number.how]
    if recoveries:
        yield from ("", "after what | felt for", "")
        yield from table(recoveries)
    if measured:
        yield from ("", "number | value | bar", "")
        yield from table(measured)
    if missed := sum(number.holds is False for number in numbers):
        yield from ("", f"{missed} MISSED")


def _lines(share: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in (share / FILE).read_text().splitlines()]
    except FileNotFoundError:
        return []


def _number(line: dict[str, Any]) -> Number:
    bar = line["bar"] and Bar(*line["bar"])
    return Number(line["name"], line["value"], line["unit"], line["how"], bar)
