"""From a blank machine to a door that a phone opens, as the README says: counted and timed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.bench.number import Bar, Number
from tests.support.terminal import COLUMNS
from tests.system.installer import HANDOVER_HEADING, PATH_HEADING, Blank, open_blank, steps
from tests.system.systemd_house import DAEMON
from tests.system.systemd_unit import run
from tests.system.times import Stopwatch

if not Path("/run/systemd/system").is_dir():
    pytest.skip("needs: vm.py test --systemd", allow_module_level=True)

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="module")]
LONGEST_S = 400.0
MOST_COMMANDS = 7
REPORT = Path("/var/tmp/handover.json")  # noqa: S108 - where the README puts it


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def blank(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Blank]:
    async with open_blank(tmp_path_factory.mktemp("operator")) as blank:
        yield blank


async def test_the_readme_leads_to_a_door_that_a_phone_opens(blank: Blank, stopwatch: Stopwatch):
    claim = blank.operator.invite()
    said = []
    began_s = time.monotonic()
    for typed in steps(PATH_HEADING):
        examines = typed == "gatewayd doctor"
        said.append(await blank.does(typed, claim, code=1 if examines else 0))
        if examines:  # the overlay is this machine's
            errors = [line for line in said[-1].splitlines() if line.startswith("error")]
            assert [line.split()[1] for line in errors] == ["configuration", "storage"]
    report = await blank.opens()
    took_s = time.monotonic() - began_s
    assert report["outcome"] == "confirmed"
    count = len(blank.typed)
    print(f"blank machine -> first door opened: {count} commands, {took_s:.0f} s")
    how = f"{count} commands at the gateway, package and phone included"
    stopwatch.note(Number("blank machine -> first door opened", took_s, "s", how))
    stopwatch.note(
        Number("commands for it", count, "", "README, At a door", Bar("<=", MOST_COMMANDS))
    )
    assert count <= MOST_COMMANDS
    # what each step said comes next is what came next
    for screen, following in zip(said, blank.typed[1:], strict=False):
        assert "next: " not in screen or f"next: sudo {following}" in screen
    # no line of the diagnosis is broken by the edge of the screen
    assert max(map(len, said[1].splitlines())) <= COLUMNS


async def test_the_broker_is_reached_without_another_word(blank: Blank):
    async with asyncio.timeout(60):
        while not any("connected to the broker" in line for line in await DAEMON.journal()):
            await asyncio.sleep(0.5)
    assert not [line for line in await DAEMON.journal() if "ermission denied" in line]


async def test_the_handover(blank: Blank):
    for typed in steps(HANDOVER_HEADING):
        few = " --dials 3" if typed.endswith("--walk") else ""  # each takes seconds in here
        await blank.does(f"{typed}{few}")
    handover = json.loads(await run("cat", str(REPORT)))
    (door,) = handover["doors"]
    assert (handover["complete"], door["walk"]["succeeded"]) == (True, 3)
    assert await run("runuser", "-u", "nobody", "--", "cat", str(REPORT))  # anybody may send it
    await blank.opens()
