"""What the commands of a phone share: which radio, which wallet, how it may fail and how it ends.

The lock on the bench fails to begin in the same ways.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shlex
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from firmware_proto.codes import Outcome, Reason
from gatewayd import addresses
from gatewayd.cli.command import CommandError, ExitCode, Output
from gatewayd.keyfiles import KeyFileError
from gatewayd.ports import RadioError

if TYPE_CHECKING:
    from gatewayd.emulators.phone import Report
    from gatewayd.phone_app import Choice

_T = TypeVar("_T")

_ADDRESS: Final = re.compile(
    rf"{addresses.PATTERN}({addresses.PUBLIC})?"
    r"|[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}"  # what macOS calls a peer
)
_EXTRAS: Final = {"bleak": "phone", "bumble": "demo"}
_WORDS: Final = {
    Outcome.CONFIRMED: "open",
    Outcome.REFUSED: "refused",
    Outcome.UNKNOWN: "unknown",
}
_VIRTUAL: Final = "--hci names the socket of a virtual controller: unix:/path"
_BLUETOOTH: Final = "is Bluetooth on, and may this user use it? on Linux: bluetoothctl show"


def choice(arguments: argparse.Namespace) -> Choice:
    """The radio that the arguments ask for."""
    from gatewayd.phone_app import Choice  # noqa: PLC0415 - so that help stays quick

    return Choice(arguments.hci, arguments.adapter)


def hint(report: Report, arguments: argparse.Namespace, output: Output) -> None:
    """How to ask, for whoever does not know how it ended."""
    if report.outcome is Outcome.UNKNOWN:
        output.line("it may have opened; ask what became of it:")
        output.line(f"  {question(arguments, report.request)}")


def question(arguments: argparse.Namespace, request: bytes) -> str:
    """The command that asks."""
    words = ("gatewayd", "phone", "ask", arguments.door, request.hex())
    options = ("--wallet", str(arguments.wallet), *_radio_options(arguments))
    return shlex.join((*words, *options))


def _radio_options(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The same as words of a command."""
    if arguments.hci is not None:
        return ("--hci", arguments.hci)
    return ("--adapter", arguments.adapter) if arguments.adapter is not None else ()


def finish(errand: Coroutine[Any, Any, _T], arguments: argparse.Namespace) -> _T:
    """Run an errand on the radio of `arguments`. CommandError when it cannot even begin."""
    try:
        return asyncio.run(errand)
    except KeyFileError as error:
        raise CommandError(error.message, error.hint, ExitCode.USAGE) from None
    except RadioError as error:
        usual = _BLUETOOTH if arguments.hci is None else _VIRTUAL
        raise CommandError(str(error), error.remedy or usual) from None
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        raise CommandError(
            f"this radio needs {missing}, which is not installed",
            f"pip install 'gatewayd[{_EXTRAS[missing]}]'",
            ExitCode.USAGE,
        ) from None


def ending(door: str, report: Report) -> str:
    """How it ended, for people."""
    if report.reason is Reason.OK:
        why = ""
    elif report.gateway is None and report.reason is Reason.LOCK_UNREACHABLE:
        why = ": no_gateway_in_reach"  # of the gateway's locks nothing is known
    else:
        why = f": {report.reason.name.lower()}"
    return f"{door} {_WORDS[report.outcome]}{why}"


def facts(report: Report) -> dict[str, object]:
    """The same, for programs."""
    return {
        "outcome": report.outcome.name.lower(),
        "reason": report.reason.name.lower(),
        "request": report.request,
        "gateway": report.gateway,
        "receipt": report.receipt,
        "seconds": round(report.timings.total_s, 3),
    }


def radio_arguments(parser: argparse.ArgumentParser) -> None:
    """Which radio."""
    radio = parser.add_mutually_exclusive_group()
    radio.add_argument(
        "--hci",
        metavar="unix:PATH",
        help="where a virtual controller speaks HCI (default: this machine's Bluetooth)",
    )
    radio.add_argument(
        "--adapter", metavar="ADDRESS", type=plain_address,
        help="which Bluetooth, by its address, on Linux (default: the first one on)",
    )  # fmt: skip


def holder_arguments(parser: argparse.ArgumentParser) -> None:
    """Which door, with which wallet, over which radio."""
    parser.add_argument("door", metavar="DOOR", help="the door's name, as the key gives it")
    parser.add_argument(
        "--wallet", metavar="DIR", type=Path, required=True,
        help="the phone's key, made by `gatewayd keys issue --wallet`",
    )  # fmt: skip
    radio_arguments(parser)


def door_arguments(parser: argparse.ArgumentParser) -> None:
    """The same, and at which gateway."""
    holder_arguments(parser)
    parser.add_argument(
        "--address",
        type=address,
        help="the gateway's address, as `phone scan` shows it (default: whichever serves the door)",
    )


def time_argument(parser: argparse.ArgumentParser, default: float | None, about: str) -> None:
    """For how long."""
    parser.add_argument("--time", metavar="SECONDS", type=_seconds, default=default, help=about)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86_400:  # noqa: PLR2004 - a day; also refuses nan
        raise argparse.ArgumentTypeError("a time is more than 0 s and less than a day")
    return seconds


def plain_address(text: str) -> str:
    """An address of this machine's own, which needs no mark."""
    found = text.upper()
    if not re.fullmatch(addresses.PATTERN, found):
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is no address as B8:27:EB:00:00:02")
    return found


def address(text: str) -> str:
    """An address as this machine's Bluetooth writes it."""
    found = text.upper()
    if not _ADDRESS.fullmatch(found):
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is no address as F0:F1:F2:F3:F4:F5")
    return found
