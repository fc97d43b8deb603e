"""This machine as the port `Machine`: files below a root, and a few programs of the system's own.

It may be slow, but must not change anything, and must not fail where a machine
lacks something.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from gatewayd.adapters.machine import bus, files, storage
from gatewayd.core.diagnosis_bluez import Settings, Versions
from gatewayd.core.diagnosis_host import Access, Clock, Disk, Journal
from gatewayd.core.diagnosis_radio import Bluetooth
from gatewayd.ports import RadioError
from gatewayd.ports.machine import NotSeenError

__all__ = ["ThisMachine"]


class ThisMachine:
    """`ports.machine.Machine`.

    root: stands before every file's name. environment: for programs.
    ask: what bluetoothd says, for a daemon that talks to it already; then no program is run.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        environment: Mapping[str, str] | None = None,
        ask: Callable[[], Awaitable[bus.Objects]] | None = None,
    ) -> None:
        self._root = root
        self._ask = ask
        self._programs = bus.Programs(dict(os.environ if environment is None else environment))

    async def versions(self) -> Versions:
        """See `ports.machine.Machine`."""
        return Versions(os.uname().release, await self._bluez())

    async def settings(self) -> Settings:
        """See `ports.machine.Machine`."""
        file = files.main_conf(self._root)
        text = files.settings(self._root, file)
        return Settings(text, await self._bluez(), files.restart(self._root), file)

    async def bluetooth(self) -> Bluetooth:
        """See `ports.machine.Machine`."""
        objects = await self._objects()
        return Bluetooth(
            running=objects is not None,
            adapters=bus.adapters(objects or {}),
            blocked=files.blocked(self._root),
            serving=self._ask is not None or await self._programs.is_active("gatewayd.service"),
        )

    async def clock(self, *, promised: bool | None) -> Clock:
        """See `ports.machine.Machine`."""
        return files.clock(self._root, promised=promised)

    async def disk(self, state: Path, *, writing: bool = True) -> Disk:
        """See `ports.machine.Machine`."""
        if not writing:
            return storage.disk(state, self._root, writing=False)
        return await asyncio.to_thread(storage.disk, state, self._root)

    async def journal(self) -> Journal:
        """See `ports.machine.Machine`."""
        return files.journal(self._root)

    async def unit(self) -> Mapping[str, tuple[str, ...]]:
        """See `ports.Machine`."""
        return files.unit(self._root)

    async def access(self, state: Path) -> Access:
        """See `ports.machine.Machine`."""
        return files.access(self._root, state)

    async def _objects(self) -> bus.Objects | None:
        """What bluetoothd says; None when there is none. NotSeenError."""
        if self._ask is None:
            return await self._programs.managed_objects()
        try:
            return await self._ask()
        except RadioError as error:
            raise NotSeenError(str(error)) from error

    async def _bluez(self) -> str:
        """Of the bluetoothd that runs, or else of the installed one."""
        try:
            objects = await self._objects()
        except NotSeenError:
            objects = None
        found = bus.running_version(objects or {})
        return found or await self._programs.installed_version(self._root)
