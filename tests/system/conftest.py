"""Tests against the real bluetoothd. They run in the machine of tests.system.vm only."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

if IN_THE_MACHINE := "GATEWAYD_VM" in os.environ:
    from tests.system.bluetoothd import Bluetoothd, Stopwatch
    from tests.system.place import Place, open_place
else:
    collect_ignore_glob = ["test_*.py"]


if IN_THE_MACHINE:

    @pytest.fixture(scope="session")
    def one_bluetoothd() -> Iterator[Bluetoothd]:
        daemon = Bluetoothd()
        daemon.start()
        yield daemon
        daemon.kill()

    @pytest.fixture
    def bluetoothd(one_bluetoothd: Bluetoothd) -> Bluetoothd:
        """It runs, even when the last test has killed it."""
        try:
            assert one_bluetoothd.pid
        except LookupError:
            one_bluetoothd.start()
        return one_bluetoothd

    @pytest.fixture
    async def place(bluetoothd: Bluetoothd) -> AsyncIterator[Place]:
        async with open_place() as place:
            yield place

    @pytest.fixture
    def stopwatch(request) -> Stopwatch:
        return Stopwatch(request.node.name)
