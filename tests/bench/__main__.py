"""Measures what the design promises: `python -m tests.bench build/bench.json`.

Writes the numbers as JSON and prints them as a table; progress goes to standard
error. A bar that is missed is shown and changes nothing about the exit code: 0,
or 1 when something could not be measured at all, 2 for a wrong call, 130 after
Ctrl-C. Then the file holds what was measured before.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

from tests.bench import (
    bench_cpu,
    bench_crowd,
    bench_door,
    bench_endurance,
    bench_log,
    bench_pause,
    bench_start,
    bench_status,
    bench_token,
)
from tests.bench.number import Number, table

PARTS: Final[Sequence[tuple[str, Callable[[], list[Number]]]]] = (
    ("token decisions", bench_token.run),
    ("the log", bench_log.run),
    ("processor time per unlock", bench_cpu.run),
    ("the price of a pause", bench_pause.run),
    ("round trips and profiles", bench_door.run),
    ("forty phones", bench_crowd.run),
    ("start and memory", bench_start.run),
    ("1600 unlocks", bench_endurance.run),
    ("status traffic", bench_status.run),
)
MEASURED, NOT_MEASURED, WRONG_CALL, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str]) -> int:
    """Measure everything; returns the exit code."""
    if len(arguments) != 1:
        tell("usage: python -m tests.bench OUT.json")
        return WRONG_CALL
    out = Path(arguments[0])
    logging.disable(logging.WARNING)  # locks come and go here, as they should
    numbers: list[Number] = []
    code = measure_all(PARTS, numbers)
    write(out, numbers)
    for line in table(numbers):
        sys.stdout.write(f"{line}\n")
    missed = sum(number.holds is False for number in numbers)
    bars = sum(number.bar is not None for number in numbers)
    sys.stdout.write(f"\n{bars - missed} of {bars} bars hold; {out} has every number.\n")
    return code


def measure_all(
    parts: Sequence[tuple[str, Callable[[], list[Number]]]], numbers: list[Number]
) -> int:
    """Add to `numbers` part by part; returns the exit code. One part's fault spares the others."""
    code = MEASURED
    for at, (name, run) in enumerate(parts, start=1):
        tell(f"[{at}/{len(parts)}] {name} ...")
        began_s = perf_counter()
        try:
            numbers += run()
        except KeyboardInterrupt:
            tell("interrupted")
            return INTERRUPTED
        except Exception as error:  # noqa: BLE001 - whatever it is, the other numbers are wanted
            tell(f"error: {name} could not be measured: {error!r}")
            code = NOT_MEASURED
        tell(f"[{at}/{len(parts)}] {name}: {perf_counter() - began_s:.0f} s")
    return code


def write(out: Path, numbers: Sequence[Number]) -> None:
    """All at once or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(out.name + ".part")
    document = [number.document() for number in numbers]
    draft.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    draft.replace(out)


def tell(line: str) -> None:
    """Progress, for whoever watches."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
