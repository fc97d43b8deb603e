"""The composition root's part for orders that are answered: loaded where there is a broker."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from gatewayd.config import Config
from gatewayd.core.answers import Opened
from gatewayd.core.envelope import Statement
from gatewayd.core.findings import Finding
from gatewayd.core.model import DoorId
from gatewayd.door import Door
from gatewayd.health import Health
from gatewayd.inquiry import Inquiry
from gatewayd.logs import Tally
from gatewayd.ports.storage import LogReader, Memory
from gatewayd.receipts import Receipts
from gatewayd.surroundings import Surroundings


async def helpdesk(
    config: Config,
    doors: Mapping[DoorId, Door],
    around: Surroundings,
    receipts: Receipts,
    memory: Memory,
) -> Callable[[Statement], Awaitable[Opened | None]] | None:
    """Who may open from afar; nobody, unless this machine's own configuration says so."""
    if config.helpdesk is None:
        return None
    from gatewayd.helpdesk import Helpdesk  # noqa: PLC0415 - few gateways have one

    enabled = map(DoorId, config.helpdesk.doors)
    return (await Helpdesk.load(doors, tuple(enabled), around, receipts, memory)).obey


def inquiry(  # noqa: PLR0913, PLR0917 - whatever has something to tell
    config: Config,
    adapters: Callable[[], Awaitable[Mapping[str, Any]]] | None,
    stack: AsyncExitStack,
    log: LogReader,
    health: Health,
    counts: Mapping[str, Mapping[str, int]],
) -> Callable[[], Awaitable[bytes | None]]:
    """How this gateway is, when the operator asks."""
    tally = Tally()
    logger = logging.getLogger("gatewayd")
    logger.addHandler(tally)
    stack.callback(logger.removeHandler, tally)

    async def look() -> tuple[Finding, ...]:
        from gatewayd import self_test  # noqa: PLC0415 - nothing that a start should wait for
        from gatewayd.adapters.machine import ThisMachine  # noqa: PLC0415 - likewise

        return await self_test.at_start(config, ThisMachine(ask=adapters))

    return Inquiry(
        health=health,
        log=log,
        timekeeper=health.timekeeper,
        counts=counts,
        messages=tally.counts,
        look=None if adapters is None else look,
    ).answer
