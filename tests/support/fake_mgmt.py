"""The kernel's end of a management socket, as BlueZ doc/mgmt-protocol.rst describes it.

Shares no code with the parser under test. Runs in a thread, because the
helper's own sockets block.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

COMPLETE, STATUS, DEVICE_FOUND = 0x0001, 0x0002, 0x0012


def event(code: int, index: int, body: bytes) -> bytes:
    return struct.pack("<HHH", code, index, len(body)) + body


def complete(opcode: int, index: int, status: int, data: bytes) -> bytes:
    return event(COMPLETE, index, struct.pack("<HB", opcode, status) + data)


def status(opcode: int, index: int, code: int) -> bytes:
    return event(STATUS, index, struct.pack("<HB", opcode, code))


def little(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))[::-1]


@dataclass
class Controller:
    address: str
    powered: bool = True
    refuses: int | None = None
    """Status of every SET_POWERED that switches on."""
    connected: dict[tuple[str, int], int] = field(default_factory=dict)
    """RSSI by address and its type."""
    switched: list[bool] = field(default_factory=list)


class FakeKernel:
    """Controllers by index; `noise` is sent before every reply, `twist` may spoil any reply."""

    def __init__(self, controllers: dict[int, Controller]) -> None:
        self.controllers = controllers
        self.noise: list[bytes] = []
        self.twist: Callable[[int, bytes], bytes | None] = lambda _opcode, packet: packet
        self.opened = 0
        self.malformed: list[bytes] = []
        self._threads: list[threading.Thread] = []

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.opened += 1
        thread = threading.Thread(target=self._serve, args=(theirs,), daemon=True)
        thread.start()
        self._threads.append(thread)
        return ours

    def close(self) -> None:
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive(), "a management socket was left open"

    def _serve(self, talk: socket.socket) -> None:
        with talk, suppress(ConnectionError):  # who asks may stop listening at any time
            while packet := talk.recv(1000):
                for each in (*self.noise, self._reply(packet)):
                    if each is not None:
                        talk.send(each)

    def _reply(self, packet: bytes) -> bytes | None:
        opcode, index, length = struct.unpack_from("<HHH", packet)
        body = packet[6:]
        if len(body) != length:
            self.malformed.append(packet)
        return self.twist(opcode, self._carry_out(opcode, index, body))

    def _carry_out(self, opcode: int, index: int, body: bytes) -> bytes:
        if opcode == 0x0003:
            found = sorted(self.controllers)
            return complete(opcode, index, 0, struct.pack(f"<H{len(found)}H", len(found), *found))
        controller = self.controllers.get(index)
        if controller is None:
            return status(opcode, index, 0x11)
        answer = {0x0004: self._information, 0x0005: self._power, 0x0031: self._connection}
        if opcode not in answer:
            return status(opcode, index, 0x01)
        return answer[opcode](index, controller, body)

    def _information(self, index: int, controller: Controller, _body: bytes) -> bytes:
        settings = struct.pack("<II", 0xFFFF, int(controller.powered))
        head = little(controller.address) + b"\x09\x0f\x00" + settings + bytes(3)
        return complete(0x0004, index, 0, head + b"gateway".ljust(249, b"\0") + bytes(11))

    def _power(self, index: int, controller: Controller, body: bytes) -> bytes:
        on = body == b"\x01"
        if on and controller.refuses is not None:
            return status(0x0005, index, controller.refuses)
        controller.powered = on
        controller.switched.append(on)
        return complete(0x0005, index, 0, struct.pack("<I", int(on)))

    def _connection(self, index: int, controller: Controller, body: bytes) -> bytes:
        address = ":".join(f"{each:02X}" for each in body[5::-1])
        if not controller.powered:
            return complete(0x0031, index, 0x0F, body + bytes(3))
        rssi = controller.connected.get((address, body[6]))
        if rssi is None:
            return complete(0x0031, index, 0x02, body + bytes(3))
        return complete(0x0031, index, 0, body + struct.pack("<bbb", rssi, 4, 127))
