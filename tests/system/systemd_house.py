"""The staircase with a gateway that was installed as docs/install.md says, and systemd runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from gatewayd.demo.play import free_port
from gatewayd.demo.world import furnish, inhabited
from tests.system import systemd_install as page
from tests.system.house import House
from tests.system.place import ADAPTER, open_place
from tests.system.systemd_unit import Unit
from tests.system.times import LOGS

STATE: Final = Path("/var/lib/gatewayd")
CONFIGURATION: Final = Path("/etc/gatewayd/gatewayd.toml")
DAEMON: Final = Unit("gatewayd.service")
HELPER: Final = Unit("gatewayd-radio-helper.service")
HELPER_SOCKET: Final = Unit("gatewayd-radio-helper.socket")
BLUETOOTH: Final = Unit("bluetooth.service")


@asynccontextmanager
async def open_installed(directory: Path) -> AsyncIterator[House]:
    """Everything of the page but its start: that is the first test's."""
    for heading in (page.DESK, page.PROGRAM, page.UNITS):
        page.carry_out(heading)
    async with open_place() as place:
        world = furnish(
            directory,
            free_port(),
            place.air,
            gateway=place.dialled_address,
            radio=f'kind = "bluez"\nadapter = "{ADAPTER}"',
        )
        text = world.config.read_text()
        world.config.write_text(text.replace("[gateway]", f'[gateway]\nstate = "{STATE}"', 1))
        (directory / "state").symlink_to(STATE)  # where the tests look for the log
        page.carry_out(page.FILES, directory)
        async with inhabited(world), AsyncExitStack() as stack:
            try:
                yield House(world, place, BLUETOOTH, DAEMON, stack)
            finally:
                await keep_journals()


async def keep_journals() -> None:
    """Where the host finds them."""
    for unit in (DAEMON, HELPER, BLUETOOTH):
        lines = await unit.journal(of_systemd=True)
        (LOGS / f"{unit.name}.log").write_text("\n".join([*lines, ""]))
