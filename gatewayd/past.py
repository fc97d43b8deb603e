"""Whether this log is still the one that the cloud keeps: a card may be a restored copy.

What shows it is a checkpoint that our own key signed, so it does not matter who
brings it. It is kept as evidence, and the alarm stands for as long as the card.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Final

from gatewayd.core import checkpoint as notes
from gatewayd.core.checkpoint import Checkpoint, Verifier
from gatewayd.messages import Message, about
from gatewayd.ports import StorageError
from gatewayd.ports.storage import LogReader, Memory

MEMORY_NAME: Final = "another log"
"""Under this name `ports.storage.Memory` has a checkpoint that we signed over another log."""
ALARM: Final = "alarm: other log"
"""In the uplink's counts."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Past:
    """Of one log. counts: where the alarm is counted."""

    verifier: Verifier
    log: LogReader
    memory: Memory
    counts: Counter[str]

    async def begin(self) -> None:
        """An alarm of an earlier run stands."""
        try:
            known = await self.memory.load(MEMORY_NAME) is not None
        except StorageError as error:
            _log.warning("uplink: %s", error)
        else:
            self.counts[ALARM] += known

    async def compare(self, note: bytes) -> bool:
        """Whether what the cloud keeps gives the alarm, for the first time. RemoteProtocolError."""
        checkpoint = notes.verify(note, self.verifier)
        if checkpoint.origin != self.verifier.name or await self.has(checkpoint):
            return False
        return await self.alarm(note)

    async def has(self, signed: Checkpoint) -> bool:
        """Whether this log goes on from that checkpoint."""
        return signed.size <= await self.log.size() and (
            signed.root == await self.log.root(signed.size)
        )

    async def alarm(self, note: bytes) -> bool:
        """For good; whether it is the first time."""
        first = not self.counts[ALARM]
        self.counts[ALARM] += 1
        _log.error(
            "uplink: the cloud holds a checkpoint that we signed over another log",
            extra=about(Message.OTHER_LOG),
        )
        if first:
            await self.memory.store(MEMORY_NAME, note)
        return first
