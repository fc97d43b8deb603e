"""Takes every remedy out in turn: `python -m tests.system.prove`. What `make prove-tests` runs.

A test that passes without the remedy that it is about proves nothing; then, or
when a remedy's text does not stand where the table says, the exit code is 1. Several
machines side by side; what needs no bluetoothd runs beside them. With words as
arguments only remedies that mention one of them.
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

from tests.system import image, lanes
from tests.system.lanes import Errand
from tests.system.remedies import REMEDIES
from tests.system.workshop import CHECKOUT, MARK

PROVED, NOT_PROVED, CANNOT, INTERRUPTED = 0, 1, 2, 130
LIMIT_S: Final = 1800
PARTS: Final = 4
"""Machines among which the remedies are divided."""


def main(words: Sequence[str]) -> int:
    """Returns the exit code."""
    began_s = time.monotonic()
    numbers = [
        number
        for number, remedy in enumerate(REMEDIES)
        if not words or any(word in f"{remedy.against} {remedy.test}" for word in words)
    ]
    verdicts = dict.fromkeys(numbers, "not tried")
    for number in numbers:
        remedy = REMEDIES[number]
        if (found := (CHECKOUT / remedy.file).read_text().count(remedy.old)) != 1:
            verdicts[number] = f"its text stands {found} times in {remedy.file}, not once"
    fit = [number for number in numbers if verdicts[number] == "not tried"]
    lock = threading.Lock()

    def tell(errand: Errand, line: str) -> None:
        _, found, said = line.partition(MARK)
        with lock:
            if found:
                proof = json.loads(said)
                verdicts[proof["number"]] = proof["verdict"] or f"fails, {proof['seconds']} s"
            else:
                print(f"{errand.name}| {line.removeprefix('vm| ')}", flush=True)

    try:
        image.prepare()
        lanes.Lanes(tell).carry_out(errands(fit))
    except image.PreparationError as error:
        print(f"error: {error}", file=sys.stderr)
        return CANNOT
    except KeyboardInterrupt:
        print("interrupted; every machine has ended", file=sys.stderr)
        return INTERRUPTED
    return show(verdicts, time.monotonic() - began_s)


def errands(numbers: Sequence[int]) -> list[Errand]:
    """Remedies with the same test stay together: it is tried with them only once."""
    machine = [number for number in numbers if REMEDIES[number].in_machine]
    machine.sort(key=lambda number: REMEDIES[number].test)
    workshop = [sys.executable, "-m", "tests.system.workshop"]
    vm = [sys.executable, "-m", "tests.system.vm", "run", "--no-radio"]
    most = max(1, math.ceil(len(machine) / PARTS))
    parts = [machine[at : at + most] for at in range(0, len(machine), most)]
    result = [
        Errand(f"part {part}", [*vm, "--timeout", str(LIMIT_S), "--", *workshop, *map(str, some)])
        for part, some in enumerate(parts, start=1)
    ]
    if here := [number for number in numbers if number not in machine]:
        result.append(Errand("here", [*workshop, *map(str, here)]))
    return result


def show(verdicts: dict[int, str], seconds: float) -> int:
    """The table, and the exit code."""
    print()
    width = max((len(REMEDIES[number].against) for number in verdicts), default=0)
    for number, verdict in verdicts.items():
        remedy = REMEDIES[number]
        test = remedy.test.rpartition("::")[2]
        print(f"{remedy.against:<{width}}  {test}\n{'':<{width}}  {verdict}")
    bad = [number for number, verdict in verdicts.items() if not verdict.startswith("fails")]
    print(f"\n{len(verdicts) - len(bad)} of {len(verdicts)} remedies proved, {seconds:.0f} s")
    return NOT_PROVED if bad else PROVED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
