"""The asyncio face of the log: one thread of its own, on which alone the file is used."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from firmware_proto.codes import Reason
from gatewayd.adapters.sqlite.errors import of_the_disk, storage_errors
from gatewayd.adapters.sqlite.schema import LOG, check_disk, open_stranded, open_writer
from gatewayd.adapters.sqlite.store import LogStore
from gatewayd.core.erasure import Erased, Run
from gatewayd.core.model import Asked, Command, CommandId, Fact, PastRequest
from gatewayd.core.reserve import Reserved
from gatewayd.ports import StorageError

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_WRITING: Final = (
    *(LogStore.append, LogStore.merge, LogStore.erase, LogStore.acknowledge, LogStore.store),
)

_log: Final = logging.getLogger(__name__)


class SqliteLog:
    """`ports.storage.AuditLog`, `LogReader` and `Memory` in one file. Use `open_log`.

    A caller that is cancelled while it waits leaves its call either wholly
    done or not done at all; which of the two, the log says when asked.

    On a disk that takes nothing the log is stranded: it can be read, and whatever
    is to be written tries first whether it can be opened by now.
    """

    def __init__(
        self,
        path: Path,
        randomness: Callable[[int], bytes],
    ) -> None:
        self._path = path
        self._randomness = randomness
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log")
        self._store: LogStore | None = None  # only the thread looks
        self._stranded = False  # likewise
        self._lock_file = path.with_name(path.name + ".lock")
        self._lock: int | None = None
        self._late: asyncio.Future[Any] | None = None
        self.patience_s: float | None = None
        """How long a caller waits at most; he is told LOG_SLOW then. None: for ever."""

    # --- ports.storage.AuditLog -------------------------------------------------------
    async def append(
        self,
        fact: Fact,
        *,
        command: Command | None = None,
        asked: Asked | None = None,
        settles: CommandId | None = None,
    ) -> int:
        """See `ports.storage.AuditLog`; ValueError for what contradicts what is recorded."""
        return await self._call(LogStore.append, fact, command, asked, settles)

    async def past_request(self, request_key: bytes) -> PastRequest | None:
        """See `ports.storage.AuditLog`."""
        return await self._call(LogStore.past_request, request_key)

    async def unsettled(self) -> Sequence[Command]:
        """See `ports.storage.AuditLog`."""
        return await self._call(LogStore.unsettled)

    async def unresolved(self) -> Sequence[Command]:
        """See `ports.storage.AuditLog`."""
        return await self._call(LogStore.unresolved)

    async def merge(self, records: Sequence[Reserved], upto: int, gap: Fact | None = None) -> None:
        """See `ports.storage.AuditLog`."""
        await asyncio.shield(self._submit(LogStore.merge, records, upto, gap))

    # --- ports.storage.Erasing ---------------------------------------------------------
    async def erase(self, order: bytes, runs: Sequence[Run], fact: Fact) -> Erased:
        """See `ports.storage.Erasing`. Takes as long as it takes."""
        return await asyncio.shield(self._submit(LogStore.erase, order, runs, fact))

    # --- ports.storage.LogReader ------------------------------------------------------
    async def size(self) -> int:
        """See `ports.storage.LogReader`."""
        return await self._call(LogStore.size)

    async def leaves(self, start: int, max_bytes: int) -> Sequence[bytes]:
        """See `ports.storage.LogReader`."""
        return await self._call(LogStore.leaves, start, max_bytes)

    async def root(self, size: int) -> bytes:
        """See `ports.storage.LogReader`; ValueError beyond the size."""
        return await self._call(LogStore.root, size)

    async def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """See `ports.storage.LogReader`; ValueError unless 0 < old <= new <= size."""
        return await self._call(LogStore.consistency, old, new)

    async def inclusion(self, index: int, size: int) -> Sequence[bytes]:
        """RFC 9162 §2.1.3 proof; ValueError unless 0 <= index < size <= size of the log."""
        return await self._call(LogStore.inclusion, index, size)

    async def acknowledged(self) -> int:
        """See `ports.storage.LogReader`."""
        return await self._call(LogStore.acknowledged)

    async def acknowledge(self, upto: int) -> int:
        """See `ports.storage.LogReader`."""
        return await self._call(LogStore.acknowledge, upto)

    # --- ports.storage.Memory ---------------------------------------------------------
    async def load(self, name: str) -> bytes | None:
        """See `ports.storage.Memory`."""
        return await self._call(LogStore.load, name)

    async def store(self, name: str, value: bytes) -> None:
        """See `ports.storage.Memory`."""
        await self._call(LogStore.store, name, value)

    # --- the thread -----------------------------------------------------------
    async def _open(self) -> None:
        await asyncio.wrap_future(self._thread.submit(self._open_here))

    async def _close(self) -> None:
        closing = self._thread.submit(self._close_here)
        self._thread.shutdown(wait=False)
        # a caller in a hurry does not keep the file from being closed behind it
        await asyncio.shield(asyncio.wrap_future(closing))

    async def _call(
        self,
        method: Callable[Concatenate[LogStore, _Arguments], _Result],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result:
        if self._late is not None and not self._late.done():
            # not queued behind it: what piles up there would be written long after its time
            raise StorageError(f"{self._path}: the disk hangs", reason=Reason.LOG_SLOW)
        future = self._submit(method, *args, **kwargs)
        future.add_done_callback(_look_at)
        try:
            async with asyncio.timeout(self.patience_s):
                return await (future if self.patience_s is None else asyncio.shield(future))
        except TimeoutError:
            self._late = future
            raise StorageError(
                f"{self._path}: not kept within {self.patience_s} s",
                reason=Reason.LOG_SLOW,
                late=future,
            ) from None

    def _submit(
        self,
        method: Callable[Concatenate[LogStore, _Arguments], _Result],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> asyncio.Future[_Result]:
        def job() -> _Result:
            return method(self._store_for(writing=method in _WRITING), *args, **kwargs)

        try:
            future = self._thread.submit(job)
        except RuntimeError as error:  # the thread has been shut down
            raise StorageError(f"{self._path}: the log is closed") from error
        return asyncio.wrap_future(future)

    def _open_here(self) -> None:
        try:
            self._store = self._writer()
        except StorageError as error:
            if not of_the_disk(error):
                raise
            try:
                self._store = self._reader()
            except StorageError as last:
                raise (error if of_the_disk(last) else last) from None
            self._stranded = True
            _log.error("%s; it can only be read until the disk is well", error)

    def _store_for(self, *, writing: bool) -> LogStore:
        """What a call works on. StorageError while it cannot be had."""
        if writing and self._stranded:
            if self._store is not None:
                # first: a file that is closed takes every lock of this process with it
                self._store.close()
                self._store = None
            self._store = self._writer()
            self._stranded = False
        if self._store is None:
            self._store = self._reader()
        return self._store

    def _writer(self) -> LogStore:
        self._lock_out(os.O_CREAT | os.O_RDWR)
        if self._path.exists():
            check_disk(self._path)
        return LogStore(open_writer(self._path, LOG), self._path, self._randomness)

    def _reader(self) -> LogStore:
        if self._lock_file.exists():  # else nobody has it
            self._lock_out(os.O_RDONLY)
        connection = open_stranded(self._path, LOG)
        return LogStore(connection, self._path, self._randomness, writing=False)

    def _lock_out(self, flags: int) -> None:
        """Nobody else writes this log; once is enough."""
        if self._lock is not None:
            return
        with storage_errors(str(self._path)):
            lock = os.open(self._lock_file, flags, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise StorageError(f"{self._path}: another gatewayd is writing this log") from None
            self._lock = lock

    def _close_here(self) -> None:
        try:
            if self._store is not None:
                self._store.close()
        finally:
            self._store = None
            if self._lock is not None:
                os.close(self._lock)


def _look_at(future: asyncio.Future[Any]) -> None:
    """Whoever waited may be gone; that is no reason to warn of what became of it."""
    if not future.cancelled():
        future.exception()


@asynccontextmanager
async def open_log(
    path: Path,
    *,
    randomness: Callable[[int], bytes] = os.urandom,
) -> AsyncIterator[SqliteLog]:
    """The log of this gateway; made when the file is missing, migrated when it is old.

    `randomness` gives so many unpredictable bytes. StorageError when another process writes it,
    or when it is damaged, newer or not a log; then the file is left as it was. A disk that
    takes nothing is none of these: the log is opened when it can be.
    """
    log = SqliteLog(path, randomness)
    try:
        await log._open()  # noqa: SLF001 - the other half of this class
        yield log
    finally:
        await log._close()  # noqa: SLF001 - likewise
