"""A serial cable with two plugs, made of two pseudo-terminals and a pump between them.

Either plug can be pulled: its device disappears as a USB adapter's does, and
whoever has it open learns of it from the kernel. Bytes on the way can be
looked at, changed, dropped and added to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import tty
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

Carry = Callable[[bytes], bytes]


@dataclass
class Plug:
    """One end. `path` exists while it is plugged in; `heard` is all that was written into it.

    `carry` may change what is written into this end on its way to the other;
    `echoes` hands it back to this end as well, as some RS-485 transceivers do.
    """

    path: Path
    master: int | None = None
    slave: int = -1
    heard: bytearray = field(default_factory=bytearray)
    carry: Carry = bytes
    echoes: bool = False


class Cable:
    """`near` and `far` are alike."""

    def __init__(self, directory: Path) -> None:
        self.near = Plug(directory / "ttyUSB0")
        self.far = Plug(directory / "ttyUSB1")

    def other(self, plug: Plug) -> Plug:
        return self.far if plug is self.near else self.near

    def plug(self, plug: Plug) -> None:
        """Its device appears."""
        master, slave = pty.openpty()
        tty.setraw(slave)
        plug.path.symlink_to(os.ttyname(slave))
        os.set_blocking(master, False)
        plug.master = master
        # kept open, or reading the master would fail until somebody opens the device
        plug.slave = slave
        asyncio.get_running_loop().add_reader(master, self._pump, plug)

    def unplug(self, plug: Plug) -> None:
        """Its device disappears."""
        plug.path.unlink(missing_ok=True)
        master, plug.master = plug.master, None
        if master is not None:
            asyncio.get_running_loop().remove_reader(master)
            os.close(master)
            os.close(plug.slave)

    def stall(self, plug: Plug) -> None:
        """What is written into `plug` stays there, until its device is full."""
        assert plug.master is not None
        asyncio.get_running_loop().remove_reader(plug.master)

    def inject(self, plug: Plug, data: bytes) -> None:
        """`data` comes out of `plug`, as if the line had made it up."""
        if plug.master is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(plug.master, data)

    def _pump(self, plug: Plug) -> None:
        assert plug.master is not None
        with contextlib.suppress(BlockingIOError, OSError):
            data = os.read(plug.master, 4096)
            plug.heard += data
            if plug.echoes:
                self.inject(plug, data)
            if carried := plug.carry(data):
                self.inject(self.other(plug), carried)


@contextlib.asynccontextmanager
async def cable(directory: Path) -> AsyncIterator[Cable]:
    """Plugged in at both ends."""
    made = Cable(directory)
    made.plug(made.near)
    made.plug(made.far)
    try:
        yield made
    finally:
        made.unplug(made.near)
        made.unplug(made.far)
