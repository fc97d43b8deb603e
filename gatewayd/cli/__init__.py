"""Commands: each parses its arguments, calls the composition root and prints.

A command is a row in `TABLE` and a module that holds a `COMMAND`. The module
is imported only when its command is chosen, so that help stays quick.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NamedTuple

from gatewayd import __version__
from gatewayd.cli.command import Command, ExitCode, Group, execute


class Row(NamedTuple):
    """What the overview of all commands says, without importing any."""

    summary: str
    module: str


TABLE: Final[dict[str, Row]] = {
    "run": Row("serve phones until told to stop", "gatewayd.cli.run"),
    "check": Row("report every problem in a configuration at once", "gatewayd.cli.check"),
    "doctor": Row("say whether this machine is fit for a door", "gatewayd.cli.doctor"),
    "setup": Row("set a gateway up on site: enrol, locks, doors, trials", "gatewayd.cli.setup"),
    "selftest": Row("say whether an updated gateway may stay as it is", "gatewayd.cli.selftest"),
    "keys": Row("make, issue and inspect keys (operator)", "gatewayd.cli.keys"),
    "phone": Row("be a phone: open a door with a key from a wallet", "gatewayd.cli.phone"),
    "lock": Row("be a lock, on the bench", "gatewayd.cli.lock"),
    "log": Row("show and verify this gateway's log", "gatewayd.cli.log"),
    "cloud": Row(
        "be the operator's cloud: enrol gateways, pull logs, say what is to hold",
        "gatewayd.cli.cloud",
    ),
    "demo": Row("a door, two locks and several phones, told as a story", "gatewayd.cli.demo"),
}

USAGE: Final = (
    "usage: gatewayd COMMAND ...\n       gatewayd COMMAND --help\n       gatewayd --version\n"
)


def overview() -> str:
    """The text of `gatewayd --help`."""
    width = max(map(len, TABLE))
    rows = "".join(f"  {name:<{width}}  {row.summary}\n" for name, row in TABLE.items())
    codes = "".join(f"  {code.value}  {code.meaning}\n" for code in ExitCode)
    return (
        f"{USAGE}\nA door gateway: checks Bluetooth keys without a network, opens locks, "
        f"keeps an honest log.\n\ncommands:\n{rows}\nexit codes of every command:\n{codes}"
    )


def load(name: str) -> Command | Group:
    """The command of that name; KeyError when there is none."""
    found: Command | Group = import_module(TABLE[name].module).COMMAND
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (see `ExitCode`)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show is no error
            stream.reconfigure(errors="backslashreplace")
    match arguments:
        case []:
            sys.stderr.write(overview())
            return ExitCode.USAGE
        case ["help", name, *rest] if name in TABLE:
            return execute(load(name), [*rest, "--help"])
        case ["--help" | "-h" | "help", *_]:
            sys.stdout.write(overview())
            return ExitCode.DONE
        case ["--version", *_]:
            sys.stdout.write(f"gatewayd {__version__}\n")
            return ExitCode.DONE
        case [name, *rest] if name in TABLE:
            return execute(load(name), rest)
        case _:
            sys.stderr.write(f"error: there is no command '{arguments[0][:40]}'\n")
            sys.stderr.write(f"hint: one of {', '.join(TABLE)}; see gatewayd --help\n")
            return ExitCode.USAGE
