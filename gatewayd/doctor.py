"""The composition root of `gatewayd doctor`: looks at this machine, and has the core judge it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Final

from gatewayd import config
from gatewayd.adapters.machine import ThisMachine
from gatewayd.core import diagnosis_host as host
from gatewayd.core import diagnosis_radio as radio
from gatewayd.core.diagnosis import diagnose
from gatewayd.core.findings import Finding, NotSeen
from gatewayd.ports import Machine, NotSeenError

STATE: Final = Path("/var/lib/gatewayd")
"""Where the log is when no configuration says otherwise."""
DEADLINE_S: Final = 60.0
"""For one look. A disk may be slow; one that takes longer is broken."""
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
        names = (radio.VERSIONS, radio.SETTINGS, radio.ADAPTERS, radio.ADVERTISING)
        observations |= dict.fromkeys(names, SIMULATED)
    else:
        looks[radio.VERSIONS] = here.versions()
        looks[radio.SETTINGS] = here.settings()
        looks[radio.ADAPTERS] = here.bluetooth()
    for name, look in looks.items():
        observations[name] = await _seen(look)
    bluetooth = observations[radio.ADAPTERS]
    if settings is not None and isinstance(bluetooth, radio.Bluetooth):
        named = (settings.radio.adapter, settings.radio.lock_adapter)
        bluetooth = replace(bluetooth, named=tuple(each for each in named if each is not None))
    observations[radio.ADAPTERS] = observations[radio.ADVERTISING] = bluetooth
    return diagnose(observations)


def _configuration(path: Path) -> tuple[config.Config | None, object]:
    """The configuration as far as it can be used, and what is to be said about it."""
    try:
        settings = config.load(path)
    except config.ConfigError as error:
        return None, _problems(path, error.problems)
    return settings, _problems(path, config.check(path))


def _problems(path: Path, problems: list[config.Problem]) -> host.Configuration:
    return host.Configuration(
        str(path), tuple((f"{path}:{each.line}: {each.message}", each.hint) for each in problems)
    )


async def _seen(look: Awaitable[object]) -> object:
    """What was seen, or why not; one look that fails hides no other."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await look
    except NotSeenError as error:
        return NotSeen(str(error), error.remedy)
    except TimeoutError:
        return NotSeen(f"no answer within {DEADLINE_S:.0f} s")
    except OSError as error:
        return NotSeen(f"{error.filename or 'it'}: {error.strerror or error}")
