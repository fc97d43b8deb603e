"""The machine as the daemon finds it when it starts: the quick part of `gatewayd doctor`.

It runs beside the daemon that serves already, changes nothing, and never ends
anything: what it finds is for whoever reads the journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Final

from gatewayd.config import Config
from gatewayd.core import diagnosis_bluez as bluez
from gatewayd.core import diagnosis_host as host
from gatewayd.core import diagnosis_radio as radio
from gatewayd.core.diagnosis import diagnose
from gatewayd.core.findings import Finding, NotSeen, Severity
from gatewayd.messages import Message, about
from gatewayd.ports import NotSeenError
from gatewayd.ports.machine import Machine

_log: Final = logging.getLogger(__name__)

DEADLINE_S: Final = 60.0
"""For one look. A disk may be slow; one that takes longer is broken."""
LEVELS: Final[Mapping[Severity, int]] = {
    Severity.FINE: logging.DEBUG,
    Severity.NOT_LOOKED_AT: logging.INFO,
    Severity.NOTE: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.ERROR: logging.ERROR,
}


async def tell(config: Config, machine: Machine) -> None:
    """Look, and say each finding with its remedy in one line."""
    for found in await at_start(config, machine):
        remedy = found.remedy and f" -> {found.remedy}"
        level = LEVELS[found.severity]
        known = about(Message.MACHINE_UNFIT) if level >= logging.WARNING else None
        _log.log(level, "%s: %s%s", found.check, found.message, remedy, extra=known)


async def at_start(config: Config, machine: Machine) -> tuple[Finding, ...]:
    """What a daemon that serves may ask of its machine: no writing, no waiting for a disk."""
    state, promised = config.gateway.state, config.gateway.battery_clock
    observed = {
        bluez.VERSIONS: await seen(machine.versions()),
        bluez.SETTINGS: await seen(machine.settings()),
        radio.ADAPTERS: await seen(machine.bluetooth()),
        host.PERMISSIONS: await seen(machine.access(state)),
        host.CLOCK: await seen(machine.clock(promised=promised)),
        host.STORAGE: await seen(machine.disk(state, writing=False)),
    }
    observed |= adapters(observed[radio.ADAPTERS], config, serving=True)
    return tuple(each for each in diagnose(observed) if each.check in observed)


def adapters(
    seen: object, config: Config | None, *, serving: bool | None = None
) -> dict[str, object]:
    """The observation behind two checks. `serving`: known better than systemd knows it."""
    if isinstance(seen, radio.Bluetooth):
        if config is not None:
            named = (config.radio.adapter, config.radio.lock_adapter)
            seen = replace(seen, named=tuple(each for each in named if each is not None))
        if serving is not None:
            seen = replace(seen, serving=serving)
    return {radio.ADAPTERS: seen, radio.ADVERTISING: seen}


async def seen(look: Awaitable[object]) -> object:
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
