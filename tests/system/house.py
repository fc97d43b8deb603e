"""The demo's staircase on real bluetoothd: the daemon on the kernel's adapter, emulators around.

async with open_house(bluetoothd, directory) as house:
    report = await (await house.phone("anna")).open_door(STREET, address=house.door_address)
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gatewayd import logbook
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.virtual_radio import PHONE, AirController, RadioOptions, open_radio
from gatewayd.cloud.authority import Authority, GatewayKeys, IssuerKey
from gatewayd.core.audit import Leaf
from gatewayd.core.model import EntryKind, Verdict
from gatewayd.demo.child import Child
from gatewayd.demo.world import GROUP, STAIRS, STREET, World, _install, _lock
from gatewayd.emulators.phone import Patience, Phone
from tests.system.bluetoothd import LOGS, Bluetoothd
from tests.system.place import ADAPTER, Place, open_place

NO_BROKER: Final = 1
START_S: Final = 150.0
"""The daemon's imports alone take twenty seconds in software."""
PATIENT: Final = Patience(attempts=6, dial_s=8.0)


class Daemon(Child):
    """The daemon under test; its journal is kept for the host, too."""

    async def start(self) -> None:
        """Returns when phones are being served. ChildError otherwise."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gatewayd", "run", "-c", str(self._config), "--verbose"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read(self._process), name="journal of the child")
        await self.line(lambda line: "serving " in line, START_S)

    @property
    def pid(self) -> int:
        """Of the process. LookupError when it does not run."""
        if self._process is None or self._process.returncode is not None:
            raise LookupError("the daemon does not run")
        return self._process.pid

    def keep_journal(self) -> None:
        """Where the host finds it."""
        (LOGS / "gatewayd.log").write_text("\n".join(self.lines) + "\n")


@dataclass
class House:
    """world: locks and wallets. place: the kernel's adapter. daemon: gatewayd."""

    world: World
    place: Place
    bluetoothd: Bluetoothd
    daemon: Daemon
    _open: AsyncExitStack
    controllers: dict[str, AirController] = field(default_factory=dict)
    _phones: dict[str, Phone] = field(default_factory=dict)

    @property
    def door_address(self) -> str:
        """What phones dial."""
        return self.place.dialled_address

    async def phone(self, name: str, **claims: object) -> Phone:
        """Somebody's phone, patient enough for faults; made when it is first needed."""
        if name not in self._phones:
            wallet = self.world.wallet(name, **claims)  # type: ignore[arg-type] # as told there
            number = len(self._phones) + 1
            address = f"E0:00:00:00:00:{number:02X}"
            controller = AirController(self.place.air, f"00:AA:03:00:00:{number:02X}")
            self.controllers[name] = controller
            radio = await self._open.enter_async_context(
                open_radio(controller, address=address, dials=PHONE, options=RadioOptions())
            )
            self._phones[name] = Phone(
                radio.central, wallet, SystemClock(), SystemEntropy(), PATIENT
            )
        return self._phones[name]

    def log(self) -> list[Leaf]:
        """The gateway's log as it stands on disk."""
        with logbook.open_logbook(self.world.database) as file:
            return [entry.leaf for entry in logbook.entries(file) if entry.leaf is not None]

    def last(self, kind: EntryKind) -> Verdict | None:
        """What the last entry of a kind says."""
        found = [leaf for leaf in self.log() if leaf.kind is kind]
        return found[-1].verdict if found else None


def on_bluez(config: Path) -> None:
    """The demo's configuration with the kernel's adapter for a radio."""
    virtual = re.compile(r'^hci = ".*"$', re.MULTILINE)
    text, changed = virtual.subn(f'kind = "bluez"\nadapter = "{ADAPTER}"', config.read_text())
    assert changed == 1
    config.write_text(text)


@asynccontextmanager
async def open_house(bluetoothd: Bluetoothd, directory: Path) -> AsyncIterator[House]:
    """Everybody at home, the daemon serving."""
    now_s = int(SystemClock().instant().wall_s)
    issuer = IssuerKey.create("vestergade housing")
    authority, keys = Authority.create(GROUP, issuer), GatewayKeys.create()
    locks = {door: _lock(directory, door, authority) for door in (STREET, STAIRS)}
    config = _install(directory, authority, keys, now_s, NO_BROKER)
    on_bluez(config)
    async with open_place() as place, asyncio.TaskGroup() as tasks, AsyncExitStack() as phones:
        world = World(
            directory, place.air, authority, issuer, keys, config, now_s, locks, NO_BROKER
        )
        running = [
            tasks.create_task(lock.run(place.air), name=f"lock {door}")
            for door, lock in locks.items()
        ]
        daemon = Daemon(config)
        try:
            await daemon.start()
            yield House(world, place, bluetoothd, daemon, phones)
        finally:
            await daemon.stop()
            daemon.keep_journal()
            await phones.aclose()
            for task in running:
                task.cancel()
