"""The gateway's client of a lock against the emulated lock: the port's promises, one by one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_proto.codes import (
    LOCK_SERVICE_UUID,
    BoltState,
    DoorState,
    Fault,
    LatchState,
    Outcome,
    Reason,
)
from firmware_proto.messages import FaultMessage, Message
from gatewayd.core.model import CommandId, Verdict
from gatewayd.emulators.lock_faults import PowerCut
from gatewayd.emulators.lock_wire import RADIO
from gatewayd.lock_timing import LockTiming
from gatewayd.locks import SILENT, UNREACHABLE, RemoteLock
from gatewayd.ports import RadioError
from gatewayd.ports.lock import Lock
from tests.support.household import (
    DOOR,
    IMPATIENT,
    LOCK_ADDRESS,
    QUICK,
    TIMING,
    LockSite,
    Operator,
    resolved,
    until,
)
from tests.support.links import Direction, FakeAir

OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
ONE = CommandId(b"1" * 16)
TWO = CommandId(b"2" * 16)
TO_LOCK = Direction.TO_PERIPHERAL


@pytest.fixture
def site(tmp_path: Path) -> LockSite:
    return LockSite(tmp_path, FakeAir(), Operator())


@pytest.fixture
async def client(site: LockSite) -> AsyncIterator[RemoteLock]:
    client = site.client()
    yield client
    await client.close()


@pytest.fixture
async def impatient(site: LockSite) -> AsyncIterator[RemoteLock]:
    client = site.client(timing=IMPATIENT)
    yield client
    await client.close()


def test_it_is_a_lock(site: LockSite) -> None:
    port: Lock = site.client()
    assert port is not None


async def test_opens(site: LockSite, client: RemoteLock) -> None:
    async with site.power():
        assert await client.unlatch(ONE, 100) == OPENED
    assert site.machine.openings_for(ONE) == 1


@pytest.mark.parametrize("mtu", [23, 24, 100, 247, 517])
async def test_opens_at_every_mtu(site: LockSite, client: RemoteLock, mtu: int) -> None:
    site.air.mtu = mtu
    async with site.power():
        assert await client.unlatch(ONE, 100) == OPENED
        await client.close()
        assert await client.unlatch(TWO, 100) == OPENED


async def test_a_prepared_link_opens_without_a_dial(site: LockSite, client: RemoteLock) -> None:
    async with site.power():
        await client.prepare()
        before = len(site.air.sent)
        assert await client.unlatch(ONE, 100) == OPENED
        assert len(site.air.dials) == 1
        command = site.air.sent[before]
    assert len(site.air.fragments(0)) > before
    assert command.connection == 0


async def test_the_second_connection_resumes(site: LockSite, client: RemoteLock) -> None:
    async with site.power():
        await client.prepare()
        first = len(b"".join(site.air.fragments(0)))
        await client.close()
        assert await client.unlatch(ONE, 100) == OPENED
        handshakes = [f for f in site.air.fragments(1) if f[2] & 0x80 and f[5] == 1]
    assert first > 500
    assert not handshakes


async def test_the_secret_survives_a_restart_of_the_lock(
    site: LockSite, client: RemoteLock
) -> None:
    async with site.power():
        await client.prepare()
    await client.close()
    async with site.power() as lock:
        assert lock.body.memory.secret is not None
        session = lock.body.memory.secret.session
        await client.prepare()
        assert lock.body.memory.secret.session == session


async def test_a_new_epoch_means_a_handshake(site: LockSite, client: RemoteLock) -> None:
    async with site.power():
        await client.prepare()
    await client.close()
    site.store.save(site.store.load().forgot_sessions())
    async with site.power():
        assert await client.unlatch(ONE, 100) == OPENED


async def test_another_secret_under_the_same_name_means_a_handshake(
    site: LockSite, client: RemoteLock
) -> None:
    async with site.power():
        await client.prepare()
    await client.close()
    memory = site.store.load()
    assert memory.secret is not None
    site.store.save(replace(memory, secret=replace(memory.secret, secret=bytes(32))))
    async with site.power():
        assert await client.unlatch(ONE, 100) == OPENED
    assert len(site.air.dials) == 3


async def test_an_absent_lock_is_unreachable(site: LockSite, client: RemoteLock) -> None:
    assert await client.unlatch(ONE, 100) == UNREACHABLE
    assert await client.result_of(ONE) is None
    with pytest.raises(RadioError):
        await client.prepare()


async def test_a_lock_that_says_nothing_is_unreachable(
    site: LockSite, impatient: RemoteLock
) -> None:
    site.air.peripheral(LOCK_ADDRESS, LOCK_SERVICE_UUID)
    assert await impatient.unlatch(ONE, 100) == UNREACHABLE


async def test_another_lock_is_not_commanded(site: LockSite, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = LockSite(tmp_path / "other", site.air, Operator())
    client = site.client()
    async with other.power():
        assert await client.unlatch(ONE, 100) == UNREACHABLE
    assert other.machine.ledger == []
    await client.close()


async def test_a_lock_with_another_key_id_is_not_commanded(site: LockSite) -> None:
    site.identity = replace(site.identity, key_id=b"\x18")
    client = site.client()
    async with site.power():
        assert await client.unlatch(ONE, 100) == UNREACHABLE
    assert site.machine.ledger == []
    await client.close()


@pytest.mark.parametrize(
    "wrong", ["another door", "another operator", "older generation"], ids=lambda text: text
)
async def test_a_lock_refuses_a_gateway_that_may_not(site: LockSite, wrong: str) -> None:
    gateway = {
        "another door": site.operator.gateway(doors={"cellar": 9}),
        "another operator": Operator().gateway(),
        "older generation": site.operator.gateway(doors={DOOR: 2}),
    }[wrong]
    good, bad = site.client(), site.client(gateway)
    async with site.power():
        assert await good.unlatch(ONE, 1) == OPENED
        await good.close()
        assert await bad.unlatch(TWO, 100) == UNREACHABLE
        await bad.close()
        assert await good.result_of(ONE) == OPENED
    assert site.machine.openings == 1
    await good.close()


async def test_an_expired_gateway_still_opens(site: LockSite) -> None:
    client = site.client(site.operator.gateway(expires=1 + 1_789_999_000))
    async with site.power():
        assert await client.unlatch(ONE, 100) == OPENED
    await client.close()


async def test_a_higher_generation_ends_the_lower_one_for_good(site: LockSite) -> None:
    old, new = site.client(), site.client(site.operator.gateway(doors={DOOR: 4}))
    async with site.power():
        assert await old.unlatch(ONE, 1) == OPENED
        await old.close()
        await new.prepare()
        assert site.store.load().generation == 4
        await new.close()
        assert await old.unlatch(TWO, 100) == UNREACHABLE
    async with site.power():
        assert await old.unlatch(TWO, 100) == UNREACHABLE
        assert await new.unlatch(TWO, 100) == OPENED
    await old.close()
    await new.close()


async def test_a_jam_is_told_and_stays_until_a_good_movement(
    site: LockSite, client: RemoteLock
) -> None:
    site.machine.blocked = True
    async with site.power() as lock:
        assert await client.unlatch(ONE, 1) == Verdict(Outcome.REFUSED, Reason.JAMMED)
        assert lock.body.memory.jammed
        site.machine.blocked = False
        assert await client.unlatch(TWO, 1) == OPENED
        assert not lock.body.memory.jammed
    assert site.machine.openings_for(ONE) == 0


async def test_low_battery_and_lost_calibration_are_told(
    site: LockSite, client: RemoteLock
) -> None:
    async with site.power() as lock:
        lock.body.set_battery(2)
        assert await client.unlatch(ONE, 1) == Verdict(Outcome.REFUSED, Reason.LOW_VOLTAGE)
        lock.body.set_battery(10)
        assert await client.unlatch(TWO, 1) == OPENED
    site.machine.calibrated = False
    async with site.power():
        three = CommandId(b"3" * 16)
        assert await client.unlatch(three, 1) == Verdict(Outcome.REFUSED, Reason.UNCALIBRATED)


async def test_a_late_answer_counts(site: LockSite, client: RemoteLock) -> None:
    async with site.power():
        await client.prepare()
        site.faults.answer_after_s = 0.2
        assert await client.unlatch(ONE, 1) == OPENED


async def test_silence_is_unknown_and_resolved_later(site: LockSite, impatient: RemoteLock) -> None:
    async with site.power():
        await impatient.prepare()
        site.faults.mute = True
        assert await impatient.unlatch(ONE, 1) == SILENT
        assert await impatient.result_of(ONE) is None
        site.faults.mute = False
        assert await impatient.result_of(ONE) == OPENED
        assert await impatient.result_of(TWO) == Verdict(Outcome.REFUSED, Reason.COMMAND_NEVER_SEEN)
    assert site.machine.openings_for(ONE) == 1


async def test_a_movement_under_way_is_waited_for(site: LockSite, client: RemoteLock) -> None:
    site.machine.motor_ms = 150
    async with site.power():
        await client.prepare()
        asking = asyncio.create_task(client.unlatch(ONE, 1))
        await until(lambda: site.store.load().running is not None)
        site.air.connections[-1].cut()
        assert await asking == SILENT
        assert await client.result_of(ONE) == OPENED
        site.machine.motor_ms = 20
    assert site.machine.openings == 1


async def test_a_movement_that_never_ends_is_not_waited_for(
    site: LockSite, impatient: RemoteLock
) -> None:
    site.machine.motor_ms = 100_000
    async with site.power():
        await impatient.prepare()
        asking = asyncio.create_task(impatient.unlatch(ONE, 1))
        await until(lambda: site.store.load().running is not None)
        site.air.connections[-1].cut()
        assert await asking == SILENT
        assert await impatient.result_of(ONE) is None


@pytest.mark.parametrize("cut", PowerCut)
async def test_power_loss_is_never_called_refused_when_it_moved(
    site: LockSite, client: RemoteLock, cut: PowerCut
) -> None:
    async with site.power():
        await client.prepare()
        site.faults.power_cut = cut
        assert await client.unlatch(ONE, 1) == SILENT
        assert await client.result_of(ONE) is None
    after = {
        PowerCut.BEFORE_STORING: Verdict(Outcome.REFUSED, Reason.COMMAND_NEVER_SEEN),
        PowerCut.AFTER_STORING: Verdict(Outcome.REFUSED, Reason.LOCK_FAULT),
        PowerCut.MID_TURN: Verdict(Outcome.UNKNOWN, Reason.LOCK_FAULT),
        PowerCut.AFTER_TURN: OPENED,
        PowerCut.BEFORE_ANSWER: OPENED,
    }[cut]
    async with site.power():
        assert await client.result_of(ONE) == after
        assert await client.unlatch(TWO, 1) == OPENED
    assert site.machine.openings_for(ONE) == (after == OPENED)
    assert site.machine.openings_for(TWO) == 1


@pytest.mark.parametrize("loses", [False, True], ids=["arrives", "lost"])
@pytest.mark.parametrize("resumed", [False, True], ids=["handshake", "resumed"])
async def test_cut_at_every_step(site: LockSite, resumed: bool, loses: bool) -> None:
    site.air.cut_loses_fragment = loses
    site.machine.motor_ms = 1
    async with site.power():
        for step in range(40):
            client = site.client()
            if resumed:
                await client.prepare()
                await client.close()
            site.air.cut_at = step
            command = CommandId(bytes([resumed, loses]) + step.to_bytes(14))
            whole = verdict = await client.unlatch(command, 1)
            site.air.cut_at = None
            moved = site.machine.openings_for(command)
            assert moved <= 1
            if verdict.outcome is Outcome.UNKNOWN:
                verdict = await resolved(client, command)
                moved = site.machine.openings_for(command)
            assert (verdict.outcome is Outcome.CONFIRMED) == (moved == 1)
            await client.close()
            if whole == OPENED:
                break
        else:
            pytest.fail("never got through")
    assert step > 2


async def test_captured_bytes_open_nothing_again(site: LockSite, client: RemoteLock) -> None:
    async with site.power():
        assert await client.unlatch(ONE, 1) == OPENED
        await client.close()
        assert await client.unlatch(TWO, 1) == OPENED
        assert len(site.air.connections) == 2
        # on the same connection
        link = site.air.connections[1].central_end
        sent = site.air.fragments(1, direction=Direction.TO_PERIPHERAL)
        await until(lambda: site.machine.openings == 2)
        await site.air.replay(link, sent[-1:])
        await until(lambda: not site.air.connections[1].alive)
        # on new ones
        for number in (0, 1):
            link = await site.air.central(LOCK_SERVICE_UUID).dial(LOCK_ADDRESS)
            await site.air.replay(
                link, site.air.fragments(number, direction=Direction.TO_PERIPHERAL)
            )
            await until(lambda link=link: link.closed)
    assert site.machine.openings == 2


async def test_a_command_that_arrives_too_late_moves_nothing(site: LockSite) -> None:
    client = site.client(timing=replace(TIMING, ttl_ms=30))
    async with site.power():
        await client.prepare()
        site.air.delay_s = 0.06
        expired = Verdict(Outcome.REFUSED, Reason.COMMAND_EXPIRED)
        assert await client.unlatch(ONE, 1) == expired
        site.air.delay_s = 0.0
        assert await client.unlatch(TWO, 1) == OPENED
    assert site.machine.openings == 1
    await client.close()


async def test_an_old_reading_of_the_clock_is_taken_anew(
    site: LockSite, client: RemoteLock
) -> None:
    async with site.power():
        await client.prepare()
        before = len(site.states)
        await client.prepare()
        assert len(site.states) == before
        site.clock.skip_s += 601
        await client.prepare()
        assert len(site.states) == before + 1


async def test_a_dead_link_found_while_reading_the_clock_is_replaced(
    site: LockSite, impatient: RemoteLock
) -> None:
    async with site.power():
        await impatient.prepare()
        site.clock.skip_s += 601
        site.air.drop = lambda fragment: fragment.connection == 0
        await impatient.prepare()
        assert len(site.air.dials) == 2


async def test_commands_are_spaced_and_wait_for_each_other(site: LockSite) -> None:
    client = site.client(timing=replace(TIMING, spacing_s=0.1))
    async with site.power():
        await client.prepare()
        began = asyncio.get_running_loop().time()
        verdicts = await asyncio.gather(client.unlatch(ONE, 1), client.unlatch(TWO, 1))
        assert asyncio.get_running_loop().time() - began >= 0.1
    assert verdicts == [OPENED, OPENED]
    await client.close()


async def test_whatever_follows_a_command_follows_after_a_quarter_of_a_second(
    site: LockSite,
) -> None:
    client = site.client(timing=replace(TIMING, spacing_s=LockTiming().spacing_s))
    async with site.power():
        await client.prepare()
        before = len(site.air.sent)
        assert await client.unlatch(ONE, 1) == OPENED
        assert await client.unlatch(TWO, 1) == OPENED
        assert await client.result_of(ONE) == OPENED
        sent = [each for each in site.air.sent[before:] if each.direction is TO_LOCK]
    gaps_s = [after.at - earlier.at for earlier, after in itertools.pairwise(sent)]
    assert len(gaps_s) == 2
    assert min(gaps_s) >= 0.25
    await client.close()


async def test_reports_reach_the_door(site: LockSite, client: RemoteLock) -> None:
    async with site.power() as lock:
        assert await client.unlatch(ONE, 50) == OPENED
        lock.body.move_door(is_open=True)
        await until(lambda: site.states[-1].door_state is DoorState.OPEN)
        await until(lambda: site.states[-1].door_state is DoorState.AJAR)
        await until(lambda: site.states[-1].latch is LatchState.REST)
        assert site.states[-1].bolt is BoltState.UNLOCKED
        assert LatchState.UNLATCHED in {state.latch for state in site.states}


async def test_an_unused_link_is_let_go(site: LockSite) -> None:
    client = site.client(timing=replace(TIMING, keep_s=0.05))
    async with site.power():
        await client.prepare()
        assert site.air.connections[0].alive
        await until(lambda: not site.air.connections[0].alive)
        assert await client.unlatch(ONE, 1) == OPENED
        assert len(site.air.dials) == 2
        await client.prepare()
    await client.close()
    await asyncio.sleep(0.06)


async def test_a_link_in_use_is_not_let_go(site: LockSite) -> None:
    client = site.client(timing=replace(TIMING, keep_s=0.03))
    site.machine.motor_ms = 100
    async with site.power():
        await client.prepare()
        assert await client.unlatch(ONE, 1) == OPENED
        assert len(site.air.dials) == 1
    await client.close()


async def test_a_warm_link_comes_back_by_itself(site: LockSite, client: RemoteLock) -> None:
    warm = asyncio.create_task(client.keep_warm())
    await asyncio.sleep(0.01)
    async with site.power():
        await until(lambda: len(site.states) == 1, 5)
        site.air.connections[-1].cut()
        await until(lambda: len(site.states) == 2, 8)
    warm.cancel()
    with pytest.raises(asyncio.CancelledError):
        await warm


async def test_a_lock_that_reports_nothing_is_asked_now_and_then(site: LockSite) -> None:
    client = site.client(timing=replace(TIMING, clock_stale_s=0.0, poll_s=0.03))
    silent = replace(QUICK, wire=replace(RADIO, reports=False))
    async with site.power(silent) as lock:
        warm = asyncio.create_task(client.keep_warm())
        await until(lambda: len(site.states) > 2)
        assert not site.states[-1].tamper
        lock.body.tamper(opened=True)
        await until(lambda: site.states[-1].tamper)
        assert len(site.air.dials) == 1
        site.air.connections[-1].cut()
        await until(lambda: len(site.air.dials) == 2, 5.0)
        warm.cancel()
        await asyncio.wait({warm})
    await client.close()


async def test_cancelling_a_caller_harms_nobody(site: LockSite, client: RemoteLock) -> None:
    site.machine.motor_ms = 60
    async with site.power():
        await client.prepare()
        asking = asyncio.create_task(client.unlatch(ONE, 1))
        await until(lambda: site.store.load().running is not None)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await client.result_of(ONE) == OPENED


async def test_cancelling_a_dial_leaves_no_link(site: LockSite, client: RemoteLock) -> None:
    site.air.delay_s = 0.05
    async with site.power():
        preparing = asyncio.create_task(client.prepare())
        await until(lambda: len(site.air.sent) == 1)
        preparing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await preparing
        await until(lambda: not site.air.connections[0].alive)


async def test_a_lock_that_answers_nonsense_is_not_believed(
    site: LockSite, client: RemoteLock
) -> None:
    async with site.power() as lock:
        await client.prepare()
        truth = lock.commands.answer

        says = [Fault.BUSY]

        async def faulty(message: Message) -> list[Message]:
            return [FaultMessage(message.request, says[0])]

        async def confused(message: Message) -> list[Message]:
            return [lock.body.state(message.request)]

        lock.commands.answer = faulty
        for fault, expected in [
            (Fault.BUSY, Verdict(Outcome.REFUSED, Reason.BUSY)),
            (Fault.CLOCK_EXPIRED, Verdict(Outcome.REFUSED, Reason.COMMAND_EXPIRED)),
            (Fault.UNSUPPORTED, Verdict(Outcome.REFUSED, Reason.LOCK_FAULT)),
            (Fault.ID_REUSED, Verdict(Outcome.UNKNOWN, Reason.LOCK_FAULT)),
        ]:
            says[0] = fault
            assert await client.unlatch(ONE, 1) == expected
        assert await client.result_of(ONE) is None
        await client.close()
        assert await client.unlatch(ONE, 1) == UNREACHABLE
        lock.commands.answer = confused
        assert await client.unlatch(ONE, 1) == Verdict(Outcome.UNKNOWN, Reason.LOCK_FAULT)
        assert await client.result_of(ONE) is None
        lock.commands.answer = truth
    assert site.machine.ledger == []


async def test_a_link_lost_before_the_command_left_is_no_unknown(
    site: LockSite, client: RemoteLock
) -> None:
    site.air.mtu = 23
    async with site.power():
        await client.prepare()
        site.air.cut_at = len(site.air.sent) + 1
        assert await client.unlatch(ONE, 1) == UNREACHABLE
    assert site.machine.ledger == []


async def test_without_a_listener_reports_are_dropped(site: LockSite) -> None:
    client = RemoteLock(
        site.air.central(LOCK_SERVICE_UUID),
        site.identity,
        site.operator.gateway(),
        site.clock,
        site.dice,
        timing=replace(TIMING, keep_s=0.01),
    )
    async with site.power():
        assert await client.unlatch(ONE, 1) == OPENED
    await client.close()
    await client.close()
