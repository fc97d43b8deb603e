"""Peers that share no code with the daemon's radio, on further adapters of the kernel.

A lock is `gatewayd lock emulate`, whose GATT server is bluezero; a phone is
`gatewayd phone`, which dials with bleak. Both are programs of their own.

    async with open_peers(bluetoothd, directory) as peers:
        ran = await peers.phone("open", STREET, "--wallet", peers.wallet("anna"))
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gatewayd.demo.world import LOCK_ADDRESSES, STREET
from tests.support.commands import Ran
from tests.system.bluetoothd import Bluetoothd
from tests.system.house import House, open_house
from tests.system.times import LOGS
from tests.system.vhci import kernel_adapter

LOCK: Final = "00:AA:01:00:00:02"
PHONE: Final = "00:AA:01:00:00:03"
PROGRAM: Final = ("-m", "gatewayd")
START_S: Final = 30.0
COMMAND_S: Final = 60.0


class BenchLock:
    """`gatewayd lock emulate` as a child process."""

    def __init__(self, directory: Path) -> None:
        self.lines: list[str] = []
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._grown = asyncio.Condition()

    async def start(self) -> None:
        """Returns when it advertises. TimeoutError."""
        began = len(self.lines)
        with (LOGS / "bluezero.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, *PROGRAM, "lock", "emulate", str(self._directory)),
                *("--adapter", LOCK),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        self._reader = asyncio.create_task(self._read(self._process), name="bench lock")
        await self.said("is a lock at", since=began)

    async def said(self, words: str, *, since: int = 0, within_s: float = START_S) -> None:
        """Returns when it has said so after its first `since` lines. TimeoutError."""
        async with asyncio.timeout(within_s), self._grown:
            await self._grown.wait_for(lambda: any(words in line for line in self.lines[since:]))

    @property
    def openings(self) -> int:
        """How often it has drawn its latch, by its own words."""
        return sum("the latch is drawn" in line for line in self.lines)

    async def kill(self) -> None:
        """Its power is gone."""
        if self._process is not None and self._reader is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            await self._reader

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            async with self._grown:
                self.lines.append(line.decode().rstrip())
                self._grown.notify_all()


@dataclass
class Peers:
    """house: the daemon on the first adapter. lock: on the second. Phones use the third."""

    house: House
    lock: BenchLock

    async def phone(self, *words: str | Path) -> Ran:
        """`gatewayd phone ...` to its end. TimeoutError."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *PROGRAM, "phone", *map(str, words), "--adapter", PHONE),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(COMMAND_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    async def opens(self, wallet: Path) -> dict[str, Any]:
        """What `phone open street --json` says."""
        ran = await self.phone("open", STREET, "--wallet", wallet, "--json")
        assert not ran.err, ran
        found: dict[str, Any] = json.loads(ran.out)
        return found

    def wallet(self, name: str, **claims: Any) -> Path:
        """A new key of somebody's."""
        return self.house.world.wallet(name, **claims).path


@asynccontextmanager
async def open_peers(bluetoothd: Bluetoothd, directory: Path) -> AsyncIterator[Peers]:
    """A house whose street door has the bench lock."""
    bench = directory / "bench"

    def on_the_bench(configuration: str) -> str:
        """The lock of the street door moves, memory and all, into another program."""
        bench.mkdir(mode=0o700)
        shutil.copy(directory / f"lock-{STREET}.json", bench / "lock.json")
        assert LOCK_ADDRESSES[STREET] in configuration
        return configuration.replace(LOCK_ADDRESSES[STREET], f"{LOCK}/P")

    async with (
        open_house(bluetoothd, directory, on_the_bench) as house,
        AsyncExitStack() as stack,
    ):
        place = house.place
        for address in (LOCK, PHONE):
            await stack.enter_async_context(kernel_adapter(place.air, address))
        for address in (LOCK, PHONE):
            await place.bus.wait_for_adapter(address)
        lock = BenchLock(bench)
        stack.push_async_callback(lock.kill)
        await lock.start()
        yield Peers(house, lock)
