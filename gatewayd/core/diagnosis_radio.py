"""Judgements about Bluetooth adapters: are they there, what can they do, do they advertise?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gatewayd.core.diagnosis_bluez import SIMULTANEOUS_ROLES, THEN
from gatewayd.core.findings import Finding, Severity

ADAPTERS: Final = "adapters"
ADVERTISING: Final = "advertising"


# --- adapters ------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Adapter:
    """As bluetoothd describes it. `advertisements` counts active ones, of everybody."""

    name: str
    address: str
    powered: bool
    roles: frozenset[str]
    advertisements: int | None


@dataclass(frozen=True, slots=True)
class Bluetooth:
    """Every adapter; `blocked` names what rfkill holds.

    running: is there a bluetoothd? serving: does the daemon run now?
    named: addresses that the configuration names; none: whichever is there.
    """

    running: bool
    adapters: tuple[Adapter, ...]
    blocked: tuple[str, ...]
    serving: bool
    named: tuple[str, ...] = ()

    @property
    def used(self) -> tuple[Adapter, ...]:
        """The adapters that matter."""
        return tuple(each for each in self.adapters if not self.named or each.address in self.named)


def judge_adapters(seen: Bluetooth) -> Iterator[Finding]:
    """One finding per adapter, or that there is none."""
    for name in seen.blocked:
        yield Finding(
            ADAPTERS, Severity.ERROR, f"{name} is blocked by rfkill", "rfkill unblock bluetooth"
        )
    if not seen.running:
        yield Finding(
            ADAPTERS,
            Severity.ERROR,
            "bluetoothd does not run",
            "apt install bluez; systemctl enable --now bluetooth",
        )
    elif not seen.adapters:
        yield Finding(
            ADAPTERS,
            Severity.ERROR,
            "bluetoothd knows no adapter",
            "dmesg | grep -i bluetooth; on a Pi: is Bluetooth disabled in config.txt?",
        )
    known = {each.address for each in seen.adapters}
    for address in seen.named if seen.adapters else ():
        if address not in known:
            yield Finding(
                ADAPTERS,
                Severity.ERROR,
                f"{address}, which the configuration names, is not there",
                f"plug it in, or name one of {', '.join(sorted(known))} under [radio]",
            )
    for adapter in seen.used:
        yield _about_adapter(adapter, shared=len(set(seen.named)) < _TWO)


_TWO: Final = 2
"""With one adapter for phones and one for locks, none has to play both roles at once."""


def _about_adapter(adapter: Adapter, *, shared: bool) -> Finding:
    here = f"{adapter.name} ({adapter.address})"
    if not adapter.powered:
        return Finding(ADAPTERS, Severity.ERROR, f"{here} is switched off", "bluetoothctl power on")
    missing = {"central", "peripheral"} - adapter.roles
    if missing:
        return Finding(
            ADAPTERS,
            Severity.ERROR,
            f"{here} cannot be {' nor '.join(sorted(missing))}",
            "use another adapter",
        )
    if shared and "central-peripheral" not in adapter.roles:
        return Finding(
            ADAPTERS,
            Severity.WARNING,
            f"{here} serves phones or dials locks, one at a time",
            f"KernelExperimental = {SIMULTANEOUS_ROLES} in [General] of bluetoothd's settings,"
            f" {THEN}; if it stays so: a second adapter for the locks",
        )
    what = "serves phones and dials locks at once" if shared else "has one role, and plays it"
    return Finding(ADAPTERS, Severity.FINE, f"{here} {what}")


def judge_advertising(seen: Bluetooth) -> Iterator[Finding]:
    """Is anything advertised while the daemon runs?"""
    active = sum(each.advertisements or 0 for each in seen.used)
    if not seen.serving:
        yield Finding(
            ADVERTISING,
            Severity.NOT_LOOKED_AT,
            "the daemon does not run, so there is nothing to advertise",
            "sudo systemctl start gatewayd, once it is set up; then ask again",
        )
    elif active == 0:
        yield Finding(
            ADVERTISING,
            Severity.ERROR,
            "the daemon runs, and bluetoothd advertises nothing: no phone sees the door",
            "journalctl -u gatewayd -u bluetooth -n 50; then: systemctl restart bluetooth",
        )
    else:
        # https://github.com/Sentry-Six/Sentry-USB-Rusty/pull/174: registered is not heard
        yield Finding(
            ADVERTISING,
            Severity.FINE,
            f"bluetoothd holds {active} active; only another radio can tell whether it is heard",
        )
