"""The lines themselves: everything that is asked of gpiod (libgpiod's own binding, version 2).

Names of the kernel's: a line is *active* or not, whatever its voltage; `active_low`
says which voltage that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from errno import EACCES, EBUSY
from pathlib import Path
from typing import Final, Protocol

import gpiod
from gpiod.line import Bias, Direction, Edge, Value

CONSUMER: Final = "gatewayd"
DEBOUNCE: Final = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True)
class Contact:
    """An input that tells whether the door is closed; `low` when its level is low then."""

    line: int | str
    low: bool = True


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """chip: path, name or label. line: offset or name. limit_ms: no pulse is ever longer."""

    chip: str
    line: int | str
    active_low: bool = False
    limit_ms: int = 30_000
    contact: Contact | None = None
    devices: str = "/dev"


class RelayLine(Protocol):
    """A relay's output and the contact of its door. OSError wherever the device does not obey."""

    def set(self, *, active: bool) -> None:
        """Switch. When this returns the kernel has done it."""
        ...

    def is_active(self) -> bool:
        """Read the output back."""
        ...

    def is_closed(self) -> bool | None:
        """What the contact says; None without one."""
        ...

    @property
    def changes(self) -> int | None:
        """A descriptor that is readable when the contact has changed; None without one."""
        ...

    def seen(self) -> None:
        """Forget the changes so far."""
        ...

    def release(self) -> None:
        """Give the lines back to the kernel, which then does with them what its driver does."""
        ...


class GpiodLine:
    """`RelayLine` on real GPIO. Made inactive before anything else, and in one step."""

    def __init__(self, settings: RelaySettings) -> None:
        contact = settings.contact
        with _opened(find_chip(settings.chip, Path(settings.devices))) as chip:
            self._line, self._output = _taken(
                chip,
                settings.line,
                gpiod.LineSettings(
                    direction=Direction.OUTPUT,
                    active_low=settings.active_low,
                    output_value=Value.INACTIVE,
                ),
            )
            self._contact = self._input = None
            if contact is not None:
                self._contact, self._input = _taken(
                    chip,
                    contact.line,
                    gpiod.LineSettings(
                        direction=Direction.INPUT,
                        edge_detection=Edge.BOTH,
                        bias=Bias.PULL_UP if contact.low else Bias.PULL_DOWN,
                        active_low=contact.low,
                        debounce_period=DEBOUNCE,
                    ),
                )

    def set(self, *, active: bool) -> None:
        """See `RelayLine`."""
        self._output.set_value(self._line, Value.ACTIVE if active else Value.INACTIVE)

    def is_active(self) -> bool:
        """See `RelayLine`."""
        return self._output.get_value(self._line) is Value.ACTIVE

    def is_closed(self) -> bool | None:
        """See `RelayLine`."""
        if self._input is None or self._contact is None:
            return None
        return self._input.get_value(self._contact) is Value.ACTIVE

    @property
    def changes(self) -> int | None:
        """See `RelayLine`."""
        return None if self._input is None else self._input.fd

    def seen(self) -> None:
        """See `RelayLine`."""
        if self._input is not None:
            self._input.read_edge_events()

    def release(self) -> None:
        """See `RelayLine`."""
        self._output.release()
        if self._input is not None:
            self._input.release()


def holder_of(chip: str, line: int | str, devices: str = "/dev") -> str:
    """Who has a line, as the kernel says; empty when nobody has. Takes nothing. OSError."""
    with _opened(find_chip(chip, Path(devices))) as found:
        info = found.get_line_info(_offset(found, line))
        return (info.consumer or "somebody") if info.used else ""


def _opened(path: str) -> gpiod.Chip:
    try:
        return gpiod.Chip(path)
    except OSError as error:
        rights = ": is the daemon's user in the group gpio?" if error.errno == EACCES else ""
        raise OSError(f"{path}: {error.strerror}{rights}") from error


def _taken(
    chip: gpiod.Chip, wanted: int | str, settings: gpiod.LineSettings
) -> tuple[int, gpiod.LineRequest]:
    """The line for ourselves alone. OSError says in words why it cannot be had."""
    line = _offset(chip, wanted)
    try:
        return line, chip.request_lines({line: settings}, consumer=CONSUMER)
    except OSError as error:
        holder = chip.get_line_info(line).consumer if error.errno == EBUSY else ""
        who = f", {holder} has it" if holder else ""
        label = chip.get_info().label
        raise OSError(f"line {wanted} of {label}: {error.strerror}{who}") from error


def _offset(chip: gpiod.Chip, wanted: int | str) -> int:
    try:
        return chip.line_offset_from_id(wanted)
    except (OSError, ValueError) as error:
        info = chip.get_info()
        raise OSError(
            f"{info.label} has no line {wanted}, of its {info.num_lines}: see gpioinfo"
        ) from error


def find_chip(wanted: str, devices: Path) -> str:
    """The path of the chip with this path, name or label. OSError when there is none, or two.

    Numbers of chips depend on the order of drivers, and have changed between
    kernels of the Pi 5: a label is the steadier name.
    """
    if wanted.startswith("/"):
        return wanted
    found = {}
    for path in sorted(devices.glob("gpiochip*")):
        if path.is_symlink():  # older numbers are kept as links to the same chip
            continue
        with _opened(str(path)) as chip:
            info = chip.get_info()
            found[str(path)] = {info.name, info.label}
    paths = [path for path, names in found.items() if wanted in names]
    if len(paths) == 1:
        return paths[0]
    known = ", ".join(f"{path} ({' '.join(sorted(names))})" for path, names in found.items())
    problem = "two GPIO chips are called" if paths else "there is no GPIO chip called"
    raise OSError(f"{problem} {wanted}; there is: {known or 'none'}")
