"""What both ends of a line share: its settings, the device that comes and goes, and links."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Final

from firmware_proto.codes import MAX_ATT_MTU, MAX_MESSAGE_BYTES
from gatewayd.adapters.serial_line.port import Port, open_port
from gatewayd.messages import Message, about
from gatewayd.ports import LinkClosedError, RadioError

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LineSettings:
    """Both ends of a line have the same `baud` and `half_duplex`. Times in seconds.

    dial_s: until a lock that does not answer, or a device that is not there,
    counts as out of reach. attach_s: until an Attach without Hello is repeated.
    reopen_s: between two tries to open a device that is not there.
    """

    baud: int = 115_200
    half_duplex: bool = False
    dial_s: float = 3.0
    attach_s: float = 0.5
    reopen_s: float = 0.2


class NothingWrittenError(LinkClosedError):
    """The line was gone before the first byte."""

    may_have_happened = False


class LineLink:
    """`ports.radio.Link` on a line; carries whole frames. Closing it puts no byte on the line."""

    mtu = MAX_ATT_MTU
    """Of no meaning here: a line cuts nothing."""

    def __init__(self, port: Port, first: bytes) -> None:
        self.first = first
        self.closed = False
        self._port = port
        self._inbox: deque[bytes] = deque([first])
        self._changed = asyncio.Event()

    async def read(self) -> bytes:
        """The next frame, also those that came before the line was lost."""
        while not self._inbox:
            if self.closed:
                raise LinkClosedError("the line is gone, or carries another connection")
            self._changed.clear()
            await self._changed.wait()
        return self._inbox.popleft()

    async def write(self, fragment: bytes) -> None:
        """Hand one frame to the line. LinkClosedError when it is gone."""
        if self.closed:
            raise NothingWrittenError("the line is gone, or carries another connection")
        await self._port.write(fragment)

    async def close(self) -> None:
        """No longer this connection's line; what was not read is discarded."""
        self._inbox.clear()
        self.end()

    # --- called by the line -----------------------------------------------------------------
    def arrived(self, frame: bytes) -> None:
        """A frame of this connection; more unread bytes than a message may have cost the link."""
        self._inbox.append(frame)
        if sum(map(len, self._inbox)) > MAX_MESSAGE_BYTES:
            self._inbox.clear()
            self.end()
        self._changed.set()

    def end(self) -> None:
        """The device is gone, or another connection has begun."""
        self.closed = True
        self._changed.set()


class Line(ABC):
    """One device by its path, opened when needed and again whenever it has come back."""

    def __init__(self, path: str, settings: LineSettings | None = None) -> None:
        self.path = path
        self.settings = settings or LineSettings()
        self._trouble = RadioError(f"{path} has not been opened")
        self._told = ""
        self._port: Port | None = None
        self._link: LineLink | None = None

    async def close(self) -> None:
        """Let the device go."""
        self._end_link()
        port, self._port = self._port, None
        if port is not None:
            await port.close()

    async def _opened(self) -> Port:
        """The device, waited for as long as it takes."""
        while True:
            if self._port is not None and self._port.usable:
                return self._port
            try:
                self._port = await open_port(self.path, self.settings.baud, self._make_port)
            except RadioError as error:
                self._trouble = error
                await asyncio.sleep(self.settings.reopen_s)

    def _tell(self, trouble: RadioError | None) -> None:
        """In the journal, once, and again when it is another or is over."""
        text = "" if trouble is None else str(trouble)
        if trouble is not None and text != self._told:
            remedy = f"; {trouble.remedy}" if trouble.remedy else ""
            _log.warning("%s%s", text, remedy, extra=about(Message.SERIAL_LINE))
        elif self._told and not text:
            _log.info("%s: the lock answers", self.path)
        self._told = text

    def _make_port(self) -> Port:
        port = Port(
            lambda frame: self._arrived(port, frame),
            lambda: self._gone(port),
            baud=self.settings.baud,
            half_duplex=self.settings.half_duplex,
        )
        return port

    def _gone(self, port: Port) -> None:
        """A device of ours is gone, and with it whatever was on it."""
        if port.fault:
            self._trouble = RadioError(f"{self.path}: {port.fault}")
            self._tell(self._trouble)
        self._end_link()

    def _end_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.end()

    @abstractmethod
    def _arrived(self, port: Port, frame: bytes) -> None:
        """A whole frame, never empty."""
