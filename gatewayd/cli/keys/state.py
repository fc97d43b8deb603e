"""`gatewayd keys state`: what is to hold for a gateway, a door group or everybody."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from firmware_proto.errors import LocalProtocolError
from gatewayd import keyfiles
from gatewayd.cli import check
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.config import Problem, stated
from gatewayd.core import state
from gatewayd.core.state import State, StateKind


def _whole(path: Path) -> bytes:
    return keyfiles.read_file(path, "file")


_BODIES: Final[Mapping[StateKind, Callable[[Path], bytes | list[Problem]]]] = {
    StateKind.BINDINGS: stated.pack_bindings,
    StateKind.SETTINGS: stated.pack_settings,
    StateKind.CREDENTIAL: _whole,
    StateKind.LIST: _whole,
}


def _run(arguments: argparse.Namespace, output: Output) -> int:
    kind = StateKind[arguments.kind.upper()]
    if (kind is StateKind.LIST) is not bool(arguments.subject):
        raise CommandError(
            "--subject is for lists, and every list has one", "say which list", ExitCode.USAGE
        )
    signer = common.read_signer(arguments.signer, "command key")
    with common.files_are_arguments():
        body = _BODIES[kind](arguments.file)
    if isinstance(body, list):
        check.report(arguments.file, body, output)
        return ExitCode.USAGE
    said = State(kind, arguments.addressee, arguments.subject or "", arguments.serial, body)
    try:
        data = state.sign(said, signer)
    except LocalProtocolError as error:
        raise CommandError(str(error), "gatewayd keys state --help", ExitCode.USAGE) from None
    common.write(output, {}, {arguments.out: data})
    output.line(f"{arguments.kind} for {said.addressee}, serial {said.serial}, {len(data)} bytes")
    return ExitCode.DONE


def _arguments(parser: argparse.ArgumentParser) -> None:
    kinds = [kind.name.lower() for kind in _BODIES]
    parser.add_argument("kind", metavar="KIND", choices=kinds, help=f"one of {', '.join(kinds)}")
    parser.add_argument("file", metavar="FILE", type=Path, help="what is to hold")
    parser.add_argument(
        "--for", dest="addressee", metavar="NAME", required=True,
        help="a gateway, a door group, or * for everybody",
    )  # fmt: skip
    parser.add_argument(
        "--serial", metavar="N", type=common.positive, required=True,
        help="higher than that of the same kind, for the same, before",
    )  # fmt: skip
    parser.add_argument("--subject", metavar="TEXT", help="which list")
    parser.add_argument(
        "--signer", metavar="KEY", type=Path, required=True, help="the private command key"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the envelope")


COMMAND: Final = Command(
    name="state",
    summary="sign what is to hold: doors, their settings, a credential",
    description="""
    Signs a state: whole, never a change of one. bindings are [[door]] tables as in a gateway's
    configuration, with the keys of locks beside the file; they take the place of the
    configuration's doors. settings are [[door]] tables with id and policy. credential is a file
    of `gatewayd keys gateway`; list is a status list, of which --subject says which.

    Of the same kind for the same addressee the highest serial counts, and what is for the gateway
    goes before what is for its group, and that before what is for everybody. A new command key
    begins with serial 1 again. `gatewayd cloud publish` sends the file; bindings, settings and
    credentials count from the gateway's next start, for which it stops by itself where systemd
    starts it again.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        (
            "gatewayd keys state bindings doors.toml --for stairwell-7 --serial 3 \\\n"
            "    --signer operator/command.pem --out doors-3.cose"
        ),
        (
            "gatewayd keys state settings quiet.toml --for vestergade-7 --serial 1 \\\n"
            "    --signer operator/command.pem --out settings-1.cose"
        ),
    ),
)
