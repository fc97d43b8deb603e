"""bluetoothd as a child of the tests: started, killed and started again, as the story wants."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

from tests.system.times import LOGS

BINARY: Final = "/usr/libexec/bluetooth/bluetoothd"
ADAPTER: Final = "org.bluez.Adapter1"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
RESTART_S: Final = 0.1  # RestartSec=, systemd.service(5)


class Bluetoothd:
    """One bluetoothd at a time. Its debug log goes to the directory shared with the host."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns at once."""
        with (LOGS / "bluetoothd.log").open("ab") as log:
            self._process = subprocess.Popen([BINARY, "-E", "-n", "-d"], stdout=log, stderr=log)

    def make_sure(self) -> None:
        """Start it unless it runs."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def kill(self) -> None:
        """As kill -9 does it: it has no chance to tidy up. The kernel and the adapters stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def kill_and_restart(self) -> None:
        """As systemd does it: a tenth of a second later, when its name on the bus is free again."""
        self.kill()
        time.sleep(RESTART_S)
        self.start()

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """It lives, and answers nobody."""
        process = self._process
        if process is None:
            raise LookupError("bluetoothd does not run")
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @property
    def pid(self) -> int:
        """Of the one that runs. LookupError when none does."""
        if self._process is None or self._process.poll() is not None:
            raise LookupError("bluetoothd does not run")
        return self._process.pid


@functools.cache
def the_bluetoothd() -> Bluetoothd:
    """The one of this machine, started at its first use."""
    daemon = Bluetoothd()
    atexit.register(daemon.kill)
    return daemon


class BluezBus:
    """A witness of our own on the bus: what bluetoothd says, without the code under test."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus

    async def call(
        self, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> Any:
        """One call to bluetoothd. RuntimeError with the error's name when it refuses."""
        reply = await self.bus.call(
            Message(
                destination="org.bluez",
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(body),
            )
        )
        if reply is None or reply.message_type is MessageType.ERROR:
            raise RuntimeError(f"{member}: {reply and reply.error_name} {reply and reply.body}")
        return unpack_variants(reply.body)

    async def objects(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Everything bluetoothd has; empty when there is no bluetoothd."""
        try:
            (found,) = await self.call(
                "/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"
            )
        except RuntimeError:
            return {}
        return found

    async def adapter(self, address: str) -> str | None:
        """Path of the powered adapter with this address."""
        for path, interfaces in (await self.objects()).items():
            properties = interfaces.get(ADAPTER, {})
            if properties.get("Address") == address:
                if properties.get("Powered"):
                    return path
                with contextlib.suppress(RuntimeError):  # Busy: asked again
                    power = Variant("b", True)
                    await self.call(path, PROPERTIES, "Set", "ssv", ADAPTER, "Powered", power)
        return None

    async def wait_for_adapter(self, address: str, seconds: float = 20.0) -> str:
        """Its path once it is powered. TimeoutError otherwise."""
        async with asyncio.timeout(seconds):
            while (path := await self.adapter(address)) is None:
                await asyncio.sleep(0.05)
        return path

    async def connections_of(self, pid: int) -> int:
        """How many connections to the system bus a process has."""
        names = await self._ask_bus("ListNames")
        found = 0
        for name in names:
            if name.startswith(":"):
                with contextlib.suppress(RuntimeError):  # gone meanwhile
                    found += await self._ask_bus("GetConnectionUnixProcessID", name) == pid
        return found

    async def _ask_bus(self, member: str, *about: str) -> Any:
        reply = await self.bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member=member,
                signature="s" * len(about),
                body=list(about),
            )
        )
        if reply is None or reply.message_type is MessageType.ERROR:
            raise RuntimeError(member)
        return reply.body[0]

    async def devices(self, **wanted: Any) -> list[str]:
        """Paths of the devices whose properties are as said, e.g. Connected=True."""
        return [
            path
            for path, interfaces in (await self.objects()).items()
            if (properties := interfaces.get("org.bluez.Device1")) is not None
            and all(properties.get(name) == value for name, value in wanted.items())
        ]


@contextlib.asynccontextmanager
async def bluez_bus() -> AsyncIterator[BluezBus]:
    """A connection of the tests' own to the system bus."""
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    try:
        yield BluezBus(bus)
    finally:
        bus.disconnect()
