"""The installer's path with every step cut off, and once more after the package was purged."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.system import systemd_install as page
from tests.system.installer import PATH_HEADING, Blank, left, open_blank, steps
from tests.system.systemd_house import DAEMON
from tests.system.systemd_prepare import package
from tests.system.systemd_unit import run

if not Path("/run/systemd/system").is_dir():
    pytest.skip("needs: vm.py test --systemd", allow_module_level=True)

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="module")]
LONGEST_S = 400.0
INSTALL = f"dpkg --install {package().name}"
"""As apt-get has it done, which itself has to read for many seconds."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def blank(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Blank]:
    async with open_blank(tmp_path_factory.mktemp("operator")) as blank:
        yield blank


async def test_every_step_is_cut_off_once_and_gone_on_with(blank: Blank):
    claim = blank.operator.invite()
    await blank.operator.leave()
    _, _, enrol, claim_lock, bind, test_open, start = steps(PATH_HEADING)
    await blank.does(INSTALL)
    async with blank.cut_off(enrol) as screen:
        await screen.shows("claim of the operator")
        screen.type(f"{claim}\r")
        await screen.shows("asking at")
    await blank.operator.answer()
    assert "claim of the operator" not in await blank.does(enrol)  # it goes on with the first one
    async with blank.cut_off(claim_lock) as screen:
        await blank.reads_the_label(screen)
        await screen.shows("press its button now")
    await blank.does(claim_lock)
    async with blank.cut_off(bind):
        await asyncio.sleep(1.5)
    await blank.does(bind)
    async with blank.cut_off(test_open) as screen:
        await screen.shows("then press Enter")
        screen.type("\r")
        await screen.shows("opening street")
    await blank.does(test_open)
    await blank.does(start)
    await blank.opens()
    os.kill(await DAEMON.pid(), 9)
    await DAEMON.lives_anew(0, 40)
    await blank.opens()


async def test_released_and_purged_it_leaves_nothing(blank: Blank):
    await blank.does("systemctl stop gatewayd")
    async with blank.types("gatewayd setup release-lock street") as screen:
        await blank.reads_the_label(screen)
        await screen.shows("press its button now")
        blank.lock.hands.press()
        assert await screen.ended() == 0, screen.screen
    await blank.does(page.commands(page.PURGE).strip())
    assert left() == []
    assert await run("systemctl", "is-active", "gatewayd", check=False) == "inactive\n"


async def test_it_comes_back(blank: Blank):
    """The same lock, and a claim of its own."""
    claim = blank.operator.invite()
    _, _, enrol, claim_lock, bind, _, start = steps(PATH_HEADING)
    for typed in (INSTALL, enrol, claim_lock, bind, start):
        await blank.does(typed, claim)
    await blank.opens()
