"""`gatewayd demo`: the main job from end to end, told as a story."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from gatewayd.cli.command import Command, CommandError, ExitCode, Output


def _run(_arguments: argparse.Namespace, output: Output) -> int:
    try:
        from gatewayd.demo.narrator import Narrator  # noqa: PLC0415 - needs the extra
        from gatewayd.demo.play import play  # noqa: PLC0415 - needs the extra
    except ModuleNotFoundError as error:
        raise CommandError(
            f"the demo needs {error.name}, which is not installed", "pip install 'gatewayd[demo]'"
        ) from None
    narrator = Narrator(output.line)
    narrator.open()
    record = asyncio.run(play(narrator.chapter))
    narrator.close(record)
    output.document(record.document())
    return ExitCode.DONE if record.holds else ExitCode.FAILED


COMMAND: Final = Command(
    name="demo",
    summary="a door, two locks and several phones, told as a story",
    description="""
    Plays a day at a staircase in under 20 seconds: `gatewayd run` as a child process, emulated
    phones and locks on a simulated air, an embedded broker, all in a temporary directory that is
    removed afterwards. Doors open without a network; strangers, expired and stolen keys are
    refused; locks jam and fall silent; the daemon is killed at the worst moment; then the network
    returns and the operator's cloud pulls the log.

    Every chapter states what should happen and what did. The exit code is 1 when anything
    differs.
    """,
    run=_run,
    examples=("gatewayd demo", "gatewayd demo --json"),
)
