"""A lock without its radio: what it remembers, its mechanics and its motor.

Decisions are synchronous; `run` owns the motor and the deadlines. A command
is stored before anything moves, and its verdict before the latch goes home.
What gateways say reaches it through `lock_commands` and `lock_owner`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from firmware_proto import fields
from firmware_proto.codes import EventKind, Mechanism
from firmware_proto.lock_messages import State
from gatewayd.core.model import Verdict
from gatewayd.emulators import lock_senses, lock_state
from gatewayd.emulators.lock_battery import Battery
from gatewayd.emulators.lock_faults import Faults, PowerCut, PowerLostError
from gatewayd.emulators.lock_machine import Machine
from gatewayd.emulators.lock_memory import LockMemory, StoredCommand
from gatewayd.emulators.lock_state import Drive, Effect, Input, Limits, Note, Part, Settle, Turn
from gatewayd.emulators.lock_store import LockStore

_AT_REST = frozenset({lock_state.Stage.STILL, lock_state.Stage.HOLDING})


@dataclass(frozen=True, slots=True)
class Label:
    """What the lock says of itself in every `State`."""

    model: str = "gatewayd emulated lock"
    firmware: str = "1.0"
    events_per_answer: int = 32


class LockBody:
    """Memory, mechanics and motor of one lock. `run` must be running for anything to move.

    `uptime_ms` counts milliseconds since some start and never steps. `on_change`
    is called after every change that a `State` would show.
    """

    def __init__(  # noqa: PLR0913 - a lock has these parts
        self,
        store: LockStore,
        machine: Machine,
        uptime_ms: Callable[[], int],
        *,
        faults: Faults | None = None,
        limits: Limits | None = None,
        label: Label | None = None,
    ) -> None:
        self.machine = machine
        self.faults = faults or Faults()
        self.on_change: Callable[[], None] = lambda: None
        self._built_with = limits or Limits()
        self._label = label or Label()
        self._store = store
        self._uptime_ms = uptime_ms
        self._memory = store.load()
        self._born_ms = self._memory.clock_ms - uptime_ms()
        self._ended: dict[bytes, asyncio.Future[None]] = {}
        self._drive: Drive | None = None
        self._wake = asyncio.Event()
        self._mechanics, effects = lock_senses.awake(
            machine.positions[Part.BOLT],
            machine.positions[Part.LATCH],
            machine.mechanism(jammed=self._memory.jammed),
            self.now_ms,
            self._limits,
        )
        self._resume_interrupted()
        self._carry_out(effects)

    # --- what others may look at ------------------------------------------------------
    @property
    def memory(self) -> LockMemory:
        """What is on disk."""
        return self._memory

    @property
    def mechanics(self) -> lock_state.Mechanics:
        """What the sensors show now."""
        return self._mechanics

    @property
    def now_ms(self) -> int:
        """The lock's millisecond clock. It goes on where the last write left it."""
        return self._born_ms + self._uptime_ms()

    @property
    def _limits(self) -> Limits:
        ajar_ms = self._memory.ajar_ms
        return replace(self._built_with, ajar_ms=ajar_ms or self._built_with.ajar_ms)

    def keep(self, memory: LockMemory) -> None:
        """Replace the memory, durably."""
        memory = replace(memory, clock_ms=self.now_ms)
        self._store.save(memory)
        self._memory = memory

    def state(self, request: bytes | None) -> State:
        """The full state, answering `request` or unasked."""
        now, battery, label = self._mechanics, self._memory.battery, self._label
        return State(
            request=request,
            bolt=now.bolt,
            latch=now.latch,
            door_state=now.door,
            mechanism=lock_state.shown_mechanism(now, battery),
            tamper=now.tamper,
            battery=fields.Battery(battery.millivolts, battery.percent, battery.low),
            model=label.model,
            firmware=label.firmware,
            clock_ms=self.now_ms,
        )

    # --- what people and physics do to it --------------------------------------------
    def move_door(self, *, is_open: bool) -> None:
        """Someone opens or closes the door leaf."""
        self._take(
            lock_senses.door_moved(self._mechanics, self.now_ms, self._limits, is_open=is_open)
        )

    def tamper(self, *, opened: bool) -> None:
        """Someone opens or closes the housing."""
        self._take(lock_senses.tampered(self._mechanics, opened=opened))

    def set_battery(self, percent: int) -> None:
        """Other cells: 0..100 percent full."""
        self._drain_to(Battery(Battery.CAPACITY_UAH * percent // 100))

    def connected(self) -> None:
        """A gateway connected, which costs energy."""
        self._drain_to(self._memory.battery.drained(Battery.CONNECTION_UAH))

    # --- what gateways have it do -----------------------------------------------------
    def begin(self, id_: bytes, content: bytes, turn: Turn, hold_ms: int) -> None:
        """Store a command and start it. NotNowError when another movement must end first."""
        step = lock_state.command(
            self._mechanics,
            self._memory.battery,
            turn,
            self.now_ms,
            self._limits,
            hold_ms=hold_ms,
        )
        self.faults.cut(PowerCut.BEFORE_STORING)
        self.keep(self._memory.begun(StoredCommand(id_, content, turn)))
        self.faults.cut(PowerCut.AFTER_STORING)
        self._ended[id_] = asyncio.get_running_loop().create_future()
        self._take(step)

    async def ended(self, id_: bytes) -> None:
        """Wait until the movement of a command, if it moves still, has ended."""
        ending = self._ended.get(id_)
        if ending is not None:
            await asyncio.shield(ending)

    # --- effects ---------------------------------------------------------------------
    def _take(self, step: tuple[lock_state.Mechanics, tuple[Effect, ...]]) -> None:
        self._mechanics, effects = step
        self._carry_out(effects)
        self.on_change()
        self._wake.set()

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        """One durable write for everything that is to be remembered, then the motor."""
        memory = replace(self._memory, jammed=self._mechanics.mechanism is Mechanism.JAMMED)
        running = memory.running
        settled: Verdict | None = None
        for effect in effects:
            match effect:
                case Note(kind, value):
                    memory = memory.noted(kind, value, self.now_ms)
                case Settle(verdict) if running is not None:
                    memory = memory.settled(running.id, verdict)
                    settled = verdict
                case Drive():
                    self._drive = effect
                case _:  # a command that this body never stored cannot settle
                    raise AssertionError(effect)
        if memory != self._memory:
            self.keep(memory)
        if running is not None and settled is not None and running.id in self._ended:
            self._ended.pop(running.id).set_result(None)

    def _resume_interrupted(self) -> None:
        """At start: a command without verdict gets the one that the sensors show."""
        memory = self._memory.noted(EventKind.STARTED, 0, self.now_ms)
        running = memory.running
        if running is not None:
            positions = self.machine.positions
            verdict = lock_senses.interrupted(
                running.turn, positions[Part.BOLT], positions[Part.LATCH]
            )
            memory = memory.settled(running.id, verdict)
        self.keep(memory)

    def _drain_to(self, battery: Battery) -> None:
        notes = lock_senses.drained(self._memory.battery, battery)
        self._memory = replace(self._memory, battery=battery)  # written with the next write
        self._take((self._mechanics, notes))

    # --- the motor and the deadlines --------------------------------------------------
    async def run(self) -> None:
        """Turn the motor when asked and keep every deadline, until cancelled. PowerLostError."""
        motor: asyncio.Task[Input] | None = None
        try:
            while True:
                if self._drive is not None:
                    await _stop(motor)
                    drive, self._drive = self._drive, None
                    motor = asyncio.create_task(self._turn(drive), name="motor")
                await self._wait(motor)
                # What an overtaken turn reports is not about the stage that overtook it.
                if motor is not None and motor.done() and self._drive is None:
                    happened, motor = motor.result(), None
                    self._take(
                        lock_state.advance(self._mechanics, happened, self.now_ms, self._limits)
                    )
                self._keep_deadlines()
                if self._mechanics.stage in _AT_REST and self._drive is None:
                    await _stop(motor)  # it missed its deadline
                    motor = None
        finally:
            await _stop(motor)

    async def _turn(self, drive: Drive) -> Input:
        running = self._memory.running
        command = running.id if running is not None else None
        self._drain_to(self._memory.battery.drained(Battery.TURN_UAH))
        if command is not None and self.faults.strikes(PowerCut.MID_TURN):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.machine.motor_ms / 2000):
                    await self.machine.turn(drive.turn, command)
            raise PowerLostError(PowerCut.MID_TURN.value)
        reached = await self.machine.turn(drive.turn, command)
        if command is not None:
            self.faults.cut(PowerCut.AFTER_TURN)
        return Input.REACHED if reached else Input.STALLED

    async def _wait(self, motor: asyncio.Task[Input] | None) -> None:
        """Until the motor stops, something is asked, or a deadline has come."""
        dues = [d for d in (self._mechanics.due_ms, self._mechanics.ajar_due_ms) if d is not None]
        timeout = max(0, min(dues) - self.now_ms) / 1000 if dues else None
        woken = asyncio.create_task(self._wake.wait(), name="lock wake")
        try:
            await asyncio.wait(
                {woken} if motor is None else {woken, motor},
                timeout=timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            await _stop(woken)
        self._wake.clear()

    def _keep_deadlines(self) -> None:
        due = self._mechanics.due_ms
        if due is not None and self.now_ms >= due:
            self._take(lock_state.advance(self._mechanics, Input.DUE, self.now_ms, self._limits))
        ajar = self._mechanics.ajar_due_ms
        if ajar is not None and self.now_ms >= ajar:
            self._take(lock_senses.door_waited(self._mechanics, self.now_ms))


async def _stop(task: asyncio.Task[Input] | asyncio.Task[bool] | None) -> None:
    if task is None:
        return
    task.cancel()
    await asyncio.wait({task})
