"""`gatewayd doctor`: is this machine fit to be left alone at a door?"""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from gatewayd.cli import check
from gatewayd.cli.command import Command, ExitCode, Output
from gatewayd.cli.screen import Tint
from gatewayd.core.diagnosis import CHECKS, passes, worst
from gatewayd.core.findings import Finding, Severity
from gatewayd.core.walk import DIALS

_WIDTH: Final = max(len(each.name) for each in CHECKS)
_SEVERITY_WIDTH: Final = max(len(each.word) for each in Severity)
_INDENT: Final = _SEVERITY_WIDTH + _WIDTH + 4
_TINTS: Final = {Severity.WARNING: Tint.CARE, Severity.ERROR: Tint.BAD}


def _run(arguments: argparse.Namespace, output: Output) -> int:
    if arguments.walk:
        from gatewayd.cli.setup import walk  # noqa: PLC0415 - a step of the set-up

        return walk.run(arguments, output)
    from gatewayd import doctor  # noqa: PLC0415 - help stays quick

    findings = asyncio.run(doctor.examine(arguments.config))
    return tell(findings, output, strict=arguments.strict)


def tell(findings: tuple[Finding, ...], output: Output, *, strict: bool) -> int:
    """Every finding, a remedy below each that has one, and what it comes to."""
    passed = passes(findings, strict=strict)
    for each in findings:
        output.line(
            f"{each.severity.word:<{_SEVERITY_WIDTH}}  {each.check:<{_WIDTH}}  {each.message}",
            tint=_TINTS.get(each.severity, Tint.PLAIN),
            hang=_INDENT,
        )
        if each.remedy:
            output.line(f"{'':<{_INDENT}}-> {each.remedy}", hang=_INDENT + 3)
    output.document(
        {
            "passed": passed,
            "worst": worst(findings).word,
            "findings": [
                {
                    "check": each.check,
                    "severity": each.severity.word,
                    "message": each.message,
                    "remedy": each.remedy,
                }
                for each in findings
            ],
        }
    )
    output.line("")
    output.line(_summary(findings))
    return ExitCode.DONE if passed else ExitCode.FAILED


def _summary(findings: tuple[Finding, ...]) -> str:
    counted = {
        severity: sum(each.severity is severity for each in findings)
        for severity in sorted(Severity, reverse=True)
    }
    return ", ".join(f"{count} {severity.word}" for severity, count in counted.items() if count)


def _arguments(parser: argparse.ArgumentParser) -> None:
    check.add_config_argument(parser)
    parser.add_argument(
        "--strict", action="store_true", help="fail on warnings and on what could not be looked at"
    )
    parser.add_argument(
        "--walk", action="store_true",
        help="instead of all that, dial the lock of each door again and again",
    )  # fmt: skip
    parser.add_argument(
        "--dials", metavar="N", type=_dials, default=DIALS,
        help="with --walk: how often (default: %(default)s)",
    )  # fmt: skip


def _dials(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 1000:  # noqa: PLR2004 - Walk
        raise argparse.ArgumentTypeError("a lock is dialled 1 to 1000 times")
    return int(text)


COMMAND: Final = Command(
    name="doctor",
    summary="say whether this machine is fit for a door",
    description="""
    Looks at the configuration and its keys, and at when credential and certificate end; at the
    kernel and BlueZ, alone and together, for pairs that are known to fail; at bluetoothd's
    settings, its adapters, their roles, and whether anything is advertised while the daemon runs;
    at the serial devices and GPIO lines of its doors, without touching them; at whether the
    daemon's unit is opened for what the configuration needs; at users and policies; at the clock's
    battery; at the disk under the log and at the journal. Every finding has its remedy in one line.
    What could not be looked at here is said, and is never called fine.

    Run it as root, before the daemon is started and again while it runs. It changes nothing, and
    measures the disk with a small file that it removes. The daemon itself looks at most of this
    when it starts on BlueZ, and tells the journal.

    Fails when a finding is an error; with --strict also on warnings and on what was not seen.

    With --walk it dials the lock of each door 20 times from where the gateway hangs now, and says
    how many dials succeeded, how long half of them and 95 in 100 took at most, and how far its
    signal is above where packets are lost. The daemon has to be stopped for that. It fails when one
    dial in twenty or more fails, when they take longer than 5 s, or with a margin below 10 dB.
    `gatewayd setup report` shows the result.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        "gatewayd doctor",
        "gatewayd doctor --strict --json",
        "gatewayd doctor --walk",
    ),
)
