"""The watchdog is fed while every task shows life, and not a moment longer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from firmware_proto.codes import PHONE_SERVICE_UUID
from gatewayd.adapters.systemd import Systemd
from gatewayd.cloud.authority import Authority, IssuerKey
from gatewayd.core.model import Asked, Command, CommandId, Fact
from gatewayd.courier import Courier
from gatewayd.daemon import FIRST_SIGN_S, Daemon, Work
from gatewayd.holders import Holders
from gatewayd.lists import StatusLists
from gatewayd.phones import TURN_S, Phones
from gatewayd.ports import LinkClosedError
from gatewayd.ports.process import Pulse
from gatewayd.ports.radio import Link, Peripheral
from gatewayd.receipts import Receipts
from gatewayd.recorder import Recorder
from gatewayd.refusals import Refusals
from gatewayd.surroundings import Surroundings
from gatewayd.timekeeper import Timekeeper
from gatewayd.trusted import Trusted
from gatewayd.vitals import UNWATCHED, Vitals
from tests.support.household import Dice, LockSite, LoopClock, Operator, until
from tests.support.links import FakeAir
from tests.support.memory_log import MemoryLog

LOOK_S = 0.01
FED = b"WATCHDOG=1"


class Ear:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, listening: socket.socket) -> None:
        self.socket = listening
        self.address = str(listening.getsockname())

    def heard(self) -> list[bytes]:
        """Everything since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.socket.recv(500))
        return found

    async def hears(self, word: bytes) -> None:
        await until(lambda: word in self.heard())

    async def starves(self, looks: int = 10) -> None:
        """Nothing is fed for so many looks, after those that were under way."""
        await asyncio.sleep(2 * LOOK_S)
        self.heard()
        await asyncio.sleep(looks * LOOK_S)
        assert FED not in self.heard()


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield Ear(listening)


class StuckLog(MemoryLog):
    """A log on a disk that stops answering, without an error, when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck = False

    async def unresolved(self) -> Sequence[Command]:
        await self._disk()
        return await super().unresolved()

    async def append(
        self,
        fact: Fact,
        *,
        command: Command | None = None,
        asked: Asked | None = None,
        settles: CommandId | None = None,
    ) -> int:
        await self._disk()
        return await super().append(fact, command=command, asked=asked, settles=settles)

    async def _disk(self) -> None:
        if self.stuck:
            await asyncio.Event().wait()


async def _nothing(_data: bytes) -> None:
    """Takes everything, keeps nothing."""


class Site:
    """A gateway without doors, told about by a real notification socket."""

    def __init__(self, ear: Ear) -> None:
        self.clock = LoopClock()
        self.log = StuckLog()
        self.supervisor = Systemd(ear.address)
        self.air = FakeAir(mtu=185)
        self.daemon: Daemon | None = None

    async def make(self, tasks: asyncio.TaskGroup, extra: tuple[Work, ...]) -> Daemon:
        timekeeper = await Timekeeper.load(self.clock, self.log, battery_clock=False)
        operator, dice = Operator(), Dice()
        trust = Authority.create("vestergade-7", IssuerKey.create("housing")).trust()
        refusals = Refusals(self.log, timekeeper)
        recorder = Recorder(self.log, self.log, timekeeper, bytes(32))
        lists = await StatusLists.load(lambda: trust, self.log, timekeeper)
        around = Surroundings(
            recorder, timekeeper, dice, Trusted(trust), lists, bytes(32), tasks, refusals
        )
        courier = Courier(_nothing, lambda: None, lambda: self.clock.instant().boottime_s)
        receipts = Receipts(operator.receipts, "log")
        holders = Holders({}, receipts, around)
        phones = Phones(operator.gateway(), holders, around, courier, cap=4)
        return Daemon(
            self.log,
            timekeeper,
            {},
            {},
            phones,
            refusals,
            self.supervisor,
            tasks,
            extra,
            watchdog_s=LOOK_S,
        )

    @asynccontextmanager
    async def running(
        self, *extra: Work, peripheral: Peripheral | None = None
    ) -> AsyncIterator[Daemon]:
        served = peripheral or self.air.peripheral("gateway", PHONE_SERVICE_UUID)
        try:
            async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
                daemon = await self.make(tasks, extra)
                serving = tasks.create_task(daemon.serve(served))
                try:
                    yield daemon
                finally:
                    daemon.stop.set()
                    await serving
        finally:
            self.supervisor.close()


@pytest.fixture
def site(ear: Ear) -> Site:
    return Site(ear)


def hung(after: Callable[[Pulse], object]) -> Callable[[Pulse], Awaitable[None]]:
    """A task that shows a last sign of life and then waits for what never happens."""

    async def hang(pulse: Pulse) -> None:
        after(pulse)
        await asyncio.Event().wait()

    return hang


# --- fed ------------------------------------------------------------------------------
async def test_a_healthy_daemon_feeds_and_says_when_it_starts_and_stops(
    site: Site, ear: Ear
) -> None:
    async with site.running():
        await until(lambda: len([1 for each in ear.heard() if each == FED]) >= 1)
        for _ in range(3):
            await ear.hears(FED)
        # long after every first promise, and all promises have been renewed
        site.clock.skip_s += FIRST_SIGN_S / 2
        await asyncio.sleep(1.1)
        site.clock.skip_s += FIRST_SIGN_S / 2 + 1
        ear.heard()
        await ear.hears(FED)
    assert ear.heard()[-1] == b"STOPPING=1"


async def test_who_waits_for_somebody_outside_is_not_hung(site: Site, ear: Ear) -> None:
    async with site.running(Work("guest", hung(lambda pulse: pulse.waits()))):
        await ear.hears(FED)
        await asyncio.sleep(0.1)
        ear.heard()
        await ear.hears(FED)


# --- starved -----------------------------------------------------------------------------
async def test_a_hung_task_stops_the_feeding(
    site: Site, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    async with site.running(Work("wedged", hung(lambda pulse: pulse.beat(0.1)))):
        await ear.hears(FED)
        await until(lambda: "no sign of life" in caplog.text)
        await ear.starves()
    assert caplog.text.count("the watchdog is not fed: wedged") == 1


async def test_a_task_that_shows_no_sign_at_all_is_hung(site: Site, ear: Ear) -> None:
    async with site.running(Work("mute", hung(lambda _: None))):
        await ear.hears(FED)
        site.clock.skip_s += FIRST_SIGN_S
        await ear.starves()


async def test_a_task_that_ends_stops_the_feeding(
    site: Site, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    async def finish(pulse: Pulse) -> None:
        pulse.beat(100)
        await asyncio.sleep(0.05)

    async with site.running(Work("short-lived", finish)):
        await until(lambda: "not fed: short-lived" in caplog.text)
        await ear.starves()


async def test_a_part_that_hangs_stops_the_feeding(site: Site, ear: Ear) -> None:
    def part_hangs(pulse: Pulse) -> None:
        pulse.waits()
        pulse.part("orders").beat(0.05)

    async with site.running(Work("uplink", hung(part_hangs))):
        await ear.hears(FED)
        await asyncio.sleep(0.05)
        await ear.starves()


async def test_feeding_goes_on_when_a_late_task_comes_back(
    site: Site, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    back = asyncio.Event()

    async def late(pulse: Pulse) -> None:
        pulse.beat(0.05)
        await back.wait()
        pulse.waits()
        await asyncio.Event().wait()

    async with site.running(Work("late", late)):
        await until(lambda: "not fed: late" in caplog.text)
        back.set()
        await asyncio.sleep(2 * LOOK_S)
        ear.heard()
        await ear.hears(FED)


async def test_a_loop_that_is_blocked_feeds_nothing(site: Site, ear: Ear) -> None:
    async with site.running():
        await ear.hears(FED)
        ear.heard()
        time.sleep(20 * LOOK_S)  # noqa: ASYNC251 - the very thing no task may do
        assert ear.heard() == []


# --- the daemon's own tasks ------------------------------------------------------------
class StuckLink:
    """A phone's link whose radio never finishes disconnecting."""

    mtu = 23

    def __init__(self) -> None:
        self.closing = asyncio.Event()

    async def read(self) -> bytes:
        raise LinkClosedError("gone already")

    async def write(self, fragment: bytes) -> None:
        raise AssertionError

    async def close(self) -> None:
        self.closing.set()
        await asyncio.Event().wait()


class OneLink:
    def __init__(self, link: Link) -> None:
        self.links = [link]

    async def accept(self) -> Link:
        if self.links:
            return self.links.pop()
        await asyncio.Event().wait()
        raise AssertionError


async def test_phones_hang_in_a_radio_that_never_disconnects(
    site: Site, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    link = StuckLink()
    async with site.running(peripheral=OneLink(link)):
        await link.closing.wait()
        await ear.hears(FED)
        site.clock.skip_s += TURN_S + 1
        await until(lambda: "not fed" in caplog.text)
        # the other tasks look again, and only one is still silent
        await until(lambda: caplog.text.rstrip().endswith("not fed: phones: hanging up"), 10.0)
        await ear.starves()


async def test_a_disk_that_does_not_answer_is_noticed(
    site: Site, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    async with site.running() as daemon:
        await ear.hears(FED)
        daemon.refusals.stranger()
        await asyncio.sleep(1.1)  # a minute begins, at the end of which strangers are written down
        site.log.stuck = True
        for _ in range(3):
            site.clock.skip_s += 61
            await asyncio.sleep(1.1)
        assert caplog.text.rstrip().endswith("not fed: refusals")
        await ear.starves()


async def test_keeping_a_lock_warm_shows_life_in_every_state(tmp_path: Path) -> None:
    site = LockSite(tmp_path, FakeAir(mtu=185), Operator())
    now_s = 0.0
    vitals = Vitals(lambda: now_s)
    client = site.client()
    pulse = vitals.watch("warm", 1.0)
    warm = asyncio.create_task(client.keep_warm(pulse))
    try:
        await asyncio.sleep(0.05)
        assert vitals.silent() == ()  # nobody answers: it tries again and again
        async with site.power():
            await until(lambda: client._connection is not None, 5)
            await until(lambda: vitals._heartbeat.signs["warm"] is not None)
            now_s = 1e6  # connected, it may wait for ever
            await until(lambda: vitals.silent() == ())
        await until(lambda: client._connection is None or not client._connection.alive)
        await asyncio.sleep(0.05)
        now_s = 2e6  # the link is gone, and now it has promised to try again
        assert vitals.silent() == ("warm",)
    finally:
        warm.cancel()
        await asyncio.gather(warm, return_exceptions=True)
        await client.close()


def test_without_a_watchdog_every_sign_is_harmless() -> None:
    UNWATCHED.beat(1)
    UNWATCHED.waits()
    assert UNWATCHED.part("any") is UNWATCHED
