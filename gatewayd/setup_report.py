"""The composition root of `gatewayd setup report` and `status`: from a site's files to words.

It only reads, so a daemon may run meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from gatewayd import __version__, config, enrolment_app, extras
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.sqlite.reading import LogFile, open_log_file
from gatewayd.config import Config, Secrets, on_site, stated
from gatewayd.config import model as config_model
from gatewayd.config.on_site import ClaimedLock, Setup, Walk
from gatewayd.core.erasure import Erased, Run
from gatewayd.core.handover import DoorReport, Handover, Trial
from gatewayd.core.model import Fact
from gatewayd.core.walk import Reach
from gatewayd.hearing import Heard
from gatewayd.ports import StorageError
from gatewayd.setup_site import hear_all


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
    """What was set up, and what the operator has stated. ConfigError, StorageError."""
    return _read(path)[0]


def _read(path: Path) -> tuple[Handover, Setup]:
    settings, secrets = config.load_all(
        path, also=extras.check, as_installed=True, open_key=extras.KeyDevices().open
    )
    setup, problems = on_site.load(settings.gateway.state)
    if problems:
        raise config.ConfigError(settings.gateway.state / on_site.NAME, problems)
    with _silence():
        heard = asyncio.run(_heard(settings, secrets))
    bound = {door.id: door for door in heard.config.doors}
    handover = Handover(
        gateway=settings.gateway.id,
        group=secrets.trust.group,
        software=__version__,
        made_s=int(SystemClock().instant().wall_s),
        doors=[_door(bound.get(door.id, bare(door)), setup) for door in _all(settings, bound)],
        bindings=stated.body(heard.config.doors, heard.secrets.lock_keys) if bound else None,
    )
    return handover, setup


@contextmanager
def _silence() -> Iterator[None]:
    """What a daemon tells its journal of doors, whoever reads how far they are is told anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _all(settings: Config, bound: dict[str, config_model.Door]) -> list[config_model.Door]:
    """Those of the configuration, and those that the operator has added."""
    named = {door.id: door for door in settings.doors}
    return [*settings.doors, *(door for id_, door in bound.items() if id_ not in named)]


def bare(door: config_model.Door) -> config_model.Door:
    """A door that is served by nothing, whatever was installed."""
    return replace(door, lock=None, relay=None)


async def _heard(settings: Config, secrets: Secrets) -> Heard:
    path = settings.gateway.log
    if not path.exists():
        empty = _Reading(None)
        _, _, heard = await hear_all(settings, secrets, empty, empty)
        return heard
    with open_log_file(path) as file:
        looking = _Reading(file)
        _, _, heard = await hear_all(settings, secrets, looking, looking)
        return heard


@dataclass(frozen=True, slots=True)
class _Reading:
    """`ports.storage.Memory` of a log that somebody else may be writing: nothing is kept."""

    file: LogFile | None

    async def load(self, name: str) -> bytes | None:
        return None if self.file is None else self.file.load(name)

    async def store(self, name: str, value: bytes) -> None:
        """Nothing that is stored while it is read matters to what is read."""

    async def erase(self, order: bytes, runs: Sequence[Run], fact: Fact) -> Erased:
        """StorageError: nobody says so to who only looks."""
        del order, runs, fact
        raise StorageError("the log is only looked at")


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
    return "" if door.lock is None else "as stated"


def moved_by(door: config_model.Door) -> str:
    """What moves a door, in words; nothing where nothing does."""
    if door.lock is not None:
        return f"the lock at {door.lock.address or door.lock.serial}"
    if door.relay is not None:
        return f"the relay on line {door.relay.line} of {door.relay.chip}"
    return ""
