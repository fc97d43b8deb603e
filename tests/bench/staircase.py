"""The demo's staircase for measuring: `gatewayd run` as a child, emulated phones and locks here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from firmware_proto.codes import Outcome, Reason
from gatewayd.demo.child import Child
from gatewayd.demo.story import Stage
from gatewayd.demo.world import GATEWAY, STREET, World, build
from gatewayd.emulators.phone import Phone, Report
from gatewayd.ports.radio import Central, Link
from gatewayd.radio_app import radio_address

ADDRESS = radio_address(GATEWAY)
WARM_S = 5.0


class SampledChild(Child):
    """The same daemon under `tests.bench.sampled`, which writes its counts to `out`."""

    def __init__(self, config: Path, out: Path) -> None:
        super().__init__(config, program=("-m", "tests.bench.sampled", str(out)))
        self.out = out

    def signal(self, number: int) -> None:
        """Tell the sampler."""
        os.kill(self.pid, number)


class Noticed:
    """A `Central` that keeps the last link it dialled, for whoever counts on it."""

    def __init__(self, central: Central) -> None:
        self._central = central
        self.scan = central.scan
        self.link: Link | None = None

    async def dial(self, address: str) -> Link:
        """See `ports.radio.Central`."""
        self.link = await self._central.dial(address)
        return self.link


@contextlib.asynccontextmanager
async def staircase() -> AsyncIterator[tuple[World, AsyncExitStack]]:
    """Two doors, their locks on the air, no broker; the daemon is not started yet.

    On the disk of the working directory, because /tmp is memory on many
    systems, where a durable record costs nothing; by a relative path, because
    the path of a socket is short.
    """
    with _directory() as directory:
        async with build(directory, _free_port()) as world, AsyncExitStack() as stack:
            yield world, stack


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    build_directory = Path("build")
    build_directory.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build_directory, prefix="bench-") as directory:
        yield Path(os.path.relpath(directory))


@contextlib.asynccontextmanager
async def stage(child: Child, world: World, stack: AsyncExitStack) -> AsyncIterator[Stage]:
    """The daemon serves, and holds the link to the street door's lock."""
    try:
        await child.start()
        await _street_is_warm(world)
        yield Stage(world, child, stack)
    finally:
        await child.stop()


async def _street_is_warm(world: World) -> None:
    async with asyncio.timeout(WARM_S):
        while True:
            controller = world.locks[STREET].controller
            if controller is not None and controller.links:
                break
            await asyncio.sleep(0.05)  # the air has no event for it
    await asyncio.sleep(0.5)  # keys are agreed on after that


async def opened(phone: Phone, door: str) -> Report:
    """Open, and be sure that this was an opening and not one that ran already."""
    report = await phone.open_door(door, address=ADDRESS)
    if (report.outcome, report.reason) != (Outcome.CONFIRMED, Reason.OK):
        raise AssertionError(f"{door}: {report.outcome.name} {report.reason.name}")
    return report


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
