"""The process that owns a relay's line, and ends every pulse whatever becomes of the daemon.

`python -m gatewayd.adapters.relay.keeper SETTINGS` (JSON), commands on standard input:

    pulse ID MILLISECONDS      answered `on ID`, `busy ID` or `failed ID`
    look ID                    answered `fine ID`, by a keeper that still has its line
    end of input               the daemon is gone: the line is made inactive, at once

and, unasked, `ready`, `off`, `door closed` and `door open`.

Why a process. The daemon's event loop may hang, its interpreter may be held up
by a library, it may be killed: none of that reaches this one, which shares
nothing with it but two pipes and waits in `select` with the end of the pulse
as its timeout. And the kernel alone does not help: a line that a dead process
held returns to an input on most machines, but kernels of Raspberry Pi OS leave it
driven as it was (raspberrypi/linux pull request 6150). Who starts after a
crash of both begins by making the line inactive.

While nothing happens the line is made inactive again every few seconds. That is
how a chip that is gone shows, of which the kernel sends no word to whoever waits.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections import deque
from typing import Final, NoReturn

from gatewayd.adapters.relay.line import Contact, GpiodLine, RelayLine, RelaySettings

_IDS: Final = 256
_LONGEST_LINE: Final = 256
_ENDLESS: Final = "a command without an end"
LOOK_S: Final = 5.0
LONGEST_PULSE_MS: Final = 30_000
"""Whatever anybody sets or asks: a strike that is powered for longer burns."""


class Keeper:
    """One relay. Times are seconds of the monotonic clock."""

    def __init__(self, line: RelayLine, limit_ms: int, commands: int, answers: int) -> None:
        self._line = line
        self._limit_ms = min(limit_ms, LONGEST_PULSE_MS)
        self._commands = commands
        self._answers = answers
        self._until_s: float | None = None
        self._pulsed: deque[str] = deque(maxlen=_IDS)
        self._unread = b""
        self._closed: bool | None = None

    def run(self) -> None:
        """Until the daemon is gone. The line is inactive when this returns or raises."""
        try:
            self._say("ready")
            self._tell_door()
            while self._turn():
                pass
        finally:
            self._line.set(active=False)

    def _turn(self) -> bool:
        changes = self._line.changes
        watched = [self._commands] if changes is None else [self._commands, changes]
        readable, _, _ = select.select(watched, [], [], self._patience_s())
        if self._until_s is not None and time.monotonic() >= self._until_s:
            self._line.set(active=False)
            self._until_s = None
            self._say("off")
        elif not readable:
            self._look()
        if changes in readable:
            self._line.seen()
            self._tell_door()
        return self._commands not in readable or self._take()

    def _patience_s(self) -> float:
        """Until the pulse ends, and no longer than a look may wait."""
        if self._until_s is None:
            return LOOK_S
        return min(LOOK_S, max(0.0, self._until_s - time.monotonic()))

    def _look(self) -> None:
        """OSError when the chip is gone."""
        if self._until_s is None:
            self._line.set(active=False)
        else:
            self._line.is_active()
        self._tell_door()  # what a daemon that hung has missed

    def _take(self) -> bool:
        data = os.read(self._commands, 4096)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._obey(line)
        if len(self._unread) > _LONGEST_LINE:
            raise ValueError(_ENDLESS)
        return bool(data)

    def _obey(self, line: bytes) -> None:
        if len(line) > _LONGEST_LINE:
            raise ValueError(_ENDLESS)
        match line.decode("ascii", "replace").split():
            case ["pulse", command, milliseconds] if milliseconds.isdecimal():
                self._pulse(command, min(int(milliseconds), self._limit_ms))
            case ["look", question]:
                self._look()
                self._say(f"fine {question}")
            case _:
                raise ValueError("not a command of the daemon")

    def _pulse(self, command: str, milliseconds: int) -> None:
        if command in self._pulsed:  # one pulse per command, however often it is asked for
            self._say(f"on {command}")
            return
        if self._until_s is not None:
            self._say(f"busy {command}")
            return
        # The end is known before the beginning: nothing between them can lose it.
        self._until_s = time.monotonic() + milliseconds / 1000
        self._pulsed.append(command)
        self._line.set(active=True)
        if self._line.is_active():
            self._say(f"on {command}")
        else:  # held down by something stronger than us
            self._line.set(active=False)
            self._until_s = None
            self._say(f"failed {command}")

    def _tell_door(self) -> None:
        closed = self._line.is_closed()
        if closed is None or closed is self._closed:
            return
        if self._say("door closed" if closed else "door open"):
            self._closed = closed

    def _say(self, text: str) -> bool:
        """False where the daemon does not listen: one that hangs does not hold us up."""
        try:
            os.write(self._answers, f"{text}\n".encode("ascii"))
        except BlockingIOError:
            return False
        return True


def settings_from(text: str) -> RelaySettings:
    """What the daemon wrote with `dataclasses.asdict`."""
    fields = json.loads(text)
    contact = fields.pop("contact")
    return RelaySettings(**fields, contact=None if contact is None else Contact(**contact))


def _stop(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(0)  # through every `finally`


def main() -> int:
    """Run until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the daemon's to handle; then it goes
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a daemon that is gone is an OSError
    settings = settings_from(sys.argv[1])
    try:
        line = GpiodLine(settings)
    except (OSError, ValueError) as error:
        os.write(1, f"cannot keep it: {' '.join(str(error).split())}\n".encode("ascii", "replace"))
        return 1
    try:
        os.set_blocking(1, False)
        Keeper(line, settings.limit_ms, 0, 1).run()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"relay: {error}\n")
        return 1
    finally:
        line.release()
    return 0


if __name__ == "__main__":
    sys.exit(main())
