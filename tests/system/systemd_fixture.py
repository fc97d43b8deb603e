"""The one installation of a machine: all tests share it, and leave it as they found it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.system.house import House
from tests.system.systemd_house import open_installed


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A gateway that was installed and started."""
    async with open_installed(tmp_path_factory.mktemp("house")) as house:
        yield house
