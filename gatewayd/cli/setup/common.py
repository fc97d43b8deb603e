"""What the steps of a set-up share: the site they work on, how they fail, what they say."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from gatewayd import config
from gatewayd.cli import check
from gatewayd.cli.command import CommandError, ExitCode, Output
from gatewayd.cli.screen import Tint
from gatewayd.groups import only
from gatewayd.keyfiles import KeyFileError
from gatewayd.ports import PortError, RadioError, StorageError
from gatewayd.stand_in import Daemon

if TYPE_CHECKING:
    from gatewayd.setup_site import Site

_T = TypeVar("_T")

ENDS: Final = [
    each for name in ("SIGHUP", "SIGTERM") if (each := getattr(signal, name, None)) is not None
]
GOES_ON: Final = "the same command again goes on"
_RADIO: Final = (
    "the same command again goes on where this ended; gatewayd doctor looks at the radio"
)
_STORAGE: Final = "is the disk full, read-only or not ours?"
_RUNNING: Final = (
    "another step of a set-up, or a daemon that somebody started by hand: end it first"
)


def on_site(
    arguments: argparse.Namespace, work: Callable[[Site], Awaitable[_T]], output: Output
) -> _T:
    """Do something on the site of the configuration, in the daemon's place.

    CommandError for what comes from outside.
    """
    from gatewayd.setup_site import SetupError, open_site  # noqa: PLC0415 - help stays quick

    logging.getLogger("gatewayd").addHandler(logging.NullHandler())  # a step speaks for itself

    async def errand() -> _T:
        async with open_site(arguments.config) as site:
            return await work(site)

    try:
        with (
            Daemon().aside(arguments.config, output.line),
            interrupted_by(*ENDS),  # a link to a lock would outlive us at bluetoothd
        ):
            return asyncio.run(errand())
    except KeyboardInterrupt:
        raise KeyboardInterrupt(GOES_ON) from None
    except config.ConfigError as error:
        raise configuration(error) from None
    except SetupError as error:
        raise CommandError(error.message, error.hint) from None
    except KeyFileError as error:
        raise CommandError(error.message, error.hint, ExitCode.USAGE) from None
    except (PortError, ExceptionGroup) as error:
        expected = only(error, PortError)
        if expected is None:
            raise
        raise CommandError(str(expected), _hint(expected)) from None


def configuration(error: config.ConfigError) -> CommandError:
    """The first of its problems, and how many more there are."""
    first, *others = error.problems
    more = f" (and {len(others)} more: gatewayd check)" if others else ""
    return CommandError(check.placed(error.path, first) + more, first.hint, ExitCode.USAGE)


def _hint(error: PortError) -> str:
    if isinstance(error, StorageError):
        return _RUNNING if "another gatewayd" in str(error) else check.storage_hint(error, _STORAGE)
    if isinstance(error, RadioError):
        return error.remedy or _RADIO
    return error.remedy


def changed(said: Sequence[str], output: Output, following: str = "", **facts: object) -> int:
    """What a step changed; nothing is an answer, too. following: the step that comes next."""
    for line in said or ("nothing had to be changed",):
        output.line(line, tint=Tint.GOOD, hang=2)
    if following:
        output.line(f"next: {following}", hang=6)
    output.document({**facts, "changed": list(said)})
    return ExitCode.DONE


def binding(door: str) -> str:
    """What comes next for a door that nothing moves."""
    relay = f"or, with a relay: sudo gatewayd setup bind-door {door} --relay CHIP:LINE"
    return f"sudo gatewayd setup claim-lock {door}\n{'':6}{relay}"


def read_line(prompt: str, output: Output) -> str | None:
    """What a person types; None when there is nobody."""
    with interrupted_by(signal.SIGINT):  # from the first letter on that asks for something
        if not output.as_json:
            sys.stdout.write(prompt)
            sys.stdout.flush()
        line = sys.stdin.readline()
    return line.strip() if line else None


@contextmanager
def interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """At once, also what blocks the loop: asyncio's own way waits for the loop to go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, signal.default_int_handler) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def door_argument(parser: argparse.ArgumentParser) -> None:
    """Which door, of which gateway."""
    parser.add_argument("door", metavar="DOOR", help="the door's name, as the configuration has it")
    check.add_config_argument(parser)


def read_statement(path: Path) -> bytes:
    """What an operator signed. CommandError."""
    from gatewayd import keyfiles  # noqa: PLC0415 - help stays quick

    try:
        return keyfiles.read_file(path, "statement", "the operator signs it")
    except KeyFileError as error:
        raise CommandError(error.message, error.hint, ExitCode.USAGE) from None
