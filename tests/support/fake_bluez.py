"""A small bluetoothd: the same objects, methods and signals on a real D-Bus, nothing behind them.

What it does not know it refuses. Faults are injected by method: `refuse` answers
with errors, `silent` never answers, `delay_s` answers late.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

ADAPTER, DEVICE = "org.bluez.Adapter1", "org.bluez.Device1"
GATT_MANAGER, ADVERTISING = "org.bluez.GattManager1", "org.bluez.LEAdvertisingManager1"
SERVICE, CHARACTERISTIC = "org.bluez.GattService1", "org.bluez.GattCharacteristic1"
PROPERTIES = "org.freedesktop.DBus.Properties"
MANAGER = "org.freedesktop.DBus.ObjectManager"
ERROR = "org.bluez.Error."

INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
# What dbus-python learns types from; without, it sends a boolean where a variant is meant.
INTROSPECTION = """<node>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get"><arg type="s"/><arg type="s"/><arg type="v" direction="out"/></method>
    <method name="Set"><arg type="s"/><arg type="s"/><arg type="v"/></method>
  </interface>
</node>"""

Method = Callable[[Message], Awaitable[tuple[str, list[Any]] | None]]


class RefusedError(Exception):
    """Answered with an error of this name."""


def variant(value: object) -> Variant:
    match value:
        case bool():
            return Variant("b", value)
        case int():
            return Variant("n" if value < 0 else "q", value)
        case bytes():
            return Variant("ay", value)
        case list():
            return Variant("as", value)
        case str():
            return Variant("o" if value.startswith("/") else "s", value)
    raise TypeError(value)


class FakeBluez:
    """One run of bluetoothd. Stop it and make another one for a restart."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {}
        self.application: tuple[str, str] | None = None
        self.table: dict[str, dict[str, dict[str, Any]]] = {}
        self.advertisement: dict[str, Any] | None = None
        self.advertised_by: tuple[str, str] | None = None
        self.calls: Counter[str] = Counter()
        self.refuse: defaultdict[str, list[str]] = defaultdict(list)
        self.silent: set[str] = set()
        self.delay_s: dict[str, float] = {}
        self.methods: dict[tuple[str, str], Method] = {}
        self.on_notification: Callable[[bytes], None] = lambda _: None
        self.on_powered: Callable[[str, bool], None] = lambda *_: None
        self._tasks: set[asyncio.Task[None]] = set()
        self.bus_type = BusType.SYSTEM
        self.bus = MessageBus(bus_type=self.bus_type)

    async def start(self) -> None:
        self.bus = MessageBus(bus_type=self.bus_type)
        await self.bus.connect()
        self.bus.add_message_handler(self._arrived)
        rule = "type='signal',interface='org.freedesktop.DBus.Properties',arg0='" + CHARACTERISTIC
        gone = "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''"
        for each in (rule + "'", gone):
            await self.call("org.freedesktop.DBus", "/org/freedesktop/DBus",
                            "org.freedesktop.DBus", "AddMatch", "s", [each])  # fmt: skip
        await self.bus.request_name("org.bluez")

    async def stop(self) -> None:
        """As after kill -9: everybody learns of it by NameOwnerChanged alone."""
        self.bus.disconnect()
        await self.bus.wait_for_disconnect()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- objects ----------------------------------------------------------------------
    def add(self, path: str, interface: str, /, **values: object) -> None:
        self.objects.setdefault(path, {})[interface] = dict(values)
        self._signal("/", MANAGER, "InterfacesAdded", "oa{sa{sv}}",
                     [path, {interface: pack(values)}])  # fmt: skip

    def remove(self, path: str) -> None:
        """And everything below it, children first."""
        below = [each for each in self.objects if each == path or each.startswith(path + "/")]
        for each in sorted(below, reverse=True):
            interfaces = list(self.objects.pop(each))
            self._signal("/", MANAGER, "InterfacesRemoved", "oas", [each, interfaces])

    def change(self, path: str, interface: str, /, **values: object) -> None:
        if path in self.objects:
            self.objects[path][interface].update(values)
            self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as",
                         [interface, pack(values), []])  # fmt: skip

    def add_adapter(
        self, path: str = "/org/bluez/hci0", address: str = "00:00:00:00:00:01", **values: object
    ) -> None:
        facts = {
            "Address": address, "Powered": False, "Pairable": True, "Discoverable": False,
            "Discovering": False, "Roles": ["central", "peripheral", "central-peripheral"],
        }  # fmt: skip
        self.add(path, ADAPTER, **{**facts, **values})
        self.add(path, GATT_MANAGER)
        self.add(path, ADVERTISING, ActiveInstances=0)

    def add_device(self, path: str, **values: object) -> None:
        adapter, _, name = path.rpartition("/")
        address = name.removeprefix("dev_").replace("_", ":")
        facts = {
            "Address": address, "AddressType": "random", "Alias": address, "Adapter": adapter,
            "Connected": False, "ServicesResolved": False, "Paired": False, "UUIDs": [],
        }  # fmt: skip
        self.add(path, DEVICE, **{**facts, **values})

    def value(self, path: str, interface: str, name: str) -> Any:
        return self.objects.get(path, {}).get(interface, {}).get(name)

    def _signal(self, path: str, interface: str, member: str, signature: str, body: list) -> None:
        self._send(Message.new_signal(path, interface, member, signature, body))

    def _send(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # stopped meanwhile
            if self.bus.connected:
                self.bus.send(message).add_done_callback(lambda sent: sent.exception())

    # --- calling the client -------------------------------------------------------------
    async def call(  # noqa: PLR0913, PLR0917 - what a D-Bus method call consists of
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: list[Any] | None = None,
    ) -> list[Any]:
        reply = await self.bus.call(
            Message(destination=destination, path=path, interface=interface, member=member,
                    signature=signature, body=body or [])
        )  # fmt: skip
        assert reply is not None
        if reply.message_type is MessageType.ERROR:
            raise RefusedError(reply.error_name)
        return unpack_variants(reply.body)

    async def characteristic(self, uuid: str, member: str, signature: str, body: list) -> list:
        """Call one of the registered application's characteristics."""
        assert self.application is not None
        for path, interfaces in self.table.items():
            if interfaces.get(CHARACTERISTIC, {}).get("UUID") == uuid:
                return await self.call(
                    self.application[0], path, CHARACTERISTIC, member, signature, body
                )
        raise LookupError(uuid)

    def release(self) -> None:
        """Drop the advertisement as bluetoothd does when the kernel did."""
        assert self.advertised_by is not None
        sender, path = self.advertised_by
        self.advertisement = self.advertised_by = None
        self.change("/org/bluez/hci0", ADVERTISING, ActiveInstances=0)
        self._spawn(self.call(sender, path, "org.bluez.LEAdvertisement1", "Release"))

    # --- being called -------------------------------------------------------------------
    def _arrived(self, message: Message) -> bool | None:
        if message.member == "NameOwnerChanged":
            self._client_is_gone(message.body[0])
            return None
        if message.message_type is MessageType.SIGNAL:
            changed = message.interface == PROPERTIES and message.sender != self.bus.unique_name
            if changed and self.application and message.sender == self.application[0]:
                self._characteristic_changed(message)
            return None
        if message.message_type is not MessageType.METHOD_CALL or message.member == "Ping":
            return None
        self._spawn(self._answer(message))
        return True

    def _client_is_gone(self, client: str) -> None:
        """What was registered goes with whoever registered it."""
        if self.application is not None and self.application[0] == client:
            self.application, self.table = None, {}
        if self.advertised_by is not None and self.advertised_by[0] == client:
            self.advertisement = self.advertised_by = None
            for path, interfaces in self.objects.items():
                if ADVERTISING in interfaces:
                    self.change(path, ADVERTISING, ActiveInstances=0)

    def _characteristic_changed(self, message: Message) -> None:
        """Only values of what can notify go on the air."""
        _, changed, _ = unpack_variants(message.body)
        known = self.table.get(message.path or "", {}).get(CHARACTERISTIC, {})
        if "Value" in changed and "notify" in known.get("Flags", ()):
            self.on_notification(changed["Value"])

    def _spawn(self, work: Any) -> None:
        async def until_the_bus_ends() -> None:
            with contextlib.suppress(ConnectionError, EOFError):
                await work

        task = asyncio.create_task(until_the_bus_ends())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: Message) -> None:
        member = message.member or ""
        self.calls[member] += 1
        try:
            if member in self.silent:
                return
            self._refuse(member)
            await asyncio.sleep(self.delay_s.get(member, 0))
            signature, body = await self._do(message) or ("", [])
            reply = Message.new_method_return(message, signature, body)
        except RefusedError as error:
            name = str(error)
            reply = Message.new_error(message, name if "." in name else ERROR + name, "refused")
        self._send(reply)

    def _refuse(self, member: str) -> None:
        if self.refuse[member]:
            raise RefusedError(self.refuse[member].pop(0))

    async def _do(self, message: Message) -> tuple[str, list[Any]] | None:
        key = (message.interface or "", message.member or "")
        known = {
            (INTROSPECTABLE, "Introspect"): self._introspect,
            (MANAGER, "GetManagedObjects"): self._managed,
            (PROPERTIES, "Get"): self._get,
            (PROPERTIES, "Set"): self._set,
            (GATT_MANAGER, "RegisterApplication"): self._register,
            (ADVERTISING, "RegisterAdvertisement"): self._advertise,
            (ADVERTISING, "UnregisterAdvertisement"): self._withdraw,
            **self.methods,
        }
        if message.path != "/" and message.path not in self.objects:
            raise RefusedError("org.freedesktop.DBus.Error.UnknownObject")
        if key not in known:
            raise RefusedError("org.freedesktop.DBus.Error.UnknownMethod")
        return await known[key](message)

    async def _introspect(self, _: Message) -> tuple[str, list[Any]]:
        return "s", [INTROSPECTION]

    async def _managed(self, _: Message) -> tuple[str, list[Any]]:
        objects = {
            path: {interface: pack(values) for interface, values in interfaces.items()}
            for path, interfaces in self.objects.items()
        }
        return "a{oa{sa{sv}}}", [objects]

    async def _get(self, message: Message) -> tuple[str, list[Any]]:
        interface, name = message.body
        return "v", [variant(self.objects[message.path or ""][interface][name])]

    async def _set(self, message: Message) -> None:
        interface, name, value = message.body
        path = message.path or ""
        if name == "Powered":
            self._powered(path, on=value.value)
        self.change(path, interface, **{name: value.value})

    def _powered(self, path: str, *, on: bool) -> None:
        if not on:
            self.advertisement = self.advertised_by = None
            self.objects[path][ADVERTISING]["ActiveInstances"] = 0
        self.on_powered(path, on)

    async def _register(self, message: Message) -> None:
        path, _ = message.body
        if self.application == (message.sender, path):
            raise RefusedError("AlreadyExists")
        (self.table,) = await self.call(message.sender or "", path, MANAGER, "GetManagedObjects")
        self.application = (message.sender or "", path)

    async def _advertise(self, message: Message) -> None:
        path, _ = message.body
        if self.advertised_by is not None:
            raise RefusedError("AlreadyExists")
        (self.advertisement,) = await self.call(
            message.sender or "", path, PROPERTIES, "GetAll", "s", ["org.bluez.LEAdvertisement1"]
        )
        self.advertised_by = (message.sender or "", path)
        self.change(message.path or "", ADVERTISING, ActiveInstances=1)

    async def _withdraw(self, message: Message) -> None:
        if self.advertised_by is None:
            raise RefusedError("DoesNotExist")
        self.advertisement = self.advertised_by = None
        self.change(message.path or "", ADVERTISING, ActiveInstances=0)


def pack(values: dict[str, Any]) -> dict[str, Variant]:
    return {name: variant(value) for name, value in values.items()}
