"""The composition root of `gatewayd setup report` and `status`: from a site's files to words.

It only reads, so a daemon may run meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from gatewayd import __version__, config, enrolment_app, extras
from gatewayd.adapters.clock import SystemClock
from gatewayd.config import model as config_model
from gatewayd.config import on_site
from gatewayd.config.on_site import ClaimedLock, Setup, Walk
from gatewayd.core.handover import DoorReport, Handover, Trial
from gatewayd.core.walk import Reach


def status(path: Path) -> dict[str, object]:
    """How far a set-up is, for programs. ConfigError, KeyFileError.

    enrolment: as `core.enrolment_progress` has it. Without a configuration that is all; with one,
    the handover's document follows, and what was claimed.
    """
    step = enrolment_app.enrolment_in(path.parent).progress().step
    found: dict[str, object] = {"enrolment": step.name.lower(), "configured": path.exists()}
    if not path.exists():
        return found
    handover, setup = _read(path)
    locks = {
        each.door: {"stage": each.stage, "address": each.address, "model": each.model}
        for each in setup.lock
    }
    return {**found, **handover.document(), "locks": locks}


def report(path: Path) -> Handover:
    """What was set up on site. ConfigError."""
    return _read(path)[0]


def _read(path: Path) -> tuple[Handover, Setup]:
    settings, secrets = config.load_all(
        path, also=extras.check, as_installed=True, open_key=extras.KeyDevices().open
    )
    setup, problems = on_site.load(settings.gateway.state)
    if problems:
        raise config.ConfigError(settings.gateway.state / on_site.NAME, problems)
    handover = Handover(
        gateway=settings.gateway.id,
        group=secrets.trust.group,
        software=__version__,
        made_s=int(SystemClock().instant().wall_s),
        doors=[_door(door, setup) for door in on_site.place(settings, setup).doors],
    )
    return handover, setup


def reach(walk: Walk) -> Reach:
    """As the core judges it."""
    return Reach(walk.dials, walk.took_ms, walk.strength_dbm)


def _door(door: config_model.Door, setup: Setup) -> DoorReport:
    binding = setup.binding_of(door.id)
    claimed = setup.lock_of(door.id)
    walked = next((each for each in setup.walk if each.door == door.id), None)
    return DoorReport(
        door=door.id,
        moved_by=moved_by(door),
        until_s=None if binding is None else binding.until_s,
        lock=_lock(door, claimed),
        trials=[
            Trial(each.leaf, each.time_s, each.outcome, each.reason, each.took_ms)
            for each in setup.opening
            if each.door == door.id
        ],
        reach=None if walked is None else reach(walked),
    )


def _lock(door: config_model.Door, claimed: ClaimedLock | None) -> str:
    if claimed is not None:
        return f"{claimed.model} {claimed.firmware}".strip() or "claimed"
    return "" if door.lock is None else "as the configuration names it"


def moved_by(door: config_model.Door) -> str:
    """What moves a door, in words; nothing where nothing does."""
    if door.lock is not None:
        return f"the lock at {door.lock.address or door.lock.serial}"
    if door.relay is not None:
        return f"the relay on line {door.relay.line} of {door.relay.chip}"
    return ""
