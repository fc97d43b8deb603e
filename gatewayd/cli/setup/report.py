"""`gatewayd setup report` and `status`: what is handed over, and how far it is."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gatewayd import config
from gatewayd.cli import check
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.setup import common
from gatewayd.ports import StorageError

NAME: Final = "handover"
_LEAVES: Final = ("open", "closed")
_CUT_OFF: Final = {"claiming": "claim-lock", "releasing": "release-lock"}


def _run(arguments: argparse.Namespace, output: Output) -> int:
    from gatewayd import keyfiles, setup_report  # noqa: PLC0415 - help stays quick

    logging.getLogger("gatewayd").addHandler(logging.NullHandler())  # the report says it all
    try:
        handover = setup_report.report(arguments.config)
    except config.ConfigError as error:
        check.report(error.path, error.problems, output)
        return ExitCode.USAGE
    except StorageError as error:
        hint = check.storage_hint(error, "is the state directory this gateway's?")
        raise CommandError(str(error), hint) from None
    document = handover.document()
    files = {
        arguments.out / f"{NAME}.html": handover.html(),
        arguments.out / f"{NAME}.json": json.dumps(document, indent=2, ensure_ascii=False) + "\n",
    }
    for path, text in files.items():
        try:
            keyfiles.replace_file(path, text.encode(), keyfiles.PUBLIC_MODE)
        except OSError as error:
            raise CommandError(
                f"cannot write {path}: {error.strerror}", "name a directory that is there: --out"
            ) from None
        output.line(f"wrote {path}")
    for door in handover.doors:
        for missing in door.missing:
            output.line(f"  {door.door}: {missing}")
    if handover.complete:
        output.line("next: send the second to the operator, who confirms what was bound", hang=6)
    else:
        output.line("sudo gatewayd setup status says what comes next")
    output.document(document)
    return ExitCode.DONE if handover.complete else ExitCode.FAILED


def _arguments(parser: argparse.ArgumentParser) -> None:
    check.add_config_argument(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path(),
        help="where to write it (default: the current directory)",
    )  # fmt: skip


# --- status -----------------------------------------------------------------------------------
def _status(arguments: argparse.Namespace, output: Output) -> int:
    from gatewayd import setup_report  # noqa: PLC0415 - help stays quick
    from gatewayd.keyfiles import KeyFileError  # noqa: PLC0415 - likewise

    try:
        found = setup_report.status(arguments.config)
    except config.ConfigError as error:
        raise common.configuration(error) from None
    except KeyFileError as error:
        raise CommandError(error.message, error.hint, ExitCode.USAGE) from None
    for line in _standing(found):
        output.line(line)
    output.line(f"next: {_following(found)}")
    output.document(found)
    return ExitCode.DONE if found.get("complete") else ExitCode.FAILED


def _standing(found: dict[str, Any]) -> Iterator[str]:
    if found["enrolment"] != "nothing":
        yield "an enrolment is under way"
    if not found["configured"]:
        yield "not enrolled yet"
        return
    yield f"{found['gateway']} of {found['group']}"
    for door in found["doors"]:
        lock = found["locks"].get(door["door"])
        if lock is not None and lock["stage"] != "claimed":
            yield f"  {door['door']}: {lock['stage']} its lock was cut off"
        for missing in door["missing"]:
            yield f"  {door['door']}: {missing}"
    if found["complete"]:
        yield "nothing is missing"


def _following(found: dict[str, Any]) -> str:
    """The command that comes next, in the order of the installer's path."""
    if found["enrolment"] != "nothing" or not found["configured"]:
        return "sudo gatewayd setup enrol"
    for door in found["doors"]:
        name, lock = door["door"], found["locks"].get(door["door"])
        if lock is not None and lock["stage"] != "claimed":
            return f"sudo gatewayd setup {_CUT_OFF[lock['stage']]} {name}"
        if not door["moved_by"]:
            return common.binding(name) if lock is None else f"sudo gatewayd setup bind-door {name}"
        opened = {each["leaf"] for each in door["trials"] if each["outcome"] == "confirmed"}
        if len(opened) < len(_LEAVES):
            return f"sudo gatewayd setup test-open {name}"
    return f"sudo gatewayd {'setup report' if found['complete'] else 'doctor --walk'}"


STATUS: Final = Command(
    name="status",
    summary="say how far a set-up is",
    description="""
    Says whether the gateway is enrolled, of each door what is still missing, and which command
    comes next. It reads only, and may be asked while the daemon runs. The exit code is 1 while
    something is missing.
    """,
    run=_status,
    arguments=check.add_config_argument,
    examples=("gatewayd setup status", "gatewayd setup status --json"),
)

REPORT: Final = Command(
    name="report",
    summary="write the handover: what was set up, and how well it is reached",
    description="""
    Writes handover.html, one page without anything from elsewhere, with a picture per lock of its
    signal and its times and room for two signatures, and handover.json, the same for programs
    and for the operator, who confirms with it what was bound (gatewayd cloud confirm). Existing
    ones are replaced. It reads only, and may be made while the daemon runs.

    The exit code is 1 while something is missing: a door that is bound to nothing or was not opened
    both ways, a lock that was not dialled on a walk or is badly reached. The report says what.
    """,
    run=_run,
    arguments=_arguments,
    examples=("gatewayd setup report", "gatewayd setup report --out /var/tmp --json"),
)
