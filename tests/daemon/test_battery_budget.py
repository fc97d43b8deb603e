"""What wakes a battery lock: openings always, everything else within the budget."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_proto.codes import Action, Outcome, Presence, Reason
from firmware_proto.phone_messages import Open, Prepare, Result
from gatewayd.core.budget import OF_A_HOLDER, OF_THE_LOCK
from gatewayd.core.model import CommandId, DoorId, EntryKind
from gatewayd.emulators.visit import Visit
from gatewayd.emulators.wallet import Wallet
from gatewayd.lock_connection import LockIdentity
from tests.support.gateway import GATEWAY_ADDRESS, STREET, LoopTime, Site, barge_in, gateway
from tests.support.household import TIMING, new_key, until

DOOR = DoorId(STREET)
PER_USE = replace(TIMING, keep_s=0.01)
READY = (Outcome.CONFIRMED, Reason.OK)
SPARED = (Outcome.REFUSED, Reason.RATE_LIMITED)


@contextlib.asynccontextmanager
async def visiting(site: Site, wallet: Wallet) -> AsyncIterator[Visit]:
    there = await barge_in(await site.air.central().dial(GATEWAY_ADDRESS), wallet)
    try:
        yield there
    finally:
        await there.leave()


async def prepare(there: Visit) -> tuple[Outcome, Reason]:
    answer = await there.ask(Prepare(STREET))
    assert isinstance(answer, Result)
    return answer.outcome, answer.reason


async def tap(there: Visit, number: int) -> tuple[Outcome, Reason]:
    request = number.to_bytes(16, "big")
    answer = await there.ask(Open(request, STREET, Action.OPEN, Presence.TAP))
    assert isinstance(answer, Result)
    return answer.outcome, answer.reason


def spend_upkeep(site: Site, left: int = OF_THE_LOCK.most) -> None:
    for _ in range(left):
        assert site.gateway.budgets[DOOR].upkeep_s() == 0
    assert site.gateway.budgets[DOOR].upkeep_s() > 0


async def asleep(site: Site) -> None:
    """The lock's link has been let go."""
    await until(lambda: not any(c.alive for c in site.air.connections if c.peripheral.link_cap))


async def test_a_holder_cannot_keep_a_lock_awake(tmp_path: Path) -> None:
    lock_dials = []
    async with gateway(tmp_path, timing=PER_USE) as site:
        wallet, address = site.building.wallet(), site.building.locks[STREET].address
        async with visiting(site, wallet) as there:
            for number in range(3 * OF_A_HOLDER.most):
                answer = await prepare(there)
                assert answer == (READY if number < OF_A_HOLDER.most else SPARED)
                await until(site.gateway.door._dialling.task.done)
                await asleep(site)
            lock_dials.append(site.air.dials.count(address))
            assert lock_dials == [OF_A_HOLDER.most]
            assert site.kinds() == []
            # an opening is none of the budget's business
            assert await tap(there, 1) == READY
        async with visiting(site, site.building.wallet()) as another:
            assert await prepare(another) == READY
        site.building.clock.skip_s += OF_A_HOLDER.every_s
        async with visiting(site, wallet) as there:
            assert await prepare(there) == READY


async def test_holders_together_cannot_either_and_all_of_them_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path, timing=PER_USE, latch_ms=1) as site:
        holders = OF_THE_LOCK.most // OF_A_HOLDER.most
        for _ in range(holders):
            async with visiting(site, site.building.wallet()) as there:
                for _ in range(OF_A_HOLDER.most):
                    assert await prepare(there) == READY
        for number in range(3):
            async with visiting(site, site.building.wallet()) as there:
                assert await prepare(there) == SPARED
                assert await tap(there, number) == READY
                await site.latch_home()
        assert site.gateway.budgets[DOOR].refused == 3
        assert caplog.messages.count("door street: battery budget used up, Prepare is refused") == 1
        assert site.openings == 3


async def test_who_prepares_and_opens_is_never_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path, timing=PER_USE, latch_ms=1) as site:
        async with visiting(site, site.building.wallet()) as there:
            for number in range(2 * OF_A_HOLDER.most):
                assert await prepare(there) == READY
                assert await tap(there, number) == READY
                await site.latch_home()
        assert site.openings == 2 * OF_A_HOLDER.most


async def test_who_joins_has_not_wasted_anything(tmp_path: Path) -> None:
    async with gateway(tmp_path, timing=PER_USE, latch_ms=3000) as site:
        wallet = site.building.wallet()
        async with visiting(site, wallet) as there:
            for number in range(2 * OF_A_HOLDER.most):
                assert await prepare(there) == READY
                assert (await tap(there, number))[0] is Outcome.CONFIRMED
        assert site.openings == 1
        assert site.kinds().count(EntryKind.JOINED) == 2 * OF_A_HOLDER.most - 1


async def test_doubts_are_asked_about_only_within_the_budget(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        lock, command = site.gateway.locks[DOOR], CommandId(b"1" * 16)
        assert await lock.unlatch(command, 1) == await lock.result_of(command)
        await lock.close()
        spend_upkeep(site)
        dials = len(site.air.dials)
        assert await lock.result_of(command) is None
        assert await lock.look() == pytest.approx(OF_THE_LOCK.every_s, rel=0.01)
        assert len(site.air.dials) == dials
        await lock.prepare()  # for a holder: that is the door's to decide
        assert await lock.result_of(command) is not None  # for it is awake anyway
        assert await lock.look() == 0
        assert len(site.air.dials) == dials + 1
        await lock.close()
        site.building.clock.skip_s += OF_THE_LOCK.every_s
        assert await lock.result_of(command) is not None


async def test_a_dial_that_nobody_answers_costs_the_lock_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        await site.power_off()
        site.air.dial_deadline_s = 0.0
        for _ in range(2 * OF_THE_LOCK.most):
            assert await site.gateway.locks[DOOR].look() == 0
        site.power_on()
        assert await site.gateway.locks[DOOR].look() == 0
        assert "model" in site.gateway.conditions.report()[DOOR]


async def test_a_lock_that_answers_and_is_of_no_use_is_left_alone(tmp_path: Path) -> None:
    """Exchanged without telling the gateway, say: every try wakes it all the same."""
    async with gateway(tmp_path, serving=False) as site:
        lock = site.gateway.locks[DOOR]
        right = lock._lock
        lock._lock = LockIdentity(right.address, new_key().public_key(), b"", b"\x18")
        for _ in range(OF_THE_LOCK.most):
            assert await lock.look() == 0
        assert await lock.look() > 0
        assert len(site.air.dials) == OF_THE_LOCK.most


async def test_a_kept_link_that_breaks_and_breaks_is_dialled_within_the_budget(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, serving=False) as site:
        lock, time = site.gateway.locks[DOOR], LoopTime()

        def awake() -> bool:
            return lock._connection is not None and lock._connection.alive

        keeping = asyncio.create_task(lock.keep_warm())
        await until(awake)
        spend_upkeep(site, OF_THE_LOCK.most - 1)
        site.air.connections[-1].cut()
        await until(lambda: not awake())
        for _ in range(5):  # its back-off would have dialled again long ago
            await time.skip(lock._timing.retry_at_most_s)
            await asyncio.sleep(0.01)
        assert len(site.air.dials) == 1
        await time.skip(OF_THE_LOCK.every_s)
        await until(awake)
        assert len(site.air.dials) == 2
        keeping.cancel()
        await asyncio.wait({keeping})
