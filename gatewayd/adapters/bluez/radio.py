"""Open the Bluetooth of this machine, for a gateway: phones on one side, locks on the other.

async with open_bluez(BluezOptions(adapter="B8:27:EB:00:00:01")) as radio:
    phone = await radio.peripheral.accept()
    lock = await radio.central.dial("F0:00:00:00:02:01")
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from gatewayd.adapters.bluez import lock_client, names
from gatewayd.adapters.bluez.bluetoothd import Bluetoothd
from gatewayd.adapters.bluez.bus import Bus, BusError, Call, Reply, open_bus
from gatewayd.adapters.bluez.keeper import Keeper, State
from gatewayd.adapters.bluez.locks import LockSide
from gatewayd.adapters.bluez.notifier import EverySubscriber
from gatewayd.adapters.bluez.options import BluezOptions
from gatewayd.adapters.bluez.phones import PhoneLimits, PhoneSide
from gatewayd.ports import RadioError

_log: Final = logging.getLogger(__name__)

LOSSES: Final = (
    "bluetoothd lost",
    "adapters lost",
    "advertisements lost",
    "advertisements released",
    "dials that never ended",
    "silent scans",
    "locks heard and not reached",
    "stale tables forgotten",
    "stale connections closed",
    "disconnects refused",
)
STRANGE: Final = ("phones that said nothing", "phones beyond the cap")
_NO_BUS: Final = "systemctl start dbus bluetooth; then gatewayd doctor says what else is missing"
SERVING: Final = frozenset({State.ADVERTISING, State.FULL})


class BluezRadio:
    """A running radio. When it has to be given up, `accept` and `dial` raise RadioError."""

    def __init__(self, bus: Bus, options: BluezOptions) -> None:
        self.counts: Counter[str] = Counter()
        self._bus = bus
        self._options = options
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: RadioError | None = None
        self._bluetoothd = Bluetoothd(bus)
        self.peripheral = PhoneSide(
            self._bluetoothd,
            EverySubscriber(self._bluetoothd),
            PhoneLimits(options.link_cap, options.speak_s),
            info=options.info,
            spawn=self._spawn,
            links_changed=self._links_changed,
            hung_up=self._hung_up,
            counts=self.counts,
        )
        self.keeper = Keeper(
            bus,
            self._bluetoothd,
            self.peripheral,
            options,
            spawn=self._spawn,
            counts=self.counts,
        )
        self.central = LockSide(
            self._bluetoothd,
            self.keeper,
            self.peripheral,
            options,
            spawn=self._spawn,
            counts=self.counts,
        )
        self._bluetoothd.on_call = self._called

    async def start(self) -> None:
        """Returns when phones are served. RadioError when they are not in time, with the reason."""
        try:
            await self._bluetoothd.start()
        except BusError as error:
            raise RadioError(f"the system bus refuses us: {error}") from error
        self._spawn("bus", self._watch_bus())
        self._spawn("keeper", self.keeper.run())
        try:
            async with asyncio.timeout(self._options.start_s):
                while self.keeper.state not in SERVING and self._failed is None:
                    self.keeper.changed.clear()
                    await self.keeper.changed.wait()
        except TimeoutError:
            raise RadioError(
                f"no phone can connect: {self.keeper.state}, {self.keeper.trouble}"
            ) from None
        if self._failed is not None:
            raise self._failed

    async def stop(self) -> None:
        """Hang up on everybody and stop. What is registered goes with our bus connection."""
        links = [*self.peripheral.links, *self.central.links]
        await asyncio.gather(*(link.close() for link in links))
        self._lose(RadioError("the radio is closed"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await lock_client.forget_everything()

    def health(self) -> Mapping[str, str | int | bool]:
        """For the operator's status: what phones can expect now, and what had to be repaired."""
        return {
            "radio": str(self.keeper.state),
            "radio_both_roles": self.keeper.simultaneous,
            "radio_losses": sum(self.counts[name] for name in LOSSES),
            "radio_sent_away": sum(self.counts[name] for name in STRANGE),
            "radio_repairs": sum(
                count for name, count in self.counts.items() if name.startswith("recovery: ")
            ),
        }

    async def adapters(self) -> Mapping[str, Mapping[str, Any]]:
        """What bluetoothd says now: interfaces of every adapter, by path. RadioError."""
        try:
            managed = await self._bluetoothd.managed_objects()
        except BusError as error:
            raise RadioError(f"bluetoothd was not asked: {error}") from error
        return {path: each for path, each in managed.items() if names.ADAPTER in each}

    def _called(self, call: Call) -> Reply | None:
        return self.peripheral.called(call) or self.keeper.called(call)

    def _links_changed(self) -> None:
        self.keeper.links_changed()  # each of the two needs the other

    def _hung_up(self, fault: str) -> None:
        self.keeper.hung_up(fault)

    async def _watch_bus(self) -> None:
        await self._bus.wait_closed()
        raise RadioError("the system bus is gone")

    def _lose(self, error: RadioError) -> None:
        if self._failed is None:
            self._failed = error
            self.peripheral.lose(error)
            self.central.lose(error)
            self.keeper.changed.set()

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        async def supervised() -> None:
            try:
                await work
            except RadioError as error:
                self._lose(error)
            except Exception as error:  # noqa: BLE001 - a dead task means a dead radio, said so
                _log.exception("radio task %s failed", name)
                self._lose(RadioError(f"the radio stopped working: {error!r}"))

        task = asyncio.create_task(supervised(), name=f"radio {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # one that was cancelled before it began


@asynccontextmanager
async def open_bluez(
    options: BluezOptions | None = None, *, bus_address: str | None = None
) -> AsyncIterator[BluezRadio]:
    """A radio on the machine's own Bluetooth, serving phones. RadioError when it cannot start.

    bus_address: of the bus that bluetoothd is on; the system's when left out.
    """
    try:
        async with open_bus(bus_address) as bus:
            radio = BluezRadio(bus, options or BluezOptions())
            try:
                await radio.start()
                yield radio
            finally:
                await radio.stop()
    except BusError as error:
        raise RadioError(error.text or str(error), _NO_BUS) from error
