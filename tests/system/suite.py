"""All system tests, in several machines side by side: `python3 -m tests.system.suite`.

A machine has one processor, so a host with two runs two of them. What a machine
says has its name in front; the end is a table of machines and one of figures.
Standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.system import image, systemd_prepare, times, vm

HERE: Final = "tests/system"
CONTRACT: Final = "tests/contract/test_radio_contract.py"

FILES: Final = "files in "


@dataclass(frozen=True, slots=True)
class Crew:
    """One machine and what is tested in it. limit_s: of its tests, generously."""

    name: str
    tests: tuple[str, ...]
    systemd: bool = False
    limit_s: int = 480

    @property
    def command(self) -> list[str]:
        """Without a shell."""
        systemd = ["--systemd"] if self.systemd else []
        start = [sys.executable, "-m", "tests.system.vm", "test", *systemd]
        return [*start, "--timeout", str(self.limit_s), *self.tests]


ELSEWHERE: Final = {
    "systemd life": ("test_systemd_life.py",),
    "systemd drop-ins": ("test_systemd_drop_ins.py", "test_systemd_neighbours.py"),
    "faults": ("test_faults.py", "test_radio_faults.py"),
    "numbers": ("test_numbers.py",),
}


def crews() -> list[Crew]:
    """Longest first, so that both processors are done at about the same time."""
    directory = image.CHECKOUT / HERE
    named = {name for files in ELSEWHERE.values() for name in files}
    others = sorted(path.name for path in directory.glob("test_*.py") if path.name not in named)

    def crew(name: str) -> Crew:
        files = tuple(f"{HERE}/{file}" for file in ELSEWHERE[name])
        return Crew(name, files, systemd=name.startswith("systemd"))

    return [
        Crew("contract, bleak and bluezero", (CONTRACT, "-k", "PeersWorld")),
        crew("systemd life"),
        crew("faults"),
        Crew("contract, BlueZ", (CONTRACT, "-k", "BluetoothdWorld")),
        crew("systemd drop-ins"),
        Crew("story and peers", tuple(f"{HERE}/{name}" for name in others)),
        crew("numbers"),
    ]


@dataclass(frozen=True, slots=True)
class Done:
    """How it went. share: where the machine left its files, None when it did not come so far."""

    crew: Crew
    code: int
    took_s: float
    share: Path | None
    summary: str


class Suite:
    """Runs crews and remembers their processes, so that Ctrl-C ends them all."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._ending = False

    def run(self, crew: Crew) -> Done:
        """One machine from boot to power-off; prints as it goes."""
        began_s = time.monotonic()
        with self._mutex:
            if self._ending:
                return Done(crew, vm.INTERRUPTED, 0.0, None, "not begun")
            process = subprocess.Popen(
                crew.command,
                cwd=image.CHECKOUT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            self._running.add(process)
        share, summary = None, ""
        try:
            assert process.stdout is not None
            for line in process.stdout:
                text = line.rstrip("\n").removeprefix(vm.PREFIX)
                print(f"{crew.name}| {text}", flush=True)
                if " in " in text and text.startswith("=="):
                    summary = text.strip("= ")
                if FILES in text:
                    share = Path(text.rpartition(FILES)[2])
        finally:
            code = process.wait()
            with self._mutex:
                self._running.discard(process)
        return Done(crew, code, time.monotonic() - began_s, share, summary)

    def end(self) -> None:
        """Every machine has to go."""
        with self._mutex:
            self._ending = True
            for process in self._running:
                process.send_signal(signal.SIGINT)


def report(done: Sequence[Done], took_s: float) -> Iterator[str]:
    """What a person wants to know at the end."""
    yield from times.told(*(each.share for each in done if each.share is not None))
    yield ""
    for each in done:
        verdict = "passed" if each.code == 0 else f"FAILED ({each.code})"
        yield f"{each.crew.name:<32} {verdict:<12} {each.took_s:5.0f} s  {each.summary}"
    yield f"{len(done)} machines in {took_s:.0f} s"


def main() -> int:
    """0 when every machine's tests passed, 1 otherwise, 125 when there can be no machine."""
    began_s = time.monotonic()
    try:
        image.prepare()
        systemd_prepare.prepare()
    except image.PreparationError as error:
        print(f"error: {error}", file=sys.stderr)
        return vm.BROKEN
    print(f"prepared after {time.monotonic() - began_s:.0f} s", flush=True)
    suite = Suite()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        waiting = [pool.submit(suite.run, crew) for crew in crews()]
        try:
            done = [each.result() for each in waiting]
        except KeyboardInterrupt:
            suite.end()
            print("interrupted: the machines are being ended", file=sys.stderr)
            return vm.INTERRUPTED
    for line in report(done, time.monotonic() - began_s):
        print(line)
    return 1 if any(each.code for each in done) else 0


if __name__ == "__main__":
    sys.exit(main())
