"""The reserve's file: all of it written once, when there is room, and from then on in place.

Zeros are really written: ground that is only promised (fallocate) needs new
metadata at the first write, and a full disk has none. O_DSYNC: a write that
returns is on the disk. The file never grows, shrinks or moves.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from firmware_proto.codes import Reason
from gatewayd.adapters.sqlite.errors import storage_errors
from gatewayd.core.reserve import SLOT_BYTES, SLOTS
from gatewayd.ports import StorageError

PATIENCE_S: Final = 0.5
"""How long an opening waits for a slot to be durable."""
_BYTES: Final = (SLOTS + 1) * SLOT_BYTES
_Result = TypeVar("_Result")


class Reserve:
    """`ports.storage.Reserve` in a file. Use `open_reserve`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reserve")
        self._stuck: asyncio.Future[Any] | None = None

    async def read(self) -> Sequence[bytes]:
        """See `ports.storage.Reserve`."""
        whole = await self._call(lambda: os.pread(self._descriptor, _BYTES, 0))
        return [whole[at : at + SLOT_BYTES] for at in range(0, len(whole), SLOT_BYTES)]

    async def write(self, slot: int, data: bytes) -> None:
        """See `ports.storage.Reserve`."""
        await self._call(lambda: _write(self._descriptor, data, slot * SLOT_BYTES))

    async def clear(self) -> None:
        """See `ports.storage.Reserve`."""
        await self._call(lambda: _write(self._descriptor, bytes(_BYTES), 0))

    def close(self) -> None:
        """Close the file behind whatever is still being written."""
        self._thread.submit(os.close, self._descriptor)
        self._thread.shutdown(wait=False)

    async def _call(self, job: Callable[[], _Result]) -> _Result:
        if self._stuck is not None and not self._stuck.done():
            raise StorageError(f"{self._path}: the disk hangs", reason=Reason.LOG_SLOW)
        future = asyncio.wrap_future(self._thread.submit(self._here, job))
        future.add_done_callback(_look_at)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.shield(future)
        except TimeoutError:
            self._stuck = future
            raise StorageError(
                f"{self._path}: not kept within {PATIENCE_S} s",
                reason=Reason.LOG_SLOW,
                late=future,
            ) from None

    def _here(self, job: Callable[[], _Result]) -> _Result:
        with storage_errors(str(self._path)):
            return job()


def _look_at(future: asyncio.Future[_Result]) -> None:
    """Whoever waited may be gone; that is no reason to warn of what became of it."""
    if not future.cancelled():
        future.exception()


def _write(descriptor: int, data: bytes, at: int) -> None:
    if os.pwrite(descriptor, data, at) != len(data):
        raise StorageError("written in part", reason=Reason.LOG_IO_ERROR)


@asynccontextmanager
async def open_reserve(path: Path) -> AsyncIterator[Reserve]:
    """The reserve of this log, made when it is missing. StorageError when there is no room."""
    reserve = Reserve(path, await asyncio.to_thread(_open, path))
    try:
        yield reserve
    finally:
        reserve.close()


def _open(path: Path) -> int:
    with storage_errors(str(path)):
        if not path.exists() or path.stat().st_size != _BYTES:
            _make(path)
        return os.open(path, os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC)


def _make(path: Path) -> None:
    """Under another name first: what bears the name is whole."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        _write(descriptor, bytes(_BYTES), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
