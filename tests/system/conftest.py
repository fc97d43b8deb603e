"""Tests against the real bluetoothd. They run in the machine of tests.system.vm only."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

if IN_THE_MACHINE := "GATEWAYD_VM" in os.environ:
    from tests.system.bluetoothd import Bluetoothd, the_bluetoothd
    from tests.system.house import House, open_house
    from tests.system.place import Place, open_place
    from tests.system.times import Stopwatch

    LONGEST_S = float(os.environ.get("GATEWAYD_LONGEST_S", "150"))
else:
    collect_ignore_glob = ["test_*.py"]


if IN_THE_MACHINE:

    @pytest.fixture(autouse=True)
    async def watchdog(request: pytest.FixtureRequest) -> AsyncIterator[None]:
        """A test that hangs fails, and does not take the machine's time from the others."""
        loop = asyncio.get_running_loop()
        longest_s = getattr(request.module, "LONGEST_S", LONGEST_S)
        barking = loop.call_later(
            longest_s, lambda: [task.cancel("too long") for task in asyncio.all_tasks(loop)]
        )
        yield
        barking.cancel()

    @pytest.fixture
    def bluetoothd() -> Bluetoothd:
        """It runs, even when the last test has killed it."""
        the_bluetoothd().make_sure()
        return the_bluetoothd()

    @pytest.fixture
    async def place(bluetoothd: Bluetoothd) -> AsyncIterator[Place]:
        """The kernel's adapter, and nobody else on its air."""
        async with open_place() as place:
            yield place

    @pytest.fixture
    async def house(bluetoothd: Bluetoothd, tmp_path: Path) -> AsyncIterator[House]:
        """A daemon of the test's own, so that no fault outlives its test."""
        async with open_house(bluetoothd, tmp_path) as house:
            yield house

    @pytest.fixture
    async def settled(house: House) -> House:
        """The same after everybody has met everybody: what follows is only the fault's."""
        await house.settle()
        return house

    @pytest.fixture
    def stopwatch(request: pytest.FixtureRequest) -> Stopwatch:
        """Times, for people and for the table at the end."""
        return Stopwatch(request.node.name)
