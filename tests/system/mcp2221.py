"""A GPIO chip for a machine that has none: an MCP2221 bridge, emulated below the kernel's driver.

The device is written to /dev/uhid as a USB HID; Debian's `hid-mcp2221` finds it and
makes a real /dev/gpiochip with four lines of it, labelled mcp2221_gpio. The commands
are those of the maker's data sheet (DS20005565, 3.1): 0x10 status, 0x50 and 0x51 set and
get GPIO, 0x61 settings. The driver offers no interrupts, so lines can be driven and
read and not be watched.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LABEL: Final = "mcp2221_gpio"
_LINES: Final = 4
_REPORT_BYTES: Final = 64

# linux/uhid.h
_DESTROY: Final = 1
_OUTPUT: Final = 6
_CREATE2: Final = 11
_INPUT2: Final = 12
_DATA_BYTES: Final = 4096
_EVENT_BYTES: Final = 4 + 128 + 64 + 64 + 2 + 2 + 4 + 4 + 4 + 4 + _DATA_BYTES
_BUS_USB: Final = 3
_MICROCHIP, _MCP2221 = 0x04D8, 0x00DD

# vendor page, 64 bytes in and 64 bytes out, no report ids
_DESCRIPTOR: Final = bytes.fromhex(
    "0600ff 0901 a101 0902 1500 26ff00 7508 9540 8102 0903 1500 26ff00 7508 9540 9102 c0"
)
_STATUS, _SET, _GET, _SETTINGS = 0x10, 0x50, 0x51, 0x61
_SPEED: Final = 0x20


class Bridge:
    """`history`: monotonic time, line and level, whenever a line was driven."""

    def __init__(self) -> None:
        self.levels = [0] * _LINES
        self.inputs = [True] * _LINES
        self.history: list[tuple[float, int, int]] = []
        self._device = os.open("/dev/uhid", os.O_RDWR)
        create = struct.pack(
            "<I128s64s64sHHIIII", _CREATE2, b"MCP2221", b"", b"",
            len(_DESCRIPTOR), _BUS_USB, _MICROCHIP, _MCP2221, 0x100, 0,
        )  # fmt: skip
        os.write(self._device, create + _DESCRIPTOR.ljust(_DATA_BYTES, b"\x00"))
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._serving.start()

    def close(self) -> None:
        """Unplugged."""
        os.write(self._device, struct.pack("<I", _DESTROY))
        os.close(self._device)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while event := os.read(self._device, _EVENT_BYTES):
                if int.from_bytes(event[:4], "little") == _OUTPUT:
                    self._answer(event[4 : 4 + _REPORT_BYTES])

    def _answer(self, asked: bytes) -> None:
        answer = bytearray(_REPORT_BYTES)
        answer[0] = asked[0]
        if asked[0] == _STATUS:
            answer[3] = asked[3] if asked[3] == _SPEED else 0
        elif asked[0] == _SET:
            answer[2:18] = asked[2:18]
            for line in range(_LINES):
                self._set(line, *asked[2 + 4 * line : 6 + 4 * line])
        elif asked[0] == _GET:
            # The data sheet has the level first and the direction after it; kernels from 5.8
            # to some in 2023 read them the other way round (kernel bugzilla 216736). A driven
            # line gives its level in both places, so that either kernel reads it.
            for line in range(_LINES):
                second = self.inputs[line] or self.levels[line]
                answer[2 + 2 * line : 4 + 2 * line] = self.levels[line], second
        said = struct.pack("<IH", _INPUT2, len(answer)) + answer.ljust(_DATA_BYTES, b"\x00")
        os.write(self._device, said)

    def _set(self, line: int, drives: int, level: int, turns: int, is_input: int) -> None:
        if turns:
            self.inputs[line] = bool(is_input)
        if drives:
            self.levels[line] = level
            self.history.append((time.monotonic(), line, level))


@contextlib.contextmanager
def bridge() -> Iterator[tuple[Bridge, Path]]:
    """Plugged in, with the path of its chip."""
    subprocess.run(["modprobe", "-a", "uhid", "hid-mcp2221"], check=True)
    before = set(Path("/dev").glob("gpiochip*"))
    made = Bridge()
    try:
        # Debian 12's driver does not let itself be answered while it probes, and waits four
        # seconds for each of six answers: the chip appears all the same, after them.
        deadline_s = time.monotonic() + 90
        while not (found := set(Path("/dev").glob("gpiochip*")) - before):
            if time.monotonic() > deadline_s:
                raise RuntimeError("the kernel has made no GPIO chip of the bridge")
            time.sleep(0.05)
        (path,) = found
        yield made, path
    finally:
        made.close()
