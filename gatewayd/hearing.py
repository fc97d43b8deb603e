"""What the operator has said, found at start: the mailbox, and what the gateway is wired from.

The configuration is what was installed; doors, their policies and the
credential may have come by envelope since, or been bound on site for a week.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gatewayd import extras
from gatewayd.config import Config, Secrets
from gatewayd.config.overrides import Said, overridden
from gatewayd.config.provisional import MEMORY_NAME, DamagedBindingsError, Provisional
from gatewayd.core.state import StateKind
from gatewayd.daemon import Work
from gatewayd.handlers import Desk, handlers, wiring
from gatewayd.mailbox import Mailbox
from gatewayd.messages import Message, about
from gatewayd.ports import Memory, Pulse, StorageError
from gatewayd.timekeeper import Timekeeper

LOOK_S: Final = 600.0
"""How often it is asked whether bindings made on site still hold."""
GRACE_S: Final = 60.0

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Heard:
    """What there is to run with. `work`: tasks that look after it."""

    mailbox: Mailbox
    config: Config
    secrets: Secrets
    work: tuple[Work, ...] = ()


async def hear(config: Config, desk: Desk) -> Heard:
    """Read what is stored. StorageError when that is damaged."""
    wired = wiring(desk)
    timekeeper = desk.timekeeper
    mailbox = await Mailbox.load(
        config.gateway.id,
        desk.trusted,
        desk.memory,
        lambda: timekeeper.reading().floor_s,
        handlers(desk, wired),
    )
    for kind, each in wired.items():
        each.in_force = mailbox.holds(kind)
    bindings = wired[StateKind.BINDINGS].in_force
    made = await _provisional(desk.memory)
    holds = made is not None and made.holds(timekeeper.reading(), bindings)
    said = Said(
        bindings=bindings,
        settings=wired[StateKind.SETTINGS].in_force,
        credential=wired[StateKind.CREDENTIAL].in_force,
        provisional=made.body if made is not None and holds else None,
    )
    config, secrets = overridden(config, desk.secrets, desk.trusted.now, said, _log.error)
    config = extras.usable(config, _log.error)
    await mailbox.start()
    if made is None or not holds:
        return Heard(mailbox, config, secrets)
    _log.warning("doors were bound on site; the operator has not confirmed them yet")
    watching = Watch(made, bindings, desk.memory, timekeeper, desk.restart)
    return Heard(mailbox, config, secrets, (Work("provisional bindings", watching.run),))


async def bind_on_site(memory: Memory, body: bytes, timekeeper: Timekeeper, box: Mailbox) -> None:
    """Doors bound by an installer (a body as of BINDINGS) hold from the next start on."""
    made = Provisional.made(body, timekeeper.reading(), box.holds(StateKind.BINDINGS))
    await memory.store(MEMORY_NAME, made.encode())


async def unbind_on_site(memory: Memory) -> None:
    """Nothing is bound by an installer any more, from the next start on."""
    never = b""  # no bindings of the operator are empty, so these hold beside none
    await memory.store(MEMORY_NAME, Provisional(b"", None, never).encode())


async def _provisional(memory: Memory) -> Provisional | None:
    stored = await memory.load(MEMORY_NAME)
    try:
        return None if stored is None else Provisional.decode(stored)
    except DamagedBindingsError as error:
        raise StorageError(f"the stored bindings are damaged: {error}") from error


@dataclass(slots=True)
class Watch:
    """Counts the week of bindings made on site, and ends them."""

    made: Provisional
    bindings: bytes | None
    memory: Memory
    timekeeper: Timekeeper
    restart: Callable[[], None]

    async def run(self, pulse: Pulse) -> None:
        """Until cancelled."""
        while True:
            pulse.beat(LOOK_S + GRACE_S)
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Once."""
        time = self.timekeeper.reading()
        seen = self.made.seen(time)
        if seen != self.made:
            try:
                await self.memory.store(MEMORY_NAME, seen.encode())
            except StorageError as error:
                _log.error("since when doors are bound could not be kept: %s", error)
                return
            self.made = seen
        if not self.made.holds(time, self.bindings):
            _log.error(
                "doors that were bound on site were not confirmed in time: they end",
                extra=about(Message.BOUND_ON_SITE_ENDED),
            )
            self.restart()
