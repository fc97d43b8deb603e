"""The demo is a test too: its chapters say what should happen, its exit code whether it did."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from gatewayd.cli import demo as demo_command
from gatewayd.cli.command import CommandError, ExitCode
from gatewayd.demo.child import ChildError
from tests.support.commands import PROGRAM, end, run, spawn


def test_the_day_at_the_staircase_goes_as_it_should() -> None:
    ran = spawn("demo", "--json", timeout_s=150)
    assert ran.code == 0, ran.out + ran.err
    assert ran.json["holds"] is True
    assert ran.err == ""


def test_a_reader_that_goes_away_is_no_bug(tmp_path: Path) -> None:
    with subprocess.Popen(
        [PROGRAM, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        assert demo.stdout.readline().startswith("Vestergade 7")
        demo.stdout.close()
        assert demo.stderr.read() == ""
    assert demo.returncode == ExitCode.FAILED
    assert list(tmp_path.iterdir()) == []


def test_a_place_for_the_staircase_that_will_not_do(tmp_path: Path) -> None:
    for place, message in (
        (tmp_path, "is there already"),
        (tmp_path / "absent" / "stairs", "cannot make"),
        (tmp_path / ("x" * 107), "too long a path for a socket"),
    ):
        ran = run("demo", "--stay", place)
        assert (ran.code, ran.out) == (ExitCode.USAGE, "")
        assert message in ran.err
        assert "hint: " in ran.err


async def test_the_staircase_that_stays_gives_commands_that_a_shell_takes(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "demo", "--stay", "the stairs",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    lines: list[str] = []
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while not lines or not lines[-1].startswith("Ctrl-C"):
                lines.append((await process.stdout.readline()).decode())
                assert lines[-1], "it ended"
            for command in (shlex.split(line) for line in lines if "gatewayd log" in line):
                ran = await asyncio.to_thread(spawn, *command[1:], cwd=tmp_path)
                assert ran.code == 0, ran.err
            process.send_signal(signal.SIGTERM)
            out, err = await process.communicate()
    finally:
        await end(process)
    assert (process.returncode, out, err) == (0, b"", b"")
    assert sum("'the stairs" in line for line in lines) >= 7


def test_what_goes_wrong_in_a_demo_is_told_and_bugs_are_raised() -> None:
    for error, told in (
        (ChildError("no daemon"), CommandError),
        (ExceptionGroup("", [ExceptionGroup("", [ChildError("no daemon")])]), CommandError),
        (ExceptionGroup("", [OSError("no disk")]), OSError),
        (ExceptionGroup("", [OSError("no disk"), ZeroDivisionError()]), ExceptionGroup),
    ):
        with pytest.raises(told):
            demo_command._play(failing(error))


async def failing(error: Exception) -> None:
    raise error
