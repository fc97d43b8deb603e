"""The composition root of `gatewayd setup web`: the installer's page, and the steps behind it.

Two processes, as strangers may be on the installer's network (decision 34).
This one keeps its user's rights and runs the terminal's own commands, one at a
time; the other speaks HTTP as nobody, and can ask for these steps and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from gatewayd import setup_words
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.web import wire
from gatewayd.adapters.web.listening import ListeningError, bound
from gatewayd.adapters.web.wire import Asked, Ended, Line, Peer, Step
from gatewayd.setup_words import Where

__all__ = ["Conductor", "ListeningError", "bound", "code", "hosts", "missing", "peer", "serve"]

CODE_LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: nothing that looks like something else."""
_CODE_BYTES: Final = 8
_LIBRARIES: Final = ("starlette", "uvicorn", "jinja2", "python_multipart")
_NAMES: Final = {"127.0.0.1": ("localhost",)}
_PAGE: Final = ("-I", "-m", "gatewayd.adapters.web")
_END_S: Final = 10.0
_COMPLAINT_BYTES: Final = 4096
Tell = Callable[[str], None]


def missing() -> str:
    """The libraries of the extra `web` that are not installed; nothing when all are."""
    return ", ".join(name for name in _LIBRARIES if find_spec(name) is None)


def code() -> str:
    """Forty bits, as two groups of four: for eyes and thumbs."""
    letters = [CODE_LETTERS[each % 32] for each in SystemEntropy().token_bytes(_CODE_BYTES)]
    return f"{''.join(letters[:4])}-{''.join(letters[4:])}"


def hosts(where: socket.socket) -> tuple[str, ...]:
    """How a browser may name who listens there; any other name is somebody's trick."""
    address, port = where.getsockname()[:2]
    plain = f"[{address}]" if ":" in address else address
    names = [plain, *_NAMES.get(address, ())]
    return tuple(name if port == 80 else f"{name}:{port}" for name in names)  # noqa: PLR2004 - HTTP's


@dataclass
class Conductor:
    """Runs what the page asks for. say: to the terminal. key_in: as of `setup enrol`."""

    config: Path
    page: Peer[Asked]
    say: Tell
    key_in: str = ""
    _where: Where = field(init=False)
    _process: asyncio.subprocess.Process | None = None
    """Of the step that runs; not of what is asked beside it."""
    _step: asyncio.Task[None] | None = None

    async def run(self, begin: wire.Begin) -> wire.End | None:
        """Until the page ends; None when it ended without a word."""
        with tempfile.TemporaryDirectory(prefix="gatewayd-setup-") as scratch:
            self._where = Where(self.config, Path(scratch), self.key_in)
            self.page.say(begin)
            try:
                await self._tell_status()
                async for word in self.page.hear():
                    match word:
                        case wire.End():
                            return word
                        case wire.Noticed():
                            self.say(word.said)
                        case wire.Stop():
                            self._interrupt()
                        case _:
                            self._start(word)
            finally:
                await self._over()
        return None

    def _start(self, step: Step) -> None:
        """One at a time: the page knows that, so a second one is not answered."""
        if self._step is None or self._step.done():
            self._step = asyncio.create_task(self._perform(step), name="step of the set-up")

    def _interrupt(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)

    async def _over(self) -> None:
        """A step that still runs ends as it does on Ctrl-C."""
        if self._step is None:
            return
        self._interrupt()
        try:
            async with asyncio.timeout(_END_S):
                await asyncio.shield(self._step)
        except TimeoutError:
            if self._process is not None:
                self._process.kill()
            await self._step

    # --- steps ------------------------------------------------------------------------------
    async def _perform(self, step: Step) -> None:
        """However it fails, the page hears that it is over, and can ask for the next."""
        try:
            ended = await self._done(step)
            await self._tell_status()
        except (OSError, ValueError) as error:  # no room, no memory, no such directory any more
            ended = Ended(1, f"the step could not be run: {error}", _NOT_RUN)
        self.page.say(ended)

    async def _done(self, step: Step) -> Ended:
        argv, typed = setup_words.typed(step, self._where)
        self.say(f"gatewayd {' '.join(argv)}")
        process = self._process = await _started(argv)
        try:
            ended = await _followed(process, typed, self.page.say)
        finally:
            self._process = None
            if process.returncode is None:
                process.kill()
        self.say(f"  {ended.error or _CODES.get(ended.code, 'failed')}")
        files = {}
        for name in setup_words.FILES.get(type(step), ()):
            with contextlib.suppress(OSError):
                files[name] = (self._where.scratch / name).read_bytes()
        return msgspec.structs.replace(ended, files=files)

    async def _tell_status(self) -> None:
        process = await _started(["setup", "status", "-c", str(self.config)])
        ended = await _followed(process, "", lambda _: None)
        found = ended.document or {"error": ended.error, "hint": ended.hint}
        self.page.say(wire.State(msgspec.convert(found, wire.Status)))


async def _started(argv: Sequence[str]) -> asyncio.subprocess.Process:
    """A command of the terminal."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "gatewayd", *argv, "--json-lines"),
        stdin=pipe, stdout=pipe, limit=wire.MAX_TOLD_BYTES,
    )  # fmt: skip


async def _followed(
    process: asyncio.subprocess.Process, typed: str, tell: Callable[[Line], None]
) -> Ended:
    """Line by line, to its end."""
    assert process.stdin is not None  # noqa: S101 - asked for
    assert process.stdout is not None  # noqa: S101 - likewise
    with contextlib.suppress(ConnectionError):
        process.stdin.write(typed.encode())
        process.stdin.close()
    said: dict[str, Any] = {}
    async for line in process.stdout:
        word = _word(line)
        if "line" in word:
            tell(Line(word["line"], word["number"], word["of"]))
        else:
            said |= word
    return _ended(await process.wait(), said)


_CODES: Final = {0: "done", 3: "unknown"}
_NOT_RUN: Final = "is there room on the disk, and in memory? then again"


def _word(line: bytes) -> dict[str, Any]:
    """An object that a command printed; whatever else a library prints is a line, too."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {"line": line.decode(errors="replace").strip(), "number": 0, "of": 0}


def _ended(code: int, said: dict[str, Any]) -> Ended:
    document = said.get("document")
    error, hint = said.get("error", ""), said.get("hint", "")
    match document:
        case {"problems": [{"message": str(error), "hint": str(hint)}, *_]}:
            pass  # a configuration that cannot be used
    if not said and code:
        error, hint = f"the step ended with {code}", "what it said stands in the terminal"
    return Ended(code, error, hint, document)


# --- the page's process ------------------------------------------------------------------------
async def serve(  # noqa: PLR0913, PLR0917 - what it is told in the terminal
    config: Path, where: socket.socket, secret: str, idle_s: float, say: Tell, key_in: str = ""
) -> wire.End | None:
    """Serve the page at a bound socket until it ends."""
    ours, theirs = socket.socketpair()
    begin = wire.Begin(secret, hosts(where), idle_s)
    passed = (where.fileno(), theirs.fileno())
    nothing, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    # Without a terminal: whoever takes it over could type into ours (TIOCSTI), as root.
    process = await asyncio.create_subprocess_exec(
        sys.executable, *_PAGE, *map(str, passed), pass_fds=passed,
        stdin=nothing, stdout=nothing, stderr=pipe, start_new_session=True,
    )  # fmt: skip
    theirs.close()
    where.close()
    assert process.stderr is not None  # noqa: S101 - asked for
    complaints = asyncio.create_task(_repeat(process.stderr, say), name="complaints of the page")
    try:
        async with peer(ours) as page:
            return await Conductor(config, page, say, key_in).run(begin)
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await complaints


async def _repeat(complaints: asyncio.StreamReader, say: Tell) -> None:
    """A traceback, say. As lines, which move no cursor."""
    while said := await complaints.read(_COMPLAINT_BYTES):
        for line in said.decode(errors="replace").splitlines():
            say(line)


@asynccontextmanager
async def peer(end: socket.socket) -> AsyncIterator[Peer[Asked]]:
    """The page, at the other end of a socket."""
    reader, writer = await asyncio.open_connection(sock=end, limit=wire.MAX_ASKED_BYTES)
    page = Peer(reader, writer, wire.asking())
    try:
        yield page
    finally:
        await page.close()
