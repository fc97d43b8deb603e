"""The installer's path with every step cut off, and once more after the package was purged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatewayd.core.invitation import claim_in
from tests.system import systemd_install as page
from tests.system.installer import OPERATOR, PATH_HEADING, Blank, left, open_blank, shell, steps
from tests.system.systemd_house import DAEMON
from tests.system.systemd_prepare import package
from tests.system.systemd_unit import run

if not Path("/run/systemd/system").is_dir():
    pytest.skip("needs: vm.py test --systemd", allow_module_level=True)

pytestmark = pytest.mark.system
LONGEST_S = 850.0
REPLACE = OPERATOR.with_name("replace.md")
INSTALL = f"dpkg --install {package().name}"
"""As apt-get has it done, which itself has to read for many seconds."""
STOPS, RUNS = "gatewayd stops for this", "gatewayd runs again"


async def test_cut_off_at_every_step_then_purged_and_back(tmp_path: Path):
    """In one, as each goes on with what the one before left."""
    async with open_blank(tmp_path) as blank:
        await _every_step_is_cut_off_once_and_gone_on_with(blank)
        await _released_and_purged_it_leaves_nothing(blank)
        await _it_comes_back(blank)


async def _every_step_is_cut_off_once_and_gone_on_with(blank: Blank):
    claim = blank.operator.invite()
    await blank.operator.leave()
    _, _, enrol, claim_lock, bind, test_open, start = steps(PATH_HEADING)
    await blank.does(INSTALL)
    async with blank.cut_off(enrol) as screen:
        await screen.shows("claim of the operator")
        screen.type(f"{claim}\r")
        await screen.shows("asking at")
    assert await DAEMON.show("ActiveState") == "inactive"  # nobody has said whose door this is
    await blank.operator.answer()
    assert "claim of the operator" not in await blank.does(enrol)  # it goes on with the first one
    async with blank.cut_off(claim_lock) as screen:
        await blank.reads_the_label(screen)
        await screen.shows("press its button now")
    assert await DAEMON.show("ActiveState") == "active"  # from here on it begins with the machine
    _gave_way(await blank.does(claim_lock))
    async with blank.cut_off(bind) as screen:
        await screen.shows(STOPS)
    _gave_way(await blank.does(bind))
    async with blank.cut_off(test_open) as screen:
        await screen.shows("then press Enter")
        screen.type("\r")
        await screen.shows("opening street")
    tried = await blank.does(test_open)
    _gave_way(tried)
    assert "next: sudo gatewayd doctor --walk" in tried  # as the daemon runs
    await blank.does(start)
    await blank.opens()
    os.kill(await DAEMON.pid(), 9)
    await DAEMON.lives_anew(0, 40)
    await blank.opens()


def _gave_way(screen: str) -> None:
    """The daemon ran, and runs."""
    assert screen.index(STOPS) < screen.index(RUNS)


async def _released_and_purged_it_leaves_nothing(blank: Blank):
    async with blank.types("gatewayd setup release-lock street") as screen:
        await blank.reads_the_label(screen)
        await screen.shows("press its button now")
        blank.lock.hands.press()
        assert await screen.ended() == 0, screen.screen
    await blank.does(page.commands(page.PURGE).strip())
    assert left() == []
    assert await run("systemctl", "is-active", "gatewayd", check=False) == "inactive\n"


async def _it_comes_back(blank: Blank):
    """Its keys are gone, so it is another gateway in the same place; the lock is the same."""
    _, _, enrol, claim_lock, bind, _, start = steps(PATH_HEADING)
    await blank.does(INSTALL)
    refused = await blank.does(enrol, blank.operator.invite(), code=1)
    assert "--replaces" in refused
    shell(page.blocks("A gateway is dead", REPLACE)[0], blank.operator.home)
    claim = claim_in((blank.operator.home / "claim.txt").read_text())
    for typed in (enrol, claim_lock, bind, start):
        await blank.does(typed, claim)
    await blank.opens()
