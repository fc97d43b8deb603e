"""The demo's staircase on real bluetoothd: the daemon on the kernel's adapter, emulators around.

async with open_house(bluetoothd, directory) as house:
    report = await (await house.phone("anna")).open_door(STREET, address=house.gateway)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from firmware_proto.codes import Outcome, Reason
from gatewayd import logbook
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.virtual_radio import PHONE, AirController, RadioOptions, open_radio
from gatewayd.core.audit import Leaf
from gatewayd.core.model import EntryKind, Verdict
from gatewayd.demo.child import Child
from gatewayd.demo.play import free_port
from gatewayd.demo.world import STREET, World, furnish, inhabited
from gatewayd.emulators.phone import Patience, Phone, Report
from gatewayd.ports.radio import Central, Link
from tests.system.bluetoothd import Bluetoothd
from tests.system.place import ADAPTER, Place, open_place
from tests.system.times import LOGS
from tests.system.vhci import KernelAdapter

OPENED: Final = Verdict(Outcome.CONFIRMED, Reason.OK)
PATIENT: Final = Patience(attempts=8, dial_s=8.0)
REMOTE_USER_TERMINATED: Final = 0x13  # Core Vol 1 Part F 2.19
PAUSE_S: Final = 0.1
LATCH_S: Final = 1.0
"""How long a door stays open; until then another tap opens nothing."""
SETTLED_S: Final = 30.0


@dataclass
class House:
    """world: locks and wallets. place: the kernel's adapter. daemon: gatewayd.

    lock_adapter: the second adapter, if there is one.
    """

    world: World
    place: Place
    bluetoothd: Bluetoothd
    daemon: Child
    stack: AsyncExitStack
    lock_adapter: KernelAdapter | None = None
    controllers: dict[str, AirController] = field(default_factory=dict)
    _phones: dict[str, Phone] = field(default_factory=dict)

    @property
    def gateway(self) -> str:
        """What phones dial."""
        return self.world.gateway

    async def phone(self, name: str, patience: Patience = PATIENT, **claims: object) -> Phone:
        """Somebody's phone, made when it is first needed; it bears faults by default."""
        if name not in self._phones:
            wallet = self.world.wallet(name, **claims)  # type: ignore[arg-type] # as told there
            number = len(self._phones) + 1
            address = f"E1:00:00:00:00:{number:02X}"
            controller = AirController(self.place.air, f"00:AA:03:00:00:{number:02X}")
            self.controllers[name] = controller
            radio = await self.stack.enter_async_context(
                open_radio(controller, address=address, dials=PHONE, options=RadioOptions())
            )
            self._phones[name] = Phone(
                _Unhurried(radio.central), wallet, SystemClock(), SystemEntropy(), patience
            )
        return self._phones[name]

    async def open_door(self, name: str = "anna", door: str = STREET) -> Report:
        """One tap of somebody's."""
        return await (await self.phone(name)).open_door(door, address=self.gateway)

    async def opens(self, name: str = "anna", door: str = STREET, within_s: float = 40.0) -> None:
        """Somebody taps until the lock has really drawn its latch for it. TimeoutError."""
        lock = self.world.locks[door].machine
        before = lock.openings
        async with asyncio.timeout(within_s):
            while True:
                report = await self.open_door(name, door)
                if Verdict(report.outcome, report.reason) == OPENED and lock.openings > before:
                    return
                await asyncio.sleep(0.1)  # still open, or not yet in order again

    async def opens_relay(self, name: str = "anna") -> float:
        """Somebody taps at the street door, which has a relay; seconds from tap to answer."""
        report = await self.open_door(name)
        assert Verdict(report.outcome, report.reason) == OPENED, report
        await asyncio.sleep(LATCH_S)
        return report.timings.total_s

    async def hang_up(self, door: str) -> None:
        """A lock lets its gateway go, as it would after a while without work."""
        controller = self.world.locks[door].controller
        assert controller is not None
        for connection in controller._connections():
            connection.air.end(REMOTE_USER_TERMINATED)

    async def settle(self) -> None:
        """All is well and at rest: phone, gateway and lock know each other, the door is shut."""
        await self.opens(within_s=SETTLED_S)
        await asyncio.sleep(LATCH_S)

    def log(self) -> list[Leaf]:
        """The gateway's log as it stands on disk."""
        with logbook.open_logbook(self.world.database) as file:
            return [entry.leaf for entry in logbook.entries(file) if entry.leaf is not None]

    def last(self, kind: EntryKind) -> Verdict | None:
        """What the last entry of a kind says."""
        found = [leaf for leaf in self.log() if leaf.kind is kind]
        return found[-1].verdict if found else None


class _Unhurried:
    """A phone's `Central`: no phone connects within milliseconds after it hung up.

    Of one that did bluetoothd would not say that it was away: it tells what a property is when
    it comes to telling.
    """

    def __init__(self, central: Central) -> None:
        self._central = central
        self.scan = central.scan

    async def dial(self, address: str) -> Link:
        await asyncio.sleep(PAUSE_S)
        return await self._central.dial(address)


@asynccontextmanager
async def open_house(
    bluetoothd: Bluetoothd,
    directory: Path,
    edit: Callable[[str], str] = str,
    lock_adapter: str | None = None,
) -> AsyncIterator[House]:
    """Everybody at home, the daemon serving. `edit` may change its configuration before.

    `lock_adapter`: address of a second adapter, for locks.
    """
    async with open_place() as place:
        radio = f'kind = "bluez"\nadapter = "{ADAPTER}"'
        second = None
        if lock_adapter is not None:
            second = await place.another(lock_adapter)
            radio += f'\nlock_adapter = "{lock_adapter}"'
        world = furnish(
            directory,
            free_port(),
            place.air,
            gateway=place.dialled_address,
            radio=radio,
        )
        world.config.write_text(edit(world.config.read_text()))
        async with inhabited(world), AsyncExitStack() as stack:
            daemon = Child(world.config)
            house = House(world, place, bluetoothd, daemon, stack, second)
            try:
                await daemon.start()
                yield house
            finally:
                code = await house.daemon.stop()
                _keep_journal(directory.name, house.daemon)
            assert code == 0, house.daemon.last_words()
            assert not [line for line in house.daemon.lines if "Traceback" in line]


def _keep_journal(name: str, daemon: Child) -> None:
    """Where the host finds it."""
    with (LOGS / "gatewayd.log").open("a") as file:
        file.write("\n".join([f"--- {name}", *daemon.lines, ""]))
