"""`gatewayd keys floor`: take back a time that was signed wrongly."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from firmware_proto.codes import ID_BYTES
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.core import envelope
from gatewayd.core.envelope import LATEST_S, Floor, Kind, Statement


def _run(arguments: argparse.Namespace, output: Output) -> int:
    root = common.read_signer(arguments.root, "root key")
    to_s = common.now_s() if arguments.to is None else arguments.to
    if not to_s < arguments.above <= LATEST_S:
        raise CommandError(
            "--above is not later than the time to go back to",
            "name a time well beyond now, and before the wrong one",
            ExitCode.USAGE,
        )
    identity = os.urandom(ID_BYTES)  # noqa: TID251 - a command at a keyboard is an edge
    body = Floor(arguments.above, to_s).body()
    order = Statement(Kind.FLOOR, arguments.addressee, identity, arguments.above, body)
    common.write(output, {}, {arguments.out: envelope.sign(order, root)})
    output.line(
        f"whoever takes {common.shown_time(arguments.above)} for passed "
        f"goes back to {common.shown_time(to_s)}"
    )
    return ExitCode.DONE


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--for", dest="addressee", metavar="NAME", required=True,
        help="a gateway, a door group, or * for everybody",
    )  # fmt: skip
    parser.add_argument(
        "--above", metavar="TIME", type=common.parse_time, required=True,
        help="whose floor is beyond this goes back, nobody else",
    )  # fmt: skip
    parser.add_argument(
        "--to", metavar="TIME", type=common.parse_time,
        help="as 2026-08-01T12:00Z (default: now, by this machine's clock)",
    )  # fmt: skip
    parser.add_argument(
        "--root", metavar="KEY", type=Path, required=True, help="the root's private key"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the order")


COMMAND: Final = Command(
    name="floor",
    summary="take back a time that was signed wrongly (root)",
    description="""
    A gateway never goes back before a time that the time key has signed. When that was wrong by
    years, keys are expired for it: this order, signed by the root, is the only way back. It names
    a time between the true and the wrong one; repeating it later does nothing. Send it with
    `gatewayd cloud send`.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        (
            "gatewayd keys floor --for stairwell-7 --above 2030-01-01T00:00Z \\\n"
            "    --root operator/root.pem --out floor.cose"
        ),
    ),
)
