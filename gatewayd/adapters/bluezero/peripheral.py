"""Our end of the pipe to bluezero: `ports.radio.Peripheral`, for a lock.

async with open_bluezero(BluezeroOptions(adapter="B8:27:EB:00:00:02")) as radio:
    gateway = await radio.accept()

bluetoothd tells an application the MTU with the first write only, so a link
begins at 23 and grows then. There is one link at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firmware_proto.codes import (
    LOCK_INFO_UUID,
    LOCK_REQUEST_UUID,
    LOCK_RESPONSE_UUID,
    LOCK_SERVICE_UUID,
    MIN_ATT_MTU,
)
from gatewayd.adapters.bluezero import server
from gatewayd.adapters.bluezero.server import Frames, Kind, frame
from gatewayd.adapters.gatt.link import GattLink, notified_mtu
from gatewayd.ports import LinkClosedError, RadioError

_log: Final = logging.getLogger(__name__)

DEBIAN: Final = Path("/usr/bin/python3")
STOP_S: Final = 3.0
READ_BYTES: Final = 65536
_PEER: Final = "the gateway"
_PACKAGES: Final = "sudo apt install bluez python3-dbus python3-gi"
_REMEDIES: Final = (
    ("no module bluezero", "pip install --no-deps bluezero"),
    ("no module", _PACKAGES),
    ("Failed to connect to socket", "sudo systemctl start dbus bluetooth"),
    ("ServiceUnknown", "bluetoothd is not running: sudo systemctl start bluetooth"),
    ("No Bluetooth adapter", "plug a Bluetooth LE adapter in"),
    ("AccessDenied", "the user must be in the group bluetooth"),
    ("org.bluez.Error.NotReady", "switch it on: bluetoothctl power on"),
)


@dataclass(frozen=True, slots=True)
class BluezeroOptions:
    """adapter: its address; None takes the first one. python: which has dbus and gi; None looks.

    start_s: until it advertises. advertised: a service UUID other than the table's.
    """

    adapter: str | None = None
    python: Path | None = None
    start_s: float = 15.0
    advertised: str = LOCK_SERVICE_UUID
    program: Path = Path(server.__file__)


class BluezeroRadio:
    """`ports.radio.Peripheral` over one run of the server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._frames = Frames()
        self._link: GattLink | None = None
        self._number = 0
        self._arrivals: asyncio.Queue[GattLink | None] = asyncio.Queue()
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._failed: RadioError | None = None

    @property
    def links(self) -> list[GattLink]:
        """The connection that there is, or none."""
        return [] if self._link is None else [self._link]

    async def ready(self) -> str:
        """The adapter's address, once it advertises. RadioError when it never will."""
        return await asyncio.shield(self._ready)

    async def accept(self) -> GattLink:
        """The next gateway that has subscribed and is still there. RadioError: the server ended."""
        while True:
            link = await self._arrivals.get()
            if link is None:
                self._arrivals.put_nowait(None)  # for whoever else waits
                raise self._failed or RadioError("bluezero has ended")
            if not link.closed:
                return link

    # --- the pipe -------------------------------------------------------------------------
    async def read(self) -> None:
        """Take what the server says, until it ends."""
        assert self._process.stdout is not None  # noqa: S101 - it was started with a pipe
        try:
            while data := await self._process.stdout.read(READ_BYTES):
                for kind, number, body in self._frames.receive(data):
                    self._heard(kind, number, body)
            self._lose(RadioError("bluezero has ended"))
        except ValueError as error:
            self._lose(RadioError(f"bluezero's program speaks another language: {error}"))

    def _heard(self, kind: Kind, number: int, body: bytes) -> None:
        match kind:
            case Kind.READY:
                if not self._ready.done():
                    self._ready.set_result(body.decode())
            case Kind.SUBSCRIBED:
                self._begin(number)
            case Kind.WRITTEN if self._link is not None and number == self._number:
                self._link.mtu = notified_mtu(int.from_bytes(body[:2], "big"))
                self._link.arrived(body[2:])
            case Kind.GONE if number == self._number:
                self._end("disconnected")
            case Kind.TROUBLE:
                self._lose(_trouble(body.decode(errors="replace")))

    def _begin(self, number: int) -> None:
        self._end("replaced by another one")
        self._number = number
        self._link = GattLink(
            _PEER,
            MIN_ATT_MTU,
            lambda fragment: self._notify(number, fragment),
            lambda: self._write(frame(Kind.HANG_UP, number)),
        )
        self._arrivals.put_nowait(self._link)

    def _end(self, reason: str) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.died(reason)

    async def _notify(self, number: int, fragment: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was started with a pipe
        self._write(frame(Kind.NOTIFY, number, fragment))
        try:
            await self._process.stdin.drain()
        except ConnectionError as error:
            raise LinkClosedError("bluezero has ended") from error

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was started with a pipe
        self._process.stdin.write(data)

    def _lose(self, error: RadioError) -> None:
        if self._failed is not None:
            return
        self._failed = error
        self._end(str(error))
        self._arrivals.put_nowait(None)
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # nobody may be waiting for it any more

    async def stop(self) -> None:
        """Hang up, let the server end, or end it."""
        if self._link is not None:
            await self._link.close()
        assert self._process.stdin is not None  # noqa: S101 - it was started with a pipe
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def _trouble(text: str) -> RadioError:
    remedy = next((remedy for part, remedy in _REMEDIES if part in text), "")
    return RadioError(f"bluezero cannot serve: {text}", remedy)


def _command(options: BluezeroOptions) -> list[str]:
    """The server's program under a Python that can run it. RadioError when there is none."""
    here = all(importlib.util.find_spec(name) for name in ("dbus", "gi"))
    python = options.python or (Path(sys.executable) if here else DEBIAN)
    if not python.exists():
        raise RadioError(f"{python} does not exist", _PACKAGES)
    found = importlib.util.find_spec("bluezero")
    places = [] if found is None else found.submodule_search_locations or []
    return [
        *(str(python), "-I", str(options.program)),
        *("--service", LOCK_SERVICE_UUID, "--request", LOCK_REQUEST_UUID),
        *("--response", LOCK_RESPONSE_UUID, "--info", LOCK_INFO_UUID),
        *("--adapter", options.adapter or ""),
        *("--advertised", options.advertised),
        *(word for place in places for word in ("--path", str(Path(place).parent))),
    ]


@asynccontextmanager
async def open_bluezero(options: BluezeroOptions | None = None) -> AsyncIterator[BluezeroRadio]:
    """A lock's radio, advertising. RadioError, mostly with a remedy, when it cannot start."""
    options = options or BluezeroOptions()
    process = await asyncio.create_subprocess_exec(
        *_command(options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C at a terminal is for us; it ends when its input does
    )
    radio = BluezeroRadio(process)
    reader = asyncio.create_task(radio.read(), name="bluezero")
    try:
        try:
            async with asyncio.timeout(options.start_s):
                address = await radio.ready()
        except TimeoutError:
            raise RadioError(
                f"bluezero does not advertise within {options.start_s:g} s",
                "is another program advertising? bluetoothctl show says how many there are",
            ) from None
        _log.info("bluezero serves on %s", address)
        yield radio
    finally:
        await asyncio.shield(radio.stop())
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader
