"""The end of a gateway: the operator has retired it, so its log is closed and it opens nothing.

What the operator has of the log is in the order; whatever follows, as far as
nobody pulls it, is a gap that was declared. The last entry says so. A retired
gateway that runs still lets its log be pulled, and does nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from firmware_proto import cbor
from firmware_proto.codes import Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.audit import Leaf
from gatewayd.core.envelope import Retire
from gatewayd.core.model import (
    INTERRUPTED,
    Asked,
    Command,
    CommandId,
    EntryKind,
    Fact,
    TimeReading,
    Verdict,
)
from gatewayd.core.reserve import Reserved
from gatewayd.ports import StorageError
from gatewayd.ports.storage import AuditLog, LogReader, Memory

MEMORY_NAME: Final = "retired"


class Log(AuditLog, LogReader, Protocol):
    """Both sides of it."""


async def retire(memory: Memory, order: Retire) -> None:
    """From the next start on; durable when it returns."""
    await memory.store(MEMORY_NAME, cbor.encode(order.body()))


async def retired(memory: Memory) -> Retire | None:
    """The order, when there was one. StorageError when what is stored is damaged."""
    stored = await memory.load(MEMORY_NAME)
    try:
        return None if stored is None else Retire.of(cbor.decode(stored))
    except RemoteProtocolError as error:
        raise StorageError(f"the stored retirement is damaged: {error.detail}") from error


async def _settle(log: AuditLog, time: TimeReading) -> None:
    for command in tuple(await log.unsettled()):
        fact = Fact(time, EntryKind.OUTCOME, command.door, INTERRUPTED, command.intent_seq)
        await log.append(fact, settles=command.id)


async def close(log: Log, time: TimeReading, order: Retire) -> None:
    """Write the last entry, once."""
    size = await log.size()
    last = await log.leaves(size - 1, 1) if size else ()
    if last and Leaf.decode(last[0]).kind is EntryKind.RETIRED:
        return
    await _settle(log, time)
    done = Verdict(Outcome.CONFIRMED, Reason.OK)
    await log.append(Fact(time, EntryKind.RETIRED, None, done, order.kept))


class ClosedLog:
    """`ports.storage.AuditLog` of a retired gateway: it can be read, and nothing is added."""

    def __init__(self, log: AuditLog) -> None:
        self.past_request = log.past_request
        self.unsettled = log.unsettled
        self.unresolved = log.unresolved

    async def append(
        self,
        fact: Fact,
        *,
        command: Command | None = None,
        asked: Asked | None = None,
        settles: CommandId | None = None,
    ) -> int:
        """StorageError, always."""
        del fact, command, asked, settles
        raise _closed()

    async def merge(self, records: Sequence[Reserved], upto: int, gap: Fact | None = None) -> None:
        """StorageError, always."""
        del records, upto, gap
        raise _closed()


def _closed() -> StorageError:
    return StorageError("the operator has retired this gateway: its log is closed")
