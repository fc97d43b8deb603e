"""What no single field of a door can say: a lock or a relay, settings that fit, no two alike."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from gatewayd.config.decode import Report
from gatewayd.config.model import Door, LockFiles, Relay

_OWN: Final = "every door has its own name and its own lock"


def check(doors: Sequence[Door], report: Report, *, unbound: bool = False) -> None:
    """Add to `report` what is wrong with locks and relays; `unbound`: neither is no problem."""
    for index, door in enumerate(doors):
        neither = door.lock is None and door.relay is None
        if (door.lock is not None and door.relay is not None) or (neither and not unbound):
            report.add(
                ("door", index),
                f"door[{index + 1}] needs either a lock or a relay",
                "one of lock.address, lock.serial, relay; or on site: gatewayd setup bind-door",
            )
        if door.lock is not None:
            _lock(door.lock, index, report)
        if door.relay is not None:
            _relay(door, door.relay, index, report)
    # a lock bound twice would open two doors with one key's worth of permission
    locks = [each.lock for each in doors]
    distinct([each and each.address for each in locks], ("lock", "address"), report)
    distinct([each and each.serial for each in locks], ("lock", "serial"), report)
    relays = [each.relay for each in doors]
    distinct([each and (each.chip, each.line) for each in relays], ("relay", "line"), report)


def distinct(values: Sequence[Hashable], field: tuple[str, ...], report: Report) -> None:
    """No value twice; None is no value."""
    for index, value in enumerate(values):
        first = values.index(value)
        if value is not None and first != index:
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            report.add(
                ("door", index, *field),
                f"door[{index + 1}].{'.'.join(field)}: {shown} is door[{first + 1}]'s already",
                _OWN,
            )


def _lock(lock: LockFiles, index: int, report: Report) -> None:
    place = ("door", index, "lock")
    name = f"door[{index + 1}].lock"
    if (lock.address is None) == (lock.serial is None):
        report.add(
            place,
            f"{name} needs either an address or a serial line",
            "address = the lock's Bluetooth address, or serial = the device that it is wired to",
        )
        return
    radio = lock.address is not None
    default = LockFiles(key=lock.key)
    for field in ("baud", "half_duplex") if radio else ("warm",):
        if getattr(lock, field) != getattr(default, field):
            report.add(
                (*place, field),
                f"{name}.{field} has no use with {'an address' if radio else 'a serial line'}",
                "it is about serial lines" if radio else "a wired lock's link is always kept",
            )


def _relay(door: Door, relay: Relay, index: int, report: Report) -> None:
    place = ("door", index, "relay")
    name = f"door[{index + 1}].relay"
    lines: dict[tuple[str, ...], int | str] = {("line",): relay.line}
    if relay.contact is not None:
        lines["contact", "line"] = relay.contact.line
    for field, line in lines.items():
        if line == "" or (isinstance(line, int) and line < 0):
            report.add(
                (*place, *field),
                f"{name}.{'.'.join(field)} is not a GPIO line",
                "an offset from 0, or the name that gpioinfo shows",
            )
    if relay.contact is not None and relay.contact.line == relay.line:
        report.add(
            (*place, "contact", "line"),
            f"{name}.contact.line is the relay's own",
            "the contact is wired to a line of its own",
        )
    if relay.pulse_ms is not None and relay.pulse_ms > door.latch_ms:
        report.add(
            (*place, "pulse_ms"),
            f"{name}.pulse_ms is longer than latch_ms ({door.latch_ms})",
            "leave it out, or raise latch_ms: nobody may open again before the pulse has ended",
        )
