"""The composition root of `gatewayd setup report`: from the files of a site to its handover.

It only reads, so a daemon may run meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from gatewayd import __version__, config, extras
from gatewayd.adapters.clock import SystemClock
from gatewayd.config import model as config_model
from gatewayd.config import on_site
from gatewayd.config.on_site import ClaimedLock, Setup, Walk
from gatewayd.core.handover import DoorReport, Handover, Trial
from gatewayd.core.walk import Reach


def report(path: Path) -> Handover:
    """What was set up on site. ConfigError."""
    settings, secrets = config.load_all(
        path, also=extras.check, as_installed=True, open_key=extras.KeyDevices().open
    )
    setup, problems = on_site.load(settings.gateway.state)
    if problems:
        raise config.ConfigError(settings.gateway.state / on_site.NAME, problems)
    return Handover(
        gateway=settings.gateway.id,
        group=secrets.trust.group,
        software=__version__,
        made_s=int(SystemClock().instant().wall_s),
        doors=[_door(door, setup) for door in on_site.place(settings, setup).doors],
    )


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
