"""The emulated lock itself: every message, strangers, handshake limits, power."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_proto.codes import (
    LOCK_SERVICE_UUID,
    BoltState,
    EventKind,
    Fault,
    LatchState,
    Outcome,
    Reason,
)
from firmware_proto.framing import GattFraming
from firmware_proto.lock_messages import (
    AckEvents,
    Bolt,
    Done,
    Event,
    GetEvents,
    GetState,
    SetTime,
    State,
    Unbolt,
    Unlatch,
)
from firmware_proto.messages import FaultMessage, GetResult, Message
from firmware_proto.phone_messages import Prepare
from gatewayd.conversation import NotSentError
from gatewayd.core.model import CommandId
from gatewayd.emulators.lock import LockSettings
from gatewayd.emulators.lock_body import LockBody
from gatewayd.emulators.lock_commands import Commands
from gatewayd.emulators.lock_gate import HandshakeGate, TokenBucket
from gatewayd.emulators.lock_machine import Machine, Moved
from gatewayd.emulators.lock_state import Limits, Part, Position, Turn
from gatewayd.lock_connection import LockConnection, connect
from gatewayd.ports import LinkClosedError, RadioError
from tests.support import strangers
from tests.support.household import LOCK_ADDRESS, QUICK, LockSite, Operator, resolved, until
from tests.support.links import Direction, FakeAir

LATER = 2**40
ASKED = b"q" * 16


@pytest.fixture
def site(tmp_path: Path) -> LockSite:
    return LockSite(tmp_path, FakeAir(), Operator())


@contextlib.asynccontextmanager
async def connected(site: LockSite, heard: list[Message]) -> AsyncIterator[LockConnection]:
    link = await site.air.central(LOCK_SERVICE_UUID).dial(LOCK_ADDRESS)
    connection = await connect(
        link,
        site.identity,
        site.operator.gateway(),
        site.dice,
        framing=GattFraming(link.mtu, strangers.CHANNEL),
        remembered=None,
        heard=heard.append,
    )
    connection.start()
    try:
        yield connection
    finally:
        await connection.close()


async def ask(connection: LockConnection, message: Message) -> Message:
    return await connection.ask(message, 5.0)


def done(request: bytes, outcome: Outcome = Outcome.CONFIRMED, reason: Reason = Reason.OK):
    return (request, outcome, reason)


def told(answer: Message) -> tuple[bytes, Outcome, Reason]:
    assert isinstance(answer, Done)
    return (answer.request, answer.outcome, answer.reason)


async def test_every_question_is_answered(site: LockSite) -> None:
    heard: list[Message] = []
    async with site.power() as lock, connected(site, heard) as link:
        state = await ask(link, GetState(ASKED))
        assert isinstance(state, State)
        assert (state.bolt, state.latch, state.battery.percent) == (
            BoltState.UNLOCKED,
            LatchState.REST,
            99,
        )
        assert told(await ask(link, Bolt(b"b" * 16, LATER))) == done(b"b" * 16)
        assert told(await ask(link, Unbolt(b"u" * 16, LATER))) == done(b"u" * 16)
        assert told(await ask(link, Unlatch(b"l" * 16, LATER, 1))) == done(b"l" * 16)
        assert told(await ask(link, GetResult(ASKED, b"b" * 16))) == done(ASKED)
        assert told(await ask(link, SetTime(ASKED, 1_790_000_000))) == done(ASKED)
        offset = lock.body.memory.offset_ms
        assert offset is not None
        assert abs(offset + lock.body.now_ms - 1_790_000_000_000) < 5_000
    turns = [moved.turn for moved in site.machine.ledger[:3]]
    assert turns == [Turn.BOLT, Turn.UNBOLT, Turn.UNLATCH]


async def test_events_are_kept_until_acknowledged(site: LockSite) -> None:
    heard: list[Message] = []
    async with site.power() as lock, connected(site, heard) as link:
        assert told(await ask(link, Unlatch(b"l" * 16, LATER, 1))) == done(b"l" * 16)
        lock.body.tamper(opened=True)
        # an answer with many messages ends with Done; the first of them answers the question
        first = await ask(link, GetEvents(ASKED, 0))
        assert isinstance(first, Event)
        await until(lambda: any(isinstance(m, Done) for m in heard))
        events = [first, *(m for m in heard if isinstance(m, Event))]
        kinds = [event.kind for event in events]
        assert kinds[:3] == [EventKind.STARTED, EventKind.NEW_GENERATION, EventKind.COMMAND]
        assert EventKind.TAMPER in kinds
        assert [event.index for event in events] == list(range(1, len(events) + 1))
        assert told(await ask(link, AckEvents(ASKED, events[-1].index))) == done(ASKED)
        assert [event.index for event in lock.body.memory.events] in (
            [],
            [events[-1].index + 1],  # the latch may have come home meanwhile
        )
        assert isinstance(await ask(link, GetEvents(b"2" * 16, events[-1].index + 1)), Done)


async def test_one_id_moves_once_whatever_is_sent(site: LockSite) -> None:
    async with site.power(), connected(site, []) as link:
        command = Unlatch(b"l" * 16, LATER, 1)
        for _ in range(3):
            assert told(await ask(link, command)) == done(b"l" * 16)
        other = await ask(link, replace(command, duration_ms=2))
        assert other == FaultMessage(b"l" * 16, Fault.ID_REUSED)
        assert await ask(link, Bolt(b"l" * 16, LATER)) == FaultMessage(b"l" * 16, Fault.ID_REUSED)
    assert site.machine.openings == 1
    async with site.power(), connected(site, []) as link:
        assert told(await ask(link, command)) == done(b"l" * 16)
    assert site.machine.openings == 1


async def test_a_deadline_is_a_deadline(site: LockSite) -> None:
    async with site.power() as lock, connected(site, []) as link:
        late = Unlatch(b"l" * 16, lock.body.now_ms - 1, 1)
        expired = done(b"l" * 16, Outcome.REFUSED, Reason.COMMAND_EXPIRED)
        assert told(await ask(link, late)) == expired
        never = done(ASKED, Outcome.REFUSED, Reason.COMMAND_NEVER_SEEN)
        assert told(await ask(link, GetResult(ASKED, b"l" * 16))) == never
    assert site.machine.ledger == []


async def test_two_gateways_cannot_turn_it_at_once(site: LockSite) -> None:
    site.machine.motor_ms = 100
    settings = replace(QUICK, links=2)
    async with site.power(settings) as lock, connected(site, []) as one, connected(site, []) as two:
        first = asyncio.create_task(ask(one, Unlatch(b"1" * 16, LATER, 1)))
        await until(lambda: lock.body.memory.running is not None)
        assert await ask(two, Bolt(b"2" * 16, LATER)) == FaultMessage(b"2" * 16, Fault.BUSY)
        again = asyncio.create_task(ask(two, Unlatch(b"1" * 16, LATER, 1)))
        assert told(await first) == told(await again) == done(b"1" * 16)
        # held now: a bolt cannot be thrown against a drawn latch
        site.machine.motor_ms = 10
    assert site.machine.openings_for(b"1" * 16) == 1


async def test_a_bolt_is_not_thrown_while_the_latch_is_drawn(site: LockSite) -> None:
    async with site.power(), connected(site, []) as link:
        assert told(await ask(link, Unlatch(b"1" * 16, LATER, 60_000))) == done(b"1" * 16)
        assert await ask(link, Bolt(b"2" * 16, LATER)) == FaultMessage(b"2" * 16, Fault.BUSY)
        assert told(await ask(link, Unlatch(b"3" * 16, LATER, 1))) == done(b"3" * 16)


async def test_opening_again_while_the_latch_goes_home(site: LockSite) -> None:
    async with site.power() as lock, connected(site, []) as link:
        assert told(await ask(link, Unlatch(b"1" * 16, LATER, 1))) == done(b"1" * 16)
        site.machine.motor_ms = 100
        await until(lambda: site.machine.positions[Part.LATCH] is Position.BETWEEN)
        assert told(await ask(link, Unlatch(b"2" * 16, LATER, 1))) == done(b"2" * 16)
        assert site.machine.openings_for(b"2" * 16) == 1
        site.machine.motor_ms = 1
        await until(lambda: lock.body.mechanics.latch is LatchState.REST)


async def test_a_motor_that_never_reports_is_unknown(site: LockSite) -> None:
    site.machine.motor_ms = 100_000
    settings = LockSettings(limits=Limits(turn_ms=30))
    async with site.power(settings) as lock, connected(site, []) as link:
        answer = await ask(link, Bolt(b"1" * 16, LATER))
        assert told(answer) == done(b"1" * 16, Outcome.UNKNOWN, Reason.LOCK_FAULT)
        assert lock.body.mechanics.bolt is BoltState.UNKNOWN
    assert site.machine.ledger == []


async def test_the_clock_goes_on_where_the_last_write_left_it(site: LockSite) -> None:
    async with site.power():
        site.clock.skip_s += 1_000.0
        await asyncio.sleep(0)
        assert site.lock is not None
        site.lock.body.keep(site.lock.body.memory)
        before = site.store.load().clock_ms
        assert before >= 1_000_000
    site.clock.skip_s -= 1_000_000.0
    async with site.power() as lock:
        assert lock.body.now_ms >= before


async def test_a_message_for_somebody_else_is_a_fault(site: LockSite) -> None:
    body = LockBody(site.store, site.machine, lambda: 0)
    assert await Commands(body, 32).answer(Prepare("street")) == [
        FaultMessage(None, Fault.UNEXPECTED)
    ]


async def test_a_battery_runs_low_once(site: LockSite) -> None:
    async with site.power() as lock:
        lock.body.set_battery(16)
        lock.body.set_battery(15)
        lock.body.set_battery(14)
        lock.body.tamper(opened=True)
        low = [e for e in lock.body.memory.events if e.kind is EventKind.BATTERY_LOW]
        assert [event.value for event in low] == [15]
        assert lock.body.state(None).battery.low


async def test_whoever_watches_the_steel_is_told() -> None:
    seen: list[Moved | Turn] = []
    machine = Machine(motor_ms=1, on_turning=seen.append, on_moved=seen.append)
    assert await machine.turn(Turn.UNLATCH, b"c")
    machine.blocked = True
    assert not await machine.turn(Turn.RELEASE, None)
    assert seen == [Turn.UNLATCH, Moved(Turn.UNLATCH, b"c"), Turn.RELEASE]


# --- links ----------------------------------------------------------------------------
async def test_reports_stop_when_it_is_mute(site: LockSite) -> None:
    heard: list[Message] = []
    async with site.power() as lock, connected(site, heard) as link:
        await ask(link, GetState(ASKED))
        lock.body.move_door(is_open=True)
        await until(lambda: len(heard) == 1)
        site.faults.mute = True
        lock.body.move_door(is_open=False)
        await asyncio.sleep(0.02)
        assert len(heard) == 1


async def test_it_drops_the_link_at_every_step(site: LockSite) -> None:
    site.air.dial_deadline_s = 5.0  # it comes back, however slow this machine is
    site.machine.motor_ms = 1
    async with site.power():
        for step in range(30):
            site.faults.drop_link_at = step
            client = site.client()
            command = CommandId(step.to_bytes(16))
            verdict = await client.unlatch(command, 1)
            site.faults.drop_link_at = None
            if verdict.outcome is Outcome.REFUSED:
                assert site.machine.openings_for(command) == 0
            else:
                settled = await resolved(client, command)
                moved = site.machine.openings_for(command)
                assert moved == (settled.outcome is Outcome.CONFIRMED)
            await client.close()
            if verdict.outcome is Outcome.CONFIRMED:
                break
        else:
            pytest.fail("never got through")


async def test_too_many_requests_at_once_end_the_link(site: LockSite) -> None:
    site.machine.motor_ms = 1_000
    async with site.power(), connected(site, []) as link:
        asking = [
            asyncio.create_task(ask(link, Unlatch(n.to_bytes(16), LATER, 1))) for n in range(40)
        ]
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(result, LinkClosedError) for result in results)
    assert site.machine.openings <= 1


async def test_a_fault_of_ours_is_not_blamed_on_the_gateway(site: LockSite) -> None:
    async def broken(_: Message) -> list[Message]:
        raise ZeroDivisionError

    async def provoke() -> None:
        async with site.power() as lock:
            lock.commands.answer = broken
            async with connected(site, []) as link:
                with pytest.raises(LinkClosedError):
                    await ask(link, GetState(ASKED))

    with pytest.raises(BaseExceptionGroup) as caught:
        await provoke()
    assert caught.group_contains(ZeroDivisionError, depth=1)


async def test_a_gateway_that_refuses_the_lock_is_let_go(site: LockSite) -> None:
    site.identity = replace(site.identity, key_id=b"\x18")
    async with site.power():
        with pytest.raises(RadioError, match="another lock"):
            async with connected(site, []):
                pass
        site.identity = replace(site.identity, key_id=b"\x17")
        await still_opens(site)


async def test_only_requests_have_answers(site: LockSite) -> None:
    async with site.power(), connected(site, []) as link:
        with pytest.raises(TypeError):
            await ask(link, FaultMessage(None, Fault.BUSY))
        await link.close()
        with pytest.raises(NotSentError):
            await ask(link, GetState(ASKED))


# --- strangers --------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(10))
async def test_noise_is_thrown_out(site: LockSite, seed: int) -> None:
    async with site.power():
        link = await site.air.central(LOCK_SERVICE_UUID).dial(LOCK_ADDRESS)
        await strangers.babble(link, seed)
        await strangers.thrown_out(link, 4)
        await still_opens(site)


async def still_opens(site: LockSite) -> None:
    client = site.client()
    assert (await client.unlatch(CommandId(b"1" * 16), 1)).outcome is Outcome.CONFIRMED
    await client.close()


async def test_half_a_handshake_is_thrown_out(site: LockSite) -> None:
    async with site.power(replace(QUICK, handshake_s=0.1)):
        link = await site.air.central(LOCK_SERVICE_UUID).dial(LOCK_ADDRESS)
        await strangers.half_handshake(link)
        await strangers.thrown_out(link, 1)


async def test_a_forged_message_3_is_thrown_out(site: LockSite) -> None:
    async with site.power():
        link = await site.air.central(LOCK_SERVICE_UUID).dial(LOCK_ADDRESS)
        await strangers.forged_message_3(link, 1)
        await strangers.thrown_out(link, 1)
        await still_opens(site)


async def test_silence_and_slowness_are_thrown_out_after_two_seconds(site: LockSite) -> None:
    async with site.power():
        for slow in (False, True):
            began = asyncio.get_running_loop().time()
            link = await site.air.central(LOCK_SERVICE_UUID).dial(LOCK_ADDRESS)
            if slow:
                assert not await strangers.slow_sender(link, 1.1)
            await strangers.thrown_out(link, 3)
            assert 1.5 < asyncio.get_running_loop().time() - began < 5


async def test_a_hoarder_is_thrown_out(site: LockSite) -> None:
    async with site.power(replace(QUICK, handshake_s=0.1)):
        link = await site.air.central(LOCK_SERVICE_UUID).dial(LOCK_ADDRESS)
        await strangers.hoarder(link)
        await strangers.thrown_out(link, 1)


async def test_handshakes_are_limited_and_resumption_is_not(site: LockSite) -> None:
    settings = replace(QUICK, handshakes=2, refill_s=1_000.0, handshake_s=0.5)
    client = site.client()
    async with site.power(settings):
        await client.prepare()
        await client.close()
        link = await site.air.central(LOCK_SERVICE_UUID).dial(LOCK_ADDRESS)
        await strangers.half_handshake(link)
        answered = await strangers.thrown_out(link, 10)
        link = await site.air.central(LOCK_SERVICE_UUID).dial(LOCK_ADDRESS)
        await strangers.half_handshake(link)
        refused = await strangers.thrown_out(link, 10)
        assert len(b"".join(refused)) < len(b"".join(answered))
        verdict = await client.unlatch(CommandId(b"1" * 16), 1)
        assert verdict.outcome is Outcome.CONFIRMED
        await client.close()
        site.clock.skip_s += 1_000
        link = await site.air.central(LOCK_SERVICE_UUID).dial(LOCK_ADDRESS)
        await strangers.half_handshake(link)
        assert len(await strangers.thrown_out(link, 10)) == len(answered)


async def test_a_captured_resumption_is_refused(site: LockSite) -> None:
    client = site.client()
    async with site.power() as lock:
        await client.prepare()
        await client.close()
        assert (await client.unlatch(CommandId(b"1" * 16), 1)).outcome is Outcome.CONFIRMED
        await client.close()
        number = len(site.air.connections) - 1
        captured = site.air.fragments(number, Direction.TO_PERIPHERAL)
        kept = lock.body.memory.secret
        link = await site.air.central(LOCK_SERVICE_UUID).dial(LOCK_ADDRESS)
        await strangers.replayer(link, captured)
        await strangers.thrown_out(link, 1)
        assert lock.body.memory.secret == kept
    assert site.machine.openings == 1


def test_the_bucket_refills_to_its_capacity() -> None:
    bucket = TokenBucket(2, 10.0)
    assert [bucket.take(0), bucket.take(0), bucket.take(0)] == [True, True, False]
    assert [bucket.take(9), bucket.take(10), bucket.take(10)] == [False, True, False]
    assert [bucket.take(1_000), bucket.take(1_000), bucket.take(1_000)] == [True, True, False]


def test_the_gate_is_a_framing() -> None:
    gate = HandshakeGate(GattFraming(23, None), TokenBucket(1, 1.0), lambda: 0.0)
    fragments = GattFraming(23, strangers.CHANNEL).cut(strangers.message_1())
    assert gate.receive(fragments[0]) == []
    assert gate.held > 0
