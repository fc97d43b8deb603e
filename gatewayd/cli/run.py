"""`gatewayd run`: the daemon."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Coroutine
from typing import Any, Final

from gatewayd import config, extras, logs
from gatewayd.cli import check
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.groups import only
from gatewayd.ports import PortError, RadioError, StorageError

_HINTS: Final[dict[type[BaseException], str]] = {
    RadioError: "[radio] names the controller: is it there, and may we use it? gatewayd doctor",
    StorageError: "gateway.state holds the log: is the disk full, read-only or not ours?",
}


def _run(arguments: argparse.Namespace, output: Output) -> int:
    try:
        handed_over = config.credentials.directory(os.environ)
        settings, secrets = config.load_all(
            arguments.config,
            handed_over,
            extras.check,
            as_installed=True,
            open_key=extras.KeyDevices(handed_over).open,
        )
    except config.ConfigError as error:
        check.report(error.path, error.problems, output)
        return ExitCode.USAGE
    logs.set_up(os.environ, verbose=arguments.verbose)
    from gatewayd import app  # noqa: PLC0415 - the radio stack takes a second to load

    return start(app.run(settings, secrets))


def start(daemon: Coroutine[Any, Any, int]) -> int:
    """Run to the end. CommandError for what comes from outside; a bug keeps its traceback."""
    try:
        return asyncio.run(daemon)
    except (PortError, ExceptionGroup) as error:
        expected = only(error, PortError)
        if expected is None:
            raise
        raise _cannot(expected) from None


def _cannot(error: PortError) -> CommandError:
    """What stopped the daemon from outside, with where to look."""
    hint = error.remedy or _HINTS.get(type(error), "the lines above say what happened before")
    if isinstance(error, StorageError):
        hint = check.storage_hint(error, hint)
    return CommandError(str(error) or type(error).__name__, hint)


def _arguments(parser: argparse.ArgumentParser) -> None:
    check.add_config_argument(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="say more while running")


COMMAND: Final = Command(
    name="run",
    summary="serve phones until told to stop",
    description="""
    Serves phones, opens doors and keeps the log until SIGTERM or SIGINT. Needs no network: doors
    open and the log is kept while the broker is absent, and the operator's cloud pulls the log
    when it returns.

    The log of events goes to standard error, one line each, in journald's form under systemd.
    Started by systemd with Type=notify it reports when phones are being served, and feeds the
    watchdog while every one of its tasks shows life. Private keys that systemd hands over
    (LoadCredential) are taken instead of the files of the same names.
    """,
    run=_run,
    arguments=_arguments,
    examples=("gatewayd run", "gatewayd run -c gatewayd.toml --verbose"),
)
