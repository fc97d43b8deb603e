"""20 real power cuts: `python3 -m tests.system.power_cuts [--seed N] [--cuts N]`.

The gateway is a machine of its own with a disk of its own (`cut_guest.py`, `cut_disk.py`):
it enrols, opens doors, hears of settings, is pulled from, and its log's schema grows, until
its kernel is killed at some moment. Everybody else (`cut_outside.py`) is on this machine;
after every cut the disk is held against what they were told.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gatewayd.adapters import broker
from gatewayd.adapters.virtual_radio import VirtualAir, serve_hci
from gatewayd.demo.play import free_port
from gatewayd.demo.world import AIR, GATEWAY, GENERATION, STAIRS, STREET, World, furnish, inhabited
from gatewayd.keyfiles import create_files, private_pem, public_pem
from gatewayd.radio_app import radio_address
from tests.support import commands
from tests.system import cut_guest, image, vm
from tests.system.cut_disk import CutDisk
from tests.system.cut_outside import Outside
from tests.system.tunnel import Tunnel

CUTS: Final = 20
BACK_S: Final = 60.0
"""By then a machine that has power serves, with others on the same two processors."""
SERVING: Final = "serving "
PHASES: Final = ((cut_guest.ENROLLING, 1.5), (cut_guest.STARTING, 1.5), (SERVING, 4.0))
"""After which word of the machine the power goes, and how many seconds later at most."""


def plan(cuts: int, chance: random.Random) -> list[tuple[str, float]]:
    """A quarter while it enrols, a quarter while it starts or migrates, half while it serves."""
    enrolling = [PHASES[0]] * (cuts // 4)
    later = [PHASES[1]] * (cuts // 4) + [PHASES[2]] * (cuts - 2 * (cuts // 4))
    chance.shuffle(later)
    return [(word, chance.uniform(0.0, most_s)) for word, most_s in [*enrolling, *later]]


class Boot(vm.Machine):
    """One life of the gateway's machine, from power on to power off."""

    carrying: asyncio.Task[None]

    @property
    def lines(self) -> list[str]:
        """What it has said."""
        return list(self._lines)

    def __init__(self, job: vm.Job, made: image.Image, share: Path, **more: Any) -> None:
        self._lines: deque[str] = deque()
        super().__init__(job, made, share, **more)

    async def begin(self, port: int, hci: Path, line: socket.socket) -> None:
        """Carry its connections."""
        services = {
            "hci": lambda: asyncio.open_unix_connection(hci),
            "broker": lambda: asyncio.open_connection("127.0.0.1", port),
        }
        tunnel = Tunnel(*await asyncio.open_connection(sock=line), services)
        self.carrying = asyncio.create_task(tunnel.run(), name="line")

    async def says(self, *words: str) -> str:
        """The first of these words that it has said."""
        async with asyncio.timeout(BACK_S):
            while True:
                said = [word for word in words if any(word in line for line in self.lines)]
                if said:
                    return said[0]
                assert self._linux.poll() is None, "the machine ended"
                await asyncio.sleep(0.02)

    async def cut(self) -> None:
        """The power goes."""
        self.kill()
        self._reader.join(5)
        await self.carrying

    def _echo(self, output: int) -> None:
        with os.fdopen(output, "rb") as said:
            for line in said:
                self._spoke.set()
                self._lines.append(line.decode(errors="replace").rstrip())


@dataclass
class Site:
    """The machine, its disk, and everybody around it."""

    outside: Outside
    disk: CutDisk
    made: image.Image
    share: Path
    claim: str
    hci: Path
    boots: int = 0
    back_s: list[float] = field(default_factory=list)
    """From power on until it served, by itself."""

    @asynccontextmanager
    async def power(self) -> AsyncIterator[Boot]:
        """The machine has power until this is left; then it is cut."""
        port, told = self.outside.world.broker_port, self.outside.told
        versions = self.boots // 4  # of the log's schema that come on top
        self.boots += 1
        guest = ("tests.system.cut_guest", self.claim, str(port), str(versions))
        command = (vm.python(), "-m", *guest)
        job = vm.Job(command, radio=False, memory_mb=512, disk=str(self.disk.file))
        vm.describe(job, self.share)
        ours, theirs = socket.socketpair()
        boot = Boot(job, self.made, self.share, line=theirs, environment=self.disk.environment)
        await boot.begin(port, self.hci, ours)
        try:
            yield boot
        finally:
            await boot.cut()
            said = "\n".join(boot.lines)
            with (self.share / "boots.log").open("a") as journal:
                journal.write(f"--- boot {self.boots}\n{said}\n")
            told.enrolled |= cut_guest.ENROLLED in said
            if SERVING in said:
                told.version = max(told.version, 1 + versions)

    async def cut(self, word: str, later_s: float, chance: random.Random) -> None:
        """Power for so long after its word, and a look at what is left."""
        began_s = time.monotonic()
        async with self.power() as boot:
            # who is enrolled already does not say so again
            said = await boot.says(word, *([SERVING] if word == cut_guest.ENROLLING else []))
            if said == SERVING:
                self.back_s.append(time.monotonic() - began_s)
            await asyncio.sleep(later_s)
        cached, lost = self.disk.cut(chance)
        print(f"cut {self.boots:2}: {later_s:4.2f} s after {said!r}; ", end="")
        print(f"{lost} of {cached} blocks in the disk's cache lost", flush=True)
        with tempfile.TemporaryDirectory() as name:
            self.outside.check(self.disk.content(Path(name)))


def furnished(directory: Path, world: World) -> tuple[Path, Path]:
    """What the disk holds at first, and the operator's directory."""
    disk, operator = directory / "disk", directory / "operator"
    (disk / "gatewayd").mkdir(parents=True)
    operator.mkdir()
    for path in (world.config, *directory.glob("lock-*.pub.pem")):
        shutil.copy(path, disk / "gatewayd")
    for role in ("root", "gateways", "command", "time", "seal"):
        key = getattr(world.authority, role)
        create_files({operator / f"{role}.pem": private_pem(key)})
        create_files({operator / f"{role}.pub.pem": public_pem(key.public_key())}, mode=0o644)
    (operator / "trust.cose").write_bytes(world.authority.bundle())
    return disk, operator


async def invited(operator: Path, url: str) -> str:
    """A claim."""
    doors = [word for door in (STREET, STAIRS) for word in ("--door", f"{door}={GENERATION}")]
    keys = ("--keys", operator, "--store", operator / "invitations.sqlite", "--broker", url)
    made = await commands.completed("keys", "make", "operator-ca", "--into", str(operator))
    assert made.code == 0, made.err
    words = ("cloud", "invite", GATEWAY, *doors, *keys, "--json")
    ran = await commands.completed(*map(str, words))
    assert ran.code == 0, ran.err
    return str(ran.json["claim"])


@asynccontextmanager
async def open_site(directory: Path) -> AsyncIterator[Site]:
    """Everybody is there; the machine has no power yet."""
    air, port, socket_ = VirtualAir(AIR), free_port(), directory / "gateway.hci"
    radio = f'hci = "unix:{cut_guest.HCI}"'
    world = furnish(directory, port, air, gateway=radio_address(GATEWAY), radio=radio)
    content, operator = furnished(directory, world)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serve_hci(air, socket_, address="F0:00:00:00:00:FF"))
        await stack.enter_async_context(inhabited(world))
        await stack.enter_async_context(broker.serve(port))
        url = f"mqtt://127.0.0.1:{port}"
        claim = await invited(operator, url)
        keys = ("--keys", operator, "--store", operator / "invitations.sqlite", "--broker", url)
        await stack.enter_async_context(commands.running("cloud", "enrol", *keys))
        disk = CutDisk.make(directory, content)
        outside = Outside(world)
        living = asyncio.create_task(outside.live(), name="outside")
        try:
            yield Site(outside, disk, image.prepare(), vm.make_share(), claim, socket_)
            if living.done():
                await living
        finally:
            living.cancel()
            await asyncio.wait({living})


async def cut_again_and_again(cuts: int, seed: int) -> bool:
    """Whether everything was kept, every time."""
    began_s, chance = time.monotonic(), random.Random(seed)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        async with open_site(Path(name)) as site:
            outside, told = site.outside, site.outside.told
            try:
                for word, later_s in plan(cuts, chance):
                    await site.cut(word, later_s, chance)
                # and once more, to see that all is well
                async with site.power() as boot:
                    await boot.says(SERVING)
                    await outside.served()
                with tempfile.TemporaryDirectory() as last:
                    outside.check(site.disk.content(Path(last)))
                outside.check_doors()
            except (AssertionError, TimeoutError):
                traceback.print_exc()
                print(f"FAILED with seed {seed}; files in {site.share}", flush=True)
                return False
    took_s = time.monotonic() - began_s
    print(
        f"== {cuts} power cuts: {len(told.opened)} confirmed openings,"
        f" {told.counts['pulls']} pulls, settings up to {told.settings}, schema up to"
        f" {told.version}: nothing lost;"
        f" served after {max(site.back_s):.1f} s at most; in {took_s:.0f} s =="
    )
    return True


def main() -> int:
    """0, or 1 when something was lost or did not come back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=CUTS)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    options = parser.parse_args()
    return 0 if asyncio.run(cut_again_and_again(options.cuts, options.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
