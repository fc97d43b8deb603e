"""`gatewayd setup web`: the installer's path as a page, for who has a phone or a tablet there."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from gatewayd.cli import check
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.setup.common import ENDS, interrupted_by
from gatewayd.cli.setup.enrol import element

_WHY: Final = {
    "idle": (
        "nobody used the page for too long, so it is off",
        "gatewayd setup web goes on where it ended",
    ),
    "guessed": (
        "too many wrong codes came, so the page is off",
        "is somebody else on this network? take a cable, then gatewayd setup web",
    ),
}


def _run(arguments: argparse.Namespace, output: Output) -> int:
    try:
        from gatewayd import setup_web  # noqa: PLC0415 - help stays quick
    except ImportError:  # pragma: no cover - where it is not Linux
        raise CommandError("the page needs Linux", "the terminal has the same steps") from None
    if missing := setup_web.missing():
        raise CommandError(
            f"the page needs libraries that are not installed: {missing}",
            "pip install 'gatewayd[web]'; the terminal has the same steps without",
            ExitCode.USAGE,
        )
    try:
        where = setup_web.bound(arguments.on, arguments.port)
    except setup_web.ListeningError as error:
        raise CommandError(error.message, error.hint, ExitCode.USAGE) from None
    secret = setup_web.code()
    urls = [f"http://{host}/" for host in setup_web.hosts(where)]
    output.line(f"open  {urls[0]}")
    output.line(f"code  {secret}  (for one device, once)")
    output.line("Ctrl-C ends it; so does its last page")
    output.document({"urls": urls, "code": secret})
    try:
        with interrupted_by(*ENDS):  # what passed through lies in a file until it ends in order
            end = asyncio.run(
                setup_web.serve(
                    arguments.config,
                    where,
                    secret,
                    arguments.idle * 60,
                    output.line,
                    "" if arguments.key_in is None else arguments.key_in.text(),
                )
            )
    except KeyboardInterrupt:
        output.line("the page is off; gatewayd setup web goes on where it ended")
        return ExitCode.DONE
    if end is None:
        raise CommandError("the page ended unexpectedly", "gatewayd setup web goes on with it")
    if end.why != "finished":
        raise CommandError(*_WHY[end.why])
    output.line("the page is off; next: sudo systemctl start gatewayd")
    return ExitCode.DONE


def _arguments(parser: argparse.ArgumentParser) -> None:
    check.add_config_argument(parser)
    parser.add_argument(
        "--on", metavar="WHERE", default="127.0.0.1",
        help="the interface (usb0, wlan0) or address that the installer's device reaches "
        "(default: this machine only)",
    )  # fmt: skip
    parser.add_argument(
        "--port", metavar="N", type=_port, default=8480, help="default: %(default)s; 0: a free one"
    )
    parser.add_argument(
        "--key-in", metavar="URI", type=element,
        help="the page's enrolment makes keys in a secure element: as of setup enrol",
    )  # fmt: skip
    parser.add_argument(
        "--idle", metavar="MINUTES", type=_minutes, default=30,
        help="it ends when nobody used it for so long (default: %(default)s)",
    )  # fmt: skip


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > 65_535:  # noqa: PLR2004 - TCP
        raise argparse.ArgumentTypeError("a port is 0 to 65535")
    return int(text)


def _minutes(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 24 * 60:
        raise argparse.ArgumentTypeError("1 to 1440 minutes")
    return int(text)


COMMAND: Final = Command(
    name="web",
    summary="the same steps as a page, for the installer's phone or tablet",
    description="""
    Serves the steps of a set-up as a small page and prints its address and a code: to this machine
    only, or with --on to the interface of a cable or a hotspot. The first device to give the code
    has the page, until it ends; to change devices, start it again. Every step is the command of the
    terminal, so page and terminal can be mixed, and each goes on where the other ended.

    The page is HTTP without encryption: on a cable or a hotspot with a password nobody else
    listens. It ends by its last page, by Ctrl-C, when nobody used it for half an hour, or after too
    many wrong codes. What speaks to the network is a process of its own that runs as nobody, and
    holds no keys. Run it as root, with the daemon stopped, as the other steps.

    Which secure element keys are made in, if any, is said here with --key-in and not on the page:
    the URI names a library that runs as root.
    """,
    run=_run,
    arguments=_arguments,
    examples=("gatewayd setup web --on usb0", "gatewayd setup web --on 192.168.4.1 --idle 60"),
)
