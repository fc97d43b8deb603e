"""`gatewayd check`: every problem of a configuration and of the keys that it names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from gatewayd import config, extras
from gatewayd.cli.command import Command, ExitCode, Output
from gatewayd.ports import StorageError

DEFAULT: Final = Path("/etc/gatewayd/gatewayd.toml")
_STORAGE_HINTS: Final = {
    "another gatewayd": "one log has one daemon: stop the other one, or name another state",
    "damaged": "",
    "newer gatewayd": "",
    "start the daemon once": "",
}


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """`-c FILE`, as every command of the gateway takes it."""
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, default=DEFAULT,
        help=f"the configuration (default: {DEFAULT})",
    )  # fmt: skip


def report(path: Path, problems: list[config.Problem], output: Output) -> None:
    """Say all of them, as a compiler would, or in one document."""
    if output.as_json:
        shown = [
            {"line": each.line, "message": each.message, "hint": each.hint} for each in problems
        ]
        output.document({"file": str(path), "problems": shown})
        return
    for problem in problems:
        output.error(placed(path, problem), problem.hint)


def placed(path: Path, problem: config.Problem) -> str:
    """As `Problem.placed`."""
    return problem.placed(path)


def storage_hint(error: StorageError, otherwise: str) -> str:
    """What to do about it; nothing where the message itself says so."""
    for said, hint in _STORAGE_HINTS.items():
        if said in str(error):
            return hint
    return otherwise


def _run(arguments: argparse.Namespace, output: Output) -> int:
    path: Path = arguments.config
    problems = config.check(path, extras.check, extras.KeyDevices(try_pin=arguments.try_pin).open)
    report(path, problems, output)
    if problems:
        return ExitCode.USAGE
    output.line(f"{path}: no problems")
    return ExitCode.DONE


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument(
        "--try-pin", action="store_true",
        help="try a secure element's PIN once, although a wrong one was tried before",
    )  # fmt: skip


COMMAND: Final = Command(
    name="check",
    summary="report every problem in a configuration at once",
    description="""
    Reads the configuration, the keys, the credential and the trust bundle that it names, and
    holds them against each other, as `gatewayd run` does before it starts; so it is with the
    libraries that its radio and its doors need on this machine. Every problem is reported with its
    line and with what to do about it. Changes nothing.

    Keys in a secure element are used once each. After a wrong PIN nothing tries another until the
    right one was given: --try-pin does.

    Every setting is described in docs/configuration.md.
    """,
    run=_run,
    arguments=_arguments,
    examples=("gatewayd check", "gatewayd check -c gatewayd.toml --json"),
)
