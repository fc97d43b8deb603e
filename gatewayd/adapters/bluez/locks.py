"""The lock side: dials locks by known address, one at a time, each within a bound.

Two pending LE connections at once can leave one pending for ever (bluetooth-next
pull 643), and the kernel pauses advertising while one is pending (hci_sync.c): so
dials take turns, and a lock that is out of reach gives its turn away after a few
seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

from bleak.exc import BleakDBusError

from gatewayd import addresses
from gatewayd.adapters.bluez import lock_client, names
from gatewayd.adapters.bluez.bluetoothd import Bluetoothd, News
from gatewayd.adapters.bluez.bus import BusError
from gatewayd.adapters.bluez.ears import Ears
from gatewayd.adapters.bluez.keeper import Keeper, Task
from gatewayd.adapters.bluez.lock_client import LockClient
from gatewayd.adapters.bluez.options import BluezOptions
from gatewayd.adapters.bluez.phones import PhoneSide, Spawn
from gatewayd.adapters.gatt.client import FAULTS, NoSuchTableError
from gatewayd.adapters.gatt.link import GattLink
from gatewayd.ports import RadioError

_log: Final = logging.getLogger(__name__)

RETRY_S: Final = 0.1
LOOK_S: Final = 0.5
ENDED_S: Final = 3.0
"""How long a dial may take to end after it was told to; then it is left behind, and counted."""

_ADAPTER_ERRORS: Final = frozenset({names.IN_PROGRESS, names.BUSY, names.ERROR + "NotReady"})
"""A dial refused with one of these says nothing of the lock."""


@dataclass(slots=True)
class _Tries:
    """What one dial has met so far.

    pause_s: before the next try. adapters_fault: what the adapter is to be blamed for.
    alone: phones had to go for it.
    """

    last: str = "does not answer"
    pause_s: float = 0.0
    adapters_fault: str = ""
    table_forgotten: bool = False
    alone: bool = False


class LockSide:
    """`ports.radio.Central` over bleak."""

    def __init__(  # noqa: PLR0913 - what the lock side is wired to
        self,
        bluetoothd: Bluetoothd,
        keeper: Keeper,
        phones: PhoneSide,
        options: BluezOptions,
        *,
        spawn: Spawn,
        counts: Counter[str],
    ) -> None:
        self._bluetoothd = bluetoothd
        self._keeper = keeper
        self._phones = phones
        self._options = options
        self._spawn = spawn
        self._counts = counts
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._clients: dict[str, LockClient] = {}
        self._ears = Ears(self._deaf, self._stuck)
        self._device_news = asyncio.Event()
        self._lost: RadioError | None = None
        self.strengths: dict[str, int] = {}
        """How strongly each lock was received when it was last dialled, in dBm, by its address."""
        bluetoothd.listen(self._happened)

    async def dial(self, address: str) -> GattLink:
        """Connect, find the table, subscribe. RadioError when no link came about in time."""
        tries = _Tries()
        try:
            async with asyncio.timeout(self._options.dial_s):
                while True:
                    link = await self._try(address, tries)
                    if link is not None:
                        self._ears.dialled(address, worked=True)
                        self._keeper.dialled()
                        self._spawn(f"strength of {address}", self._measure(address))
                        return link
                    await asyncio.sleep(max(tries.pause_s, RETRY_S))
        except TimeoutError:
            self._counts["dials in vain"] += 1
            self._ears.dialled(address, worked=False)
            if tries.adapters_fault:  # once per dial: a dial may try thirty times
                self._keeper.complain(tries.adapters_fault)
            raise RadioError(f"{address} cannot be dialled: {tries.last}") from None

    @property
    def links(self) -> list[GattLink]:
        """Every lock that is connected."""
        return [client.link for client in self._clients.values()]

    def lose(self, error: RadioError) -> None:
        """The radio was given up."""
        self._lost = self._lost or error
        self._all_died(str(error))

    # --- one try --------------------------------------------------------------------------
    async def _try(self, address: str, tries: _Tries) -> GattLink | None:
        """None: worth another try. RadioError: it is not."""
        async with self._in_line():
            adapter = self._adapter()
            if adapter is None:  # the keeper is at work; the dial's own bound holds
                tries.last = self._keeper.trouble
                return None
            path = names.device_path(adapter, address)
            if last := self._clients.get(path):
                if not last.link.closed:
                    raise RadioError(f"{address} is connected already")
                tries.last = "the last connection is still being hung up"
                return None
            with self._no_phone(path):
                try:
                    return await self._in_turn(path, address, adapter, tries)
                except NoSuchTableError as error:
                    await self._forget_table(adapter, path, address, tries, error)
        return None

    @contextlib.asynccontextmanager
    async def _in_line(self) -> AsyncIterator[None]:
        """One at a time; who has the turn can see whether somebody waits for it."""
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turn.release()

    def _adapter(self) -> str | None:
        if self._lost is not None:
            raise self._lost
        return self._keeper.lock_adapter

    @contextlib.contextmanager
    def _no_phone(self, path: str) -> Iterator[None]:
        """Who is dialled, and then connected, is no phone."""
        self._phones.dialled.add(path)
        try:
            yield
        finally:
            if path not in self._clients:
                self._phones.dialled.discard(path)

    async def _in_turn(
        self, path: str, address: str, adapter: str, tries: _Tries
    ) -> GattLink | None:
        """One attempt, ended after its turn when the air is needed by another, or by phones.

        One that comes as far as a connection gets a turn more, and no longer while another lock
        waits: one whose table has no end would keep all others out.
        """
        attempt = asyncio.create_task(
            self._attempt(path, address, adapter, tries), name=f"dial {address}"
        )
        connected, ends_s = False, time.monotonic() + self._options.turn_s
        try:
            while not attempt.done():
                await asyncio.wait({attempt}, timeout=min(LOOK_S, self._options.turn_s))
                if not connected and self._bluetoothd.objects.is_connected(path):
                    connected, ends_s = True, time.monotonic() + self._options.turn_s
                needed = self._waiting or not (connected or self._keeper.simultaneous)
                if needed and time.monotonic() >= ends_s:
                    break
        except BaseException:
            await self._end(attempt, tries)
            raise
        if attempt.done():
            return attempt.result()
        await self._end(attempt, tries)
        tries.last = "does not answer"
        return None

    async def _end(self, attempt: asyncio.Task[GattLink | None], tries: _Tries) -> None:
        """Cancel, and do not wait for ever: bluetoothd may not answer any more."""
        attempt.cancel()
        await asyncio.wait({attempt}, timeout=ENDED_S)
        if attempt.done():
            _let_go(attempt)
            return
        self._counts["dials that never ended"] += 1
        tries.adapters_fault = "a dial does not end"
        attempt.add_done_callback(_let_go)

    async def _attempt(
        self, path: str, address: str, adapter: str, tries: _Tries
    ) -> GattLink | None:
        """None: a fault that may pass. NoSuchTableError."""
        try:
            if not self._known(path):
                await self._ears.until(lambda: self._known(path), self._device_news, adapter)
                return None  # connecting has a turn of its own
            await self._ears.check(adapter, address)
            client = await lock_client.connect(path, address, adapter, self._hang_up)
        except FAULTS as error:
            tries.last, tries.pause_s = str(error), lock_client.pause_s(error)
            self._blame(error, tries)
            return None
        self._clients[path] = client
        kept = False
        try:
            await client.subscribe()
            kept = True
        except FAULTS as error:
            tries.last = str(error)
            if self._bluetoothd.objects.is_connected(path):
                raise NoSuchTableError(str(error)) from error  # handles of an older table
            return None
        finally:
            if not kept:
                client.link.drop()
        return client.link

    def _blame(self, error: BaseException, tries: _Tries) -> None:
        """Is it the lock, the adapter, or phones that are connected?"""
        if isinstance(error, BleakDBusError) and error.dbus_error in _ADAPTER_ERRORS:
            self._counts["dials refused by the adapter"] += 1
            tries.adapters_fault = str(error)
        if not self._keeper.simultaneous and self._phones.anybody and not tries.alone:
            tries.alone = True
            self._counts["phones that yielded to a lock"] += 1
            self._phones.hang_up_all()

    async def _measure(self, address: str) -> None:
        """Of a lock that is connected; where there is no helper, or no answer, nothing is known."""
        helper, adapter = self._options.helper, self._keeper.lock_adapter
        about = adapter and self._bluetoothd.objects.get(adapter, names.ADAPTER)
        if helper is None or not about:
            return
        peer, public = addresses.plain(address), address.endswith(addresses.PUBLIC)
        with contextlib.suppress(RadioError):
            dbm = await helper.strength_dbm(str(about["Address"]), peer, public=public)
            if dbm is not None:
                self.strengths[address] = dbm

    # --- finding and forgetting -------------------------------------------------------------
    def _known(self, path: str) -> bool:
        return self._bluetoothd.objects.get(path, names.DEVICE) is not None

    def _deaf(self) -> None:
        self._counts["silent scans"] += 1
        self._keeper.complain("scans hear nobody")

    def _stuck(self, address: str) -> None:
        self._counts["locks heard and not reached"] += 1
        self._keeper.complain(address, Task.REACH)

    async def _forget_table(
        self, adapter: str, path: str, address: str, tries: _Tries, error: NoSuchTableError
    ) -> None:
        """Once per dial: bluetoothd caches a table that a lock's new firmware has moved.

        RemoveDevice forgets the attributes, too (bluez issue 191). RadioError: it was not that.
        """
        if tries.table_forgotten:
            raise RadioError(f"{address} serves no lock: {error}") from error
        tries.table_forgotten = True
        tries.last = str(error)
        self._counts["stale tables forgotten"] += 1
        if client := self._clients.get(path):
            await client.link.close()
        try:
            await self._bluetoothd.call(adapter, names.ADAPTER, "RemoveDevice", "o", [path])
        except BusError as refused:
            _log.info("%s is not forgotten: %s", address, refused)

    # --- the end of connections ---------------------------------------------------------------
    def _hang_up(self, client: LockClient) -> None:
        self._spawn(f"hang up {client.path}", self._disconnect(client))

    async def _disconnect(self, client: LockClient) -> None:
        await client.disconnect()
        if self._clients.get(client.path) is client:
            del self._clients[client.path]
            self._phones.dialled.discard(client.path)

    def _happened(self, news: News, path: str) -> None:
        if news is News.OWNER_LOST:
            self._all_died("bluetoothd is gone")
            self._spawn("bleak forgets", lock_client.forget_everything())
        elif news is News.ADAPTERS and not self._bluetoothd.objects.powered(path):
            self._all_died("the adapter is gone", path)
        elif news is News.DEVICE:
            self._device_news.set()
            if path in self._clients and not self._bluetoothd.objects.is_connected(path):
                self._died(path, "disconnected")

    def _all_died(self, reason: str, adapter: str | None = None) -> None:
        for path in list(self._clients):
            if adapter is None or names.adapter_of(path) == adapter:
                self._died(path, reason)

    def _died(self, path: str, reason: str) -> None:
        """Say so at once, then let bleak clean up: its D-Bus connection leaks otherwise."""
        client = self._clients.pop(path)
        self._phones.dialled.discard(path)
        client.link.died(reason)
        self._hang_up(client)


def _let_go(attempt: asyncio.Task[GattLink | None]) -> None:
    """A link that came about when nobody wanted it any more."""
    if not attempt.cancelled() and attempt.exception() is None:
        link = attempt.result()
        if link is not None:
            link.drop()
