"""Speaks the part of gpiod 2 that is used, about chips that are directories.

For a process that cannot have a real GPIO chip: put the directory above on its
path. `test_relay.py` holds the names and parameters against the real gpiod.

A chip is a directory `gpiochipN` with a file `chip` (name, label, one line name
per line). Each line has a file `N.level` with its voltage, 0 or 1; the FIFO
`N.edge` is readable when an input has changed. Whatever is done to an output
is added to `history` as: monotonic time, line, voltage, what was done. A file
`N.stuck` holds an output's voltage whatever is asked, `N.dead` makes its ioctls fail,
`N.hung` lets nobody make it active while the file is there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

from gpiod.line import Bias, Direction, Edge, Value


@dataclass
class LineSettings:
    direction: Direction = Direction.AS_IS
    edge_detection: Edge = Edge.NONE
    bias: Bias = Bias.AS_IS
    active_low: bool = False
    debounce_period: timedelta = timedelta()
    output_value: Value = Value.INACTIVE


@dataclass
class ChipInfo:
    name: str
    label: str
    num_lines: int


@dataclass
class LineInfo:
    used: bool
    consumer: str


class Chip:
    def __init__(self, path: str) -> None:
        self._path = Path(path)
        if not (self._path / "chip").exists():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        pass

    def get_info(self) -> ChipInfo:
        name, label, *lines = (self._path / "chip").read_text().splitlines()
        return ChipInfo(name, label, len(lines))

    def get_line_info(self, line: str | int) -> LineInfo:
        held = self._path / f"{line}.held"
        return LineInfo(held.exists(), held.read_text() if held.exists() else "")

    def line_offset_from_id(self, id: str | int) -> int:  # noqa: A002 - gpiod's name
        _, _, *lines = (self._path / "chip").read_text().splitlines()
        if isinstance(id, str):
            if id in lines:
                return lines.index(id)
            raise FileNotFoundError(errno.ENOENT, f"no line {id}")
        if id >= len(lines):
            raise ValueError("line offset of out range")
        return id

    def request_lines(self, config: dict, consumer: str | None = None) -> LineRequest:
        ((line, settings),) = config.items()
        return LineRequest(self._path, line, settings, consumer)


class LineRequest:
    def __init__(self, chip: Path, line: int, settings: LineSettings, consumer: str | None) -> None:
        assert consumer
        self._chip = chip
        self._settings = settings
        self._held = os.open(chip / f"{line}.held", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._held)
            raise OSError(errno.EBUSY, "Device or resource busy") from None
        os.pwrite(self._held, consumer.encode(), 0)
        self.fd = -1
        if settings.direction is Direction.OUTPUT:
            self._drive(line, settings.output_value, "request")
        else:
            assert settings.edge_detection is Edge.BOTH
            assert settings.bias in {Bias.PULL_UP, Bias.PULL_DOWN}
            self.fd = os.open(chip / f"{line}.edge", os.O_RDWR | os.O_NONBLOCK)

    def set_value(self, line: int, value: Value) -> None:
        self._drive(line, value, "set")

    def get_value(self, line: int) -> Value:
        level = int((self._chip / f"{line}.level").read_text())
        return Value(level ^ self._settings.active_low)

    def read_edge_events(self) -> list[bytes]:
        return [os.read(self.fd, 4096)]

    def release(self) -> None:
        # as on a Raspberry Pi: the voltage stays what it was
        os.close(self._held)
        if self.fd >= 0:
            os.close(self.fd)

    def _drive(self, line: int, value: Value, how: str) -> None:
        if (self._chip / f"{line}.dead").exists():
            raise OSError(errno.EIO, "Input/output error")
        while value is Value.ACTIVE and (self._chip / f"{line}.hung").exists():
            time.sleep(0.01)
        level = value.value ^ self._settings.active_low
        with (self._chip / "history").open("a") as history:
            history.write(f"{time.monotonic()} {line} {level} {how}\n")
        if not (self._chip / f"{line}.stuck").exists():
            (self._chip / "new").write_text(str(level))
            (self._chip / "new").replace(self._chip / f"{line}.level")
