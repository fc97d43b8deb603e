"""`gatewayd keys time`: tell a gateway the time when it is set up."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from firmware_proto.codes import ID_BYTES
from gatewayd.cli.command import Command, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.core import provisioned_time


def _run(arguments: argparse.Namespace, output: Output) -> int:
    signer = common.read_signer(arguments.signer, "time key")
    now_s = common.now_s() if arguments.at is None else arguments.at
    identity = os.urandom(ID_BYTES)  # noqa: TID251 - a command at a keyboard is an edge
    data = provisioned_time.sign(arguments.gateway, now_s, identity, signer)
    common.write(output, {}, {arguments.out: data})
    output.line(f"time {common.shown_time(now_s)} for {arguments.gateway}")
    return ExitCode.DONE


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gateway", metavar="ID", type=common.name, required=True, help="the gateway's name"
    )
    parser.add_argument(
        "--signer", metavar="KEY", type=Path, required=True, help="the private time key"
    )
    parser.add_argument(
        "--at", metavar="TIME", type=common.parse_time,
        help="as 2026-08-01T12:00Z (default: now, by this machine's clock)",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the signed time")


COMMAND: Final = Command(
    name="time",
    summary="sign the time for a gateway being set up",
    description="""
    Signs the present time, for a gateway that is set up before it has a network: name the file as
    time under [trust]. A gateway that never had a time and whose clock agrees within a minute
    trusts its clock from then on; in any other it only proves that this much time has passed.
    Later times come as answers to the gateway's own questions.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        "gatewayd keys time --gateway stairwell-7 --signer operator/time.pem --out time.cose",
    ),
)
