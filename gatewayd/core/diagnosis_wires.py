"""Judgements about what doors are wired to: serial devices, GPIO chips and their lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gatewayd.core.findings import Finding, Severity

WIRES: Final = "wires"
CONSUMER: Final = "gatewayd"
"""Whom the kernel names as the holder of our own lines."""
_NUMBERED: Final = ("/dev/ttyUSB", "/dev/ttyACM")


@dataclass(frozen=True, slots=True)
class SerialLine:
    """A lock's line. trouble: why it cannot be had, with a remedy; both empty when it can.

    steady: another name of the same device that stays, where `path` is one that moves.
    """

    door: str
    path: str
    console: bool = False
    steady: str = ""
    trouble: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class RelayLine:
    """A relay's line, or its contact's. holder: who has it, as the kernel says; may be empty."""

    door: str
    chip: str
    line: str
    holder: str = ""
    trouble: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Wires:
    """Of all doors. persists: this kernel leaves outputs driven whose owner died; None: unsaid."""

    serial: tuple[SerialLine, ...] = ()
    relays: tuple[RelayLine, ...] = ()
    persists: bool | None = None


def judge_wires(seen: Wires) -> Iterator[Finding]:
    """What a fitter can mend before anybody stands at the door."""
    if not seen.serial and not seen.relays:
        yield Finding(WIRES, Severity.FINE, "no door is wired to this machine")
    for serial in seen.serial:
        yield from _about_serial(serial)
    for relay in seen.relays:
        yield _about_relay(relay)
    if seen.relays and seen.persists:
        yield Finding(
            WIRES,
            Severity.WARNING,
            "this kernel leaves a relay pulled when everything that could release it was killed",
            "dtparam=strict_gpiod in /boot/firmware/config.txt, then reboot",
        )


def _about_serial(seen: SerialLine) -> Iterator[Finding]:
    here = f"door {seen.door}: {seen.path}"
    if seen.trouble:
        yield Finding(WIRES, Severity.ERROR, f"{here}: {seen.trouble}", seen.remedy)
        return
    if seen.console:
        yield Finding(
            WIRES,
            Severity.ERROR,
            f"{here} is the kernel's console, too",
            "raspi-config, Interface, Serial: no login shell; then reboot",
        )
    elif seen.path.startswith(_NUMBERED):
        yield Finding(
            WIRES,
            Severity.WARNING,
            f"{here} is whichever adapter was plugged in first",
            f"name it {seen.steady}" if seen.steady else "ls -l /dev/serial/by-path",
        )
    else:
        yield Finding(
            WIRES,
            Severity.FINE,
            f"{here} is there; whether its lock answers, the daemon's journal tells",
        )


def _about_relay(seen: RelayLine) -> Finding:
    here = f"door {seen.door}: line {seen.line} of {seen.chip}"
    if seen.trouble:
        remedy = seen.remedy or "gpiodetect and gpioinfo show what there is"
        return Finding(WIRES, Severity.ERROR, f"{here}: {seen.trouble}", remedy)
    if seen.holder not in {"", CONSUMER}:
        return Finding(
            WIRES,
            Severity.ERROR,
            f"{here} is held by {seen.holder}",
            "another line, or no overlay in config.txt that takes this one",
        )
    what = "is held by the daemon" if seen.holder else "is there, and free"
    return Finding(WIRES, Severity.FINE, f"{here} {what}")
