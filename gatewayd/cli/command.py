"""What a command is, how it reads its arguments, and how it speaks.

A command prints for a person, or one JSON document with `--json`. Failure is
a `CommandError`: one `error:` line that says what is wrong and one `hint:`
line that says what to do about it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gatewayd.cli.screen import Tint, columns, shown


class ExitCode(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNKNOWN = 3

    @property
    def meaning(self) -> str:
        """One line for people."""
        return _MEANINGS[self]


_MEANINGS: Final = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "failed or refused; nothing happened",
    ExitCode.USAGE: "wrong usage or configuration; nothing was tried",
    ExitCode.UNKNOWN: "outcome unknown: it may have happened; ask before trying again",
}


class CommandError(Exception):
    """A command cannot go on; `hint` says what the person at the keyboard can do."""

    def __init__(self, message: str, hint: str = "", code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


# What came from outside may not move the cursor or colour the terminal of who looks at it.
_CONTROLS: Final = {
    code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))
}
# Nor may it turn the order of what is read around (UTR 36, section 2.6), or begin a line.
_TURNS: Final = {
    code: f"\\u{code:04x}"
    for code in (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
}
_ON_LINES: Final = _CONTROLS | _TURNS
_IN_JSON: Final = _TURNS | {code: f"\\u{code:04x}" for code in range(127, 160)}


class Output:
    """Where a command speaks: lines for people, or one document for programs.

    With `--json`, `line` is silent and `document` prints; without, the other
    way round, so a command calls both and chooses nothing. With `--json-lines`, for a program
    that shows progress (`gatewayd setup web`), both print, each as a JSON object on one line.
    """

    def __init__(self, *, as_json: bool, as_lines: bool = False) -> None:
        self.as_json = as_json or as_lines
        self._as_lines = as_lines

    def line(
        self,
        text: str = "",
        *,
        tint: Tint = Tint.PLAIN,
        hang: int | None = None,
        step: tuple[int, int] = (0, 0),
    ) -> None:
        """One line for a person; see `screen.shown`. step: how far it is, and of how many."""
        if self._as_lines:
            said = text.translate(_ON_LINES)
            self._object({"line": said, "number": step[0], "of": step[1]})
        elif not self.as_json:
            sys.stdout.write(f"{shown(text.translate(_ON_LINES), tint, hang, sys.stdout)}\n")
            sys.stdout.flush()  # a story is read while it happens, also through a pipe

    def document(self, value: Mapping[str, object] | Sequence[object]) -> None:
        """The whole result for a program; bytes appear as hexadecimal digits."""
        if self._as_lines:
            self._object({"document": value})
        elif self.as_json:
            text = json.dumps(value, indent=2, ensure_ascii=False, default=_plain)
            sys.stdout.write(f"{text.translate(_IN_JSON)}\n")

    def error(self, message: str, hint: str = "") -> None:
        """What is wrong and what to do about it."""
        if self._as_lines:
            self._object({"error": message.translate(_ON_LINES), "hint": hint.translate(_ON_LINES)})
            return
        if self.as_json:
            self.document({"error": message, "hint": hint})
            return
        said = f"error: {message.translate(_ON_LINES)}"
        sys.stderr.write(f"{shown(said, Tint.BAD, None, sys.stderr)}\n")
        if hint:
            sys.stderr.write(f"hint: {hint.translate(_ON_LINES)}\n")

    @staticmethod
    def _object(value: Mapping[str, object]) -> None:
        sys.stdout.write(f"{json.dumps(value, default=_plain)}\n")
        sys.stdout.flush()


def _plain(value: object) -> str:
    return bytes(value).hex() if isinstance(value, bytes | bytearray) else str(value)


def no_arguments(_parser: argparse.ArgumentParser) -> None:
    """For a command that takes none but `--json`."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: `arguments` fills its parser, `run` does it and returns an `ExitCode`."""

    name: str
    summary: str
    description: str
    run: Callable[[argparse.Namespace, Output], int]
    arguments: Callable[[argparse.ArgumentParser], None] = no_arguments
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Commands that share a first word."""

    name: str
    summary: str
    description: str
    commands: tuple[Command, ...]


def execute(command: Command | Group, argv: Sequence[str]) -> int:
    """Parse, run, report. Returns the exit code; argparse's own errors exit with 2."""
    parser = build_parser(command)
    if isinstance(command, Group) and not argv:  # what there is, as for `gatewayd` alone
        sys.stderr.write(parser.format_help())
        return ExitCode.USAGE
    parsed = parser.parse_args(argv)
    output = Output(as_json=parsed.json, as_lines=parsed.json_lines)
    try:
        return int(parsed.run(parsed, output))
    except CommandError as error:
        output.error(error.message, error.hint)
        return error.code
    except BrokenPipeError:
        # The reader went away (`| head`). Python would complain once more when
        # it flushes at exit, so the descriptor is pointed at nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except OSError as error:
        output.error(f"{error.filename or command.name}: {error.strerror or error}")
        return ExitCode.FAILED
    except KeyboardInterrupt as error:
        if sys.stderr.isatty():
            sys.stderr.write("\n")  # the terminal has written ^C
        output.error("interrupted", *map(str, error.args[:1]))
        return ExitCode.FAILED


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal.

    argparse makes one for every argument that is added, not only for help, and then asks
    shutil for the width, which loads two compressors: half a megabyte of a daemon.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=columns(sys.stdout) - 2)


def build_parser(command: Command | Group) -> argparse.ArgumentParser:
    """The parser of a command or of a whole group."""
    if isinstance(command, Command):
        parser = _new_parser(f"gatewayd {command.name}", command)
        _fill(parser, command)
        return parser
    parser = _new_parser(f"gatewayd {command.name}", command)
    branches = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for each in command.commands:
        branch = branches.add_parser(
            each.name,
            help=each.summary,
            description=_wrap(each.description),
            epilog=_epilog(each),
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        _fill(branch, each)
    return parser


def _new_parser(prog: str, command: Command | Group) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=prog,
        description=_wrap(command.description),
        epilog=_epilog(command),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )


def _fill(parser: argparse.ArgumentParser, command: Command) -> None:
    command.arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")
    parser.add_argument("--json-lines", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=command.run)


def _wrap(text: str) -> str:
    paragraphs = textwrap.dedent(text).strip().split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(each.split()), 88) for each in paragraphs)


def _epilog(command: Command | Group) -> str:
    codes = "\n".join(f"  {code.value}  {code.meaning}" for code in ExitCode)
    examples = command.examples if isinstance(command, Command) else ()
    shown = "".join(textwrap.indent(f"{each}\n", "  ") for each in examples)
    return f"{'examples:' + chr(10) + shown + chr(10) if shown else ''}exit codes:\n{codes}"
