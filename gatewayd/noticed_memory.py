"""Small values on the log's disk: a failure there is one of the log, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gatewayd.ports import StorageError
from gatewayd.ports.storage import Memory


@dataclass(slots=True)
class NoticedMemory:
    """`ports.storage.Memory` on the log's disk: where it fails, the log is in trouble."""

    memory: Memory
    failed: Callable[[StorageError], None] = lambda _: None

    async def load(self, name: str) -> bytes | None:
        """See `ports.storage.Memory`."""
        try:
            return await self.memory.load(name)
        except StorageError as error:
            self.failed(error)
            raise

    async def store(self, name: str, value: bytes) -> None:
        """See `ports.storage.Memory`."""
        try:
            await self.memory.store(name, value)
        except StorageError as error:
            self.failed(error)
            raise
