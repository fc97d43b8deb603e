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
from gatewayd.core.model import CommandId, Verdict
from gatewayd.ports import Pulse, RadioError
from gatewayd.vitals import UNWATCHED

_log: Final = logging.getLogger(__name__)

KEEPER: Final = (sys.executable, "-I", "-m", "gatewayd.adapters.relay.keeper")
START_S: Final = 5.0
ANSWER_S: Final = 1.0
STOP_S: Final = 1.0
RETRY_S: Final = 5.0
"""Before a keeper that went, or a line that could not be had, is tried again."""
_REMEMBERED: Final = 256

BEGUN: Final = Verdict(Outcome.CONFIRMED, Reason.OK)
BUSY: Final = Verdict(Outcome.REFUSED, Reason.BUSY)
FAULTY: Final = Verdict(Outcome.UNKNOWN, Reason.LOCK_FAULT)
SILENT: Final = Verdict(Outcome.UNKNOWN, Reason.LOCK_SILENT)
UNREACHABLE: Final = Verdict(Outcome.REFUSED, Reason.LOCK_UNREACHABLE)
_ANSWERS: Final = {"on": BEGUN, "busy": BUSY, "failed": FAULTY}
_DOOR: Final = {"closed": DoorState.CLOSED, "open": DoorState.OPEN}


class Relay:
    """`ports.Lock` for one relay. Its calls wait for each other; close it when done.

    `pulse_ms` shortens pulses where the door holds itself open. `on_door` hears
    the contact, where there is one. `keeper` is the command that is run.
    """

    def __init__(
        self,
        settings: RelaySettings,
        *,
        pulse_ms: int | None = None,
        on_door: Callable[[DoorState], None] | None = None,
        keeper: Sequence[str] = KEEPER,
    ) -> None:
        self.door_state = DoorState.UNKNOWN
        self._settings = settings
        self._pulse_ms = pulse_ms
        self._on_door = on_door
        self._command = keeper
        self._turn = asyncio.Lock()
        self._keeper: _Keeper | None = None
        self._verdicts: OrderedDict[CommandId, Verdict] = OrderedDict()

    async def prepare(self) -> None:
        """Own the line. RadioError when it cannot be had."""
        async with self._turn:
            await self._ready()

    async def unlatch(self, command: CommandId, duration_ms: int) -> Verdict:
        """One pulse, of `duration_ms` or `pulse_ms`, whichever is shorter; once per command."""
        async with self._turn:
            known = self._verdicts.get(command)
            if known is not None:
                return known
            try:
                keeper = await self._ready()
            except RadioError as error:
                _log.error("relay: %s", error)
                return UNREACHABLE
            length_ms = duration_ms if self._pulse_ms is None else min(duration_ms, self._pulse_ms)
            self._remember(command, SILENT)  # also where our caller is cancelled
            verdict = await keeper.pulse(command, length_ms)
            self._remember(command, verdict)
            if verdict == SILENT:
                await self._drop()  # its successor begins by making the line inactive
            return verdict

    async def result_of(self, command: CommandId) -> Verdict | None:
        """What was said of a command of this run; a relay remembers nothing else."""
        return self._verdicts.get(command)

    async def close(self) -> None:
        """Make the line inactive and give it back. The next call takes it again."""
        async with self._turn:
            await self._drop()

    async def keep(self, pulse: Pulse = UNWATCHED) -> None:
        """Own the line until cancelled: inactive from the start, its contact heard."""
        while True:
            pulse.beat(2 * (START_S + ANSWER_S + STOP_S))
            try:
                await self.prepare()
            except RadioError as error:
                _log.error("relay: %s", error)
            else:
                keeper = self._keeper
                pulse.waits()
                if keeper is not None:
                    await keeper.gone.wait()
                _log.warning("relay: the keeper of its line has gone")
            pulse.beat(RETRY_S + 2 * (START_S + ANSWER_S + STOP_S))
            await asyncio.sleep(RETRY_S)

    async def _ready(self) -> _Keeper:
        if self._keeper is not None and not self._keeper.gone.is_set():
            return self._keeper
        await self._drop()
        self._keeper = await _start(
            [*self._command, json.dumps(asdict(self._settings))], self._seen
        )
        return self._keeper

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
        self._listening = asyncio.create_task(self._listen(), name="relay keeper")

    async def pulse(self, command: CommandId, length_ms: int) -> Verdict:
        """SILENT when it does not answer, for whatever reason."""
        name = command.hex()
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._asked[name] = answer
        try:
            async with asyncio.timeout(ANSWER_S):
                self._write(f"pulse {name} {length_ms}\n")
                return await answer
        except TimeoutError:
            return SILENT
        finally:
            del self._asked[name]

    async def stop(self) -> None:
        """End its input, upon which it makes the line inactive and goes; else end it by force."""
        assert self._process.stdin is not None  # noqa: S101 - for mypy: it is a pipe
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

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - for mypy: it is a pipe
        self._process.stdin.write(text.encode("ascii"))

    async def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - for mypy: it is a pipe
        while line := await self._process.stdout.readline():
            self._heard(line.decode("ascii", "replace").strip())
        self.gone.set()
        if not self.ready.done():
            self.ready.set_result("cannot keep the line: its process ended")
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result(SILENT)

    def _heard(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word in {"ready", "cannot"} and not self.ready.done():
            self.ready.set_result(line)
        elif word == "door" and rest in _DOOR:
            self._on_door(_DOOR[rest])
        elif word in _ANSWERS and rest in self._asked and not self._asked[rest].done():
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
