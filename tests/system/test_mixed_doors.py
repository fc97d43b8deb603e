"""A door of every kind behind one daemon: real bluetoothd, a real GPIO chip, a serial line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from firmware_proto.codes import Outcome, Reason
from gatewayd.core.model import EntryKind, Verdict
from tests.support.household import until
from tests.support.mixed_house import DOORS, GATE, LATCH_MS, STREET, YARD, MixedHouse, mixed_house
from tests.system.gpio_sim import LABEL, SimChip, pulses
from tests.system.place import ADAPTER, Place

pytestmark = pytest.mark.system

OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)


@pytest.fixture
def chip() -> Iterator[SimChip]:
    made = SimChip()
    yield made
    made.remove()


@pytest.fixture
async def house(place: Place, chip: SimChip, tmp_path: Path) -> AsyncIterator[MixedHouse]:
    radio = f'kind = "bluez"\nadapter = "{ADAPTER}"'
    relay = f'{{ chip = "{LABEL}", line = "STRIKE" }}'
    async with mixed_house(tmp_path, place.air, radio, relay, ("-m", "gatewayd")) as house:
        await house.daemon.start()
        yield house


async def test_a_phone_opens_all_three_and_each_goes_its_own_way(
    house: MixedHouse, place: Place, chip: SimChip
) -> None:
    here = place.dialled_address
    anna = await house.phone("anna")
    with chip.watched() as seen:
        for door in DOORS:
            report = await anna.open_door(door, address=here)
            assert (report.outcome, report.reason) == (Outcome.CONFIRMED, Reason.OK), (
                house.daemon.last_words()
            )
            print(f"{door}: {report.timings.total_s * 1000:.0f} ms from tap to answer")
        await until(lambda: len(pulses(seen)) == 1, 5)
    print(f"pulse of the yard's relay: {pulses(seen)[0] * 1000:.0f} ms of {LATCH_MS}")
    assert {door: machine.openings for door, machine in house.machines.items()} == {
        STREET: 1,
        GATE: 1,
    }
    # the relay's chip and the cable go: the lock on the air does not care
    chip.unplug()
    house.line.unplug(house.line.near)
    for door in (YARD, GATE):
        report = await anna.open_door(door, address=here)
        assert (report.outcome, report.reason) == (Outcome.REFUSED, Reason.LOCK_UNREACHABLE)
    assert (await anna.open_door(STREET, address=here)).outcome is Outcome.CONFIRMED
    chip.plug()
    house.line.plug(house.line.near)
    for door in (YARD, GATE):
        assert (await anna.open_door(door, address=here)).outcome is Outcome.CONFIRMED
    await house.daemon.stop()
    kinds = [leaf.kind for leaf in house.log(YARD)]
    assert kinds == [EntryKind.INTENT, EntryKind.OUTCOME] * 3


async def test_the_daemon_killed_in_the_middle_of_a_pulse(
    house: MixedHouse, place: Place, chip: SimChip
) -> None:
    anna = await house.phone("anna")
    request = b"anna's request.."
    report = await anna.open_door(YARD, address=place.dialled_address, request=request)
    assert report.outcome is Outcome.CONFIRMED
    assert chip.level() == 1
    killing = asyncio.create_task(house.daemon.kill())
    took_s = await asyncio.to_thread(chip.wait, 0, 1.0)
    await killing
    print(f"kill -9 of the daemon in a pulse: inactive after {took_s * 1000:.0f} ms")
    await house.daemon.start()
    report = await anna.open_door(YARD, address=place.dialled_address, request=request)
    assert (report.outcome, report.reason) == (Outcome.CONFIRMED, Reason.OK)
    assert chip.level() == 0  # the same request: the same answer, and no pulse
