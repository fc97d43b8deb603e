"""Counts the tests in what `.ci/run` has printed: `tally.py FAILED-STEPS <output`, one line.

Each test counts once: a run of pytest by its summary, a machine of the system tests by its line
of their table, and a test that they tried once more, alone, as it went then. Standard library only.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable

_PYTEST = re.compile(r"=+ (?P<counts>\d+ .*) in \d+\.\d+s.*=+")
_MACHINE = re.compile(
    r"(?P<name>\S.*?) +(?:passed|FAILED \(\d+\)) +\d+ s +(?P<counts>\d+ .*) in \S+s.*"
)
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b")
_SAME = {"error": "failed", "errors": "failed", "xfailed": "skipped", "xpassed": "failed"}
_ALONE = ", alone"
_AGAIN = "tried once more, alone:"
"""Of `tests.run`: what failed in the run before counts as it goes in the next."""


def tally(lines: Iterable[str]) -> Counter[str]:
    """How many tests passed, failed and were skipped."""
    runs: list[Counter[str]] = []
    machines: dict[str, Counter[str]] = {}
    for line in lines:
        if found := _PYTEST.fullmatch(line.rstrip()):
            runs.append(_counts(found["counts"]))
        elif line.startswith(_AGAIN) and runs:
            del runs[-1]["failed"]
        elif found := _MACHINE.fullmatch(line.rstrip()):
            machines[found["name"]] = _counts(found["counts"])
    for name, counts in machines.items():
        if f"{name}{_ALONE}" in machines:
            del counts["failed"]
    return sum([*runs, *machines.values()], Counter())


def _counts(text: str) -> Counter[str]:
    counts = Counter[str]()
    for number, what in _COUNT.findall(text):
        counts[_SAME.get(what, what)] += int(number)
    return counts


def told(counts: Counter[str], failed_steps: int) -> str:
    """A step that failed is at least one failure, whatever it counted."""
    failed = max(counts["failed"], failed_steps)
    return f"{counts['passed']} passed, {failed} failed, {counts['skipped']} skipped"


if __name__ == "__main__":
    sys.stdin.reconfigure(errors="replace")
    print(told(tally(sys.stdin), int(sys.argv[1])))
