"""The staircase with a gateway that was installed as docs/install.md says, and systemd runs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from gatewayd.demo.play import free_port
from gatewayd.demo.world import furnish, inhabited
from tests.system import systemd_install as page
from tests.system.house import House
from tests.system.place import ADAPTER, open_place
from tests.system.systemd_prepare import package
from tests.system.systemd_unit import DROP_INS, Unit, run
from tests.system.times import LOGS

STATE: Final = Path("/var/lib/gatewayd")
CONFIGURATION: Final = Path("/etc/gatewayd/gatewayd.toml")
PROBE_DIRECTORY: Final = Path("/run/gatewayd-tests")
DAEMON: Final = Unit("gatewayd.service")
HELPER: Final = Unit("gatewayd-radio-helper.service")
CACHE: Final = Unit("gatewayd-bluetooth-cache.service")
CACHE_TIMER: Final = Unit("gatewayd-bluetooth-cache.timer")
HELPER_SOCKET: Final = Unit("gatewayd-radio-helper.socket")
BLUETOOTH: Final = Unit("bluetooth.service")


@asynccontextmanager
async def open_installed(directory: Path) -> AsyncIterator[House]:
    """Everything that the page says, and the staircase around it."""
    page.carry_out(page.PROGRAM, package().parent)
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
            await type_in(page.START)  # the locks live meanwhile
            try:
                yield House(world, place, BLUETOOTH, DAEMON, stack)
            finally:
                await keep_journals()


async def keep_journals() -> None:
    """Where the host finds them."""
    for unit in (DAEMON, HELPER, BLUETOOTH):
        lines = await unit.journal(of_systemd=True)
        (LOGS / f"{unit.name}.log").write_text("\n".join([*lines, ""]))


@asynccontextmanager
async def configured(change: Callable[[str], str] = str) -> AsyncIterator[None]:
    """The daemon with another configuration; at the end the old one, and no drop-ins."""
    before = CONFIGURATION.read_text()
    after = change(before)
    CONFIGURATION.write_text(after)
    try:
        if after != before:
            await DAEMON.do("restart")
        yield
    finally:
        CONFIGURATION.write_text(before)
        await as_shipped()


async def as_shipped() -> None:
    """The daemon without any drop-in."""
    shutil.rmtree(DROP_INS / f"{DAEMON.name}.d", ignore_errors=True)
    await run("systemctl", "daemon-reload")
    await DAEMON.do("restart")


async def type_in(heading: str) -> None:
    """What the page says, beside our loop."""
    await asyncio.to_thread(page.carry_out, heading)


async def probed(unit: Unit, python: str = "/usr/bin/python3") -> dict[str, str]:
    """What systemd_probe.py finds that a process of this unit can do; starts the unit again."""
    program = copied("systemd_probe.py")
    found = PROBE_DIRECTORY / unit.name
    found.unlink(missing_ok=True)
    # the unit's own sandbox, and one more place to write to
    await unit.configure(
        "probe",
        f"[Service]\nExecStartPre={python} {program} {found}\nReadWritePaths={PROBE_DIRECTORY}\n",
    )
    try:
        await unit.do("restart")
    finally:
        await unit.configure("probe", None)
    return table(found.read_text())


def copied(name: str) -> Path:
    """A program of the tests where every unit can read it."""
    PROBE_DIRECTORY.mkdir(mode=0o777, exist_ok=True)
    PROBE_DIRECTORY.chmod(0o777)
    program = PROBE_DIRECTORY / name
    program.write_bytes(Path(__file__).with_name(name).read_bytes())
    return program


def table(text: str) -> dict[str, str]:
    """What the probe wrote."""
    return dict(line.split(": ") for line in text.splitlines())
