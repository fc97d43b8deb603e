"""The daemon's composition root: which adapters it runs on, and the one tree of tasks.

What moves doors is chosen in `gatewayd.actuators`, the radio in
`gatewayd.radio_app`, the broker in `gatewayd.uplink_app`.
`run` is the daemon. Every task has a name; the first one that ends by a fault
of ours ends the daemon, loudly, and whoever supervises starts it again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import structs

from gatewayd import retirement
from gatewayd.actuators import Actuator, Workshop
from gatewayd.adapters import systemd
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.reserve import open_reserve
from gatewayd.adapters.sqlite import SqliteLog, open_log
from gatewayd.adapters.sqlite.errors import storage_errors
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
from gatewayd.handlers import Desk
from gatewayd.health import Health
from gatewayd.health_files import HealthFiles, runtime_directory
from gatewayd.hearing import hear
from gatewayd.holders import Holders
from gatewayd.lists import StatusLists
from gatewayd.lock_connection import GatewayIdentity
from gatewayd.mailbox import Mailbox
from gatewayd.noticed_memory import NoticedMemory
from gatewayd.phones import Phones
from gatewayd.ports import StorageError
from gatewayd.ports.process import Entropy, Supervisor
from gatewayd.ports.storage import Memory, Reserve
from gatewayd.radio_app import SILENT, Radio, open_radio
from gatewayd.receipts import Receipts
from gatewayd.recorder import COMMIT_S, Recorder
from gatewayd.refusals import Refusals
from gatewayd.rights import DoorIdentity
from gatewayd.surroundings import Surroundings
from gatewayd.timekeeper import SignedTime, Timekeeper
from gatewayd.trusted import Trusted

_log: Final = logging.getLogger(__name__)

REQUESTS_NAME: Final = "request naming"
SECRET_BYTES: Final = 32
SELF_TEST_AFTER_S: Final = 3.0
RESTART_AFTER_S: Final = 5.0


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
        daemon = await _wire(config, secrets, log, radio, stack, tasks, order)
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


async def _wire(  # noqa: PLR0913, PLR0917 - what a daemon is wired of
    config: Config,
    secrets: Secrets,
    log: SqliteLog,
    radio: Radio,
    stack: AsyncExitStack,
    tasks: asyncio.TaskGroup,
    retired: Retire | None,
) -> Daemon:
    """Everything together; nothing runs yet."""
    clock, grown = SystemClock(), asyncio.Event()
    memory = NoticedMemory(log)
    timekeeper = await Timekeeper.load(clock, memory, battery_clock=config.gateway.battery_clock)
    if secrets.provisioned_time_s is not None:
        await timekeeper.provision(secrets.provisioned_time_s)
    around = await _surroundings(
        secrets, log, memory, await _reserve(config, stack), grown, timekeeper, tasks
    )
    times, stop = SignedTime(timekeeper, around.entropy), asyncio.Event()
    supervisor = systemd.from_environment(os.environ)
    desk = Desk(
        secrets=secrets,
        trusted=around.trusted,
        memory=memory,
        log=log,
        timekeeper=timekeeper,
        times=times,
        lists=around.lists,
        restart=_restart(supervisor, stop),
        stop=stop.set,
    )
    heard = await hear(config, desk)
    config, secrets, mailbox = heard.config, heard.secrets, heard.mailbox
    if retired is not None:
        await retirement.close(log, timekeeper.reading(), retired)
        around.log.log = retirement.ClosedLog(log)
        config = structs.replace(config, door=())
    identity = GatewayIdentity(secrets.key, secrets.credential_bytes)
    conditions = Conditions((DoorId(door.id) for door in config.doors), clock)
    workshop = Workshop(radio.central, identity, secrets, clock, around.entropy, stack, conditions)
    actuators = {DoorId(door.id): workshop.actuator(door) for door in config.doors}
    doors = {DoorId(door.id): _door(door, actuators, around) for door in config.doors}
    receipts = Receipts(secrets.receipt_key, origin_of(GatewayId(config.gateway.id)))
    courier = Courier(
        mailbox.deliver,
        lambda: times.question(FRESH_S),
        lambda: timekeeper.instant().boottime_s,
    )
    holders = Holders(doors, receipts, around)
    phones = Phones(identity, holders, around, courier, cap=config.radio.max_phone_links)
    ours = secrets.credential
    terms = Terms(lambda: Term(ours.issued_at, ours.expires))
    health = _health(config, log, radio, around, mailbox, phones, conditions, terms)
    extra = [Work(f"lock {door}", actuator.keep) for door, actuator in actuators.items()]
    extra += heard.work
    if retired is None:  # a closed log is not to be made well
        extra.append(Work("log", around.log.keep))
    extra.append(Work("health", health.keep))
    standing = asyncio.Event()
    files = HealthFiles(
        health,
        runtime_directory(os.environ),
        None if config.metrics is None else config.metrics.file,
        lambda: standing.is_set() if config.uplink is not None else None,
    )
    if files.runtime is not None or files.metrics is not None:
        extra.append(Work("health files", files.keep))
    if config.uplink is not None:
        counts: Counter[str] = Counter()
        from gatewayd import orders_app, uplink_app  # noqa: PLC0415 - 3 MB that not every gateway needs
        from gatewayd.obeying import Obedience  # noqa: PLC0415 - likewise

        extra.append(
            uplink_app.uplink(
                config,
                config.uplink,
                secrets,
                log,
                memory,
                mailbox,
                times,
                grown,
                health.status,
                standing,
                Obedience(
                    open=await orders_app.helpdesk(config, doors, around, receipts, memory),
                    erase=desk.erase,
                    diagnose=orders_app.inquiry(
                        config,
                        radio.around.adapters,
                        stack,
                        log,
                        health,
                        {"uplink": counts, "phones": phones.counts},
                    ),
                ),
                counts,
                identity.show,
                terms,
            )
        )
    return Daemon(
        around.log,
        timekeeper,
        doors,
        {door: actuator.lock for door, actuator in actuators.items()},
        phones,
        around.refusals,
        supervisor,
        tasks,
        tuple(extra),
        stop,
        watchdog_s=systemd.watchdog_interval_s(os.environ) or LOOK_S,
        retired=retired is not None,
        troubles=lambda: "; ".join(filter(None, (str(around.log), str(conditions)))),
    )


def _restart(supervisor: Supervisor, stop: asyncio.Event) -> Callable[[], None]:
    """How a start is asked for: by an end in good order, where somebody starts us again.

    Not at once: what belongs together arrives in several envelopes.
    """

    def restart() -> None:
        if isinstance(supervisor, systemd.Nobody):
            _log.warning("nobody starts this daemon again: do it yourself when it suits")
        else:
            asyncio.get_running_loop().call_later(RESTART_AFTER_S, stop.set)

    return restart


def _health(  # noqa: PLR0913, PLR0917 - whatever has something to tell
    config: Config,
    log: SqliteLog,
    radio: Radio,
    around: Surroundings,
    mailbox: Mailbox,
    phones: Phones,
    conditions: Conditions,
    terms: Terms,
) -> Health:
    """How all of it is, for the operator."""
    return Health(
        log,
        around.log,
        config.gateway.state,
        around.entropy,
        around.timekeeper,
        phones.counts,
        conditions,
        mailbox,
        around.lists,
        {
            DoorId(door.id): door.lock.address
            for door in config.doors
            if door.lock is not None and door.lock.address is not None
        },
        radio.around,
        has_broker=config.uplink is not None,
        terms=terms,
    )


async def _surroundings(  # noqa: PLR0913, PLR0917 - likewise
    secrets: Secrets,
    log: SqliteLog,
    memory: NoticedMemory,
    reserve: Reserve | None,
    grown: asyncio.Event,
    timekeeper: Timekeeper,
    tasks: asyncio.TaskGroup,
) -> Surroundings:
    """What the doors share. From here on nobody waits for the disk."""
    entropy = SystemEntropy()
    secret = await _request_secret(log, entropy)
    trusted = await Trusted.load(memory, secrets.bundle, secrets.root)
    recorder = Recorder(log, log, timekeeper, secret, reserve, grown.set)
    memory.failed = recorder.noticed_elsewhere
    await recorder.begin()
    log.patience_s = COMMIT_S
    return Surroundings(
        recorder,
        timekeeper,
        entropy,
        trusted,
        await StatusLists.load(lambda: trusted.now, memory, timekeeper),
        secret,
        tasks,
        Refusals(recorder, timekeeper),
    )


async def _reserve(config: Config, stack: AsyncExitStack) -> Reserve | None:
    """Doors are served without one, too; then a log that fails stops all but emergencies."""
    try:
        return await stack.enter_async_context(open_reserve(config.gateway.reserve))
    except StorageError as error:
        _log.error("no reserve for a log that fails: %s", error)
        return None


def _door(
    door: config_model.Door, actuators: Mapping[DoorId, Actuator], around: Surroundings
) -> Door:
    """A door with what moves it."""
    identity = DoorIdentity(
        DoorId(door.id), door.latch_ms, ZoneInfo(door.zone), door.policy.settings
    )
    actuator = actuators[identity.id]
    return Door(identity, actuator.lock, around, actuator.budget)


async def _request_secret(memory: Memory, entropy: Entropy) -> bytes:
    """The key under which past requests are named; made once."""
    secret = await memory.load(REQUESTS_NAME)
    if secret is None:
        secret = entropy.token_bytes(SECRET_BYTES)
        await memory.store(REQUESTS_NAME, secret)
    return secret
