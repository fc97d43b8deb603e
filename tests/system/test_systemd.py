"""The unit as shipped, installed as docs/install.md says, under a systemd that is PID 1."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gatewayd.core.model import EntryKind
from tests.system import systemd_install as page
from tests.system.house import OPENED, House
from tests.system.systemd_house import DAEMON, open_installed

if not Path("/run/systemd/system").is_dir():
    pytest.skip("vm.py test --systemd", allow_module_level=True)

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installed(tmp_path_factory) -> AsyncIterator[House]:
    """One installation for all tests of this file, which run in their order."""
    async with open_installed(tmp_path_factory.mktemp("house")) as house:
        yield house


async def test_it_starts_as_the_page_says(installed: House):
    began = time.monotonic()
    await asyncio.to_thread(page.carry_out, page.START)
    print(f"started after {time.monotonic() - began:.1f} s")
    assert await DAEMON.show("ActiveState") == "active"
    assert await DAEMON.show("Type") == "notify"
    assert (await DAEMON.show("StatusText")).startswith("serving 2 doors")
    assert await DAEMON.number("NRestarts") == 0
    assert any("serving street, stairs" in line for line in await DAEMON.journal())


async def test_it_opens_a_door(installed: House):
    await installed.opens()
    assert installed.last(EntryKind.OUTCOME) == OPENED
