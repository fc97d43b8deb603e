"""What a D-Bus library costs: the table of docs/decisions/0001, measured again.

    python -m tests.bench.dbus_libraries dbus_fast      # or dbus_next, where it is installed

Calls of the shape that GATT makes, caller and callee in this one process over
a dbus-daemon of its own, and the parsing of one signal as a scan brings many.
"""

from __future__ import annotations

import asyncio
import io
import statistics
import sys
import time
from importlib import import_module
from typing import Any, Final

from tests.support.private_bus import private_bus

CALLS: Final = 4000
PARSES: Final = 20_000
PATH: Final = "/measured"
INTERFACE: Final = "org.bluez.GattCharacteristic1"


async def main(library: str) -> None:
    """Print three lines."""
    root = import_module(library)
    async with private_bus() as address:
        bus_class = import_module(f"{library}.aio").MessageBus
        caller = await bus_class(bus_address=address).connect()
        callee = await bus_class(bus_address=address).connect()
        callee.add_message_handler(lambda call: answer(root, call))
        await measure_calls(root, caller, callee.unique_name)
        caller.disconnect()
        callee.disconnect()
    measure_parsing(library, root)


def answer(root: Any, call: Any) -> Any:
    """As a GATT server does: at once, with nothing."""
    if call.member != "WriteValue":
        return None
    return root.Message.new_method_return(call, "", [])


async def measure_calls(root: Any, caller: Any, callee: str) -> None:
    """CPU of both ends, and the time that one call takes."""
    options = {
        "device": root.Variant("o", "/org/bluez/hci0/dev_F0_00_00_00_00_01"),
        "mtu": root.Variant("q", 185),
        "type": root.Variant("s", "command"),
    }
    times = []
    for number in range(-CALLS // 10, CALLS):
        if number == 0:
            times.clear()
            cpu = time.process_time()
        began = time.perf_counter()
        await caller.call(
            root.Message(
                destination=callee, path=PATH, interface=INTERFACE, member="WriteValue",
                signature="aya{sv}", body=[bytes(180), options],
            )
        )  # fmt: skip
        times.append(time.perf_counter() - began)
    say("CPU of a call, both ends", (time.process_time() - cpu) / CALLS)
    say("a call, median", statistics.median(times))


def measure_parsing(library: str, root: Any) -> None:
    """One PropertiesChanged with the strength of somebody's signal."""
    signal = root.Message.new_signal(
        "/org/bluez/hci0/dev_F0_00_00_00_00_01", "org.freedesktop.DBus.Properties",
        "PropertiesChanged", "sa{sv}as",
        ["org.bluez.Device1", {"RSSI": root.Variant("n", -60)}, []],
    )  # fmt: skip
    signal.serial = 1
    data = bytes(signal._marshall(negotiate_unix_fd=False))
    unmarshaller = import_module(f"{library}._private.unmarshaller").Unmarshaller
    began = time.perf_counter()
    for _ in range(PARSES):
        unmarshaller(io.BytesIO(data)).unmarshall()
    say("parsing one RSSI signal", (time.perf_counter() - began) / PARSES)


def say(what: str, seconds: float) -> None:
    """One line."""
    sys.stdout.write(f"{what}: {seconds * 1e6:.1f} us\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
