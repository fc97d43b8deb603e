"""`gatewayd demo`: the main job from end to end, told as a story."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Final, TypeVar

from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.groups import only

_Told = TypeVar("_Told")
_SOCKET_BYTES: Final = 107  # sun_path of unix(7), but for the zero at its end
_DAEMON: Final = "above are the last words of `gatewayd run`; is this machine very busy?"


def _run(arguments: argparse.Namespace, output: Output) -> int:
    try:
        from gatewayd.demo.narrator import Narrator  # noqa: PLC0415 - needs the extra
        from gatewayd.demo.play import play  # noqa: PLC0415 - needs the extra
        from gatewayd.demo.stay import stay  # noqa: PLC0415 - needs the extra
    except ModuleNotFoundError as error:
        raise CommandError(
            f"the demo needs {error.name}, which is not installed", "pip install 'gatewayd[demo]'"
        ) from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it takes its children along
    if arguments.stay is not None:
        with contextlib.suppress(KeyboardInterrupt):  # it is how one leaves
            _play(stay(_new_directory(arguments.stay), output.line))
        return ExitCode.DONE
    narrator = Narrator(output.line)
    narrator.open()
    record = _play(play(narrator.chapter))
    narrator.close(record)
    output.document(record.document())
    return ExitCode.DONE if record.holds else ExitCode.FAILED


def _play(story: Coroutine[object, object, _Told]) -> _Told:
    """Run it; what went wrong inside its tasks comes out as itself where it is expected."""
    from gatewayd.demo.child import ChildError  # noqa: PLC0415 - as the others

    try:
        return asyncio.run(story)
    except (ChildError, ExceptionGroup) as error:
        expected = only(error, OSError, CommandError, ChildError)
        if expected is None:
            raise
        if isinstance(expected, ChildError):
            raise CommandError(str(expected), _DAEMON) from None
        raise expected from None


def _new_directory(path: Path) -> Path:
    if len(os.fsencode(path.absolute() / "gateway.hci")) > _SOCKET_BYTES:
        raise CommandError(
            f"{path.absolute()} is too long a path for a socket",
            "name a directory with a shorter one, as /var/tmp/staircase",
            ExitCode.USAGE,
        )
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        raise CommandError(
            f"{path} is there already", "name a new directory", ExitCode.USAGE
        ) from None
    except OSError as error:
        raise CommandError(
            f"cannot make {path}: {error.strerror}",
            "does the directory above it exist, and may you write there?",
            ExitCode.USAGE,
        ) from None
    (path / "operator").mkdir(mode=0o700)
    return path.resolve()


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stay",
        metavar="DIR",
        type=Path,
        help="no story: build the staircase in this new directory and keep it running",
    )


COMMAND: Final = Command(
    name="demo",
    summary="a door, two locks and several phones, told as a story",
    description="""
    Plays a day at a staircase in about 20 seconds: `gatewayd run` as a child process, emulated
    phones and locks on a simulated air, an embedded broker, all in a temporary directory that is
    removed afterwards. Doors open without a network; strangers, expired and stolen keys are
    refused; locks jam and fall silent; the daemon is killed at the worst moment; then the network
    returns and the operator's cloud pulls the log.

    Every chapter states what should happen and what did. The exit code is 1 when anything
    differs.

    With --stay nothing is told: the same staircase is built in a directory that you name and runs
    until Ctrl-C, with a broker and a free radio for `gatewayd phone open`. The commands to try are
    printed.
    """,
    run=_run,
    arguments=_arguments,
    examples=("gatewayd demo", "gatewayd demo --json", "gatewayd demo --stay staircase"),
)
