"""`gatewayd phone`: a phone, on this machine's Bluetooth or on a virtual radio."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Final

from firmware_proto.codes import ID_BYTES, Outcome, Reason
from gatewayd.cli.command import Command, CommandError, ExitCode, Group, Output
from gatewayd.cli.phone_around import SCAN, WATCH
from gatewayd.cli.phone_carry import DELIVER, TIME
from gatewayd.cli.phone_radio import choice, door_arguments, ending, facts, finish, hint, question

if TYPE_CHECKING:
    from gatewayd.emulators.phone import Report, Timings

_EXITS: Final = {
    Outcome.CONFIRMED: ExitCode.DONE,
    Outcome.REFUSED: ExitCode.FAILED,
    Outcome.UNKNOWN: ExitCode.UNKNOWN,
}
_SILENCE: Final = {Reason.LOCK_UNREACHABLE, Reason.LOCK_SILENT}


def _open(arguments: argparse.Namespace, output: Output) -> int:
    from gatewayd import phone_app  # noqa: PLC0415 - so that help stays quick

    request = os.urandom(ID_BYTES)  # noqa: TID251 - a command at a keyboard is an edge
    errand = phone_app.open_door(
        choice(arguments), arguments.wallet, arguments.door, arguments.address, request
    )
    try:
        return tell(finish(errand, arguments), arguments, output)
    except KeyboardInterrupt:
        raise CommandError(
            f"interrupted; {arguments.door} may have opened",
            f"ask what became of it: {question(arguments, request)}",
            ExitCode.UNKNOWN,
        ) from None


def _ask(arguments: argparse.Namespace, output: Output) -> int:
    from gatewayd import phone_app  # noqa: PLC0415 - so that help stays quick

    errand = phone_app.ask_result(
        choice(arguments),
        arguments.wallet,
        arguments.door,
        arguments.request,
        arguments.address,
    )
    return tell(finish(errand, arguments), arguments, output)


def tell(report: Report, arguments: argparse.Namespace, output: Output) -> int:
    """Say how it ended; one exit code per outcome."""
    output.line(ending(arguments.door, report))
    output.line(f"gateway {_gateway(report)}, {_times(report.timings)}")
    hint(report, arguments, output)
    output.document(
        {
            "door": arguments.door,
            **facts(report),
            "attempts": report.attempts,
        }
    )
    return _EXITS[report.outcome]


def _gateway(report: Report) -> str:
    if report.gateway is not None:
        return report.gateway
    return "not reached" if report.reason in _SILENCE else "not believed"


def _times(timings: Timings) -> str:
    steps = {
        "connect": timings.connect_s,
        "handshake": timings.handshake_s,
        "answer": timings.answer_s,
    }
    told = ", ".join(f"{name} {took:.2f}" for name, took in steps.items() if took is not None)
    total = f"{timings.total_s:.2f} s"
    return f"{total} ({told}; the rest to look for it)" if told else total


def _request(text: str) -> bytes:
    try:
        request = bytes.fromhex(text)
    except ValueError:
        request = b""
    if len(request) != ID_BYTES:
        raise argparse.ArgumentTypeError("a request is 32 hexadecimal digits, as `open` printed it")
    return request


def _ask_arguments(parser: argparse.ArgumentParser) -> None:
    door_arguments(parser)
    parser.add_argument("request", metavar="REQUEST", type=_request, help="as `open` printed it")


COMMAND: Final = Group(
    name="phone",
    summary="be a phone: open a door with a key from a wallet",
    description="""
    A phone without a screen, on the Bluetooth of this machine (Linux, macOS or Windows; install
    'gatewayd[phone]') or, with --hci, on a virtual radio. It speaks the whole protocol and
    validates the gateway as a real one does: a gateway that cannot prove to serve the chosen door
    gets nothing.
    """,
    commands=(
        SCAN,
        Command(
            name="open",
            summary="open a door",
            description="""
            Finds the gateway that serves the door, proves the key in the wallet, asks to open and
            says how that ended: open, refused (with the reason), or unknown. Unknown is never
            tried again by itself, because it may have opened; `phone ask` asks. Ctrl-C leaves it
            unknown, too.
            """,
            run=_open,
            arguments=door_arguments,
            examples=(
                "gatewayd phone open street --wallet phone",
                "gatewayd phone open street --wallet phone --hci unix:/run/air/phone.hci",
            ),
        ),
        Command(
            name="ask",
            summary="ask what became of an earlier request",
            description="""
            Asks the gateway what became of a request. Opens nothing. Gateways remember requests
            for 24 hours.
            """,
            run=_ask,
            arguments=_ask_arguments,
            examples=("gatewayd phone ask street 00112233445566778899aabbccddeeff --wallet phone",),
        ),
        WATCH,
        DELIVER,
        TIME,
    ),
)
