"""`gatewayd cloud fleet`: how an operator's gateways are, and which of them want looking after."""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from gatewayd import fleet_app
from gatewayd.cli import broker, check
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys.common import shown_time
from gatewayd.cloud.fleet import RINGS, Alarm, Fleet, Report, ring_of
from gatewayd.core.model import GatewayId
from gatewayd.logs import printable
from gatewayd.ports import StorageError, UpstreamError

GRACE_S: Final = 300
"""While watching: a gateway that is back so soon was not worth a message."""
_HEAD: Final = ("gateway", "ring", "seen", "version", "clock", "disk", "battery", "alarms")
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_WIDTH: Final = 32


def _run(arguments: argparse.Namespace, output: Output) -> int:
    lookout = fleet_app.Lookout(
        broker=broker.files(arguments),
        file=arguments.file,
        store=arguments.store,
        quiet_s=arguments.quiet,
    )
    try:
        if arguments.forget:
            return _forget(arguments, output)
        if arguments.watch:
            return _watch(lookout, arguments, output)
        fleet, now_s = asyncio.run(lookout.look())
    except UpstreamError as error:
        raise broker.away(arguments, error) from None
    except StorageError as error:
        hint = check.storage_hint(error, "are --file and --store files that gatewayd cloud made?")
        raise CommandError(str(error), hint) from None
    alarms = _of_ring(fleet.alarms(now_s, expected=_expected(arguments)), arguments.ring)
    _tell(fleet, alarms, now_s, arguments.ring, output)
    return ExitCode.FAILED if alarms else ExitCode.DONE


def _expected(arguments: argparse.Namespace) -> dict[int, str]:
    return dict(arguments.expect)


def _of_ring(alarms: Sequence[Alarm], ring: int | None) -> list[Alarm]:
    return [each for each in alarms if ring in {None, ring_of(each.gateway)}]


# --- once -----------------------------------------------------------------------------
def _tell(
    fleet: Fleet, alarms: Sequence[Alarm], now_s: int, ring: int | None, output: Output
) -> None:
    reports = {
        gateway: known
        for gateway, known in sorted(fleet.reports.items())
        if ring in {None, ring_of(gateway)}
    }
    of: dict[str, list[Alarm]] = {}
    for each in alarms:
        of.setdefault(each.gateway, []).append(each)
    rows = [
        _row(gateway, reports.get(GatewayId(gateway), Report()), of.get(gateway, ()), now_s)
        for gateway in sorted({*reports, *of})
    ]
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    for row in (_HEAD, *rows):
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        output.line("  ".join(padded).rstrip())
    output.line("")
    output.line(_summary(reports, fleet, alarms))
    output.document(
        {
            "time": now_s,
            "gateways": [_document(each, known, fleet) for each, known in reports.items()],
            "alarms": [_alarm_document(each) for each in alarms],
        }
    )


def _row(gateway: str, known: Report, alarms: Sequence[Alarm], now_s: int) -> tuple[str, ...]:
    return (
        gateway,
        str(ring_of(gateway)),
        _seen(known, now_s),
        printable(known.version, _WIDTH) or "?",
        known.clock or "?",
        "?" if known.free_percent is None else f"{known.free_percent} %",
        "" if known.battery_percent is None else f"{known.battery_percent} %",
        "; ".join(map(_words, alarms)),
    )


def _words(alarm: Alarm) -> str:
    detail = f" ({printable(alarm.detail, 80)})" if alarm.detail else ""
    return f"{alarm.name.replace('_', ' ')}{detail}"


def _seen(known: Report, now_s: int) -> str:
    if known.seen_s is None:
        return "never"
    if known.offline_s is None:
        return "now"
    ago_s = max(0, now_s - known.seen_s)
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if ago_s >= unit_s:
            return f"{ago_s // unit_s} {unit} ago"
    return f"{ago_s} s ago"


def _summary(reports: Mapping[GatewayId, Report], fleet: Fleet, alarms: Sequence[Alarm]) -> str:
    online = sum(
        known.offline_s is None and known.seen_s is not None and gateway in fleet.heard
        for gateway, known in reports.items()
    )
    counted = Counter(each.name for each in alarms)
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(counted.items()))
    return f"{online} of {len(reports)} gateways are connected; alarms: {told or 'none'}"


def _document(gateway: GatewayId, known: Report, fleet: Fleet) -> dict[str, object]:
    return {
        "gateway": gateway,
        "ring": ring_of(gateway),
        "online": gateway in fleet.heard and known.offline_s is None and known.seen_s is not None,
        "seen": known.seen_s,
        "offline_since": known.offline_s,
        "version": known.version or None,
        "clock": known.clock or None,
        "free_percent": known.free_percent,
        "battery_percent": known.battery_percent,
    }


def _alarm_document(alarm: Alarm) -> dict[str, object]:
    return {"gateway": alarm.gateway, "alarm": alarm.name, "detail": alarm.detail}


# --- for as long as somebody looks ----------------------------------------------------------
def _watch(lookout: fleet_app.Lookout, arguments: argparse.Namespace, output: Output) -> int:
    standing: dict[tuple[str, str], Alarm] | None = None

    def changed(fleet: Fleet, now_s: int) -> None:
        nonlocal standing
        alarms = _of_ring(
            fleet.alarms(now_s, expected=_expected(arguments), grace_s=GRACE_S), arguments.ring
        )
        if standing is None:
            _tell(fleet, alarms, now_s, arguments.ring, output)
        else:
            _tell_changes(standing, alarms, now_s, output)
        standing = {(each.gateway, each.name): each for each in alarms}

    def away(why: str) -> None:
        output.line(f"the broker is away: {why}")
        output.document({"broker": why})

    try:
        asyncio.run(lookout.watch(changed, away))
    except KeyboardInterrupt:
        return ExitCode.DONE
    raise AssertionError("watches for ever")


def _tell_changes(
    before: Mapping[tuple[str, str], Alarm], alarms: Sequence[Alarm], now_s: int, output: Output
) -> None:
    now = {(each.gateway, each.name): each for each in alarms}
    for place in sorted(now.keys() ^ before.keys()):
        alarm, over = (before[place], True) if place in before else (now[place], False)
        ending = ": over" if over else ""
        output.line(f"{shown_time(now_s)}  {alarm.gateway}  {_words(alarm)}{ending}")
        output.document({"time": now_s, **_alarm_document(alarm), "over": over})


def _forget(arguments: argparse.Namespace, output: Output) -> int:
    known = fleet_app.forget(arguments.file, GatewayId(arguments.forget))
    if not known:
        raise CommandError(f"nothing is known of {arguments.forget}", "gatewayd cloud fleet")
    output.line(f"{arguments.forget} is forgotten; while the broker holds its status it is back")
    output.document({"forgotten": arguments.forget})
    return ExitCode.DONE


# --- arguments ------------------------------------------------------------------------------
def _expectation(text: str) -> tuple[int, str]:
    ring, separator, version = text.partition("=")
    if not separator or not version or ring not in map(str, RINGS):
        raise argparse.ArgumentTypeError(f"RING=VERSION, where RING is one of {RINGS}")
    return int(ring), version


def quiet_s(text: str) -> float:
    """How long a broker is silent that has said all, as argparse types go."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 60:  # noqa: PLR2004 - what the message says
        raise argparse.ArgumentTypeError("0.1 to 60 seconds")
    return seconds


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys", metavar="DIR", type=Path, default=Path(),
        help="the operator's directory: our certificate for the broker (default: here)",
    )  # fmt: skip
    broker.add_arguments(parser)
    parser.add_argument(
        "--file", metavar="FILE", type=Path, default=Path("fleet.sqlite"),
        help="what is remembered between two looks; made when missing (default: fleet.sqlite)",
    )  # fmt: skip
    parser.add_argument(
        "--store", metavar="FILE", type=Path, default=Path("cloud.sqlite"),
        help="where pulled logs are kept, if there is one: it knows which erasures are overdue"
        " (default: cloud.sqlite)",
    )  # fmt: skip
    parser.add_argument(
        "--expect", metavar="RING=VERSION", type=_expectation, action="append", default=[],
        help="the version that a ring shall have (default: what most of the ring have)",
    )  # fmt: skip
    parser.add_argument(
        "--ring", metavar="RING", type=int, choices=RINGS,
        help="only the gateways of one ring: 1, 5 or 100",
    )  # fmt: skip
    parser.add_argument(
        "--quiet", metavar="SECONDS", type=quiet_s, default=2.0,
        help="the broker has said all when it is silent for so long (default: 2)",
    )  # fmt: skip
    parser.add_argument(
        "--watch", action="store_true", help="go on, and tell each alarm that comes or is over"
    )
    parser.add_argument(
        "--forget", metavar="GATEWAY", help="a gateway that is gone for good: no more alarms"
    )


COMMAND: Final = Command(
    name="fleet",
    summary="show how all gateways are, and what wants looking after",
    description="""
    Reads what every gateway says of itself from the broker, and remembers when each was last
    connected. Nobody signs these statuses: whoever may publish on the broker may invent them, and
    nothing here opens a door or believes a log. Alarms: offline, missing, unreadable, clock
    unknown, no radio, low battery, lock trouble, lock not reached, log not pulled, other log, not
    confirmed, storage low, storage worn, storage failed, credential ends, certificate ends, erasure
    overdue, other version, no place; docs/operator.md has what each means.

    Changes reach gateways in rings: ring 1 is one percent of them, ring 5 four more, ring 100 all
    others. Which gateway is in which follows from its name alone and never changes. `--ring 1`
    shows who is first; `--expect 1=0.2.0 --expect 5=0.1.9` tells who has another version than his
    ring.

    With --watch it goes on until Ctrl-C and tells alarms as they come and go, a gateway that is
    offline after five minutes; with --json one document for each.

    Fails while there is an alarm.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        "gatewayd cloud fleet --keys operator --broker mqtts://broker.example:8883",
        "gatewayd cloud fleet --ring 1 --expect 1=0.2.0 --json",
        "gatewayd cloud fleet --watch",
    ),
)
