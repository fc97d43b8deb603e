"""Keeps true what must be true: adapters on, table registered, advertisement out.

One loop compares what is wanted with what bluetoothd has, whatever took it away:
a restart, an adapter unplugged, an advertisement released. Listeners only wake it.
What fails again and again climbs the ladder of `core.recovery`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gatewayd.adapters.bluez import adapter, gatt_table, names
from gatewayd.adapters.bluez.bluetoothd import Bluetoothd, News
from gatewayd.adapters.bluez.bus import BUS_NAME, BUS_PATH, Bus, BusError, Call, Reply
from gatewayd.adapters.bluez.options import BluezOptions
from gatewayd.adapters.bluez.phones import PhoneSide, Spawn
from gatewayd.adapters.bluez.remedies import Remedies
from gatewayd.core.recovery import Ladder, Rung
from gatewayd.messages import Message, about
from gatewayd.ports import RadioError

_log: Final = logging.getLogger(__name__)

REGISTER_S: Final = 10.0


class State(StrEnum):
    """What phones can expect just now."""

    NO_BLUETOOTHD = "no bluetoothd"
    NO_ADAPTER = "no adapter"
    FAILING = "failing"
    FULL = "full"
    ADVERTISING = "advertising"


class Task(StrEnum):
    """What has a ladder of its own."""

    SERVE = "serve phones"
    DIAL = "dial locks"
    HANG_UP = "hang up"
    REACH = "reach a lock that is heard"
    """It may be the lock: its ladder is short."""


@dataclass(frozen=True, slots=True)
class _Life:
    """An adapter under one bluetoothd, from one power-up to the next.

    What is registered dies with it.
    """

    generation: int
    path: str
    number: int


class Keeper:
    """The loop, and where it stands."""

    def __init__(  # noqa: PLR0913 - what the keeper is wired to
        self,
        bus: Bus,
        bluetoothd: Bluetoothd,
        phones: PhoneSide,
        options: BluezOptions,
        *,
        spawn: Spawn,
        counts: Counter[str],
    ) -> None:
        self.state = State.NO_BLUETOOTHD
        self.trouble = "not started"
        self.lock_adapter: str | None = None
        self.simultaneous = False
        self.changed = asyncio.Event()
        """Set whenever `state` or `lock_adapter` may have changed."""
        self._bus = bus
        self._bluetoothd = bluetoothd
        self._phones = phones
        self._options = options
        self._spawn = spawn
        self._counts = counts
        self._wake = asyncio.Event()
        self._remedies = Remedies(bus, bluetoothd, options.helper, self._new_life)
        self._ladders = {task: Ladder(self._remedies.lacking) for task in Task}
        self._ladders[Task.REACH] = Ladder.straight_to(Rung.POWER_CYCLE)
        self._complaints: dict[Task, str] = {}
        self._lives: Counter[str] = Counter()
        self._ready: dict[str, _Life] = {}
        self._table: _Life | None = None
        self._advertised: _Life | None = None
        self._advertised_s = 0.0
        self._away_since_s: float | None = None
        bluetoothd.listen(self._happened)

    # --- what wakes it --------------------------------------------------------------------
    def wake(self) -> None:
        """Something may have changed."""
        self._wake.set()

    def links_changed(self) -> None:
        """A phone came or left."""
        if self.state is not State.FAILING:  # then the wait is there for a reason
            self.wake()

    def complain(self, reason: str, task: Task = Task.DIAL) -> None:
        """Dialling failed in a way that only the adapter can be blamed for, or most likely it."""
        self._complaints[task] = reason
        self.wake()

    def dialled(self) -> None:
        """A dial worked."""
        self._ladders[Task.DIAL] = self._ladders[Task.DIAL].worked()

    def hung_up(self, fault: str) -> None:
        """A phone was told to go, and with what fault it did not."""
        if fault:
            self._complaints[Task.HANG_UP] = fault
            self.wake()
        else:
            self._ladders[Task.HANG_UP] = self._ladders[Task.HANG_UP].worked()

    def _happened(self, news: News, path: str) -> None:
        if news is News.OWNER_LOST:
            self._counts["bluetoothd lost"] += 1
            self.lock_adapter = None
            self._now(State.NO_BLUETOOTHD, "bluetoothd is not running")
        elif news is News.ADAPTERS and not self._bluetoothd.objects.powered(path):
            if self._ready.get(path) == self._life(path):
                self._counts["adapters lost"] += 1
            self._new_life(path)
        if news is not News.DEVICE:
            self.wake()

    def _new_life(self, path: str) -> None:
        """The adapter was off: what was made with it before is worth nothing."""
        self._lives[path] += 1
        if path == self.lock_adapter:
            self.lock_adapter = None
        self.wake()

    def called(self, call: Call) -> Reply | None:
        """The advertisement is read, or released. None: no such method."""
        match (call.path, call.interface, call.member):
            case (gatt_table.ADVERTISEMENT, names.PROPERTIES, "GetAll"):
                properties = gatt_table.advertisement(
                    self._options.name, self._options.advertising_interval_ms
                )
                return Reply("a{sv}", [properties])
            case (gatt_table.ADVERTISEMENT, names.ADVERTISEMENT, "Release"):
                self._counts["advertisements released"] += 1
                self._advertised = None
                self.wake()
                return Reply()
            case _:
                return None

    # --- the loop -------------------------------------------------------------------------
    async def run(self) -> None:
        """Until cancelled. RadioError when the ladder's last rung was taken."""
        while True:
            self._wake.clear()
            wait_s = self._options.check_s
            try:
                await self._answer_complaints()
                wait_s = await self._reconcile()
            except BusError as error:
                if self._bluetoothd.owner:
                    self._now(State.FAILING, str(error))
                    wait_s = await self._climb(Task.SERVE, str(error))
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass  # look again, though nobody said anything

    async def _reconcile(self) -> float:
        """Make it so; after how many seconds to look again. BusError when bluetoothd refuses."""
        if not self._bluetoothd.owner:
            return await self._without_bluetoothd()
        self._away_since_s = None
        if not self._bluetoothd.swept:
            await self._bluetoothd.sweep()
        for_phones = await self._adapter(self._options.adapter)
        for_locks = for_phones
        if self._options.lock_adapter is not None:
            for_locks = await self._adapter(self._options.lock_adapter)
        self.lock_adapter = for_locks.path if for_locks else None
        self._phones.moved_to(for_phones.path if for_phones else None)
        if for_phones is None:
            self._now(State.NO_ADAPTER, f"no adapter {self._options.adapter or 'at all'}")
            return self._options.check_s
        self.simultaneous = for_locks is not None and (
            for_locks is not for_phones or adapter.both_roles(self._bluetoothd, for_phones.path)
        )
        await self._register(for_phones)
        await self._advertise(for_phones)
        self._ladders[Task.SERVE] = self._ladders[Task.SERVE].worked()
        self._now(State.ADVERTISING if self._advertised else State.FULL, "")
        return self._options.check_s

    async def _without_bluetoothd(self) -> float:
        """Wait; after a while ask the bus to start it, as any client's first call would."""
        if self._away_since_s is None:
            self._now(State.NO_BLUETOOTHD, "bluetoothd is not running")
        now_s = time.monotonic()
        self._away_since_s = self._away_since_s or now_s
        left_s = self._away_since_s + self._options.activate_s - now_s
        if left_s > 0:
            return left_s
        self._away_since_s = now_s
        self._counts["bluetoothd activations"] += 1
        try:
            await self._bus.call(
                BUS_NAME, BUS_PATH, BUS_NAME, "StartServiceByName", "su", [names.SERVICE, 0]
            )
        except BusError as error:
            self._now(State.NO_BLUETOOTHD, f"bluetoothd is not running: {error}")
        return self._options.activate_s

    async def _adapter(self, address: str | None) -> _Life | None:
        """The adapter, switched on, who is there from before sent away; None without one."""
        path = self._bluetoothd.objects.adapter(address)
        if path is None:
            return None
        known = self._ready.get(path)
        if known is not None and known == self._life(path):
            return known
        await adapter.switch_on(self._bluetoothd, path, gatt_table.short_name(self._options.name))
        # not waited for: bluetoothd takes two seconds, and new phones need not
        self._spawn(
            f"close stale connections of {path}",
            adapter.close_stale(self._bluetoothd, path, self._counts),
        )
        if not self._bluetoothd.objects.powered(path):
            return None  # it went meanwhile
        life = self._ready[path] = self._life(path)
        _log.info("adapter %s is on", path)
        return life

    def _life(self, path: str) -> _Life:
        return _Life(self._bluetoothd.generation, path, self._lives[path])

    async def _register(self, life: _Life) -> None:
        """The table: once per life of the adapter."""
        if self._table == life:
            return
        try:
            await self._bluetoothd.call(
                life.path, names.GATT_MANAGER, "RegisterApplication", "oa{sv}",
                [gatt_table.APPLICATION, {}], timeout_s=REGISTER_S,
            )  # fmt: skip
        except BusError as error:
            if error.name != names.ALREADY_EXISTS:  # a table outlives a power cycle
                raise
        self._counts["tables registered"] += 1
        self._table = life

    # --- the advertisement ------------------------------------------------------------------
    async def _advertise(self, life: _Life) -> None:
        """On air while there is room, and again when it got lost."""
        if not self._phones.has_room:
            await self._withdraw()
            return
        if self._advertised == life and not await self._is_lost(life) and not self._is_worn():
            return
        await self._withdraw()
        try:
            await self._advertisement(life, "RegisterAdvertisement", "oa{sv}", {})
        except BusError as error:
            if error.name != names.ALREADY_EXISTS:
                raise
            await self._advertisement(life, "UnregisterAdvertisement", "o")
            await self._advertisement(life, "RegisterAdvertisement", "oa{sv}", {})
        self._counts["advertisements registered"] += 1
        self._advertised, self._advertised_s = life, time.monotonic()

    async def _withdraw(self) -> None:
        life, self._advertised = self._advertised, None
        if life is not None and life == self._life(life.path):
            try:
                await self._advertisement(life, "UnregisterAdvertisement", "o")
            except BusError as error:
                if error.name != names.DOES_NOT_EXIST:
                    raise

    async def _advertisement(self, life: _Life, member: str, signature: str, *more: object) -> None:
        await self._bluetoothd.call(
            life.path, names.ADVERTISING_MANAGER, member, signature,
            [gatt_table.ADVERTISEMENT, *more], timeout_s=REGISTER_S,
        )  # fmt: skip

    async def _is_lost(self, life: _Life) -> bool:
        active = await self._bluetoothd.get(life.path, names.ADVERTISING_MANAGER, "ActiveInstances")
        if active:
            return False
        self._counts["advertisements lost"] += 1
        return True

    def _is_worn(self) -> bool:
        """Old, and nobody is there whom a moment without it could disturb.

        Some kernels stop advertising after a connection, and any program may clear it over the
        mgmt socket; nothing is said of either: ActiveInstances counts registrations, not what
        is on air (bluezero issue 344, bluez issue 1015).
        """
        age_s = time.monotonic() - self._advertised_s
        return not self._phones.anybody and age_s >= self._options.refresh_s

    # --- what went wrong --------------------------------------------------------------------
    async def _answer_complaints(self) -> None:
        complaints, self._complaints = self._complaints, {}
        for task, reason in complaints.items():  # several dials may have met the same fault
            await self._climb(task, reason)

    async def _climb(self, task: Task, reason: str) -> float:
        """Take the rung that is due; after how many seconds to try again. RadioError at the top."""
        self._ladders[task], rung = self._ladders[task].failed(time.monotonic())
        self._counts[f"recovery: {rung.name.lower().replace('_', ' ')}"] += 1
        step = rung.name.lower().replace("_", " ")
        known = about(Message.RADIO_RECOVERY)
        _log.warning("cannot %s (%s): %s", task, reason, step, extra=known)
        if rung is Rung.GIVE_UP:
            raise RadioError(f"cannot {task}: {reason}")
        try:
            await self._remedies.take(rung, self._address(task))
        except (BusError, RadioError) as error:
            _log.error("%s did not help: %s", step, error)
        return self._options.retry_s * self._ladders[task].failures

    def _address(self, task: Task) -> str | None:
        """Of the adapter that is to be blamed."""
        if task in {Task.DIAL, Task.REACH} and self._options.lock_adapter is not None:
            return self._options.lock_adapter
        return self._options.adapter

    def _now(self, state: State, trouble: str) -> None:
        if (state, trouble) != (self.state, self.trouble):
            (_log.warning if trouble else _log.info)("%s%s", state, trouble and f": {trouble}")
        self.state, self.trouble = state, trouble
        self.changed.set()
