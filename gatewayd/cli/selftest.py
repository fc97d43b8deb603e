"""`gatewayd selftest`: is the running gateway well enough for an update to stay?"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Final

from gatewayd import gate_app
from gatewayd.cli import doctor
from gatewayd.cli.command import Command, Output

_MOST_S: Final = 3600


def _run(arguments: argparse.Namespace, output: Output) -> int:
    findings = asyncio.run(
        gate_app.examine(
            arguments.runtime,
            offline=arguments.offline,
            need_uplink=arguments.need_uplink,
            wait_s=arguments.wait,
        )
    )
    return doctor.tell(findings, output, strict=False)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MOST_S))):
        raise argparse.ArgumentTypeError(f"0 to {_MOST_S} seconds")
    if int(text) > _MOST_S:
        raise argparse.ArgumentTypeError(f"0 to {_MOST_S} seconds")
    return int(text)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait", metavar="SECONDS", type=_seconds, default=0,
        help="wait so long for all to be well; 900 after a boot (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--offline", metavar="DOOR", action="append", default=[],
        help="a door whose lock did not answer before the update either; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--need-uplink", action="store_true", help="fail without a session with the broker"
    )
    parser.add_argument(
        "--runtime", metavar="DIR", type=Path, default=gate_app.DIRECTORY,
        help="where the daemon says how it is (default: /run/gatewayd)",
    )  # fmt: skip


COMMAND: Final = Command(
    name="selftest",
    summary="say whether an updated gateway may stay as it is",
    description="""
    Asks how the running daemon is: that phones can connect, that the log was written and read back,
    that every lock answered or is named with --offline, that the time is known or not before a time
    that has passed, and, with --need-uplink, that the broker is reached; without it a gateway may
    be offline. Reads the file that the daemon writes every ten seconds; opens and changes nothing.

    With --wait it looks again until all is well or the time is over. After a start each lock is
    dialled within ten minutes, so a gate after a boot waits fifteen.

    Fails when something is not well: then go back to the system before. See docs/updates.md.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        "gatewayd selftest",
        "gatewayd selftest --wait 900 --need-uplink --offline cellar --json",
    ),
)
