"""The demo's story on real bluetoothd, as far as a single daemon without uplink can tell it."""

from __future__ import annotations

import asyncio

import pytest

from firmware_proto.codes import Outcome, Reason
from gatewayd.core.model import EntryKind, Verdict
from gatewayd.demo.world import STAIRS, STREET
from tests.system.house import House

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]
OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)


def verdict(report) -> Verdict:
    return Verdict(report.outcome, report.reason)


async def test_a_warm_lock_opens(house: House, stopwatch):
    anna, street = await house.phone("anna"), house.world.locks[STREET]
    for number in range(3):
        opened = street.machine.openings
        stopwatch.lap_s()
        report = await anna.open_door(STREET, address=house.door_address)
        stopwatch.say(f"opening {number}, {report.timings}", stopwatch.lap_s())
        assert verdict(report) == OPENED
        assert street.machine.openings == opened + 1
        assert report.receipt is not None
        assert house.last(EntryKind.OUTCOME) == OPENED
        await asyncio.sleep(1.5)  # a second opening within the latch time is none


async def test_a_sleeping_lock_opens(house: House, stopwatch):
    anna, stairs = await house.phone("anna"), house.world.locks[STAIRS]
    opened = stairs.machine.openings
    stopwatch.lap_s()
    report = await anna.open_door(STAIRS, address=house.door_address)
    stopwatch.say(f"opening, {report.timings}", stopwatch.lap_s())
    assert verdict(report) == OPENED
    assert stairs.machine.openings == opened + 1


async def test_an_expired_key_is_refused_and_says_so_to_its_holder(house: House):
    old = await house.phone("old", valid=(-7200, -3600))
    opened = house.world.locks[STREET].machine.openings
    report = await old.open_door(STREET, address=house.door_address)
    assert verdict(report) == Verdict(Outcome.REFUSED, Reason.EXPIRED)
    assert house.world.locks[STREET].machine.openings == opened


async def test_three_phones_at_once(house: House, stopwatch):
    phones = [await house.phone(f"neighbour {n}") for n in range(3)]
    stopwatch.lap_s()
    reports = await asyncio.gather(
        *(phone.open_door(STREET, address=house.door_address) for phone in phones)
    )
    stopwatch.say("everybody answered after", stopwatch.lap_s())
    assert {report.outcome for report in reports} == {Outcome.CONFIRMED}
