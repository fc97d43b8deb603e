"""The composition root's base: what a gateway stands on before it knows what the operator has said.

The log and the reserve beside it, time, what all doors share, and how a start is asked for.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from gatewayd.adapters import systemd
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.reserve import open_reserve
from gatewayd.adapters.sqlite import SqliteLog
from gatewayd.config import Config, Secrets
from gatewayd.handlers import Desk
from gatewayd.lists import StatusLists
from gatewayd.noticed_memory import NoticedMemory
from gatewayd.ports import StorageError
from gatewayd.ports.process import Clock, Entropy, Supervisor
from gatewayd.ports.storage import Memory, Reserve
from gatewayd.recorder import COMMIT_S, Recorder
from gatewayd.refusals import Refusals
from gatewayd.surroundings import Surroundings
from gatewayd.timekeeper import SignedTime, Timekeeper
from gatewayd.trusted import Trusted

_log: Final = logging.getLogger(__name__)

REQUESTS_NAME: Final = "request naming"
SECRET_BYTES: Final = 32
RESTART_AFTER_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Use `lay`. `stack` closes what is opened on it when the daemon ends."""

    log: SqliteLog
    memory: Memory
    clock: Clock
    timekeeper: Timekeeper
    times: SignedTime
    around: Surroundings
    desk: Desk
    supervisor: Supervisor
    stack: AsyncExitStack
    grown: asyncio.Event
    """Set when the log has grown."""
    stop: asyncio.Event
    """Set to stop in good order."""
    online: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while a session with the broker stands."""


async def lay(
    config: Config,
    secrets: Secrets,
    log: SqliteLog,
    stack: AsyncExitStack,
    tasks: asyncio.TaskGroup,
) -> Base:
    """Read all that was kept. StorageError. From here on nobody waits for the disk."""
    clock, entropy, grown, stop = SystemClock(), SystemEntropy(), asyncio.Event(), asyncio.Event()
    memory = NoticedMemory(log)
    timekeeper = await Timekeeper.load(clock, memory, battery_clock=config.gateway.battery_clock)
    if secrets.provisioned_time_s is not None:
        await timekeeper.provision(secrets.provisioned_time_s)
    reserve = await _reserve(config, stack)
    secret = await _request_secret(log, entropy)
    trusted = await Trusted.load(memory, secrets.bundle, secrets.root)
    recorder = Recorder(log, log, timekeeper, secret, reserve, grown.set)
    memory.failed = recorder.noticed_elsewhere
    await recorder.begin()
    log.patience_s = COMMIT_S
    lists = await StatusLists.load(lambda: trusted.now, memory, timekeeper)
    refusals = Refusals(recorder, timekeeper)
    around = Surroundings(recorder, timekeeper, entropy, trusted, lists, secret, tasks, refusals)
    times = SignedTime(timekeeper, entropy)
    supervisor = systemd.from_environment(os.environ)
    desk = Desk(
        secrets=secrets,
        trusted=trusted,
        memory=memory,
        log=log,
        timekeeper=timekeeper,
        times=times,
        lists=lists,
        restart=_restart(supervisor, stop),
        stop=stop.set,
    )
    return Base(
        log=log,
        memory=memory,
        clock=clock,
        timekeeper=timekeeper,
        times=times,
        around=around,
        desk=desk,
        supervisor=supervisor,
        stack=stack,
        grown=grown,
        stop=stop,
    )


async def _reserve(config: Config, stack: AsyncExitStack) -> Reserve | None:
    """Doors are served without one, too; then a log that fails stops all but emergencies."""
    try:
        return await stack.enter_async_context(open_reserve(config.gateway.reserve))
    except StorageError as error:
        _log.error("no reserve for a log that fails: %s", error)
        return None


async def _request_secret(memory: Memory, entropy: Entropy) -> bytes:
    """The key under which past requests are named; made once."""
    secret = await memory.load(REQUESTS_NAME)
    if secret is None:
        secret = entropy.token_bytes(SECRET_BYTES)
        await memory.store(REQUESTS_NAME, secret)
    return secret


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
