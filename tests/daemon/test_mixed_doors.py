"""One daemon, three doors: a lock on the air, a lock on a wire, and a relay."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firmware_proto.codes import Outcome, Reason
from gatewayd.adapters.virtual_radio import VirtualAir, serve_hci
from gatewayd.core.audit import Leaf
from gatewayd.core.model import INTERRUPTED, EntryKind, Verdict
from gatewayd.demo.world import AIR
from gatewayd.emulators.phone import Report
from gatewayd.radio_app import radio_address
from tests.support.gpio import FakeChip
from tests.support.household import until
from tests.support.mixed_house import (
    DOORS,
    GATE,
    GATEWAY,
    LATCH_MS,
    STREET,
    YARD,
    MixedHouse,
    mixed_house,
)

HERE = radio_address(GATEWAY)
OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
PROGRAM = ("-m", "tests.support.mixed_child")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def chip(tmp_path: Path) -> FakeChip:
    return FakeChip(tmp_path / "dev")


@pytest.fixture
async def house(
    tmp_path: Path, chip: FakeChip, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MixedHouse]:
    monkeypatch.chdir(ROOT)
    air, socket = VirtualAir(AIR), tmp_path / "air.hci"
    relay = f'{{ chip = "{chip.path}", line = "STRIKE" }}'
    async with (
        serve_hci(air, socket, address="F0:00:00:00:00:FF"),
        mixed_house(tmp_path, air, f'hci = "unix:{socket}"', relay, PROGRAM) as house,
    ):
        await house.daemon.start()
        yield house
        sys.stdout.write("\n".join(house.daemon.lines))  # seen where a test fails


def ended(report: Report) -> Verdict:
    return Verdict(report.outcome, report.reason)


def story(leaves: list[Leaf]) -> list[tuple[EntryKind, Verdict]]:
    return [(leaf.kind, leaf.verdict) for leaf in leaves]


def keepers(daemon: int) -> list[int]:
    """The processes that the daemon runs."""
    children = Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()
    return [int(child) for child in children]


INTENDED = (EntryKind.INTENT, Verdict(Outcome.UNKNOWN, Reason.OK))


async def test_a_phone_opens_a_door_of_every_kind(house: MixedHouse, chip: FakeChip) -> None:
    anna = await house.phone("anna")
    for door in DOORS:
        report = await anna.open_door(door, address=HERE)
        assert ended(report) == OPENED, house.daemon.last_words()
        assert report.receipt is not None
    assert {door: machine.openings for door, machine in house.machines.items()} == {
        STREET: 1,
        GATE: 1,
    }
    await until(lambda: len(chip.pulses()) == 1, 5)
    assert 0.9 * LATCH_MS / 1000 < chip.pulses()[0] < LATCH_MS / 1000 + 0.4
    assert await house.daemon.stop() == 0
    for door in DOORS:
        assert story(house.log(door)) == [INTENDED, (EntryKind.OUTCOME, OPENED)]


async def test_three_phones_open_three_doors_at_once(house: MixedHouse, chip: FakeChip) -> None:
    phones = [await house.phone(name) for name in ("anna", "bo", "cem")]
    reports = await asyncio.gather(
        *(phone.open_door(door, address=HERE) for phone, door in zip(phones, DOORS, strict=True))
    )
    assert [ended(report) for report in reports] == [OPENED] * 3, house.daemon.last_words()
    assert all(machine.openings == 1 for machine in house.machines.values())
    await until(lambda: len(chip.pulses()) == 1, 5)


async def test_what_goes_wrong_at_one_door_is_that_doors_alone(
    house: MixedHouse, chip: FakeChip
) -> None:
    anna = await house.phone("anna")
    house.line.unplug(house.line.near)
    chip.trouble("dead")
    unreachable = Verdict(Outcome.REFUSED, Reason.LOCK_UNREACHABLE)
    assert ended(await anna.open_door(GATE, address=HERE)) == unreachable
    assert ended(await anna.open_door(YARD, address=HERE)) == unreachable
    assert ended(await anna.open_door(STREET, address=HERE)) == OPENED
    house.line.plug(house.line.near)
    chip.mend("dead")
    assert ended(await anna.open_door(GATE, address=HERE)) == OPENED
    assert ended(await anna.open_door(YARD, address=HERE)) == OPENED
    said = "\n".join(house.daemon.lines)
    assert "ttyUSB0 cannot be opened: No such file or directory; plug it in" in said
    assert "ttyUSB0: the lock answers" in said
    assert "the relay on line STRIKE" in said
    assert len(chip.pulses()) <= 1


# --- a relay's command, attacked ----------------------------------------------------------------
async def test_a_request_that_comes_again_pulses_once(house: MixedHouse, chip: FakeChip) -> None:
    """At the same moment, later, from another link, and after the daemon was killed."""
    anna, bo = await house.phone("anna"), await house.phone("bo")
    tablet = await house.phone("anna's tablet", anna.wallet)
    request = b"anna's request.."
    first, again, other = await asyncio.gather(
        anna.open_door(YARD, address=HERE, request=request),
        tablet.open_door(YARD, address=HERE, request=request),
        bo.open_door(YARD, address=HERE),
    )
    # one of them began the pulse; others joined it, or came while the door was open
    told = ended(first)
    assert told == ended(again)
    assert {told, ended(other)} <= {OPENED, Verdict(Outcome.CONFIRMED, Reason.ALREADY_OPEN)}
    await until(lambda: len(chip.pulses()) == 1, 5)
    await house.daemon.kill()
    await house.daemon.start()
    assert ended(await anna.open_door(YARD, address=HERE, request=request)) == told
    asked = await anna.ask_result(YARD, request, address=HERE)
    assert ended(asked) == told
    await asyncio.sleep(0.2)
    assert len(chip.pulses()) == 1
    # and what was never asked is an opening of its own
    assert ended(await anna.open_door(YARD, address=HERE)) == OPENED
    await until(lambda: len(chip.pulses()) == 2, 5)


async def test_the_daemon_killed_in_the_middle_of_a_pulse(
    house: MixedHouse, chip: FakeChip
) -> None:
    anna = await house.phone("anna")
    assert ended(await anna.open_door(YARD, address=HERE)) == OPENED
    assert chip.strike == 1
    await house.daemon.kill()
    await until(lambda: chip.strike == 0, 1)
    assert chip.pulses()[0] < LATCH_MS / 1000
    await house.daemon.start()
    assert ended(await anna.open_door(YARD, address=HERE)) == OPENED


async def test_the_daemon_killed_between_the_record_and_the_answer(
    house: MixedHouse, chip: FakeChip
) -> None:
    """The pulse may have begun or not, and nobody will ever know: UNKNOWN, and never again."""
    anna = await house.phone("anna")
    request = b"anna's request.."
    await until(lambda: len(keepers(house.daemon.pid)) == 1, 10)
    (keeper,) = keepers(house.daemon.pid)
    chip.trouble("hung")
    asking = asyncio.create_task(anna.open_door(YARD, address=HERE, request=request))
    await until(lambda: len(house.log(YARD)) == 1, 10)
    for process in (house.daemon.pid, keeper):  # in this order, as a power cut would not
        os.kill(process, signal.SIGKILL)
    await house.daemon.kill()
    chip.mend("hung")
    asking.cancel()  # a phone would go on asking until the daemon is back
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    assert story(house.log(YARD))[-1] == INTENDED
    await house.daemon.start()
    report = await anna.open_door(YARD, address=HERE, request=request)
    assert ended(report) == INTERRUPTED
    assert ended(await anna.ask_result(YARD, request, address=HERE)) == INTERRUPTED
    assert chip.pulses() == []
    # asked what became of it, a relay says that it cannot know: the question is closed
    await until(lambda: story(house.log(YARD))[-1][0] is EntryKind.RESOLVED, 15)
    assert story(house.log(YARD))[-3:] == [
        INTENDED,
        (EntryKind.OUTCOME, INTERRUPTED),
        (EntryKind.RESOLVED, INTERRUPTED),
    ]
    assert ended(await anna.open_door(YARD, address=HERE)) == OPENED
