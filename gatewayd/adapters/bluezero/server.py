"""A program: one GATT service through bluezero, driven over standard input and output.

Run by path under a Python that has dbus-python and PyGObject, which need not
have gatewayd: nothing of gatewayd is imported here. Frames both ways: kind,
number of the link, length of the body (2 bytes, big-endian), body. It ends when
its standard input does, and whenever bluetoothd does.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterable
from enum import IntEnum
from importlib import import_module
from typing import Any, Final

DEVICE: Final = "org.bluez.Device1"
HEADER: Final = 4
RESPONSE: Final = 2  # the characteristic's number, as bluezero counts them


class Kind(IntEnum):
    """The first byte of a frame."""

    # from the server
    READY = 1  # body: the adapter's address
    SUBSCRIBED = 2  # a new link begins
    WRITTEN = 3  # body: the ATT MTU (2 bytes), the value
    GONE = 4  # the link has ended
    TROUBLE = 5  # body: why the server ends, in UTF-8; then it ends
    # to the server
    NOTIFY = 16  # body: the value
    HANG_UP = 17


def frame(kind: Kind, link: int, body: bytes = b"") -> bytes:
    """One frame. ValueError when the body is longer than 65535 bytes."""
    if len(body) > 0xFFFF:  # noqa: PLR2004 - two bytes say how long
        raise ValueError("a frame holds 65535 bytes at most")
    return bytes([kind, link]) + len(body).to_bytes(2, "big") + body


class Frames:
    """Frames out of a stream, however it is cut. ValueError for a kind that there is not."""

    def __init__(self) -> None:
        self._held = bytearray()

    def receive(self, data: bytes) -> list[tuple[Kind, int, bytes]]:
        """What `data` completes."""
        self._held += data
        found = []
        while len(self._held) >= HEADER:
            end = HEADER + int.from_bytes(self._held[2:HEADER], "big")
            if len(self._held) < end:
                break
            kind, link = Kind(self._held[0]), self._held[1]
            found.append((kind, link, bytes(self._held[HEADER:end])))
            del self._held[:end]
        return found


class Server:
    """The lock's table in bluetoothd's hands, and at most one gateway at a time."""

    def __init__(self, options: argparse.Namespace, output: int) -> None:
        self._output = output
        self._frames = Frames()
        self._link = 0
        self._subscribed = False
        self._peer = ""
        self._registrations = 2
        self.trouble = ""
        # bluezero tells nobody how a registration went, but looks these names up when it is over
        for module, of in (("bluezero.GATT", "app"), ("bluezero.advertisement", "ad")):
            setattr(import_module(module), f"register_{of}_cb", self._registered)
            setattr(import_module(module), f"register_{of}_error_cb", self._refused)
        # whenever anything changes at any device, bluezero 0.9.1 asks for every object that there
        # is, and then takes no notice of which adapter the device is on
        adapters: Any = import_module("bluezero.adapter")
        adapters.Adapter._properties_changed = lambda _, __, changed, ___, path: (  # noqa: SLF001
            self._device_changed(changed, str(path))
        )
        adapter = options.adapter or adapters.list_adapters()[0]
        self._peripheral = import_module("bluezero.peripheral").Peripheral(str(adapter))
        self._address = str(self._peripheral.dongle.address)
        self._serve(options.service, options.request, options.response, options.info)
        self._peripheral.primary_services[:] = [options.advertised or options.service]

    def _serve(self, service: str, request: str, response: str, info: str) -> None:
        table: Any = self._peripheral
        table.add_service(srv_id=1, uuid=service, primary=True)
        characteristics = (
            (1, request, ["write", "write-without-response"], None, self._written, None),
            (RESPONSE, response, ["notify"], None, None, self._notifying),
            (3, info, ["read"], list, None, None),
        )
        for number, uuid, flags, read, written, notify in characteristics:
            table.add_characteristic(1, number, uuid, [], False, flags, read, written, notify)

    def run(self) -> None:
        """Serve until `stop`."""
        GLib = import_module("gi.repository.GLib")  # noqa: N806 - a module
        GLib.io_add_watch(
            0, GLib.PRIORITY_DEFAULT, GLib.IO_IN | GLib.IO_HUP, lambda *_: self._readable()
        )
        self._peripheral.dongle.bus.watch_name_owner("org.bluez", self._owner)
        self._peripheral.publish()

    def stop(self, trouble: str = "") -> None:
        """End `run`; `trouble` says why, unless it was asked for."""
        self.trouble = self.trouble or trouble
        self._peripheral.mainloop.quit()

    # --- bluetoothd ---------------------------------------------------------------------
    def _registered(self) -> None:
        self._registrations -= 1
        if not self._registrations:
            self._send(Kind.READY, self._address.encode())

    def _refused(self, error: object) -> None:
        self.stop(f"bluetoothd refuses the lock's table or advertisement: {error}")

    def _owner(self, owner: str) -> None:
        if not owner:
            self.stop("bluetoothd is gone")

    def _notifying(self, notifying: bool, _: object) -> None:
        if notifying and not self._subscribed:
            self._link = (self._link + 1) % 256
            self._subscribed, self._peer = True, ""
            self._send(Kind.SUBSCRIBED)
        elif not notifying:
            self._gone()

    def _written(self, value: Iterable[int], options: dict[str, Any]) -> None:
        device = str(options.get("device", ""))
        self._peer = self._peer or device
        if self._subscribed and device == self._peer:
            self._send(Kind.WRITTEN, int(options.get("mtu", 23)).to_bytes(2, "big") + bytes(value))

    def _device_changed(self, changed: dict[str, Any], path: str) -> None:
        if path == self._peer and not changed.get("Connected", True):
            self._gone()
            self._hang_up()  # whoever else has subscribed meanwhile was never told of a beginning

    def _gone(self) -> None:
        if self._subscribed:
            self._subscribed = False
            self._send(Kind.GONE)

    def _hang_up(self) -> None:
        """Everybody on this adapter has to go: which connection is whose, nobody says.

        Not with bluezero's Device and Adapter, which wait for the answer (two seconds) and
        subscribe to signals for ever each time they are made.
        """
        tools = import_module("bluezero.dbus_tools")
        for path, interfaces in tools.get_managed_objects().items():
            device = interfaces.get(DEVICE, {})
            if device.get("Adapter") == self._peripheral.dongle.path and device.get("Connected"):
                tools.get_dbus_iface(DEVICE, tools.get_dbus_obj(path)).Disconnect(
                    reply_handler=lambda: None,
                    error_handler=lambda error: sys.stderr.write(f"hanging up: {error}\n"),
                )

    # --- the pipe -------------------------------------------------------------------------
    def _readable(self) -> bool:
        data = os.read(0, 65536)
        if not data:
            self.stop()
            return False
        for kind, link, body in self._frames.receive(data):
            if link == self._link and self._subscribed:
                if kind is Kind.NOTIFY:
                    self._peripheral.characteristics[RESPONSE - 1].set_value(list(body))
                elif kind is Kind.HANG_UP:
                    self._hang_up()
        return True

    def _send(self, kind: Kind, body: bytes = b"") -> None:
        os.write(self._output, frame(kind, self._link, body))


def main() -> int:
    """Serve until standard input ends. Exit code 1 after a frame TROUBLE."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("service", "request", "response", "info"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--adapter", default="")
    parser.add_argument("--advertised", default="", help="UUID, if not the service's")
    parser.add_argument("--path", default="", help="where bluezero is, if not with this Python")
    options = parser.parse_args()
    if options.path:
        sys.path.append(options.path)  # last: dbus and gi must be this Python's own
    # bluezero asks bluetoothd about objects of its own, and dbus-python reports each refusal
    logging.getLogger("dbus.proxies").setLevel(logging.CRITICAL)
    output = os.dup(1)
    os.dup2(2, 1)  # bluezero prints
    trouble = ""
    try:
        server = Server(options, output)
        server.run()
        trouble = server.trouble
    except KeyboardInterrupt:
        return 0
    except ModuleNotFoundError as error:
        trouble = f"no module {error.name}"
    except Exception as error:  # noqa: BLE001 - whatever it was, the other end must hear of it
        trouble = f"{type(error).__name__}: {error}"
    if trouble:
        os.write(output, frame(Kind.TROUBLE, 0, trouble.encode()[:1000]))
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
