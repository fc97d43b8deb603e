"""A GPIO chip of the kernel's own simulator: a real one, whose pins can be felt and pulled.

Configured through configfs, looked at and pulled through sysfs (the kernel's
admin-guide/gpio/gpio-sim). A line that nobody drives has the level of its pull;
a line given back to the kernel has it again.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

LABEL: Final = "pinctrl-sim"
STRIKE: Final = 3
CONTACT: Final = 5
_LINES: Final = 8
_CONFIG: Final = Path("/sys/kernel/config/gpio-sim")
_DEVICES: Final = Path("/sys/devices/platform")
_numbers: Final = itertools.count()
_LOOK_S: Final = 0.001


class SimChip:
    """Eight lines; line 3 is called STRIKE and line 5 CONTACT."""

    def __init__(self, label: str = LABEL, names: Mapping[int, str] | None = None) -> None:
        self._item = _CONFIG / f"{label}-{next(_numbers)}"
        bank = self._item / "bank"
        bank.mkdir(parents=True)
        (bank / "num_lines").write_text(str(_LINES))
        (bank / "label").write_text(label)
        for line, name in (names or {STRIKE: "STRIKE", CONTACT: "CONTACT"}).items():
            (bank / f"line{line}").mkdir()
            (bank / f"line{line}/name").write_text(name)
        self.plug()

    def plug(self) -> None:
        """The chip is there, its lines as if nobody had ever touched them."""
        (self._item / "live").write_text("1")
        device = (self._item / "dev_name").read_text().strip()
        name = (self._item / "bank/chip_name").read_text().strip()
        self.path = Path("/dev") / name
        self._pins = _DEVICES / device / name

    def unplug(self) -> None:
        """The chip is gone, whoever holds lines of it."""
        (self._item / "live").write_text("0")

    def level(self, line: int = STRIKE) -> int:
        """The voltage on a line."""
        return int((self._pins / f"sim_gpio{line}/value").read_text())

    def pull(self, line: int, level: int) -> None:
        """Somebody outside pulls; who drives the line is stronger, who watches it learns of it."""
        (self._pins / f"sim_gpio{line}/pull").write_text("pull-up" if level else "pull-down")

    def remove(self) -> None:
        """For good."""
        with contextlib.suppress(OSError):
            self.unplug()
        for line in (self._item / "bank").glob("line*"):
            line.rmdir()
        (self._item / "bank").rmdir()
        self._item.rmdir()

    def wait(self, level: int, within_s: float, line: int = STRIKE) -> float:
        """How long it took until the line had this voltage."""
        began_s = time.monotonic()
        while self.level(line) != level:
            assert time.monotonic() - began_s < within_s, f"line {line} is not {level}"
            time.sleep(_LOOK_S)
        return time.monotonic() - began_s

    @contextlib.contextmanager
    def watched(self, line: int = STRIKE) -> Iterator[list[tuple[float, int]]]:
        """Every change of a line's voltage and when it was seen, looked at 1000 times a second."""
        seen = [(time.monotonic(), self.level(line))]
        ended = threading.Event()

        def watch() -> None:
            last = False
            while not last:
                last = ended.wait(_LOOK_S)  # once more after the end: it may not have come to look
                level = self.level(line)
                if level != seen[-1][1]:
                    seen.append((time.monotonic(), level))

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield seen
        finally:
            ended.set()
            watching.join()


def pulses(seen: list[tuple[float, int]], active: int = 1) -> list[float]:
    """Seconds that each finished pulse lasted."""
    pairs = itertools.pairwise(seen)
    return [until - since for (since, level), (until, _) in pairs if level == active]
