"""One opening against locks and logs that answer as they like: the order of things."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from firmware_proto.codes import Action, Outcome, Reason
from gatewayd.core.model import CommandId, DoorId, EntryKind, Verdict
from gatewayd.core.requests import InFlight, Request
from gatewayd.opening import NOT_LOGGED, Answer, Opening, Reach
from gatewayd.ports import RadioError
from gatewayd.recorder import Recorder
from gatewayd.timekeeper import Timekeeper
from tests.support.household import NOW, LoopClock, until
from tests.support.memory_log import MemoryLog

DOOR = DoorId("street")
COMMAND = CommandId(b"c" * 16)
REQUEST = Request(b"k" * 32, b"h" * 32, Action.OPEN)
OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
SILENT = Verdict(Outcome.UNKNOWN, Reason.LOCK_SILENT)
UNREACHABLE = Verdict(Outcome.REFUSED, Reason.LOCK_UNREACHABLE)


@dataclass
class PaperLock:
    """A lock of which only the answers matter. `turning` holds it up; `log` proves the order."""

    log: MemoryLog
    verdict: Verdict = OPENED
    reachable: bool = True
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    turning: asyncio.Event = field(default_factory=asyncio.Event)
    commands: list[CommandId] = field(default_factory=list)

    async def prepare(self) -> None:
        await self.ready.wait()
        if not self.reachable:
            raise RadioError("nobody there")

    async def dial(self) -> bool:
        try:
            await self.prepare()
        except RadioError:
            return False
        return True

    async def unlatch(self, command: CommandId, duration_ms: int) -> Verdict:
        assert duration_ms == 1000
        assert [entry.kind for entry in self.log.entries] == [EntryKind.INTENT]
        self.commands.append(command)
        await self.turning.wait()
        return self.verdict

    async def result_of(self, command: CommandId) -> Verdict | None:
        raise AssertionError(command)

    async def close(self) -> None:
        raise AssertionError


@dataclass
class Scene:
    log: MemoryLog
    lock: PaperLock
    opening: Opening
    _task: asyncio.Task[Answer] | None = None

    @property
    def task(self) -> asyncio.Task[Answer]:
        """The opening, begun when first looked at."""
        if self._task is None:
            self._task = asyncio.create_task(self.opening.run(), name="opening")
        return self._task

    async def begin(self) -> None:
        """Begin, and go on until nothing more happens by itself."""
        assert not self.task.done()
        await nothing_more()


async def nothing_more() -> None:
    """Until nothing more happens by itself: nobody here waits for time, or for another thread."""
    for _ in range(100):
        await asyncio.sleep(0)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    log = MemoryLog()
    lock = PaperLock(log)
    keeper = await Timekeeper.load(LoopClock(), log, battery_clock=False)
    await keeper.provision(NOW)
    recorder = Recorder(log, log, keeper, bytes(32))
    reach = Reach(DOOR, 1000, lock, lock.dial, recorder, keeper)
    opening = Opening(InFlight(REQUEST, COMMAND), reach)
    begun = Scene(log, lock, opening)
    yield begun
    begun.task.cancel()
    await asyncio.wait({begun.task})


async def test_the_command_waits_for_the_record(scene: Scene) -> None:
    scene.log.gate.clear()
    scene.lock.ready.set()
    await scene.begin()
    assert scene.lock.commands == []
    scene.log.gate.set()
    await until(lambda: scene.lock.commands == [COMMAND])


async def test_the_command_waits_for_the_link(scene: Scene) -> None:
    await scene.begin()
    assert len(scene.log.entries) == 1
    assert scene.lock.commands == []
    scene.lock.ready.set()
    await until(lambda: scene.lock.commands == [COMMAND])


@pytest.mark.parametrize(
    "verdict", [OPENED, SILENT, Verdict(Outcome.REFUSED, Reason.JAMMED)], ids=str
)
async def test_the_verdict_is_recorded_before_it_is_told(scene: Scene, verdict: Verdict) -> None:
    scene.lock.verdict = verdict
    scene.lock.ready.set()
    await scene.begin()
    assert scene.lock.commands == [COMMAND]
    scene.log.gate.clear()
    scene.lock.turning.set()
    await nothing_more()
    assert not scene.task.done()
    scene.log.gate.set()
    answer = await scene.task
    assert (answer.verdict, answer.record.seq) == (verdict, 1)
    outcome = scene.log.entries[1]
    assert (outcome.kind, outcome.verdict, outcome.about) == (EntryKind.OUTCOME, verdict, 0)


async def test_a_failing_log_answers_at_once_and_the_dial_is_not_waited_for(scene: Scene) -> None:
    scene.log.failing = True
    assert await scene.task == Answer(NOT_LOGGED)
    assert scene.lock.commands == []


@pytest.mark.parametrize("link_first", [True, False])
async def test_a_failing_log_after_a_failing_link(scene: Scene, link_first: bool) -> None:
    scene.lock.reachable = False
    scene.log.gate.clear()
    scene.log.failing = True
    if link_first:
        scene.lock.ready.set()
        await scene.begin()
    scene.log.gate.set()
    assert await scene.task == Answer(NOT_LOGGED)
    assert (scene.lock.commands, scene.log.entries) == ([], [])


@pytest.mark.parametrize("link_first", [True, False])
async def test_a_failing_link_is_recorded_as_an_outcome(scene: Scene, link_first: bool) -> None:
    scene.lock.reachable = False
    if link_first:
        scene.log.gate.clear()
        scene.lock.ready.set()
        await scene.begin()
        scene.log.gate.set()
    else:
        await scene.begin()
        assert len(scene.log.entries) == 1
        scene.lock.ready.set()
    answer = await scene.task
    assert (answer.verdict, answer.record.seq) == (UNREACHABLE, 1)
    assert scene.lock.commands == []


@pytest.mark.parametrize("moment", ["recording", "dialling", "turning", "settling"])
async def test_cancelling_it_leaves_nothing_running(scene: Scene, moment: str) -> None:
    if moment == "recording":
        scene.log.gate.clear()
    if moment in {"turning", "settling", "recording"}:
        scene.lock.ready.set()
    if moment == "settling":
        await scene.begin()
        assert scene.lock.commands == [COMMAND]
        scene.log.gate.clear()
        scene.lock.turning.set()
    await scene.begin()
    others = asyncio.all_tasks() - {scene.task, asyncio.current_task()}
    assert others, "nothing was running"
    scene.task.cancel()
    await asyncio.wait({scene.task})
    assert scene.task.cancelled()
    assert not (asyncio.all_tasks() - {asyncio.current_task()})
    scene.log.gate.set()
    recorded = moment != "recording"
    assert len(scene.log.entries) == recorded
    assert len(await scene.log.unsettled()) == recorded


async def test_waiters_come_and_go(scene: Scene) -> None:
    impatient = asyncio.create_task(scene.opening.answered())
    patient = asyncio.create_task(scene.opening.answered())
    await asyncio.sleep(0)
    impatient.cancel()
    scene.opening.close(Answer(OPENED))
    scene.opening.close(Answer(NOT_LOGGED))
    assert (await patient).verdict == OPENED
    assert (await scene.opening.answered()).verdict == OPENED


async def test_the_journal_says_where_the_time_went(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    scene.lock.ready.set()
    scene.lock.turning.set()
    await scene.task
    (line,) = [message for message in caplog.messages if message.startswith("door street: ")]
    for step in ("confirmed ok", "record=", "dial=", "command=", "recordoutcome="):
        assert step in line
