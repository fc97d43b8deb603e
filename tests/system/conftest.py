"""Tests against the real bluetoothd. They run in the machine of tests.system.vm only."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

if IN_THE_MACHINE := "GATEWAYD_VM" in os.environ:
    from tests.system.bluetoothd import Bluetoothd, Stopwatch, the_bluetoothd
    from tests.system.house import House, open_house
    from tests.system.place import Place, open_place
else:
    collect_ignore_glob = ["test_*.py"]


if IN_THE_MACHINE:

    @pytest.fixture
    def bluetoothd() -> Bluetoothd:
        """It runs, even when the last test has killed it."""
        the_bluetoothd().make_sure()
        return the_bluetoothd()

    @pytest.fixture
    async def place(bluetoothd: Bluetoothd) -> AsyncIterator[Place]:
        async with open_place() as place:
            yield place

    @pytest.fixture
    def stopwatch(request) -> Stopwatch:
        return Stopwatch(request.node.name)

    @pytest_asyncio.fixture(scope="session", loop_scope="session")
    async def house(tmp_path_factory) -> AsyncIterator[House]:
        """One daemon for all stories: it takes half a minute to start in software."""
        the_bluetoothd().make_sure()
        async with open_house(the_bluetoothd(), tmp_path_factory.mktemp("house")) as house:
            yield house
