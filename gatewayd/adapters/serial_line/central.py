"""The gateway's end of a line: `ports.radio.Central`, dialling by Attach.

The device stays open between connections, so that opening it, which resets
some locks, is rare. When nobody answers it is opened anew: whatever state it
was in, it does not stay in it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from firmware_proto.codes import FrameKind
from gatewayd.adapters.serial_line.line import Line, LineLink, LineSettings
from gatewayd.adapters.serial_line.port import Heard, Port
from gatewayd.ports import LinkClosedError, RadioError

_ATTACH: Final = bytes([FrameKind.ATTACH])


class SerialCentral(Line):
    """One line with one lock on it. Close it when done."""

    def __init__(self, path: str, settings: LineSettings | None = None) -> None:
        super().__init__(path, settings)
        self._dialling = asyncio.Lock()
        self._hello: asyncio.Future[LineLink] | None = None

    async def dial(self, address: str) -> LineLink:
        """Attach to the lock; the link's first frame is its Hello. RadioError when that fails.

        `address` is the path of this line. A link that was open before is ended.
        """
        if address != self.path:
            raise RadioError(f"{address} is not on the line {self.path}")
        async with self._dialling:
            self._end_link()
            try:
                async with asyncio.timeout(self.settings.dial_s):
                    link = await self._attached()
            except TimeoutError:
                trouble = self._why()
                self._tell(trouble)
                await self.close()
                raise trouble from None
            except BaseException:
                self._end_link()
                raise
            self._tell(None)
            return link

    def _why(self) -> RadioError:
        """Nobody answered on an open device; or it cannot be had, which was said before."""
        if self._port is None or not self._port.usable:
            return self._trouble
        return RadioError(*self._port.heard.trouble(self.path))

    async def _attached(self) -> LineLink:
        while True:
            port = await self._opened()
            port.heard = Heard()
            self._hello = asyncio.get_running_loop().create_future()
            try:
                return await self._asked(port, self._hello)
            except LinkClosedError:  # unplugged while we asked
                await asyncio.sleep(self.settings.reopen_s)
            finally:
                self._hello = None

    async def _asked(self, port: Port, hello: asyncio.Future[LineLink]) -> LineLink:
        """Attach, and again while no Hello comes: either may have been damaged on the line."""
        while True:
            await port.write(_ATTACH)
            done, _ = await asyncio.wait({hello}, timeout=self.settings.attach_s)
            if done:
                return hello.result()

    def _arrived(self, port: Port, frame: bytes) -> None:
        if self._hello is not None:
            # Everything but a Hello belongs to an earlier connection.
            if frame[0] == FrameKind.HELLO and not self._hello.done():
                self._link = LineLink(port, frame)
                self._hello.set_result(self._link)
                self._hello = None
        elif self._link is not None and frame != self._link.first:
            self._link.arrived(frame)
