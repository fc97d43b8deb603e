"""All system tests, in several machines side by side: `python3 -m tests.system.suite`.

What a machine says has its name in front; the end is a table of figures and one
of machines. Radios have deadlines, and here four machines share two processors: a
few tests that failed in company are tried once more alone, and the table says which.
Standard library only.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.system import image, lanes, systemd_prepare, times, vm
from tests.system.lanes import Ended, Errand

HERE: Final = "tests/system"
CONTRACT: Final = "tests/contract/test_radio_contract.py"
LIMIT_S: Final = 900
"""Of the tests of one machine, generously."""
FILES: Final = "files in "
SOME_FAILED: Final = 1
"""pytest's exit code for failed tests; any other is a machine that went wrong."""
AGAIN: Final = 3
"""So many tests may fail in company and pass alone; more is no coincidence."""
_SAID_FAILED: Final = re.compile(r"(?:FAILED|ERROR) (tests/\S+\.py::.+?)(?: - .*)?")
"""What pytest's short summary says of one test."""

MACHINES: Final[Mapping[str, tuple[str, ...]]] = {
    "systemd: replacement": (f"{HERE}/test_replacement.py",),
    "systemd: blank again": (f"{HERE}/test_blank_again.py",),
    "numbers": (f"{HERE}/test_numbers.py",),
    "contract, bleak and bluezero": (CONTRACT, "-k", "PeersWorld"),
    "systemd: blank": (f"{HERE}/test_blank.py",),
    "systemd: life": (f"{HERE}/test_systemd_life.py",),
    "faults": (f"{HERE}/test_faults.py",),
    "systemd: surroundings": (
        f"{HERE}/test_systemd_drop_ins.py",
        f"{HERE}/test_systemd_neighbours.py",
    ),
    "systemd: package": (f"{HERE}/test_systemd_package.py",),
    "faults of the radio": (f"{HERE}/test_radio_faults.py",),
    "strangers": (f"{HERE}/test_strangers.py",),
    "contract, BlueZ": (CONTRACT, "-k", "BluetoothdWorld"),
}
"""Longest first, so that all lanes are done at about the same time."""
THE_REST: Final = "story, peers, wires"
POWER_CUTS: Final = Errand("power cuts", [vm.python(), "-m", "tests.system.power_cuts"])
"""Many machines, one after the other, and everybody around them on the host."""


def errands() -> list[Errand]:
    """The machines of the table, and one for every test file that is not in it."""
    named = {word for words in MACHINES.values() for word in words}
    files = (f"{HERE}/{path.name}" for path in sorted((image.CHECKOUT / HERE).glob("test_*.py")))
    others = {THE_REST: tuple(file for file in files if file not in named)}
    machines = [_errand(name, tests) for name, tests in {**others, **MACHINES}.items()]
    return [POWER_CUTS, *machines]


def second_tries(ended: Sequence[Ended], transcript: Transcript) -> list[Errand]:
    """A machine for each one with failed tests, for these alone; none when they are many."""
    failed = {each.errand.name: transcript.failed.get(each.errand.name, {}) for each in ended}
    if sum(map(len, failed.values())) > AGAIN:
        return []
    few = [each for each in ended if each.code == SOME_FAILED and failed[each.errand.name]]
    return [_errand(f"{each.errand.name}, alone", [*failed[each.errand.name]]) for each in few]


def _errand(name: str, tests: Sequence[str]) -> Errand:
    systemd = ["--systemd"] if name.startswith("systemd") else []
    start = [sys.executable, "-m", "tests.system.vm", "test", *systemd]
    return Errand(name, [*start, "--timeout", str(LIMIT_S), *tests])


class Transcript:
    """Prints what the machines say, and remembers what the report needs."""

    def __init__(self) -> None:
        self.shares: list[Path] = []
        self.summaries: dict[str, str] = {}
        self.failed: dict[str, dict[str, str]] = {}
        """By machine, then by test: what pytest said of it."""

    def tell(self, errand: Errand, line: str) -> None:
        """One line of one machine."""
        text = line.removeprefix(vm.PREFIX)
        print(f"{errand.name}| {text}", flush=True)
        if text.startswith("==") and " in " in text:
            self.summaries[errand.name] = text.strip("= ")
        if said := _SAID_FAILED.fullmatch(text):
            self.failed.setdefault(errand.name, {})[said[1]] = text
        if FILES in text:
            self.shares.append(Path(text.rpartition(FILES)[2]))

    def report(self, ended: Sequence[Ended]) -> Iterator[str]:
        """What a person wants to know at the end."""
        yield from times.told(*self.shares)
        yield ""
        for each in ended:
            verdict = "passed" if each.code == 0 else f"FAILED ({each.code})"
            name = each.errand.name
            yield f"{name:<30} {verdict:<12} {each.took_s:5.0f} s  {self.summaries.get(name, '')}"
            yield from (f"    {said}" for said in self.failed.get(name, {}).values())


def main() -> int:
    """0 when every machine's tests passed, 1 otherwise, 125 when there can be no machine."""
    began_s = time.monotonic()
    transcript = Transcript()
    try:
        image.prepare()
        systemd_prepare.prepare()
        print(f"prepared after {time.monotonic() - began_s:.0f} s", flush=True)
        ended = lanes.Lanes(transcript.tell).carry_out(errands())
        again = lanes.Lanes(transcript.tell, 1).carry_out(second_tries(ended, transcript))
    except image.PreparationError as error:
        print(f"error: {error}", file=sys.stderr)
        return vm.BROKEN
    except KeyboardInterrupt:
        print("interrupted; every machine has ended", file=sys.stderr)
        return vm.INTERRUPTED
    for line in transcript.report([*ended, *again]):
        print(line)
    print(f"{len(ended) + len(again)} machines in {time.monotonic() - began_s:.0f} s")
    return verdict(ended, again)


def verdict(ended: Sequence[Ended], again: Sequence[Ended]) -> int:
    """0 when all is well, or all that failed passed alone."""
    failed = sum(each.code != 0 for each in ended)
    return 0 if len(again) == failed and all(each.code == 0 for each in again) else 1


if __name__ == "__main__":
    sys.exit(main())
