"""The demo's story, chapter by chapter, on real bluetoothd: the same acts, the same expectations.

Another radio is all that differs, so times do, and nothing else may.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from firmware_proto.codes import Outcome
from gatewayd.demo.stage import Chapter
from gatewayd.demo.story import CHAPTERS, Stage
from gatewayd.demo.world import STREET
from tests.system.house import House

pytestmark = pytest.mark.system


async def test_the_whole_story(house: House):
    stage = Stage(house.world, house.daemon, house.stack)
    for act in CHAPTERS:
        chapter = Chapter(act.__name__)
        began_s = time.monotonic()
        await act(stage, chapter)
        house.daemon = stage.child  # one of the chapters starts another
        print(f"chapter {act.__name__}: {time.monotonic() - began_s:.1f} s")
        assert [check for check in chapter.checks if not check.holds] == [], act.__doc__
        assert chapter.checks
    for profile, openings in stage.record.profiles():
        print(f"{profile}: {[opening.tap_to_command for opening in openings]} ms to the motor")
        print(f"    {openings[0].parts}")


async def test_three_phones_at_once(settled: House, stopwatch):
    phones = [await settled.phone(f"neighbour {number}") for number in range(3)]
    stopwatch.lap_s()
    reports = await asyncio.gather(
        *(phone.open_door(STREET, address=settled.gateway) for phone in phones)
    )
    stopwatch.say("everybody answered after", stopwatch.lap_s())
    assert {report.outcome for report in reports} == {Outcome.CONFIRMED}
