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

from gatewayd import credential_renewal, extras
from gatewayd.config import Config, Secrets
from gatewayd.config.overrides import Said, overridden
from gatewayd.config.provisional import MEMORY_NAME, DamagedBindingsError, Provisional
from gatewayd.core.state import StateKind
from gatewayd.daemon import Work
from gatewayd.handlers import Desk, handlers, wiring
from gatewayd.mailbox import Mailbox
from gatewayd.messages import Message, about
from gatewayd.ports import StorageError
from gatewayd.ports.process import Pulse
from gatewayd.ports.storage import Memory
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
    held = made.holding(timekeeper.reading(), bindings)
    said = Said(
        bindings=bindings,
        settings=wired[StateKind.SETTINGS].in_force,
        credential=wired[StateKind.CREDENTIAL].in_force,
        renewed=await desk.memory.load(credential_renewal.MEMORY_NAME),
        provisional=tuple(each.body for each in held),
    )
    config, secrets = overridden(config, desk.secrets, desk.trusted.now, said, _log.error)
    if timekeeper.reading().floor_s >= secrets.credential.expires:
        _log.error("our credential has lapsed: phones refuse us; the operator gives another claim")
    config = extras.usable(config, _log.error)
    await mailbox.start()
    if not held:
        return Heard(mailbox, config, secrets)
    mailbox.unconfirmed = tuple(each.name for each in held)
    _log.warning(
        "bound on site, and not confirmed by the operator yet: %s", ", ".join(mailbox.unconfirmed)
    )
    watching = Watch(Provisional(held, bindings), desk.memory, timekeeper, desk.restart)
    return Heard(mailbox, config, secrets, (Work("provisional bindings", watching.run),))


async def bind_on_site(
    memory: Memory, door: str, body: bytes | None, timekeeper: Timekeeper, box: Mailbox
) -> None:
    """A door as an installer bound it (a body as of BINDINGS), or not, from the next start on."""
    stated = box.holds(StateKind.BINDINGS)
    made = await _provisional(memory)
    now = made.bound(door, body, timekeeper.reading(), stated)
    await memory.store(MEMORY_NAME, now.encode())


async def _provisional(memory: Memory) -> Provisional:
    stored = await memory.load(MEMORY_NAME)
    try:
        return Provisional() if stored is None else Provisional.decode(stored)
    except DamagedBindingsError as error:
        raise StorageError(f"the stored bindings are damaged: {error}") from error


@dataclass(slots=True)
class Watch:
    """Counts the weeks of what was bound on site, and ends each. made: what holds at the start."""

    made: Provisional
    memory: Memory
    timekeeper: Timekeeper
    restart: Callable[[], None]
    _looked_s: float | None = None

    async def run(self, pulse: Pulse) -> None:
        """Until cancelled."""
        while True:
            pulse.beat(LOOK_S + GRACE_S)
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Once."""
        time, now_s = self.timekeeper.reading(), self.timekeeper.instant().boottime_s
        before_s = now_s if self._looked_s is None else self._looked_s
        ran_s = int(now_s - before_s)
        self._looked_s = before_s + ran_s
        self.made = self.made.seen(time, ran_s)
        try:
            await self.memory.store(MEMORY_NAME, self.made.encode())
        except StorageError as error:
            _log.error("since when doors are bound could not be kept: %s", error)
        if len(self.made.holding(time, self.made.stated)) < len(self.made.doors):
            _log.error(
                "doors that were bound on site were not confirmed in time: they end",
                extra=about(Message.BOUND_ON_SITE_ENDED),
            )
            self.restart()
