"""A relay as a door sees it: the port `Lock` without senses.

CONFIRMED means that the pulse has begun and cannot outlast its limit, and
nothing about the door. The line belongs to another process, see `keeper`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Final

from firmware_proto.codes import DoorState, Outcome, Reason
from gatewayd.adapters.relay.line import RelaySettings
from gatewayd.core.model import INTERRUPTED, CommandId, Verdict
from gatewayd.messages import Message, about
from gatewayd.ports import RadioError
from gatewayd.ports.process import Pulse
from gatewayd.vitals import UNWATCHED

_log: Final = logging.getLogger(__name__)

KEEPER: Final = (sys.executable, "-I", "-m", "gatewayd.adapters.relay.keeper")
START_S: Final = 5.0
ANSWER_S: Final = 1.0
STOP_S: Final = 1.0
RETRY_S: Final = 5.0
"""Between two tries to have a line, where it cannot be had."""
AGAIN_S: Final = 0.1
"""From a keeper that went to the next one; doubled while they live shorter than RETRY_S."""
LATE_S: Final = 1.0
"""How long after a pulse should have ended its keeper is asked whether it stands still."""
_REMEMBERED: Final = 256
_CHUNK: Final = 65_536
_BUSY_S: Final = 3 * (START_S + ANSWER_S + 3 * STOP_S)
"""More than owning a line takes where everything goes wrong."""

BEGUN: Final = Verdict(Outcome.CONFIRMED, Reason.OK)
BUSY: Final = Verdict(Outcome.REFUSED, Reason.BUSY)
FAULTY: Final = Verdict(Outcome.UNKNOWN, Reason.LOCK_FAULT)
SILENT: Final = Verdict(Outcome.UNKNOWN, Reason.LOCK_SILENT)
FORGOTTEN: Final = INTERRUPTED
"""Of a command of an earlier run: nobody can tell, now or later."""
UNREACHABLE: Final = Verdict(Outcome.REFUSED, Reason.LOCK_UNREACHABLE)
_ANSWERS: Final = {"on": BEGUN, "busy": BUSY, "failed": FAULTY, "fine": BEGUN}
_DOOR: Final = {"closed": DoorState.CLOSED, "open": DoorState.OPEN}


class Relay:
    """`ports.lock.Lock` for one relay. Its calls wait for each other; close it when done.

    `on_door` hears the contact, where there is one, `on_reached` whether the line
    could be had. `keeper` is the command that is run.
    """

    def __init__(
        self,
        settings: RelaySettings,
        *,
        on_door: Callable[[DoorState], None] | None = None,
        on_reached: Callable[[bool], None] | None = None,
        keeper: Sequence[str] = KEEPER,
    ) -> None:
        self.door_state = DoorState.UNKNOWN
        self._settings = settings
        self._on_door = on_door
        self._on_reached = on_reached
        self._command = keeper
        self._turn = asyncio.Lock()
        self._keeper: _Keeper | None = None
        self._verdicts: OrderedDict[CommandId, Verdict] = OrderedDict()
        self._trouble = ""

    def __str__(self) -> str:
        return f"the relay on line {self._settings.line} of {self._settings.chip}"

    async def prepare(self) -> None:
        """Own the line, and make sure that it is there. RadioError when it cannot be had."""
        async with self._turn:
            keeper = await self._ready()
            if not await keeper.look():
                await self._drop()
                await self._ready()

    async def unlatch(self, command: CommandId, duration_ms: int) -> Verdict:
        """One pulse, of `duration_ms` or the limit, whichever is shorter; once per command."""
        async with self._turn:
            known = self._verdicts.get(command)
            if known is not None:
                return known
            try:
                keeper = await self._ready()
            except RadioError:
                return UNREACHABLE
            self._remember(command, SILENT)  # also where our caller is cancelled
            verdict = await keeper.pulse(command, min(duration_ms, self._settings.limit_ms))
            self._remember(command, verdict)
            if verdict == SILENT:
                await self._drop()  # its successor begins by making the line inactive
            return verdict

    async def result_of(self, command: CommandId) -> Verdict | None:
        """What was said of a command of this run. A relay remembers nothing else, and says so."""
        return self._verdicts.get(command, FORGOTTEN)

    async def close(self) -> None:
        """Make the line inactive and give it back. The next call takes it again."""
        async with self._turn:
            await self._drop()

    async def keep(self, pulse: Pulse = UNWATCHED) -> None:
        """Own the line until cancelled: inactive from the start, its contact heard."""
        now_s = asyncio.get_running_loop().time
        wait_s = 0.0
        while True:
            pulse.beat(_BUSY_S)
            began_s = now_s()
            try:
                await self.prepare()
            except RadioError:
                wait_s = RETRY_S
            else:
                pulse.waits()
                if self._keeper is not None:
                    await self._keeper.gone.wait()
                _log.warning("%s: the keeper of its line has gone", self)
                # The next one at once: a pulse may be without an end. But not ever again at once.
                lived = now_s() - began_s >= RETRY_S
                wait_s = 0.0 if lived else min(RETRY_S, 2 * wait_s + AGAIN_S)
            pulse.beat(wait_s + _BUSY_S)
            await asyncio.sleep(wait_s)

    async def _ready(self) -> _Keeper:
        if self._keeper is not None and not self._keeper.gone.is_set():
            return self._keeper
        await self._drop()
        try:
            self._keeper = await _start(
                [*self._command, json.dumps(asdict(self._settings))], self._seen
            )
        except RadioError as error:
            self._tell(str(error))
            raise
        self._tell("")
        return self._keeper

    def _tell(self, trouble: str) -> None:
        """In the journal, once."""
        if trouble and trouble != self._trouble:
            _log.error("%s: %s", self, trouble, extra=about(Message.RELAY_LINE))
        elif self._trouble and not trouble:
            _log.info("%s: it can be had again", self)
        self._trouble = trouble
        if self._on_reached is not None:
            self._on_reached(not trouble)

    async def _drop(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await asyncio.shield(keeper.stop())
            self._seen(DoorState.UNKNOWN)

    def _remember(self, command: CommandId, verdict: Verdict) -> None:
        self._verdicts[command] = verdict
        while len(self._verdicts) > _REMEMBERED:
            self._verdicts.popitem(last=False)

    def _seen(self, state: DoorState) -> None:
        if state is not self.door_state:
            self.door_state = state
            if self._on_door is not None:
                self._on_door(state)


class _Keeper:
    """The process, from `ready` on."""

    def __init__(
        self, process: asyncio.subprocess.Process, on_door: Callable[[DoorState], None]
    ) -> None:
        self.ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self._process = process
        self._on_door = on_door
        self._asked: dict[str, asyncio.Future[Verdict]] = {}
        self._lengths_s: dict[str, float] = {}
        self._looks = 0
        self._overdue: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._listening = asyncio.create_task(self._listen(), name="relay keeper")

    async def pulse(self, command: CommandId, length_ms: int) -> Verdict:
        """SILENT when it does not answer, for whatever reason."""
        name = command.hex()
        self._lengths_s[name] = length_ms / 1000
        try:
            return await self._ask("pulse", name, f" {length_ms}")
        finally:
            del self._lengths_s[name]

    async def look(self) -> bool:
        """Whether it answers, and still has its line."""
        self._looks += 1
        return await self._ask("look", str(self._looks), "") == BEGUN

    async def _ask(self, word: str, name: str, more: str) -> Verdict:
        if self.gone.is_set():
            return SILENT
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._asked[name] = answer
        try:
            async with asyncio.timeout(ANSWER_S):
                self._write(f"{word} {name}{more}\n")
                return await answer
        except TimeoutError:
            return SILENT
        finally:
            del self._asked[name]

    async def stop(self) -> None:
        """End its input, upon which it makes the line inactive and goes; else end it by force."""
        assert self._process.stdin is not None  # noqa: S101 - for mypy: it is a pipe
        self._pulse_is_over()
        self._process.stdin.close()
        for force in (None, self._process.terminate, self._process.kill):
            if force is not None:
                with contextlib.suppress(ProcessLookupError):
                    force()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._process.wait()
                    break
        await self._listening
        if self._asking is not None:
            await self._asking

    # --- a pulse that does not end ------------------------------------------------------------
    def _pulse_began(self, length_s: float) -> None:
        self._pulse_is_over()
        loop = asyncio.get_running_loop()
        self._overdue = loop.call_later(length_s + LATE_S, self._ask_whether_it_stands_still)

    def _pulse_is_over(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _ask_whether_it_stands_still(self) -> None:
        self._overdue = None
        self._asking = asyncio.create_task(self._end_unless_it_answers(), name="relay pulse")

    async def _end_unless_it_answers(self) -> None:
        """Whoever answers has ended his pulse before; a successor ends that of one who does not."""
        if not self.gone.is_set() and not await self.look():
            _log.error(
                "a relay's pulse has no end: its process stands still, and is ended",
                extra=about(Message.RELAY_PROCESS),
            )
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    # --- the two pipes ------------------------------------------------------------------------
    def _write(self, text: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - for mypy: it is a pipe
        self._process.stdin.write(text.encode("ascii"))

    async def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - for mypy: it is a pipe
        try:
            while line := await self._process.stdout.readline():
                self._heard(line.decode("ascii", "replace").strip())
        except ValueError as error:  # or a line without end
            _log.error(
                "a relay's process says what no keeper says, and is ended: %s",
                error,
                extra=about(Message.RELAY_PROCESS),
            )
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()  # upon which it makes the line inactive
        self.gone.set()
        if not self.ready.done():
            self.ready.set_result("cannot keep the line: its process ended")
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result(SILENT)
        while await self._process.stdout.read(_CHUNK):
            pass  # until it has ended: who cannot write cannot go

    def _heard(self, line: str) -> None:
        """ValueError for what nobody asked and nobody would say unasked."""
        word, _, rest = line.partition(" ")
        if word in {"ready", "cannot"} and not self.ready.done():
            self.ready.set_result(line)
        elif word == "door" and rest in _DOOR:
            self._on_door(_DOOR[rest])
        elif word == "off":
            self._pulse_is_over()
        elif word in _ANSWERS and rest in self._asked and not self._asked[rest].done():
            if word == "on":
                if rest not in self._lengths_s:
                    raise ValueError("a pulse that nobody asked for")
                self._pulse_began(self._lengths_s[rest])
            self._asked[rest].set_result(_ANSWERS[word])


async def _start(command: Sequence[str], on_door: Callable[[DoorState], None]) -> _Keeper:
    """RadioError when it does not come up, or cannot have the line."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    except OSError as error:
        raise RadioError(f"the keeper of the line cannot be started: {error}") from error
    keeper = _Keeper(process, on_door)
    said = "cannot keep the line: its process is silent"
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                said = await asyncio.shield(keeper.ready)
    except BaseException:
        await asyncio.shield(keeper.stop())
        raise
    if said != "ready":
        await asyncio.shield(keeper.stop())
        raise RadioError(said)
    return keeper
