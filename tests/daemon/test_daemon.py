"""The daemon's start, its stop at any moment, what it does about doubts; and the real process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from firmware_proto.codes import LOCK_SERVICE_UUID, Action, Outcome, Presence, Reason
from gatewayd.core.model import DoorId, EntryKind, Verdict
from gatewayd.daemon import Daemon, Work
from gatewayd.demo.child import Child
from gatewayd.demo.world import GATEWAY as DEMO_GATEWAY
from gatewayd.demo.world import STREET as DEMO_DOOR
from gatewayd.demo.world import build
from gatewayd.door import Ask
from gatewayd.emulators.lock_state import Part, Position
from gatewayd.emulators.phone import Report
from gatewayd.ports import RadioError
from gatewayd.ports.process import Pulse
from gatewayd.radio_app import radio_address
from gatewayd.timekeeper import KEEP_S
from tests.support.commands import completed
from tests.support.gateway import (
    GATEWAY_ADDRESS,
    STREET,
    Building,
    DoorLog,
    LoopTime,
    Site,
    assemble,
    gateway,
)
from tests.support.household import IMPATIENT, until
from tests.support.links import FakeLink, FakePeripheral

OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)


@dataclass
class Watcher:
    """A supervisor that writes down what it is told."""

    heard: list[str] = field(default_factory=list)

    def ready(self) -> None:
        self.heard.append("ready")

    def status(self, text: str) -> None:
        self.heard.append(text)

    def alive(self) -> None:
        self.heard.append("alive")

    def stopping(self) -> None:
        self.heard.append("stopping")


@contextlib.asynccontextmanager
async def run(site: Site, *extra: Work, watcher: Watcher | None = None) -> AsyncIterator[Daemon]:
    """The daemon over a site that does not serve by itself; stopped in good order at the end."""
    daemon = site.gateway.daemon(watcher or Watcher(), extra)
    peripheral = site.air.peripheral(GATEWAY_ADDRESS)
    serving = asyncio.create_task(daemon.serve(peripheral), name="daemon")
    await until(lambda: EntryKind.STARTED in site.kinds() or serving.done())
    try:
        yield daemon
    finally:
        daemon.stop.set()
        async with asyncio.timeout(10):
            await serving


def names() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


async def opened(site: Site, request: bytes | None = None) -> Report:
    phone = site.phone()
    return await phone.open_door(STREET, address=GATEWAY_ADDRESS, request=request)


# --- start and stop -------------------------------------------------------------------------
async def test_it_starts_serves_and_stops_leaving_nothing_behind(tmp_path: Path) -> None:
    watcher = Watcher()
    async with gateway(tmp_path, serving=False) as site:
        before = names()

        async def idle(_: Pulse) -> None:
            await asyncio.Event().wait()

        async with run(site, Work("uplink", idle), watcher=watcher):
            assert (await opened(site)).outcome is Outcome.CONFIRMED
            assert names() >= {"phones", "refusals", "clock", "uplink", "unknown outcomes street"}
        left = names() - before
        assert not {name for name in left if not name.startswith(("lock", "Task"))}
        assert site.kinds() == [EntryKind.STARTED, EntryKind.INTENT, EntryKind.OUTCOME]
        told = [word for word in watcher.heard if word != "alive"]
        assert told == ["ready", "serving 1 doors", "stopping"]
        assert "alive" in watcher.heard


async def test_who_waits_for_an_answer_gets_it_before_the_daemon_stops(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        site.building.locks[STREET].machine.motor_ms = 500
        async with run(site) as daemon:
            idle = await site.air.central().dial(GATEWAY_ADDRESS)
            asking = asyncio.create_task(opened(site))
            await until(lambda: EntryKind.INTENT in site.kinds())
            daemon.stop.set()
            assert (await asking).outcome is Outcome.CONFIRMED
        assert idle.closed
        assert site.kinds()[-1] is EntryKind.OUTCOME


async def test_a_stop_does_not_wait_for_a_lock_that_never_ends(tmp_path: Path) -> None:
    time = LoopTime()
    async with gateway(tmp_path, serving=False) as site:
        site.building.locks[STREET].faults.mute = True
        await site.gateway.locks[DoorId(STREET)].close()
        async with run(site) as daemon:
            asking = asyncio.create_task(opened(site))
            await until(lambda: EntryKind.INTENT in site.kinds())
            daemon.stop.set()
            await asyncio.sleep(0.05)
            await time.skip(5.1)
            assert (await asking).outcome is not Outcome.CONFIRMED
        assert site.kinds().count(EntryKind.OUTCOME) <= 1


async def test_a_stop_does_not_wait_for_a_dial(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        await site.power_off()
        site.air.dial_deadline_s = 60.0
        async with run(site) as daemon:
            token = site.building.token(site.building.wallet())
            assert site.gateway.door.prepare(token).allowed
            await asyncio.sleep(0.05)
            daemon.stop.set()
            async with asyncio.timeout(1.0):
                await until(lambda: "daemon" not in names())


class Broken(FakePeripheral):
    async def accept(self) -> FakeLink:
        await asyncio.sleep(0.05)
        raise RadioError("the controller is gone")


async def test_a_radio_that_is_gone_ends_the_daemon_loudly(tmp_path: Path) -> None:
    """Also while a door is being opened."""
    building = Building(tmp_path)
    async with gateway(tmp_path, building=building, serving=False) as site:
        ask = Ask(building.token(building.wallet()), bytes(16), Action.OPEN, Presence.TAP)
        building.locks[STREET].machine.motor_ms = 2000

        async def serve() -> None:
            central = site.air.central(LOCK_SERVICE_UUID)
            async with asyncio.TaskGroup() as tasks:
                running = await assemble(building, central, tasks, DoorLog())
                tasks.create_task(running.door.open(ask), name="asker")
                await running.daemon().serve(Broken(site.air, "", None))

        async with asyncio.timeout(5):
            with pytest.raises(ExceptionGroup) as raised:
                await serve()
        assert raised.group_contains(RadioError)
        assert names() & {"asker", "opening street", "dial street", "phones"} == set()


async def test_a_log_that_fails_at_the_start_is_told_and_caught_up_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path, serving=False) as site:
        site.log.failing = True
        daemon = site.gateway.daemon(Watcher())
        serving = asyncio.create_task(daemon.serve(site.air.peripheral(GATEWAY_ADDRESS)))
        await until(lambda: "not recorded: told to fail" in caplog.text)
        site.log.failing = False
        assert await site.gateway.around.log.recover()
        (gap,) = site.log.entries
        assert (gap.kind, gap.about) == (EntryKind.GAP, 1)
        assert (await opened(site)).outcome is Outcome.CONFIRMED
        daemon.stop.set()
        await serving


# --- doubts ----------------------------------------------------------------------------------
async def test_what_the_last_run_left_open_is_unknown_and_then_resolved(tmp_path: Path) -> None:
    log, time = DoorLog(), LoopTime()
    building = Building(tmp_path)
    wallet = building.wallet()
    request = b"r" * 16
    async with gateway(tmp_path, building=building, log=log, serving=False) as site:
        building.locks[STREET].machine.motor_ms = 300
        ask = Ask(building.token(wallet), request, Action.OPEN, Presence.TAP)
        running = asyncio.create_task(site.gateway.door.open(ask))
        await until(lambda: EntryKind.INTENT in site.kinds())
        await until(lambda: building.locks[STREET].store.load().running is not None)
        await site.gateway.door.stop()  # as SIGKILL does, but for the process
        assert (await running).verdict.reason is Reason.RESTARTED
        await asyncio.sleep(0.4)
    async with gateway(tmp_path, building=building, log=log, serving=False) as site, run(site):
        assert site.kinds() == [EntryKind.INTENT, EntryKind.OUTCOME, EntryKind.STARTED]
        assert log.entries[1].verdict == Verdict(Outcome.UNKNOWN, Reason.RESTARTED)
        phone = site.phone(wallet)
        told = await phone.open_door(STREET, address=GATEWAY_ADDRESS, request=request)
        assert (told.outcome, told.reason) == (Outcome.UNKNOWN, Reason.RESTARTED)
        await time.skip(1.1)
        await until(lambda: EntryKind.RESOLVED in site.kinds(), 5.0)
        assert log.entries[-1].about == 0
        told = await phone.open_door(STREET, address=GATEWAY_ADDRESS, request=request)
        assert told.outcome is Outcome.CONFIRMED
        assert building.openings == 1


async def test_one_doors_doubts_do_not_wait_for_another_ones(tmp_path: Path) -> None:
    """The street's lock never comes back; the cellar's is asked as soon as it does."""
    doors = (STREET, "cellar")
    async with gateway(tmp_path, serving=False, doors=doors, timing=IMPATIENT) as site:
        for door in doors:
            await site.gateway.locks[DoorId(door)].prepare()
            site.building.locks[door].faults.mute = True
        for number, door in enumerate(doors):
            token = site.building.token(site.building.wallet())
            ask = Ask(token, bytes([number]) * 16, Action.OPEN, Presence.TAP)
            answer = await site.gateway.doors[DoorId(door)].open(ask)
            assert answer.verdict.outcome is Outcome.UNKNOWN
        await site.power_off()
        site.air.dial_deadline_s = 30.0
        site.building.locks["cellar"].faults.mute = False
        site.power_on("cellar")
        async with run(site):
            await until(lambda: EntryKind.RESOLVED in site.kinds(), 6.0)
            assert site.log.entries[-1].door == "cellar"


async def test_a_doubt_is_asked_about_more_rarely_and_at_once_after_an_opening(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    time = LoopTime()
    async with gateway(tmp_path, serving=False, timing=IMPATIENT) as site:
        lock = site.building.locks[STREET]
        await site.gateway.locks[DoorId(STREET)].prepare()
        async with run(site):
            lock.faults.mute = True
            assert (await opened(site)).outcome is Outcome.UNKNOWN
            await site.power_off()
            site.log.failing = True  # asking may work, but not writing the answer down
            lock.faults.mute = False
            site.power_on()
            await time.skip(1.1)
            await until(lambda: "unknown outcomes: told to fail" in caplog.text)
            site.log.failing = False
            assert await site.gateway.around.log.recover()
            await site.latch_home()
            assert (await opened(site)).outcome is Outcome.CONFIRMED
            await time.skip(1.1)
            await until(lambda: EntryKind.RESOLVED in site.kinds())
        assert site.openings == 2


async def test_a_change_of_the_clock_is_logged_if_it_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    time = LoopTime()
    async with gateway(tmp_path, serving=False) as site, run(site):
        site.building.clock.skip_s += 30 * 86400
        await time.skip(1.1)
        await until(lambda: site.kinds()[-1] is EntryKind.CLOCK)
        assert site.log.entries[-1].verdict.outcome is Outcome.UNKNOWN
        site.log.failing = True
        await site.gateway.timekeeper.update(site.gateway.timekeeper.known)
        site.building.clock.skip_s += 500 * 86400 + KEEP_S
        await time.skip(1.1)
        await until(lambda: "not recorded" in caplog.text)
        site.log.failing = False


async def test_strangers_are_counted_while_it_runs(tmp_path: Path) -> None:
    time = LoopTime()
    async with gateway(tmp_path, serving=False) as site, run(site):
        for _ in range(3):
            link = await site.air.central().dial(GATEWAY_ADDRESS)
            await link.write(b"nonsense")
            await until(lambda link=link: link.closed)
        await time.skip(62)
        await until(lambda: site.kinds()[-1] is EntryKind.STRANGERS)
        assert site.log.entries[-1].about == 3


async def test_a_phone_that_leaves_mid_unlock_finds_the_outcome_recorded(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site, run(site):
        wallet, request = site.building.wallet(), b"q" * 16
        site.building.locks[STREET].machine.motor_ms = 100
        phone = site.phone(wallet)
        leaving = asyncio.create_task(
            phone.open_door(STREET, address=GATEWAY_ADDRESS, request=request)
        )
        await until(lambda: EntryKind.INTENT in site.kinds())
        leaving.cancel()
        await asyncio.wait({leaving})
        await until(lambda: EntryKind.OUTCOME in site.kinds())
        answers = [await phone.ask_result(STREET, request, address=GATEWAY_ADDRESS)]
        answers += [await phone.open_door(STREET, address=GATEWAY_ADDRESS, request=request)]
        assert {answer.outcome for answer in answers} == {Outcome.CONFIRMED}
        assert answers[0].receipt == answers[1].receipt is not None
        assert site.openings == 1


# --- the real process --------------------------------------------------------------------------
class Deaf:
    """A broker that takes connections and says nothing, or hangs up at once."""

    def __init__(self) -> None:
        self.refusing = False
        self.visits = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        if not self.refusing:
            await reader.read()
        writer.close()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()


async def test_the_process_opens_whatever_the_broker_does_and_ends_cleanly(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        broker, listening = Deaf(), contextlib.AsyncExitStack()
        port = await listening.enter_async_context(broker.open())
        world = await stack.enter_async_context(build(tmp_path, port))
        machine = world.locks[DEMO_DOOR].machine
        child = Child(world.config)

        async def opens() -> None:
            before = machine.openings
            async with world.phone(world.wallet(f"holder-{before}")) as phone:
                report = await phone.open_door(DEMO_DOOR, address=radio_address(DEMO_GATEWAY))
            assert report.outcome is Outcome.CONFIRMED, child.last_words()
            await until(lambda: machine.positions[Part.LATCH] is Position.THROWN, 5.0)
            assert machine.openings == before + 1

        try:
            await child.start()
            await until(lambda: broker.visits > 0, 10.0)
            await opens()  # while it hangs
            broker.refusing = True
            await opens()
            await listening.aclose()
            await opens()  # while there is none
            async with asyncio.timeout(8):
                assert await child.stop() == 0, child.last_words()
        finally:
            await child.kill()
        assert "stopped" in child.lines[-1]
        assert "Traceback" not in "\n".join(child.lines)


async def test_the_process_names_what_is_wrong_with_its_configuration(tmp_path: Path) -> None:
    async with build(tmp_path, 1) as world:
        text = world.config.read_text().replace("Europe/Copenhagen", "Europe/Nowhere")
        world.config.write_text(text)
        ran = await completed("run", "-c", world.config)
        assert (ran.code, "Europe/Nowhere" in ran.err) == (2, True)
        assert not world.database.exists()


async def test_the_process_ends_when_its_radio_does(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        world = await stack.enter_async_context(build(tmp_path, 1))
        child = Child(world.config)
        try:
            await child.start()
            await stack.aclose()
            await child.line(lambda line: "controller is gone" in line, 10.0)
            assert child._process is not None
            async with asyncio.timeout(10):
                assert await child._process.wait() not in {0, -signal.SIGTERM}
        finally:
            await child.kill()
