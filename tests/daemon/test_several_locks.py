"""Several locks on one gateway, and one radio: what is wrong with one delays no other door.

Over the fake link, and with emulated locks on the virtual radio.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from firmware_proto.codes import LOCK_SERVICE_UUID, Action, Outcome, Presence, Reason
from gatewayd.core.budget import OF_A_HOLDER
from gatewayd.core.model import DoorId, Verdict
from gatewayd.door import Ask
from tests.support.gateway import (
    CELLAR,
    GATEWAY_ADDRESS,
    STREET,
    Building,
    Gateway,
    Site,
    assemble,
    gateway,
)
from tests.support.household import until
from tests.support.memory_log import MemoryLog
from tests.support.worlds import VirtualWorld

OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
DOORS = (STREET, CELLAR)
SOON_S = 1.5
"""Less than any of the deadlines that the other lock uses up; tests run on slow machines."""


def asking(running: Gateway, number: int) -> Ask:
    token = running.building.token(running.building.wallet())
    return Ask(token, number.to_bytes(16, "big"), Action.OPEN, Presence.TAP)


async def out_of_reach(site: Site) -> None:
    await site.power_off(CELLAR)
    site.air.dial_deadline_s = 4.0


async def takes_the_link_and_is_silent(site: Site) -> None:
    await site.power_off(CELLAR)
    site.air.peripheral(site.building.locks[CELLAR].address, LOCK_SERVICE_UUID)


async def falls_silent_after_the_handshake(site: Site) -> None:
    site.building.locks[CELLAR].faults.mute = True


async def never_stops_turning(site: Site) -> None:
    site.building.locks[CELLAR].machine.motor_ms = 60_000


@pytest.mark.parametrize(
    "trouble",
    [
        out_of_reach,
        takes_the_link_and_is_silent,
        falls_silent_after_the_handshake,
        never_stops_turning,
    ],
)
async def test_a_lock_that_hangs_delays_no_other_door(
    tmp_path: Path, trouble: Callable[[Site], object]
) -> None:
    async with gateway(tmp_path, doors=DOORS, serving=False, latch_ms=1) as site:
        doors = site.gateway.doors
        await trouble(site)
        stuck = asyncio.create_task(doors[DoorId(CELLAR)].open(asking(site.gateway, 99)))
        await until(lambda: len(site.air.dials) == 1)
        for number in range(3):
            async with asyncio.timeout(SOON_S):
                answer = await doors[DoorId(STREET)].open(asking(site.gateway, number))
            assert answer.verdict == OPENED
            assert not stuck.done()
            await site.latch_home()
        stuck.cancel()
        for door in doors.values():
            await door.stop()


async def test_the_lock_is_dialled_while_the_log_writes(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        site.log.gate.clear()
        opening = asyncio.create_task(site.gateway.door.open(asking(site.gateway, 1)))
        await until(lambda: site.gateway.conditions.report()[STREET].get("reached"))
        sent = len(site.air.sent)
        await asyncio.sleep(0.05)
        assert (site.kinds(), len(site.air.sent)) == ([], sent)  # ready, and not commanded
        site.log.gate.set()
        assert (await opening).verdict == OPENED


# --- on the virtual radio -------------------------------------------------------------
@contextlib.asynccontextmanager
async def house(directory: Path, *present: str) -> AsyncIterator[Gateway]:
    """A gateway of two doors; only the locks of those that are `present` are on the air."""
    building, world = Building(directory, DOORS), VirtualWorld(247)
    try:
        _, central = await world.gateway(GATEWAY_ADDRESS)
        async with asyncio.TaskGroup() as tasks:
            running = await assemble(building, central, tasks, MemoryLog())
            background = [
                tasks.create_task(lock.run(await world.lock(lock.address)))
                for lock in (building.locks[door] for door in present)
            ]
            try:
                yield running
            finally:
                for door in running.doors.values():
                    await door.stop()
                for lock in running.locks.values():
                    await lock.close()
                for task in background:
                    task.cancel()
    finally:
        await world.close()


async def test_one_radio_dials_two_locks_and_one_of_them_is_away(tmp_path: Path) -> None:
    async with house(tmp_path, STREET) as running:
        cellar = running.doors[DoorId(CELLAR)]
        absent = asyncio.create_task(cellar.open(asking(running, 99)))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(SOON_S):
            answer = await running.doors[DoorId(STREET)].open(asking(running, 1))
        assert answer.verdict == OPENED
        assert not absent.done()
        absent.cancel()


async def test_both_locks_are_kept_and_tell_what_happens_to_them(tmp_path: Path) -> None:
    async with house(tmp_path, *DOORS) as running:
        warm = [asyncio.create_task(lock.keep_warm()) for lock in running.locks.values()]
        known = running.conditions
        await until(lambda: all("model" in told for told in known.report().values()), 5.0)
        cellar = running.building.locks[CELLAR].lock
        assert cellar is not None
        cellar.body.tamper(opened=True)
        cellar.body.set_battery(10)
        await until(lambda: len(known.report()[CELLAR]["troubles"]) == 2)
        assert known.report()[CELLAR]["troubles"] == ["tampered", "low_battery"]
        assert known.report()[STREET]["troubles"] == []
        assert str(known) == "cellar: tampered, low battery"
        for task in warm:
            task.cancel()
        await asyncio.wait(warm)


async def test_prepare_has_its_bound_and_open_has_none(tmp_path: Path) -> None:
    async with house(tmp_path, STREET) as running:
        door, ask = running.doors[DoorId(STREET)], asking(running, 1)
        decisions = [door.prepare(ask.token) for _ in range(OF_A_HOLDER.most + 1)]
        assert [each.allowed for each in decisions] == [True] * OF_A_HOLDER.most + [False]
        assert decisions[-1].reason is Reason.RATE_LIMITED
        assert (await door.open(ask)).verdict == OPENED
        assert door.prepare(ask.token).allowed  # one Open pays for one Prepare
