"""`gatewayd phone scan` and `watch`: which gateways are around, and coming home to one."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from firmware_proto.codes import Outcome
from gatewayd.cli.command import Command, ExitCode, Output
from gatewayd.cli.phone_radio import (
    choice,
    ending,
    facts,
    finish,
    hint,
    holder_arguments,
    radio_arguments,
    time_argument,
)
from gatewayd.ports.radio import Sighting

if TYPE_CHECKING:
    from gatewayd.emulators.phone import Report
    from gatewayd.emulators.watch import News

_SCAN_S: Final = 5.0


# --- scan -----------------------------------------------------------------------------------
def _scan(arguments: argparse.Namespace, output: Output) -> int:
    from gatewayd import phone_app  # noqa: PLC0415 - so that help stays quick

    shown: set[str] = set()

    def heard(sighting: Sighting) -> None:
        if sighting.address not in shown:
            shown.add(sighting.address)
            output.line(f"  {_line(sighting)}")

    output.line(f"listening for {arguments.time:g} s; as they are heard:")
    found = finish(phone_app.look_around(choice(arguments), arguments.time, heard), arguments)
    output.document(
        [
            {"address": each.address, "strength_dbm": each.strength_dbm, "name": each.name}
            for each in found
        ]
    )
    if len(found) > 1:
        output.line("strongest first:")
        for each in found:
            output.line(f"  {_line(each)}")
    if not found:
        output.line("no gateway was heard")
    return ExitCode.DONE if found else ExitCode.FAILED


def _line(sighting: Sighting) -> str:
    strength = "? dBm" if sighting.strength_dbm is None else f"{sighting.strength_dbm} dBm"
    return f"{sighting.address}  {strength:>8}  {sighting.name}".rstrip()


def _scan_arguments(parser: argparse.ArgumentParser) -> None:
    radio_arguments(parser)
    time_argument(parser, _SCAN_S, "how long to listen (default: %(default)g)")


# --- watch ----------------------------------------------------------------------------------
def _watch(arguments: argparse.Namespace, output: Output) -> int:
    from gatewayd import phone_app  # noqa: PLC0415 - so that help stays quick
    from gatewayd.emulators.approach import Nearness  # noqa: PLC0415 - likewise
    from gatewayd.emulators.watch import Watch  # noqa: PLC0415 - likewise

    reports: list[Report] = []

    def ended(report: Report) -> None:
        reports.append(report)
        output.line(f"  {ending(arguments.door, report)}, after {report.timings.total_s:.2f} s")
        hint(report, arguments, output)

    def news(what: News, address: str) -> None:
        output.line(f"  {_NEWS[what.name].format(address=address)}")

    def taps(tap: Callable[[], None]) -> None:  # the radio is there, and the watch begins
        output.line(f"watching for {arguments.door}; Enter opens it, Ctrl-C ends")
        lines_typed(lambda _: tap())

    person = phone_app.Person(news, ended, taps)
    watch = Watch(
        arguments.door,
        arrival=arguments.arrival,
        nearness=Nearness(arguments.near, min(arguments.far, arguments.near - 1)),
    )
    errand = phone_app.watch_door(choice(arguments), arguments.wallet, watch, person)
    with contextlib.suppress(KeyboardInterrupt, TimeoutError):  # both are how one ends it
        finish(asyncio.wait_for(errand, arguments.time), arguments)
    output.document([facts(report) for report in reports])
    unknown = bool(reports) and reports[-1].outcome is Outcome.UNKNOWN
    return ExitCode.UNKNOWN if unknown else ExitCode.DONE


_NEWS: Final = {
    "ARRIVED": "near a gateway: {address}",
    "PREPARED": "it is ready; press Enter",
    "LEFT": "nobody pressed Enter; let go",
}


def lines_typed(typed: Callable[[str], None]) -> None:
    """`typed` is called in the loop with every line on standard input, without its ends.

    A thread, because not every system's loop can wait for a terminal; a daemon, because nothing
    ends a read of one.
    """
    loop = asyncio.get_running_loop()
    if sys.platform != "win32" and sys.stdin.isatty():
        if os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
            return  # in the background, reading from the terminal would stop us

    def listen() -> None:
        # the loop has ended meanwhile, or there is nothing to read from
        with contextlib.suppress(RuntimeError, OSError):
            for line in sys.stdin:
                loop.call_soon_threadsafe(typed, line.strip())

    threading.Thread(target=listen, name="keyboard", daemon=True).start()


def _watch_arguments(parser: argparse.ArgumentParser) -> None:
    holder_arguments(parser)
    parser.add_argument(
        "--arrival", action="store_true", help="open on arrival, where key and door allow it"
    )
    parser.add_argument(
        "--near", metavar="DBM", type=_dbm, default=-70,
        help="as strong as this is near (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--far", metavar="DBM", type=_dbm, default=-82,
        help="as weak as this is far (default: %(default)s)",
    )  # fmt: skip
    time_argument(parser, None, "how long to watch (default: until Ctrl-C)")


def _dbm(text: str) -> int:
    if not text.removeprefix("-").isdecimal() or not -127 < int(text) <= 20:  # noqa: PLR2004 - Core
        raise argparse.ArgumentTypeError("a strength is -126 to 20 dBm")
    return int(text)


SCAN: Final = Command(
    name="scan",
    summary="show the gateways around",
    description="""
    Listens for gateways and shows each as soon as it is heard, then all of them, strongest first.
    Which door a gateway serves it says only to a phone that talks to it: `phone open` does. The
    exit code is 1 when none was heard.
    """,
    run=_scan,
    arguments=_scan_arguments,
    examples=("gatewayd phone scan", "gatewayd phone scan --time 20 --json"),
)

WATCH: Final = Command(
    name="watch",
    summary="watch for a door's gateway, and be ready when it is near",
    description="""
    What a phone in a pocket does. It listens, and when its gateway has become near, connects and
    has the lock prepared; then Enter opens the door at once. Enter opens also at any other time,
    only less quickly. A gateway that is near from the beginning has not been approached. Ctrl-C
    while the door is being opened leaves it unknown, and `phone ask` asks.

    With --arrival approaching is enough, where the key was issued for arrival and the door's policy
    allows it. Signal strength proves nothing: radio can be relayed, so this is for convenience.
    """,
    run=_watch,
    arguments=_watch_arguments,
    examples=(
        "gatewayd phone watch street --wallet phone",
        "gatewayd phone watch street --wallet phone --near -60 --arrival",
    ),
)
