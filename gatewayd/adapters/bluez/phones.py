"""The phone side: serves the GATT table and tells phones apart by their device's path.

A phone's link exists from its first write: bluetoothd says neither who
subscribed (StartNotify names no device) nor which MTU it has before that.
Phones subscribe before they write, by the protocol.

Notifications go out as PropertiesChanged, which reaches every subscriber
(bluez issue 1106): fragments carry a channel id, and phones ignore others'.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from firmware_proto.codes import MIN_ATT_MTU
from gatewayd.adapters.bluez import gatt_table, names
from gatewayd.adapters.bluez.bluetoothd import Bluetoothd, News
from gatewayd.adapters.bluez.bus import BusError, Call, Reply
from gatewayd.adapters.bluez.notifier import Notifier
from gatewayd.adapters.gatt.link import DISCONNECT_S, GattLink, notified_mtu
from gatewayd.ports import RadioError

_log: Final = logging.getLogger(__name__)

Spawn = Callable[[str, Coroutine[Any, Any, None]], None]


@dataclass(frozen=True, slots=True)
class PhoneLimits:
    """link_cap: phones connected at once. speak_s: how long one may be connected and silent.

    speak_s is also how long after one try to hang up the next one is made.
    """

    link_cap: int = 5
    speak_s: float = 5.0


class PhoneSide:
    """`ports.radio.Peripheral` over bluetoothd.

    `links_changed` is called when room may have changed, `hung_up` after every try to hang up,
    with what went wrong.
    """

    def __init__(  # noqa: PLR0913 - what the phone side is wired to
        self,
        bluetoothd: Bluetoothd,
        notifier: Notifier,
        limits: PhoneLimits,
        *,
        info: bytes,
        spawn: Spawn,
        links_changed: Callable[[], None],
        hung_up: Callable[[str], None],
        counts: Counter[str],
    ) -> None:
        self.adapter: str | None = None
        self.dialled: set[str] = set()
        """Devices that we dialled, or are dialling: no phones."""
        self._bluetoothd = bluetoothd
        self._notifier = notifier
        self._limits = limits
        self._info = info
        self._spawn = spawn
        self._links_changed = links_changed
        self._hung_up = hung_up
        self._counts = counts
        self._visitors: dict[str, asyncio.TimerHandle] = {}
        self._leaving: set[str] = set()
        self._links: dict[str, GattLink] = {}
        self._arrivals: asyncio.Queue[GattLink | None] = asyncio.Queue()
        self._lost: RadioError | None = None
        bluetoothd.listen(self._happened)

    async def accept(self) -> GattLink:
        """The next phone that wrote and is still there; RadioError: the radio was given up."""
        while True:
            link = await self._arrivals.get()
            if link is None:
                self._arrivals.put_nowait(None)  # for whoever asks next
                raise self._lost or RadioError("the radio is closed")
            if not link.closed:
                return link

    @property
    def has_room(self) -> bool:
        """Whether one more phone may connect."""
        return len(self._visitors) < self._limits.link_cap

    @property
    def anybody(self) -> bool:
        """Whether any phone is connected."""
        return bool(self._visitors)

    @property
    def links(self) -> list[GattLink]:
        """Every phone that has spoken and is still connected."""
        return list(self._links.values())

    def hang_up_all(self) -> None:
        """Everybody has to go: a lock is dialled by an adapter that does one thing at a time."""
        for device in self._visitors:
            self._hang_up(device)

    def lose(self, error: RadioError) -> None:
        """The radio was given up: everybody is told."""
        self._lost = self._lost or error
        self._all_gone(str(error))
        self._arrivals.put_nowait(None)

    # --- who is there ---------------------------------------------------------------------
    def moved_to(self, adapter: str | None) -> None:
        """Another adapter from now on, or none: nobody is connected through it yet."""
        if adapter != self.adapter:
            self._all_gone("the adapter is gone")
            self.adapter = adapter

    def _happened(self, news: News, path: str) -> None:
        if news is News.OWNER_LOST:
            self.adapter = None
            self._all_gone("bluetoothd is gone")
        elif news is News.ADAPTERS and path == self.adapter:
            if not self._bluetoothd.objects.powered(path):
                self._all_gone("the adapter is off")
        elif news is News.DEVICE and self.adapter and names.adapter_of(path) == self.adapter:
            self._device_changed(path)

    def _device_changed(self, device: str) -> None:
        here = self._bluetoothd.objects.is_connected(device)
        if device in self._visitors:
            if not here:
                self._gone(device, "disconnected")
        elif here and device not in self.dialled:
            self._came(device)

    def _came(self, device: str) -> None:
        crowded = not self.has_room
        loop = asyncio.get_running_loop()
        self._visitors[device] = loop.call_later(self._limits.speak_s, self._silent, device)
        if crowded:
            self._counts["phones beyond the cap"] += 1
            self._hang_up(device)
        self._links_changed()

    def _silent(self, device: str) -> None:
        if device not in self._links:
            self._counts["phones that said nothing"] += 1
            self._hang_up(device)

    def _gone(self, device: str, reason: str) -> None:
        if timer := self._visitors.pop(device, None):
            timer.cancel()
        self._leaving.discard(device)
        if link := self._links.pop(device, None):
            link.died(reason)
        self._notifier.gone(device)
        self._links_changed()

    def _all_gone(self, reason: str) -> None:
        for device in {*self._visitors, *self._links}:
            self._gone(device, reason)

    def _hang_up(self, device: str) -> None:
        if device not in self._leaving:
            self._leaving.add(device)
            self._spawn(f"hang up {device}", self._disconnect(device))

    async def _disconnect(self, device: str) -> None:
        """Until it is gone: a connection that leaks takes a place from everybody else."""
        while device in self._leaving:
            fault = ""
            try:
                await self._bluetoothd.call(
                    device, names.DEVICE, "Disconnect", timeout_s=DISCONNECT_S
                )
            except BusError as error:
                if error.name == names.UNKNOWN_OBJECT:
                    self._gone(device, "forgotten by bluetoothd")
                    return
                fault = f"{device} does not hang up: {error}"
                self._counts["disconnects refused"] += 1
            self._hung_up(fault)
            await asyncio.sleep(self._limits.speak_s)

    # --- what bluetoothd asks of our objects ------------------------------------------------
    def called(self, call: Call) -> Reply | None:
        """Answer a call to the GATT application. None: no such method; BusError: refused."""
        key = (call.path, call.interface, call.member)
        match key:
            case (gatt_table.APPLICATION, names.OBJECT_MANAGER, "GetManagedObjects"):
                return Reply("a{oa{sa{sv}}}", [gatt_table.managed_objects()])
            case (gatt_table.REQUEST, names.GATT_CHARACTERISTIC, "WriteValue"):
                value, options = call.body
                return self._written(bytes(value), options)
            case (gatt_table.INFO, names.GATT_CHARACTERISTIC, "ReadValue"):
                (options,) = call.body
                return self._info_read(int(options.get("offset", 0)))
            case (gatt_table.RESPONSE, names.GATT_CHARACTERISTIC, _):
                return self._notifier.called(call)
            case _:
                return None

    def _info_read(self, offset: int) -> Reply:
        if offset > len(self._info):
            raise BusError(names.INVALID_OFFSET)
        return Reply("ay", [self._info[offset:]])

    def _written(self, value: bytes, options: Mapping[str, Any]) -> Reply:
        """Answered at once, whatever it means (five seconds: ATTRIBUTE_TIMEOUT in gatt-db.c)."""
        if options.get("offset", 0):
            raise BusError(names.INVALID_OFFSET)  # no fragment is longer than the MTU
        device = str(options.get("device", ""))
        unwelcome = device in self.dialled or device in self._leaving
        if unwelcome or not device or names.adapter_of(device) != self.adapter:
            raise BusError(names.NOT_PERMITTED)
        self._from(device, int(options.get("mtu", MIN_ATT_MTU))).arrived(value)
        return Reply()

    def _from(self, device: str, mtu: int) -> GattLink:
        """The link of this phone; its first write makes it."""
        link = self._links.get(device)
        if link is None:
            if device not in self._visitors:  # its write overtook Device1.Connected
                self._came(device)

            async def notify(fragment: bytes) -> None:
                await self._notifier.notify(device, fragment)

            link = GattLink(device, mtu, notify, lambda: self._hang_up(device))
            self._links[device] = link
            self._visitors[device].cancel()
            self._arrivals.put_nowait(link)
        link.mtu = notified_mtu(mtu)
        return link
