"""The daemon's composition root: which adapters it runs on, and the one tree of tasks.

What moves doors is chosen in `gatewayd.actuators`, the radio in
`gatewayd.radio_app`, the broker in `gatewayd.uplink_app`; what all of it stands on
is laid in `gatewayd.base_app`.
`run` is the daemon. Every task has a name; the first one that ends by a fault
of ours ends the daemon, loudly, and whoever supervises starts it again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import structs

from gatewayd import retirement
from gatewayd.actuators import Actuator, Workshop
from gatewayd.adapters import systemd
from gatewayd.adapters.sqlite import open_log
from gatewayd.adapters.sqlite.errors import storage_errors
from gatewayd.base_app import Base, lay
from gatewayd.conditions import Conditions
from gatewayd.config import Config, Secrets
from gatewayd.config import model as config_model
from gatewayd.core.envelope import Retire
from gatewayd.core.model import DoorId, GatewayId, origin_of
from gatewayd.core.term import Term
from gatewayd.core.timekeeping import FRESH_S
from gatewayd.courier import Courier
from gatewayd.credential_renewal import Terms
from gatewayd.daemon import LOOK_S, Daemon, Work
from gatewayd.door import Door
from gatewayd.health import Health
from gatewayd.health_files import HealthFiles, runtime_directory
from gatewayd.hearing import Heard, hear
from gatewayd.holders import Holders
from gatewayd.lock_connection import GatewayIdentity
from gatewayd.phones import Phones
from gatewayd.ports.lock import Lock
from gatewayd.radio_app import SILENT, Radio, open_radio
from gatewayd.receipts import Receipts
from gatewayd.rights import DoorIdentity
from gatewayd.surroundings import Surroundings

_log: Final = logging.getLogger(__name__)

SELF_TEST_AFTER_S: Final = 3.0


async def run(config: Config, secrets: Secrets) -> int:
    """Serve phones until SIGTERM or SIGINT. Returns the exit code.

    StorageError and RadioError when the daemon cannot start at all.
    """
    state = config.gateway.state
    with storage_errors(str(state)):
        state.mkdir(mode=0o700, exist_ok=True)
    async with open_log(config.gateway.log) as log, AsyncExitStack() as opened:
        order = await retirement.retired(log)
        radio = SILENT if order else await opened.enter_async_context(open_radio(config))
        stack = await opened.enter_async_context(AsyncExitStack())
        tasks = await opened.enter_async_context(asyncio.TaskGroup())
        base = await lay(config, secrets, log, stack, tasks)
        daemon = await _wire(config, base, radio, order)
        looking = tasks.create_task(_look_around(config, radio), name="self-test")
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, daemon.stop.set)
        try:
            await daemon.serve(radio.peripheral)
        finally:
            looking.cancel()
            for number in signals:
                loop.remove_signal_handler(number)
    _log.info("stopped")
    return 0


async def _look_around(config: Config, radio: Radio) -> None:
    """Once, beside the daemon that serves already; a bug in it must not close a door."""
    if radio.around.adapters is None:
        return  # a simulation
    await asyncio.sleep(SELF_TEST_AFTER_S)
    from gatewayd import self_test  # noqa: PLC0415 - no part of what must be quick
    from gatewayd.adapters.machine import ThisMachine  # noqa: PLC0415 - likewise

    try:
        await self_test.tell(config, ThisMachine(ask=radio.around.adapters))
    except Exception:  # noqa: BLE001 - whatever it is, doors matter more
        _log.exception("this machine could not be looked at")


async def _wire(config: Config, base: Base, radio: Radio, retired: Retire | None) -> Daemon:
    """Everything together; nothing runs yet."""
    around = base.around
    heard = await hear(config, base.desk)
    if retired is not None:
        await retirement.close(base.log, base.timekeeper.reading(), retired)
        around.log.log = retirement.ClosedLog(base.log)
        heard = replace(heard, config=structs.replace(heard.config, door=()))
    served = _served(heard, base, radio)
    health = _health(heard, base, served, radio)
    work = [*served.work, *heard.work]
    if retired is None:  # a closed log is not to be made well
        work.append(Work("log", around.log.keep))
    work.append(Work("health", health.keep))
    work += _health_files(heard.config, health, base.online)
    if heard.config.uplink is not None:
        work.append(await _uplink(heard, heard.config.uplink, base, radio, served, health))
    return Daemon(
        around.log,
        base.timekeeper,
        served.doors,
        served.locks,
        served.phones,
        around.refusals,
        base.supervisor,
        around.tasks,
        tuple(work),
        base.stop,
        watchdog_s=systemd.watchdog_interval_s(os.environ) or LOOK_S,
        retired=retired is not None,
        troubles=lambda: "; ".join(filter(None, (str(around.log), str(served.conditions)))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Who is served, and by what. `work`: keeps the locks."""

    identity: GatewayIdentity
    receipts: Receipts
    doors: Mapping[DoorId, Door]
    locks: Mapping[DoorId, Lock]
    work: tuple[Work, ...]
    phones: Phones
    conditions: Conditions


def _served(heard: Heard, base: Base, radio: Radio) -> Served:
    """The doors with what moves them, and phones before them."""
    config, secrets, around = heard.config, heard.secrets, base.around
    identity = GatewayIdentity(secrets.key, secrets.credential_bytes)
    conditions = Conditions((DoorId(door.id) for door in config.doors), base.clock)
    workshop = Workshop(
        radio.central, identity, secrets, base.clock, around.entropy, base.stack, conditions
    )
    actuators = {DoorId(door.id): workshop.actuator(door) for door in config.doors}
    doors = {DoorId(door.id): _door(door, actuators, around) for door in config.doors}
    receipts = Receipts(secrets.receipt_key, origin_of(GatewayId(config.gateway.id)))
    courier = Courier(
        heard.mailbox.deliver,
        lambda: base.times.question(FRESH_S),
        lambda: base.timekeeper.instant().boottime_s,
    )
    holders = Holders(doors, receipts, around)
    return Served(
        identity=identity,
        receipts=receipts,
        doors=doors,
        locks={door: actuator.lock for door, actuator in actuators.items()},
        work=tuple(Work(f"lock {door}", each.keep) for door, each in actuators.items()),
        phones=Phones(identity, holders, around, courier, cap=config.radio.max_phone_links),
        conditions=conditions,
    )


def _door(
    door: config_model.Door, actuators: Mapping[DoorId, Actuator], around: Surroundings
) -> Door:
    """A door with what moves it."""
    identity = DoorIdentity(
        DoorId(door.id), door.latch_ms, ZoneInfo(door.zone), door.policy.settings
    )
    actuator = actuators[identity.id]
    return Door(identity, actuator.lock, around, actuator.budget)


def _health(heard: Heard, base: Base, served: Served, radio: Radio) -> Health:
    """How all of it is, for the operator."""
    config, around, ours = heard.config, base.around, heard.secrets.credential
    return Health(
        base.log,
        around.log,
        config.gateway.state,
        around.entropy,
        around.timekeeper,
        served.phones.counts,
        served.conditions,
        heard.mailbox,
        around.lists,
        {
            DoorId(door.id): door.lock.address
            for door in config.doors
            if door.lock is not None and door.lock.address is not None
        },
        radio.around,
        has_broker=config.uplink is not None,
        terms=Terms(lambda: Term(ours.issued_at, ours.expires)),
    )


def _health_files(config: Config, health: Health, online: asyncio.Event) -> list[Work]:
    files = HealthFiles(
        health,
        runtime_directory(os.environ),
        None if config.metrics is None else config.metrics.file,
        lambda: online.is_set() if config.uplink is not None else None,
    )
    nowhere = files.runtime is None and files.metrics is None
    return [] if nowhere else [Work("health files", files.keep)]


async def _uplink(  # noqa: PLR0913, PLR0917 - it speaks of everything
    heard: Heard,
    broker: config_model.Uplink,
    base: Base,
    radio: Radio,
    served: Served,
    health: Health,
) -> Work:
    """The session with the broker, and who carries out what is ordered there."""
    from gatewayd import orders_app, uplink_app  # noqa: PLC0415 - 3 MB that not every gateway needs
    from gatewayd.obeying import Obedience  # noqa: PLC0415 - likewise

    config, adapters = heard.config, radio.around.adapters
    counts: Counter[str] = Counter()
    counted = {"uplink": counts, "phones": served.phones.counts}
    obedience = Obedience(
        open=await orders_app.helpdesk(
            config, served.doors, base.around, served.receipts, base.memory
        ),
        erase=base.desk.erase,
        diagnose=orders_app.inquiry(config, adapters, base.stack, base.log, health, counted),
    )
    voice = uplink_app.Voice(
        status=health.status,
        obedience=obedience,
        show=served.identity.show,
        terms=health.terms,
        counts=counts,
    )
    return uplink_app.uplink(heard, broker, base, voice)
