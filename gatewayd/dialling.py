"""One dial of a door's lock at a time: phones that come near and openings share its answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gatewayd.core.model import DoorId
from gatewayd.messages import Message, about
from gatewayd.ports import RadioError
from gatewayd.ports.lock import Lock

_log: Final = logging.getLogger(__name__)


class Dialling:
    """The dial of one lock, in `tasks`."""

    def __init__(self, door: DoorId, lock: Lock, tasks: asyncio.TaskGroup) -> None:
        self._door = door
        self._lock = lock
        self._tasks = tasks
        self.task: asyncio.Task[bool] | None = None
        """The last dial, which may be over."""

    def start(self) -> asyncio.Task[bool]:
        """The dial under way, or a new one."""
        if self.task is None or self.task.done():
            self.task = self._tasks.create_task(self._reach(), name=f"dial {self._door}")
        return self.task

    async def reached(self) -> bool:
        """Whether the lock is there; cancelling the waiter changes nothing."""
        return await asyncio.shield(self.start())

    async def _reach(self) -> bool:
        try:
            await self._lock.prepare()
        except RadioError as error:
            known = about(Message.LOCK_NOT_REACHED, door=self._door)
            _log.warning("door %s: lock not reached: %s", self._door, error, extra=known)
            return False
        return True
