"""Run a command as a person would, in this process or in one of its own.

A child outlives no test: the loop that would hear of its end is closed then, and whichever test
runs when its transport is collected would be blamed for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewayd.cli import main

PROGRAM = Path(sys.executable).parent / "gatewayd"


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*arguments: str | Path) -> Ran:
    """Call `main`, as the installed program does."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def spawn(*arguments: str | Path, cwd: Path | None = None, timeout_s: float = 60) -> Ran:
    """Run the installed program."""
    done = subprocess.run(
        [PROGRAM, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@contextlib.asynccontextmanager
async def running(
    *arguments: str | Path, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The installed program beside the test, with pipes at every end."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *arguments,
        stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **environment},
    )  # fmt: skip
    try:
        yield process
    finally:
        await end(process)


async def finished(process: asyncio.subprocess.Process) -> Ran:
    """What it says from here on, and how it ends."""
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


async def completed(*arguments: str | Path, **environment: str) -> Ran:
    """The installed program, to its end."""
    async with running(*arguments, **environment) as process:
        return await finished(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill it unless it has ended, and read its pipes to their ends."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.communicate()
