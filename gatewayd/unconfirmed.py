"""A lock that moves a door only until its provisional binding ends.

An installer's word holds for a week (see `config.on_site`); then the door
stays shut, with a reason of its own, until the operator has confirmed it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firmware_proto.codes import Outcome, Reason
from gatewayd.core.model import CommandId, TimeReading, Verdict
from gatewayd.ports import Lock

ENDED: Final = Verdict(Outcome.REFUSED, Reason.UNCONFIRMED_BINDING)


@dataclass(frozen=True, slots=True)
class UnconfirmedLock:
    """`ports.Lock`. Only what has certainly passed counts: no clock that is set ends it early."""

    lock: Lock
    until_s: int
    reading: Callable[[], TimeReading]

    async def prepare(self) -> None:
        """See `ports.Lock`; when the binding has ended nobody is dialled: `unlatch` says why."""
        if not self._ended:
            await self.lock.prepare()

    async def unlatch(self, command: CommandId, duration_ms: int) -> Verdict:
        """See `ports.Lock`."""
        return ENDED if self._ended else await self.lock.unlatch(command, duration_ms)

    async def result_of(self, command: CommandId) -> Verdict | None:
        """See `ports.Lock`; also afterwards: what became of it is nobody's secret."""
        return await self.lock.result_of(command)

    async def close(self) -> None:
        """See `ports.Lock`."""
        await self.lock.close()

    @property
    def _ended(self) -> bool:
        return self.reading().floor_s >= self.until_s
