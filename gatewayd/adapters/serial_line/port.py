"""One open serial device: frames out, frames in, and the news that it is gone.

The one module that imports pyserial. What of it is not used, and why:
* `Serial.write` and `Serial.read` spin or select around what does not block; with a device
  that has stopped taking bytes, `write` spins for ever and the whole daemon with it. `_Device`
  reads and writes once.
* `Transport.close` waits in a thread until the device has sent everything, which a dead one
  never does. `Port.close` throws away what is unsent first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from errno import EACCES, EAGAIN, EBUSY, ENOENT
from functools import partial
from typing import Final

import serial
import serial_asyncio_fast

from firmware_proto.codes import FrameKind
from firmware_proto.serial_framing import SerialFraming
from gatewayd.ports import LinkClosedError, RadioError

WRITE_S: Final = 2.0
"""How long a device may take to take one frame: ten times what the longest needs at 115200."""
CLOSE_S: Final = 1.0
QUIET_S: Final = 0.03
"""A half-duplex line is quiet after so long; USB adapters hand bytes over every 16 ms."""
QUIET_AT_MOST_S: Final = 0.5
"""On a line that is never quiet we speak all the same: it is noise, or nobody will ever speak."""
_ECHOES: Final = 8
_BITS: Final = 10
"""Of a byte on the line: start, eight, stop."""
BURST_BYTES: Final = 8192
FASTER: Final = 10.0
"""How much faster than its baud rate a line is read in the long run. A USB device may send
as fast as it pleases; what is more than this is not read, but thrown away."""

_REMEDIES: Final[dict[int | None, str]] = {
    ENOENT: "plug it in; ls /dev/serial/by-id shows what there is",
    EACCES: "put the daemon's user into the group dialout: serial.conf among the drop-ins",
}


@dataclass(slots=True)
class Heard:
    """What came out of a line since it was last asked: tells a fitter what to look for."""

    octets: int = 0
    frames: int = 0
    echoes: int = 0

    def trouble(self, path: str) -> tuple[str, str]:
        """Why nobody may have answered, and the remedy."""
        if self.octets == 0:
            return (
                f"nothing is heard on {path}",
                "has the lock power? is the cable whole? RS-485: A to A, B to B?",
            )
        if self.frames:
            return (
                f"somebody speaks on {path}, but no lock answers",
                "a line has one gateway and one lock: who else is on it?",
            )
        if self.echoes:
            return (
                f"on {path} we hear ourselves and nobody else",
                "has the lock power? RS-485: A to A, B to B? else: is our TX wired to our RX?",
            )
        return (
            f"on {path} there is noise and nobody who answers",
            "RS-485: swap A and B, hold the idle line; else: baud as the lock's, and common ground",
        )


class _Device(serial.Serial):
    """A device that is read and written once, and never waited for.

    `failed` hears of a device that cannot be written to: the transport would
    put a traceback into the journal for every adapter that is pulled out.
    """

    failed: Callable[[OSError], None] | None = None

    def read(self, size: int = 1) -> bytes:
        """What is there; SerialException when the device is gone."""
        try:
            data = os.read(self.fileno(), size)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise serial.SerialException(f"reading failed: {error}") from error
        if not data:
            raise serial.SerialException("the device is gone, or another program reads it, too")
        return data

    def write(self, data: bytes, /) -> int:  # type: ignore[override] # the stub allows every buffer
        """As many bytes as fit; BlockingIOError when none does."""
        try:
            return os.write(self.fileno(), data)
        except BlockingIOError:
            raise
        except OSError as error:
            if self.failed is None:
                raise
            self.failed(error)
            return len(data)


class Port(asyncio.Protocol):
    """Made by `open_port`. `on_frame` gets every whole frame but our own echo.

    half_duplex: both directions share one pair of wires, so we speak when the
    other side does not.
    """

    def __init__(
        self,
        on_frame: Callable[[bytes], None],
        on_gone: Callable[[], None],
        *,
        baud: int,
        half_duplex: bool,
    ) -> None:
        self.heard = Heard()
        self.fault = ""
        """Why the device went by itself."""
        self._bytes_per_s = FASTER * baud / _BITS
        self._on_frame = on_frame
        self._on_gone = on_gone
        self._half_duplex = half_duplex
        self._framing = SerialFraming()
        self._echoes: deque[bytes] = deque(maxlen=_ECHOES)
        self._loop = asyncio.get_running_loop()
        self._heard_s = float("-inf")
        self._read_until_s = float("-inf")
        self._transport: serial_asyncio_fast.SerialTransport | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writing = asyncio.Lock()
        self._left = False
        self._gone = asyncio.Event()

    @property
    def usable(self) -> bool:
        """False once the device is gone, or we let it go."""
        return not self._left and not self._gone.is_set()

    async def write(self, frame: bytes) -> None:
        """Hand one frame to the device, when the line is ours.

        LinkClosedError when the device is gone or takes nothing; then it is let go.
        """
        async with self._writing:
            if self._half_duplex:
                await self._quiet()
            self.say(frame)
            try:
                async with asyncio.timeout(WRITE_S):
                    await self._flowing.wait()
            except TimeoutError:
                self.abandon()
        if self.fault or not self.usable:
            raise LinkClosedError("the serial device is gone or takes nothing")

    def say(self, frame: bytes) -> None:
        """As `write`, at once, and without news of how it went."""
        if not self.usable or self._transport is None:
            return
        if frame[0] != FrameKind.ERROR:  # both ends say this one alike
            self._echoes.append(frame)
        for piece in self._framing.cut(frame):
            self._transport.write(piece)

    def abandon(self) -> None:
        """Let the device go without waiting for it."""
        if not self.usable:
            return
        self._left = True
        transport = self._transport
        if transport is not None and not transport.is_closing() and transport.serial is not None:
            with contextlib.suppress(serial.SerialException, OSError, termios.error):
                transport.serial.reset_output_buffer()
            transport.abort()
        self._flowing.set()
        self._on_gone()

    async def close(self) -> None:
        """Let the device go, and wait (a second at most) until it is closed."""
        self.abandon()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._gone.wait()

    async def _quiet(self) -> None:
        patience_s = self._loop.time() + QUIET_AT_MOST_S
        while self.usable:
            now_s = self._loop.time()
            wait_s = min(self._heard_s + QUIET_S, patience_s) - now_s
            if wait_s <= 0:
                return
            await asyncio.sleep(wait_s)

    # --- called by the transport ----------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The device is ours; one frame at a time waits in our process."""
        assert isinstance(transport, serial_asyncio_fast.SerialTransport)  # noqa: S101 - for mypy
        transport.set_write_buffer_limits(high=0)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes of any cut, with whatever the line added to them."""
        self._heard_s = self._loop.time()
        self.heard.octets += len(data)
        for frame in self._framing.receive(data):
            if frame in self._echoes:
                self._echoes.remove(frame)
                self.heard.echoes += 1
            elif self.usable:
                self.heard.frames += 1
                self._on_frame(frame)
        self._spare_the_processor(len(data))

    def _spare_the_processor(self, octets: int) -> None:
        """Whoever babbles is read no faster than a lock could speak."""
        now_s = self._loop.time()
        self._read_until_s = max(self._read_until_s, now_s) + octets / self._bytes_per_s
        early_s = self._read_until_s - now_s - BURST_BYTES / self._bytes_per_s
        if early_s > 0 and self.usable and self._transport is not None:
            self._transport.pause_reading()
            self._loop.call_later(early_s, self._read_on)

    def _read_on(self) -> None:
        if self.usable and self._transport is not None and self._transport.serial is not None:
            with contextlib.suppress(serial.SerialException, OSError, termios.error):
                self._transport.serial.reset_input_buffer()  # nobody waits for what is old
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The device has no room."""
        self._flowing.clear()

    def resume_writing(self) -> None:
        """It has taken everything."""
        self._flowing.set()

    def writing_failed(self, error: OSError) -> None:
        """The device is gone; no more of this in the middle of a write."""
        self.fault = f"writing failed: {error}"
        self._loop.call_soon(self.abandon)

    def connection_lost(self, exc: Exception | None) -> None:
        """The device is closed."""
        self.fault = self.fault if exc is None else str(exc)
        first = self.usable
        self._gone.set()
        self._flowing.set()
        if first:
            self._on_gone()


async def open_port(path: str, baud: int, make: Callable[[], Port]) -> Port:
    """Open the device for ourselves alone. RadioError when it cannot be had."""
    loop = asyncio.get_running_loop()
    # 8N1, raw; a driver that is slow to open holds up a thread and nothing else
    opening = loop.run_in_executor(None, partial(_Device, path, baud, exclusive=True))
    try:
        device = await asyncio.shield(opening)
    except (OSError, ValueError, termios.error) as error:  # SerialException is an OSError
        why, remedy = _explained(error)
        raise RadioError(f"{path} cannot be opened: {why}", remedy) from error
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise
    port = make()
    device.failed = port.writing_failed
    try:
        await serial_asyncio_fast.connection_for_serial(loop, lambda: port, device)
    except (OSError, ValueError, termios.error) as error:  # unplugged since; it is set up once more
        with contextlib.suppress(OSError, termios.error):
            device.close()
        raise RadioError(f"{path} was gone again: {error}", _explained(error)[1]) from error
    await asyncio.sleep(0)  # the transport introduces itself by `call_soon`
    return port


def _explained(error: Exception) -> tuple[str, str]:
    """Why a device cannot be had, in few words, and the remedy."""
    code = error.errno if isinstance(error, OSError) else next(iter(error.args), None)
    if code in {EAGAIN, EBUSY}:
        return "another program has it", "fuser names it; one line has one gateway and one lock"
    why = os.strerror(code) if isinstance(code, int) else str(error)
    return why, _REMEDIES.get(code, "is it a serial device? see docs/hardware.md")


def _close_late(opening: asyncio.Future[_Device]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
