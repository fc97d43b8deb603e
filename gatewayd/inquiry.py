"""The operator asks how this gateway is: gathers `gatewayd.facts` from wherever they are.

It looks, and changes nothing. At most once a minute, because looking costs, and
whoever has the command key must not keep a gateway busy with it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gatewayd import facts
from gatewayd.core.findings import Finding
from gatewayd.facts import MAX_COUNTS, MAX_FINDINGS, Facts, Found
from gatewayd.health import Health
from gatewayd.ports import StorageError
from gatewayd.ports.storage import LogReader
from gatewayd.status import coarse
from gatewayd.timekeeper import Timekeeper

_log: Final = logging.getLogger(__name__)

EVERY_S: Final = 60.0
LOOK_S: Final = 30.0


@dataclass(slots=True, kw_only=True)
class Inquiry:
    """Of one gateway."""

    health: Health
    log: LogReader
    timekeeper: Timekeeper
    counts: Mapping[str, Mapping[str, int]]
    """What was counted, by who counted it; looked at when asked."""
    messages: Counter[str]
    look: Callable[[], Awaitable[Sequence[Finding]]] | None = None
    """At the machine; None where that is a simulation."""
    started_s: float = field(init=False)
    _answered_s: float = float("-inf")

    def __post_init__(self) -> None:
        self.started_s = self.timekeeper.instant().boottime_s

    async def answer(self) -> bytes | None:
        """How it is, as `facts.encode` writes it; None within a minute of the last time."""
        now_s = self.timekeeper.instant().boottime_s
        if now_s - self._answered_s < EVERY_S:
            return None
        self._answered_s = now_s
        bound_s = self.timekeeper.reading().bound_s
        size, acknowledged = await self._log_sizes()
        findings = await self._findings()
        counted = {
            f"{who}: {what}"[:64]: coarse(count)
            for who, counts in self.counts.items()
            for what, count in sorted(counts.items())
        }
        return facts.encode(
            Facts(
                status=self.health.status(),
                running_s=int(now_s - self.started_s),
                clock_bound_s=None if math.isinf(bound_s) else math.ceil(bound_s),
                log_size=size,
                log_acknowledged=acknowledged,
                counts=dict(list(counted.items())[:MAX_COUNTS]),
                messages={name: coarse(count) for name, count in sorted(self.messages.items())},
                findings=findings[:MAX_FINDINGS],
                findings_left_out=max(0, len(findings) - MAX_FINDINGS),
            )
        )

    async def _log_sizes(self) -> tuple[int, int]:
        """0 while the log cannot be read, which `status` says."""
        try:
            return await self.log.size(), await self.log.acknowledged()
        except StorageError:
            return 0, 0

    async def _findings(self) -> tuple[Found, ...]:
        """The worst first."""
        if self.look is None:
            return ()
        try:
            async with asyncio.timeout(LOOK_S):
                found = await self.look()
        except Exception as error:  # noqa: BLE001 - the rest is worth telling all the same
            _log.warning("this machine could not be looked at: %s", error)
            return ()
        return tuple(
            Found(
                check=each.check[:64],
                severity=each.severity.word,
                message=facts.sentence(each.message),
                remedy=facts.sentence(each.remedy),
            )
            for each in sorted(found, key=lambda each: -each.severity)
        )
