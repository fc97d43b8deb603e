"""What locks say of themselves, from their sensors to the journal, the status and systemd."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from firmware_proto.codes import DoorState, LatchState, Outcome
from gatewayd.conditions import Conditions
from gatewayd.core.lock_condition import MOST_MOVEMENTS, TELL_EVERY_S, LockCondition, Trouble
from gatewayd.core.model import DoorId, EntryKind
from gatewayd.emulators.lock_body import LockBody
from gatewayd.lock_keeping import AGAIN_S, EVERY_S, FIRST_LOOK_S, look_after
from gatewayd.status import encode
from tests.support.gateway import CELLAR, GATEWAY_ADDRESS, STREET, LoopTime, Site, gateway
from tests.support.household import IMPATIENT, Dice, LoopClock, until

DOOR = DoorId(STREET)


def body(site: Site, door: str = STREET) -> LockBody:
    lock = site.building.locks[door].lock
    assert lock is not None
    return lock.body


def known(site: Site) -> LockCondition:
    """What is kept of the street's lock."""
    return site.gateway.conditions._known[DOOR]


@contextlib.asynccontextmanager
async def kept(site: Site) -> AsyncIterator[None]:
    """The street's link is kept, as `warm` has it."""
    warm = asyncio.create_task(site.gateway.locks[DOOR].keep_warm())
    await until(lambda: known(site).state is not None)
    try:
        yield
    finally:
        warm.cancel()
        await asyncio.wait({warm})


def status(site: Site) -> dict[str, object]:
    """As it is retained at the broker."""
    return json.loads(encode(site.gateway.health(site.building.directory).status()))


async def test_a_pushed_report_reaches_the_condition(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site, kept(site):
        asked = known(site)
        assert (asked.state.door_state, asked.reached) == (DoorState.CLOSED, True)
        body(site).move_door(is_open=True)
        await until(lambda: known(site).state.door_state is DoorState.OPEN)
        assert known(site).state.request is None
        assert known(site).heard_s > asked.heard_s


async def test_tampering_is_told_to_the_journal_the_status_and_the_supervisor(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []
    watcher = SimpleNamespace(
        ready=lambda: None, alive=lambda: None, stopping=lambda: None, status=heard.append
    )
    async with (
        gateway(tmp_path, serving=False) as site,
        kept(site),
        asyncio.TaskGroup() as group,  # a check that fails ends the daemon, and is heard of
    ):
        daemon = site.gateway.daemon(watcher)
        daemon.watchdog_s = 0.01
        serving = group.create_task(daemon.serve(site.air.peripheral(GATEWAY_ADDRESS)))
        await until(lambda: heard == ["serving 1 doors"])
        assert "troubles" not in status(site)["locks"][STREET]
        body(site).tamper(opened=True)
        await until(lambda: heard[-1] == "serving 1 doors; street: tampered")
        assert status(site)["locks"][STREET]["troubles"] == ["tampered"]
        assert "door street: lock tampered with" in caplog.messages
        site.building.clock.skip_s += TELL_EVERY_S
        with caplog.at_level(logging.INFO):
            body(site).tamper(opened=False)
            await until(lambda: heard[-1] == "serving 1 doors")
        assert "door street: lock tampered with: over" in caplog.messages
        daemon.stop.set()
        await serving
        assert site.kinds() == [EntryKind.STARTED]


async def test_a_low_battery_is_known_as_soon_as_somebody_opens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path) as site:
        await until(lambda: site.building.locks[STREET].lock is not None)
        body(site).set_battery(9)
        assert "battery_percent" not in status(site)["locks"][STREET]
        report = await site.phone().open_door(STREET, address=GATEWAY_ADDRESS)
        assert report.outcome is Outcome.CONFIRMED
        told = status(site)["locks"][STREET]
        assert (told["troubles"], told["battery_percent"]) == (["low_battery"], 8)
        assert told["firmware"] == "1.0"
        assert caplog.messages.count("door street: lock battery low") == 1
        assert body(site).state(None).battery.low


async def test_an_opening_shows_in_nothing_that_is_reported(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site, kept(site):
        before, seen = status(site)["locks"], set()
        opening = asyncio.create_task(
            site.phone().open_door(STREET, address=GATEWAY_ADDRESS), name="opening"
        )
        while not opening.done():
            seen.add(known(site).state.latch)
            assert status(site)["locks"] == before
            await asyncio.sleep(0.001)
        assert opening.result().outcome is Outcome.CONFIRMED
        assert LatchState.UNLATCHED in seen


async def test_a_lock_that_cannot_be_reached_is_reported(tmp_path: Path) -> None:
    async with gateway(tmp_path, doors=(STREET, CELLAR), timing=IMPATIENT) as site:
        await site.power_off(CELLAR)
        for door in (STREET, CELLAR):
            await site.phone().open_door(door, address=GATEWAY_ADDRESS)
        told = status(site)["locks"]
        assert (told[STREET]["reached"], told[CELLAR]) == (True, {"reached": False})


async def test_a_lock_that_nobody_uses_is_looked_after(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        lock = site.gateway.locks[DOOR]
        time = LoopTime()
        looking = asyncio.create_task(look_after(lock, LoopClock(), Dice()))
        await asyncio.sleep(0)
        await time.skip(FIRST_LOOK_S - 1)
        assert known(site).state is None
        await time.skip(FIRST_LOOK_S + 1)
        await until(lambda: known(site).state is not None)
        await lock.close()
        await time.skip(EVERY_S - 60)
        assert len(site.air.dials) == 1
        body(site).set_battery(5)
        await time.skip(120)
        await until(lambda: Trouble.LOW_BATTERY in known(site).troubles)
        assert len(site.air.dials) == 2
        await lock.close()
        await time.skip(EVERY_S / 2)
        await lock.prepare()  # somebody comes, and so it is heard of
        await lock.close()
        await time.skip(EVERY_S / 2 + 60)
        assert len(site.air.dials) == 3
        await time.skip(EVERY_S / 2)
        await until(lambda: len(site.air.dials) == 4)
        looking.cancel()
        await asyncio.wait({looking})


async def test_a_lock_that_is_away_is_looked_for_every_hour(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False, timing=IMPATIENT) as site:
        site.air.dial_deadline_s = 0.0
        await site.power_off()
        time = LoopTime()
        looking = asyncio.create_task(look_after(site.gateway.locks[DOOR], LoopClock(), Dice()))
        await asyncio.sleep(0)
        await time.skip(2 * FIRST_LOOK_S)
        for dials in range(1, 40):  # more than the budget, which dials in vain do not touch
            await until(lambda dials=dials: len(site.air.dials) == dials)
            await until(lambda: known(site).reached is False)
            await time.skip(AGAIN_S + 1)
        looking.cancel()
        await asyncio.wait({looking})


def test_a_loose_contact_does_not_fill_the_journal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    time = SimpleNamespace(boottime_s=5.0)
    conditions = Conditions([DOOR], SimpleNamespace(instant=lambda: time))
    for each in (DoorState.CLOSED, *(DoorState.OPEN, DoorState.CLOSED) * 500):
        conditions.contact(DOOR, each)
        time.boottime_s += TELL_EVERY_S / 2000
    said = list(caplog.messages)
    assert said[:2] == [f"door {DOOR}: its contact says {each}" for each in ("closed", "open")]
    assert said[MOST_MOVEMENTS:] == [
        f"door {DOOR}: its contact moves too often to be told: is it loose?"
    ]
    time.boottime_s += TELL_EVERY_S
    conditions.contact(DOOR, DoorState.OPEN)
    assert caplog.messages[len(said) :] == [
        f"door {DOOR}: its contact moved {1001 - MOST_MOVEMENTS} times more",
        f"door {DOOR}: its contact says open",
    ]
    assert conditions.report()[DOOR] == {"troubles": []}
