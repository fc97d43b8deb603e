"""A lock that speaks our protocol, as a door sees it: the port `Lock` over radio or a wire.

A command leaves once and is never sent again. What is certain is said so: when
the command cannot have left, REFUSED; when the link died or the lock fell
silent after it left, UNKNOWN, and `result_of` asks later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from firmware_proto.codes import FAULTS, ID_BYTES, Fault, Outcome, Reason
from firmware_proto.framing import Framing, GattFraming
from firmware_proto.lock_messages import Done, GetState, State, Unlatch
from firmware_proto.messages import FaultMessage, GetResult, Message
from gatewayd.budget import Budget
from gatewayd.conversation import NotSentError, random_channel
from gatewayd.core.backoff import Backoff
from gatewayd.core.model import CommandId, Verdict
from gatewayd.lock_connection import (
    GatewayIdentity,
    LockConnection,
    LockIdentity,
    Remembered,
    connect,
)
from gatewayd.lock_timing import KEPT, LockTiming
from gatewayd.ports import LinkClosedError, RadioError
from gatewayd.ports.process import Clock, Entropy, Pulse
from gatewayd.ports.radio import Central, Link
from gatewayd.vitals import UNWATCHED

UNREACHABLE: Final = Verdict(Outcome.REFUSED, Reason.LOCK_UNREACHABLE)
SILENT: Final = Verdict(Outcome.UNKNOWN, Reason.LOCK_SILENT)

CONNECTING_S: Final = 120.0
"""More than connecting takes, also when others have their turn before."""

_NOT_MOVED: Final = {Fault.BUSY: Reason.BUSY, Fault.CLOCK_EXPIRED: Reason.COMMAND_EXPIRED}


@dataclass(frozen=True, slots=True)
class _Reading:
    """The lock's clock, and the gateway's steady clock when the reading came in."""

    lock_ms: int
    at_s: float


class RemoteLock:
    """`ports.lock.Lock` for one lock. Its calls wait for each other; close it when done.

    `framing` fits the links of `central`; GATT when left out. `on_state` hears
    every authenticated `State`, asked for or reported; `on_dialled` whether a
    dial made the lock ready. `budget` is a battery lock's: what nobody opens
    with is dialled only within it.
    """

    def __init__(  # noqa: PLR0913 - what a lock client is made of
        self,
        central: Central,
        lock: LockIdentity,
        gateway: GatewayIdentity,
        clock: Clock,
        entropy: Entropy,
        *,
        framing: Callable[[Link], Framing] | None = None,
        timing: LockTiming | None = None,
        on_state: Callable[[State], None] | None = None,
        on_dialled: Callable[[bool], None] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.heard_s = float("-inf")
        """When the lock last told its state."""
        self._central = central
        self._lock = lock
        self._gateway = gateway
        self._clock = clock
        self._entropy = entropy
        self._framing = framing or self._gatt
        self._timing = timing or KEPT
        self._on_state = on_state
        self._on_dialled = on_dialled
        self._budget = budget
        self._woken = 0
        self._turn = asyncio.Lock()
        self._connection: LockConnection | None = None
        self._remembered: Remembered | None = None
        self._reading: _Reading | None = None
        self._commanded_s = float("-inf")
        self._idle: asyncio.TimerHandle | None = None

    # --- the port ---------------------------------------------------------------------
    async def prepare(self) -> None:
        """Be connected, with a fresh reading of the lock's clock. RadioError otherwise."""
        async with self._in_turn():
            await self._ready()

    async def unlatch(self, command: CommandId, duration_ms: int) -> Verdict:
        """Open, once. Never raises for what the lock or the radio does."""
        async with self._in_turn():
            try:
                connection, reading = await self._ready()
            except RadioError:
                return UNREACHABLE
            await self._space()
            elapsed_ms = int((self._now_s() - reading.at_s) * 1000)
            deadline_ms = reading.lock_ms + elapsed_ms + self._timing.ttl_ms
            try:
                answer = await self._ask(connection, Unlatch(command, deadline_ms, duration_ms))
            except NotSentError:
                return UNREACHABLE
            except (LinkClosedError, TimeoutError):
                await self._drop()
                return SILENT
            return self._verdict(answer)

    async def result_of(self, command: CommandId) -> Verdict | None:
        """Ask the lock what became of a command; None while it cannot say.

        Nor is it asked while that would cost more than the battery's budget has.
        """
        async with self._in_turn(), self._upkeep() as wait_s:
            if wait_s:
                return None
            deadline_s = self._now_s() + self._timing.answer_s
            while self._now_s() < deadline_s:
                try:
                    connection, _ = await self._ready()
                    await self._space()
                    question = GetResult(self._entropy.token_bytes(ID_BYTES), command)
                    answer = await self._ask(connection, question)
                except (RadioError, LinkClosedError, TimeoutError):
                    await self._drop()
                    return None
                if isinstance(answer, Done):
                    return self._verdict(answer)
                if not isinstance(answer, FaultMessage) or answer.fault is not Fault.BUSY:
                    return None
            return None  # it was moving all the time

    async def close(self) -> None:
        """Let the link go. The next call dials again, and resumes."""
        async with self._turn:
            if self._idle is not None:
                self._idle.cancel()
            await self._drop()

    async def keep_warm(self, pulse: Pulse = UNWATCHED) -> None:
        """Stay connected until cancelled: a task for a door whose lock may be kept awake."""
        backoff = Backoff()
        while True:
            pulse.beat(CONNECTING_S)
            wait_s = await self.look()
            if not wait_s and self._connection is not None:
                backoff = backoff.connected(self._now_s())
                await self._stay(self._connection, pulse)
            backoff, pause_s = backoff.failed(self._now_s(), self._entropy.fraction())
            wait_s = max(wait_s, min(pause_s, self._timing.retry_at_most_s))
            pulse.beat(wait_s + CONNECTING_S)
            await asyncio.sleep(wait_s)

    async def _stay(self, connection: LockConnection, pulse: Pulse) -> None:
        """Until this connection is gone; meanwhile ask how the lock is, where that is due."""
        while connection.alive:
            pulse.waits()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timing.poll_s):
                    await connection.gone()
            if connection.alive:
                pulse.beat(CONNECTING_S)
                await self.look()

    async def look(self) -> float:
        """Be connected, if the battery's budget allows it. Seconds to wait until it will."""
        async with self._in_turn(), self._upkeep() as wait_s:
            if not wait_s:
                with contextlib.suppress(RadioError):
                    await self._ready()
            return wait_s

    # --- connecting -------------------------------------------------------------------
    async def _ready(self) -> tuple[LockConnection, _Reading]:
        """A live connection and a reading young enough for deadlines. RadioError."""
        connection, reading = self._connection, self._reading
        if connection is None or not connection.alive:
            return await self._connected()
        if reading is not None and self._now_s() - reading.at_s <= self._timing.clock_stale_s:
            return connection, reading
        try:
            return connection, await self._read_clock(connection)
        except RadioError:
            return await self._connected()

    async def _connected(self) -> tuple[LockConnection, _Reading]:
        """As `_agree`; whoever wants to know hears whether it came about."""
        try:
            ready = await self._agree()
        except RadioError:
            if self._on_dialled is not None:
                self._on_dialled(False)
            raise
        if self._on_dialled is not None:
            self._on_dialled(True)
        return ready

    async def _agree(self) -> tuple[LockConnection, _Reading]:
        """Dial, agree on keys, and prove both with the first question. RadioError."""
        await self._drop()
        try:
            async with asyncio.timeout(self._timing.ready_s):
                connection = await self._dial()
                try:
                    return connection, await self._read_clock(connection)
                except RadioError:
                    if not connection.resumed:
                        raise
                # The lock named the session, but its secret is another: shake hands.
                await self._drop()
                self._remembered = None
                connection = await self._dial()
                return connection, await self._read_clock(connection)
        except TimeoutError as error:
            await self._drop()
            raise RadioError("the lock was not ready in time") from error
        except BaseException:
            await self._drop()
            raise

    async def _dial(self) -> LockConnection:
        link = await self._central.dial(self._lock.address)
        self._woken += 1
        self._connection = await connect(
            link,
            self._lock,
            self._gateway,
            self._entropy,
            framing=self._framing(link),
            remembered=self._remembered,
            heard=self._heard,
        )
        self._connection.start()
        return self._connection

    def _gatt(self, link: Link) -> Framing:
        return GattFraming(link.mtu, random_channel(self._entropy))

    async def _read_clock(self, connection: LockConnection) -> _Reading:
        """A reading that the lock has authenticated, unlike the one in its Hello."""
        question = GetState(self._entropy.token_bytes(ID_BYTES))
        try:
            answer = await connection.ask(question, self._timing.state_s)
        except (LinkClosedError, TimeoutError) as error:
            raise RadioError(f"the lock does not answer: {error}") from error
        self._heard(answer)
        if not isinstance(answer, State):
            raise RadioError("the lock does not tell its state")
        return _Reading(answer.clock_ms, self._now_s())

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._remembered = connection.remembered or self._remembered
            await connection.close()

    # --- asking -------------------------------------------------------------------------
    async def _ask(self, connection: LockConnection, message: Message) -> Message:
        self._commanded_s = self._now_s()
        answer = await connection.ask(message, self._timing.answer_s)
        self._heard(answer)
        return answer

    def _heard(self, message: Message) -> None:
        """Every message tells the lock's time, and some its state."""
        if isinstance(message, Done | State):
            self._reading = _Reading(message.clock_ms, self._now_s())
        if isinstance(message, State):
            self.heard_s = self._now_s()
            if self._on_state is not None:
                self._on_state(message)

    def _verdict(self, answer: Message) -> Verdict:
        if isinstance(answer, Done):
            if answer.reason is Reason.COMMAND_EXPIRED:
                self._reading = None  # it was too old, or came too slowly
            return Verdict(answer.outcome, answer.reason)
        if isinstance(answer, FaultMessage) and not FAULTS[answer.fault].may_have_happened:
            return Verdict(Outcome.REFUSED, _NOT_MOVED.get(answer.fault, Reason.LOCK_FAULT))
        return Verdict(Outcome.UNKNOWN, Reason.LOCK_FAULT)

    async def _space(self) -> None:
        """Locks lose commands that come too close together."""
        await asyncio.sleep(self._commanded_s + self._timing.spacing_s - self._now_s())

    def _now_s(self) -> float:
        return self._clock.instant().boottime_s

    # --- battery, and letting an unused link go ---------------------------------------------
    @contextlib.asynccontextmanager
    async def _upkeep(self) -> AsyncIterator[float]:
        """For what nobody opens with: how many seconds it must wait; 0 when it may be done now.

        To use a link that is there costs nothing, nor does a dial that nobody answers.
        """
        awake = self._connection is not None and self._connection.alive
        if awake or self._budget is None:
            yield 0.0
            return
        woken, wait_s = self._woken, self._budget.upkeep_s()
        yield wait_s
        if not wait_s and self._woken == woken:
            self._budget.not_woken()

    @contextlib.asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        async with self._turn:
            if self._idle is not None:
                self._idle.cancel()
            try:
                yield
            finally:
                if self._timing.keep_s is not None:
                    loop = asyncio.get_running_loop()
                    self._idle = loop.call_later(self._timing.keep_s, self._abandon)

    def _abandon(self) -> None:
        if self._connection is not None and not self._turn.locked():
            self._connection.abandon()
