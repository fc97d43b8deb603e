"""A GPIO chip that is a directory, and keepers that believe in it: see `fake_gpiod`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FAKE = Path(__file__).parent / "fake_gpiod"
PROGRAM = f"""
import sys
sys.path.insert(0, {str(FAKE)!r})
from gatewayd.adapters.relay.keeper import main
sys.exit(main())
"""
KEEPER = (sys.executable, "-c", PROGRAM)
LABEL = "pinctrl-test"
STRIKE = 3
CONTACT = 5


class FakeChip:
    """Eight lines; line 3 is called STRIKE and line 5 CONTACT."""

    def __init__(self, devices: Path, number: int = 0, label: str = LABEL) -> None:
        self.devices = devices
        self.path = devices / f"gpiochip{number}"
        self.path.mkdir(parents=True)
        names = ["STRIKE" if n == STRIKE else "CONTACT" if n == CONTACT else "-" for n in range(8)]
        (self.path / "chip").write_text("\n".join([self.path.name, label, *names]))
        (self.path / "history").touch()
        os.mkfifo(self.path / f"{CONTACT}.edge")
        self.level(STRIKE, 0)
        self.level(CONTACT, 0)

    def level(self, line: int, voltage: int) -> None:
        """Somebody else's voltage on a line; nobody is told."""
        (self.path / f"{line}.level").write_text(str(voltage))

    def change(self, line: int, voltage: int) -> None:
        """The voltage on an input changes, and whoever watches it learns of it."""
        self.level(line, voltage)
        edge = os.open(self.path / f"{line}.edge", os.O_RDWR | os.O_NONBLOCK)
        os.write(edge, b"x")
        os.close(edge)

    @property
    def strike(self) -> int:
        """The voltage at the relay."""
        return int((self.path / f"{STRIKE}.level").read_text())

    def trouble(self, what: str) -> None:
        """The relay's line is `stuck`, `dead` or `hung`."""
        (self.path / f"{STRIKE}.{what}").touch()

    def mend(self, what: str) -> None:
        (self.path / f"{STRIKE}.{what}").unlink()

    def history(self) -> list[tuple[float, int]]:
        """When the relay was driven, and to which voltage."""
        rows = (line.split() for line in (self.path / "history").read_text().splitlines())
        return [(float(at), int(level)) for at, line, level, _ in rows if int(line) == STRIKE]

    def pulses(self, active: int = 1) -> list[float]:
        """Seconds that each finished pulse lasted."""
        lengths, began = [], None
        for at, level in self.history():
            if level == active and began is None:
                began = at
            elif level != active and began is not None:
                lengths.append(at - began)
                began = None
        return lengths
