"""The composition root of `gatewayd doctor`: looks at this machine, and has the core judge it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

from gatewayd import config, extras, self_test
from gatewayd.adapters.machine import ThisMachine, wires
from gatewayd.core import diagnosis_bluez as bluez
from gatewayd.core import diagnosis_host as host
from gatewayd.core import diagnosis_radio as radio
from gatewayd.core.diagnosis import diagnose
from gatewayd.core.diagnosis_wires import WIRES
from gatewayd.core.findings import Finding, NotSeen
from gatewayd.ports.machine import Machine

STATE: Final = Path("/var/lib/gatewayd")
"""Where the log is when no configuration says otherwise."""
NO_DOORS: Final = NotSeen("without a configuration nobody knows which doors are wired")
SIMULATED: Final = NotSeen("the configuration names a simulated radio")


async def examine(path: Path, machine: Machine | None = None) -> tuple[Finding, ...]:
    """Everything there is to say about this machine and the configuration in `path`."""
    here = machine or ThisMachine()
    settings, observed = _configuration(path)
    promised = None if settings is None else settings.gateway.battery_clock
    state = STATE if settings is None else settings.gateway.state
    kind: str = "bluez" if settings is None else settings.radio.kind
    looks: dict[str, Awaitable[object]] = {
        host.PERMISSIONS: here.access(state),
        host.CLOCK: here.clock(promised=promised),
        host.STORAGE: here.disk(state),
        host.JOURNAL: here.journal(),
    }
    observations: dict[str, object] = {host.CONFIGURATION: observed}
    if kind == "virtual":
        names = (bluez.VERSIONS, bluez.SETTINGS, radio.ADAPTERS, radio.ADVERTISING)
        observations |= dict.fromkeys(names, SIMULATED)
    else:
        looks[bluez.VERSIONS] = here.versions()
        looks[bluez.SETTINGS] = here.settings()
        looks[radio.ADAPTERS] = here.bluetooth()
    if settings is None:
        observations[WIRES] = NO_DOORS
    else:
        looks[WIRES] = asyncio.to_thread(_wires, settings)
    for name, look in looks.items():
        observations[name] = await self_test.seen(look)
    observations |= self_test.adapters(observations[radio.ADAPTERS], settings)
    return diagnose(observations)


def _configuration(path: Path) -> tuple[config.Config | None, object]:
    """The configuration as far as it can be used, and what is to be said about it."""
    try:
        settings = config.load(path, unbound=True)  # so that all else can be looked at
    except config.ConfigError as error:
        return None, _problems(path, error.problems)
    return settings, _problems(path, config.check(path, extras.check, extras.KeyDevices().open))


def _problems(path: Path, problems: list[config.Problem]) -> host.Configuration:
    found = tuple((each.placed(path), each.hint) for each in problems)
    return host.Configuration(str(path), found)


def _wires(settings: config.Config) -> object:
    """What the doors are wired to, as it is here and now."""
    locks, relays = [], []
    for door in settings.doors:
        if door.lock is not None and door.lock.serial is not None:
            locks.append(wires.WiredLock(door.id, door.lock.serial))
        if door.relay is not None:
            chip, contact = door.relay.chip, door.relay.contact
            lines = [door.relay.line] if contact is None else [door.relay.line, contact.line]
            relays += [wires.WiredRelay(door.id, chip, line) for line in lines]
    return wires.look(locks, relays, _holder)


def _holder(chip: str, line: int | str) -> str:
    try:
        from gatewayd.adapters.relay.line import holder_of  # noqa: PLC0415 - an extra
    except ImportError:
        raise OSError("gpiod is not here: pip install 'gatewayd[relay]'") from None
    return holder_of(chip, line)
