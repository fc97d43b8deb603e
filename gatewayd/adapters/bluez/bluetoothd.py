"""bluetoothd as this process sees it: who owns the name, in which generation, with which objects.

A bluetoothd that restarts has forgotten our table, our advertisement and every
connection, and says nothing of it but NameOwnerChanged (signalk-server issue
3049: twenty advertisements a second, then none for ever). So everything that
was made with one owner is worth nothing with the next: `generation` tells.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final

from gatewayd.adapters.bluez import names
from gatewayd.adapters.bluez.bus import BUS_NAME, Bus, BusError, Call, Reply, Signal, Variant
from gatewayd.adapters.bluez.objects import Objects
from gatewayd.messages import Message, about

_log: Final = logging.getLogger(__name__)

_CHANGES: Final = (
    f"type='signal',sender='{names.SERVICE}',interface='{names.PROPERTIES}',"
    f"path_namespace='{names.ROOT}',arg0="
)
_RULES: Final = (
    f"type='signal',sender='{BUS_NAME}',member='NameOwnerChanged',arg0='{names.SERVICE}'",
    f"type='signal',sender='{names.SERVICE}',interface='{names.OBJECT_MANAGER}'",
    f"{_CHANGES}'{names.ADAPTER}'",
    f"{_CHANGES}'{names.DEVICE}'",
)


class News(Enum):
    """What happened at bluetoothd."""

    OWNER_LOST = auto()
    OWNER_GAINED = auto()
    ADAPTERS = auto()
    DEVICE = auto()


Listener = Callable[[News, str], None]
"""Told what happened, and to which path ("" for an owner)."""


class Bluetoothd:
    """The one conversation with bluetoothd. Listeners are called by the reader of the bus."""

    def __init__(self, bus: Bus) -> None:
        self.objects = Objects()
        self.owner = ""
        self.generation = 0
        self.swept = False
        self.on_call: Callable[[Call], Reply | None] = lambda _: None
        self._bus = bus
        self._listeners: list[Listener] = []
        self._backlog: list[Signal] | None = None
        bus.on_signal = self._heard
        bus.on_call = self._called

    def listen(self, listener: Listener) -> None:
        """Tell `listener` from now on."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Watch the name; its owner, if there is one, is the first generation. BusError."""
        for rule in _RULES:
            await self._bus.watch(rule)
        if not self.owner:  # nobody told meanwhile
            self._owned_by(await self._bus.owner_of(names.SERVICE))

    async def sweep(self) -> None:
        """Learn every adapter and device. Signals that arrive meanwhile count after it."""
        generation = self.generation
        self._backlog = []
        try:
            managed = await self.managed_objects()
            if generation == self.generation:
                self.objects.replace(managed)
                self.swept = True
                for signal in self._backlog:
                    self._apply(signal)
        finally:
            self._backlog = None

    # --- asking ---------------------------------------------------------------------------
    async def managed_objects(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """Every object that bluetoothd has now: interfaces and properties by path. BusError."""
        (managed,) = await self.call(
            "/", names.OBJECT_MANAGER, "GetManagedObjects", returns="a{oa{sa{sv}}}"
        )
        objects: Mapping[str, Mapping[str, Mapping[str, Any]]] = managed
        return objects

    async def call(  # noqa: PLR0913 - what a D-Bus method call consists of
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[Any] = (),
        *,
        timeout_s: float = 10.0,
        returns: str | None = None,
    ) -> Sequence[Any]:
        """Call this very owner: never start another one by the way. BusError."""
        if not self.owner:
            raise BusError("org.freedesktop.DBus.Error.NameHasNoOwner", "bluetoothd is not running")
        return await self._bus.call(
            self.owner, path, interface, member, signature, body,
            timeout_s=timeout_s, returns=returns,
        )  # fmt: skip

    async def set(self, path: str, interface: str, name: str, value: Variant) -> None:
        """Set one property. BusError."""
        await self.call(path, names.PROPERTIES, "Set", "ssv", [interface, name, value])

    async def get(self, path: str, interface: str, name: str) -> Any:  # noqa: ANN401 - any D-Bus value
        """One property, asked for now. BusError."""
        (value,) = await self.call(
            path, names.PROPERTIES, "Get", "ss", [interface, name], returns="v"
        )
        return value

    def emit(
        self, path: str, interface: str, member: str, signature: str, body: Sequence[Any]
    ) -> None:
        """Send a signal from one of our objects. BusError."""
        self._bus.emit(path, interface, member, signature, body)

    # --- hearing --------------------------------------------------------------------------
    def _called(self, call: Call) -> Reply | None:
        """Only bluetoothd may call: anybody else on the bus could pretend to be a phone."""
        if call.sender != self.owner:
            raise BusError("org.freedesktop.DBus.Error.AccessDenied", "not for you")
        return self.on_call(call)

    def _heard(self, signal: Signal) -> None:
        if signal.member == "NameOwnerChanged" and signal.sender == BUS_NAME:
            name, _, new = signal.body
            if name == names.SERVICE:
                self._owned_by(new)
        elif signal.sender == self.owner:
            if self._backlog is not None:
                self._backlog.append(signal)
            elif self.swept:
                self._apply(signal)

    def _owned_by(self, owner: str) -> None:
        if self.owner:
            _log.warning("bluetoothd is gone", extra=about(Message.BLUETOOTHD_GONE))
            self.owner, self.swept = "", False
            self.objects.replace({})
            self._tell(News.OWNER_LOST, "")
        if owner:
            self.owner = owner
            self.generation += 1
            self._tell(News.OWNER_GAINED, "")

    def _apply(self, signal: Signal) -> None:
        with _malformed_counts_for_nothing(signal):
            path, interfaces = self._learn(signal)
            if names.ADAPTER in interfaces:
                self._tell(News.ADAPTERS, path)
            if names.DEVICE in interfaces:
                self._tell(News.DEVICE, path)

    def _learn(self, signal: Signal) -> tuple[str, Sequence[str]]:
        match signal.member:
            case "InterfacesAdded":
                path, added = signal.body
                self.objects.added(path, added)
                return path, list(added)
            case "InterfacesRemoved":
                path, removed = signal.body
                self.objects.removed(path, removed)
                return path, removed
            case "PropertiesChanged":
                interface, values, _ = signal.body
                self.objects.changed(signal.path, interface, values)
                return signal.path, [interface]
            case _:
                return "", ()

    def _tell(self, news: News, path: str) -> None:
        for listener in self._listeners:
            listener(news, path)


@contextlib.contextmanager
def _malformed_counts_for_nothing(signal: Signal) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, AttributeError):
        _log.exception("a signal that bluetoothd never sends: %s", signal)
