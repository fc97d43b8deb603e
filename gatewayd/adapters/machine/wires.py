"""What doors are wired to, looked at without touching it: no line is taken, no device opened."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.adapters.machine.files import read
from gatewayd.core.diagnosis_wires import RelayLine, SerialLine, Wires

_BY: Final = ("dev/serial/by-id", "dev/serial/by-path")
_CONSOLE: Final = re.compile(r"console=([A-Za-z0-9]+)(,.*)?")
_PERSISTS: Final = "sys/module/pinctrl_*/parameters/persist_gpio_outputs"


@dataclass(frozen=True, slots=True)
class WiredLock:
    """A door and the device that its lock is on."""

    door: str
    path: str


@dataclass(frozen=True, slots=True)
class WiredRelay:
    """A door and one of its lines, by chip and line as the configuration names them."""

    door: str
    chip: str
    line: int | str


Holder = Callable[[str, int | str], str]
"""Who holds a line, as the kernel says; OSError with the reason when it is not to be had."""


def look(
    locks: Sequence[WiredLock],
    relays: Sequence[WiredRelay],
    holder: Holder,
    root: Path = Path("/"),
) -> Wires:
    """See `core.diagnosis_wires`."""
    return Wires(
        tuple(_serial(lock, root) for lock in locks),
        tuple(_relay(relay, holder) for relay in relays),
        _persists(root) if relays else None,
    )


def _serial(lock: WiredLock, root: Path) -> SerialLine:
    path = root / lock.path.lstrip("/")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return SerialLine(
            lock.door,
            lock.path,
            trouble=error.strerror or str(error),
            remedy="plug it in; ls /dev/serial/by-id shows what there is",
        )
    if not stat.S_ISCHR(mode):
        return SerialLine(
            lock.door, lock.path, trouble="no device", remedy="ls /dev/serial/by-id shows some"
        )
    real = _real(path)
    return SerialLine(
        lock.door,
        lock.path,
        console=real.name in _consoles(root),
        steady=next((f"/{name.relative_to(root)}" for name in _names(root, real)), ""),
    )


def _consoles(root: Path) -> set[str]:
    """What the kernel was told to talk on; serial0 is a Pi's word for one of them."""
    words = (read(root / "proc/cmdline") or "").split()
    named = filter(None, map(_CONSOLE.fullmatch, words))
    return {_real(root / "dev" / each[1]).name for each in named}


def _names(root: Path, real: Path) -> list[Path]:
    found = [link for place in _BY for link in sorted((root / place).glob("*"))]
    return [link for link in found if _real(link) == real]


def _real(path: Path) -> Path:
    """Where links lead; `Path.resolve` raises at some that lead round in a circle."""
    return Path(os.path.realpath(path))


def _persists(root: Path) -> bool | None:
    said = [(read(path) or "").strip() for path in sorted(root.glob(_PERSISTS))]
    return "Y" in said if said else None


def _relay(relay: WiredRelay, holder: Holder) -> RelayLine:
    try:
        held = holder(relay.chip, relay.line)
    except OSError as error:
        return RelayLine(relay.door, relay.chip, str(relay.line), trouble=str(error))
    return RelayLine(relay.door, relay.chip, str(relay.line), holder=held)
