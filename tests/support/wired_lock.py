"""What an emulated lock needs at the far end of a line: the lock's end of it, and how to speak."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from firmware_proto.codes import FrameKind
from firmware_proto.framing import WholeFrames
from firmware_proto.lock_session import LineLockServerSession
from firmware_proto.session import ERROR_FRAME
from gatewayd.adapters.serial_line.line import Line, LineLink, LineSettings
from gatewayd.adapters.serial_line.port import Port
from gatewayd.emulators.lock_wire import Wire

_ATTACH: Final = bytes([FrameKind.ATTACH])
_ERROR: Final = bytes([FrameKind.ERROR])

LINE: Final = Wire(lambda _: WholeFrames(), LineLockServerSession, greets=False, reports=True)
HALF_DUPLEX_LINE: Final = replace(LINE, reports=False)


class SerialPeripheral(Line):
    """`ports.radio.Peripheral`: every connection begins with an Attach. Close it when done."""

    def __init__(self, path: str, settings: LineSettings | None = None) -> None:
        super().__init__(path, settings)
        self._attached: asyncio.Queue[LineLink] = asyncio.Queue()
        self._chosen = False
        self._lost = asyncio.Event()

    async def accept(self) -> LineLink:
        """The next connection: its first frame is an Attach. Waits for the device, too."""
        while True:
            self._lost.clear()
            await self._opened()
            attached = asyncio.ensure_future(self._attached.get())
            lost = asyncio.ensure_future(self._lost.wait())
            try:
                await asyncio.wait({attached, lost}, return_when=asyncio.FIRST_COMPLETED)
                if attached.done() and not attached.result().closed:
                    return attached.result()
            finally:
                attached.cancel()
                lost.cancel()

    def _gone(self, port: Port) -> None:
        super()._gone(port)
        self._lost.set()

    def _arrived(self, port: Port, frame: bytes) -> None:
        link = self._link if self._link is not None and not self._link.closed else None
        if frame[:1] == _ATTACH and (link is None or self._chosen):
            self._end_link()
            self._chosen = False
            self._link = LineLink(port, frame)
            self._attached.put_nowait(self._link)
        elif link is not None:
            self._chosen = self._chosen or frame[:1] != _ATTACH
            link.arrived(frame)
        elif frame[:1] != _ERROR:
            # We have no connection, perhaps because our power was away: say so.
            port.say(ERROR_FRAME)
