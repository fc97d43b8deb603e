"""The composition root of `gatewayd doctor`: looks at this machine, and has the core judge it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path
from typing import Final

from firmware_proto import credential
from firmware_proto.errors import RemoteProtocolError
from gatewayd import (
    config,
    credential_renewal,
    drop_ins,
    extras,
    gate,
    keyfiles,
    renewal,
    self_test,
)
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.machine import ThisMachine, wires
from gatewayd.adapters.sqlite.reading import recall
from gatewayd.adapters.sqlite.schema import LOG, open_reader
from gatewayd.core import diagnosis_bluez as bluez
from gatewayd.core import diagnosis_host as host
from gatewayd.core import diagnosis_radio as radio
from gatewayd.core.diagnosis import diagnose
from gatewayd.core.diagnosis_terms import TERMS, Terms
from gatewayd.core.diagnosis_unit import UNIT, Unit
from gatewayd.core.diagnosis_wires import WIRES
from gatewayd.core.findings import Finding, NotSeen
from gatewayd.core.term import Term
from gatewayd.ports import StorageError
from gatewayd.ports.machine import Machine, NotSeenError

STATE: Final = Path("/var/lib/gatewayd")
"""Where the log is when no configuration says otherwise."""
RUNTIME: Final = Path("/run/gatewayd")
"""Where a daemon that runs says how it is."""
NO_TERMS: Final = NotSeen("without a configuration nobody knows what could end")
NO_DOORS: Final = NotSeen("without a configuration nobody knows which doors are wired")
SIMULATED: Final = NotSeen("the configuration names a simulated radio")


async def examine(
    path: Path, machine: Machine | None = None, runtime: Path = RUNTIME
) -> tuple[Finding, ...]:
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
        observations |= {WIRES: NO_DOORS, TERMS: NO_TERMS, UNIT: NO_DOORS}
    else:
        looks[WIRES] = asyncio.to_thread(_wires, settings)
        looks[UNIT] = _unit(settings, here)
        looks[TERMS] = asyncio.to_thread(_terms, settings, runtime)
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


async def _unit(settings: config.Config, machine: Machine) -> Unit:
    return Unit(tuple(drop_ins.needed(settings)), await machine.unit())


def _terms(settings: config.Config, runtime: Path) -> Terms:
    """As the daemon says that runs, else as the files do."""
    now = SystemClock().instant()
    found: dict[str, Term | None]
    found = {"credential": _credential(settings), "certificate": _certificate(settings)}
    with contextlib.suppress(OSError, RemoteProtocolError):
        local, told = gate.read((runtime / gate.FILE).read_bytes())
        if gate.is_now(local, now.boot_id, now.boottime_s):
            held = told.credential, told.certificate
            found = {name: Term(*each) for name, each in zip(found, held, strict=True) if each}
    terms = {name: each for name, each in found.items() if each is not None}
    if not terms:
        raise NotSeenError("no credential could be read", "gatewayd check")
    return Terms(terms, int(now.wall_s))


def _credential(settings: config.Config) -> Term | None:
    """The installed one, or what it was renewed to."""
    try:
        data = keyfiles.read_file(settings.keys.credential, "gateway credential")
        ours = credential.unverified(data)
    except (keyfiles.KeyFileError, RemoteProtocolError):
        return None
    with contextlib.suppress(StorageError, RemoteProtocolError):
        with closing(open_reader(settings.gateway.log, LOG)) as log:
            stored = recall(log, credential_renewal.MEMORY_NAME)
        newer = ours if stored is None else credential.unverified(stored)
        if newer.key == ours.key and newer.issued_at > ours.issued_at:
            ours = newer
    return Term(ours.issued_at, ours.expires)


def _certificate(settings: config.Config) -> Term | None:
    if settings.uplink is None or settings.uplink.certificate is None:
        return None
    return renewal.term(settings.uplink.certificate, settings.gateway.state)


def _holder(chip: str, line: int | str) -> str:
    try:
        from gatewayd.adapters.relay.line import holder_of  # noqa: PLC0415 - an extra
    except ImportError:
        raise OSError("gpiod is not here: pip install 'gatewayd[relay]'") from None
    return holder_of(chip, line)
