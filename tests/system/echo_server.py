"""The least GATT server on dbus-fast that can be written to and answers: a yardstick.

No sessions, no cryptography, nobody told apart: what bluetoothd, D-Bus and
Python cost by themselves. As a program, with the adapter's path and flights as
JSON, it serves phones until killed, in a process of its own like the daemon.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from gatewayd.adapters.virtual_radio.gatt import PHONE, GattService
from tests.system.bluetoothd import PROPERTIES, BluezBus

APP: Final = "/echo"
SERVICE: Final = f"{APP}/service0"
REQUEST: Final = f"{SERVICE}/char0"
RESPONSE: Final = f"{SERVICE}/char1"
ADVERT: Final = f"{APP}/advert"
INFO: Final = f"{SERVICE}/char2"
CHARACTERISTIC: Final = "org.bluez.GattCharacteristic1"


Flights = Sequence[tuple[int, Sequence[int]]]
"""After so many writes, answers of these sizes; over and over. Empty: every write comes back."""


class EchoServer:
    """Answers what bluetoothd asks of a GATT application."""

    def __init__(self, bus: MessageBus, uuids: GattService, flights: Flights = ()) -> None:
        self._bus = bus
        self._uuids = uuids
        self._flights = flights
        self._flight, self._of_flight = 0, 0
        self.written = 0

    def objects(self) -> dict[str, dict[str, dict[str, Variant]]]:
        """The table."""

        def characteristic(uuid: str, *flags: str) -> dict[str, dict[str, Variant]]:
            properties = {
                "UUID": Variant("s", uuid),
                "Service": Variant("o", SERVICE),
                "Flags": Variant("as", list(flags)),
            }
            return {CHARACTERISTIC: properties}

        service = {"UUID": Variant("s", self._uuids.service), "Primary": Variant("b", True)}
        return {
            SERVICE: {"org.bluez.GattService1": service},
            REQUEST: characteristic(self._uuids.request, "write", "write-without-response"),
            RESPONSE: characteristic(self._uuids.response, "notify"),
            INFO: characteristic(self._uuids.info, "read"),
        }

    def handle(self, message: Message) -> Message | bool | None:
        """One call from bluetoothd."""
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        match message.member:
            case "GetManagedObjects":
                return Message.new_method_return(message, "a{oa{sa{sv}}}", [self.objects()])
            case "WriteValue":
                self._echo(bytes(message.body[0]))
            case "GetAll":
                return Message.new_method_return(message, "a{sv}", [self._advertisement()])
            case "StartNotify" | "StopNotify" | "Release":
                pass
            case _:
                return None
        return Message.new_method_return(message)

    def _echo(self, value: bytes) -> None:
        self.written += 1
        if not self._flights:
            self._notify(value)
            return
        self._of_flight += 1
        writes, answers = self._flights[self._flight]
        if self._of_flight == writes:
            self._flight, self._of_flight = (self._flight + 1) % len(self._flights), 0
            for size in answers:
                self._notify(bytes(size))

    def _notify(self, value: bytes) -> None:
        changed: list[Any] = [CHARACTERISTIC, {"Value": Variant("ay", value)}, []]
        self._bus.send(
            Message.new_signal(RESPONSE, PROPERTIES, "PropertiesChanged", "sa{sv}as", changed)
        )

    def _advertisement(self) -> dict[str, Variant]:
        return {
            "Type": Variant("s", "peripheral"),
            "ServiceUUIDs": Variant("as", [self._uuids.service]),
            "MinInterval": Variant("u", 100),
            "MaxInterval": Variant("u", 152),
        }


@asynccontextmanager
async def echo_server(
    adapter: str, uuids: GattService, flights: Flights = ()
) -> AsyncIterator[EchoServer]:
    """Registered and advertising on the adapter at this path."""
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    try:
        server = EchoServer(bus, uuids, flights)
        bus.add_message_handler(server.handle)
        calls = BluezBus(bus)
        gatt, adverts = "org.bluez.GattManager1", "org.bluez.LEAdvertisingManager1"
        await calls.call(adapter, gatt, "RegisterApplication", "oa{sv}", APP, {})
        await calls.call(adapter, adverts, "RegisterAdvertisement", "oa{sv}", ADVERT, {})
        yield server
    finally:
        bus.disconnect()


async def main(adapter: str, flights: str) -> None:
    """Serve until killed; says so when it does."""
    async with echo_server(adapter, PHONE, json.loads(flights)):
        print("serving", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
