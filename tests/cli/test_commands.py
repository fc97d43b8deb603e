"""What every command has in common: help, errors with hints, exit codes, one JSON document."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatewayd import __version__
from gatewayd.cli import TABLE, command, load
from gatewayd.cli.command import Command, CommandError, ExitCode, Group, Output, execute
from tests.support.commands import run, spawn


def everything() -> list[tuple[str, ...]]:
    names: list[tuple[str, ...]] = []
    for name in TABLE:
        found = load(name)
        names.append((name,))
        if isinstance(found, Group):
            names.extend((name, each.name) for each in found.commands)
    return names


# --- the overview -----------------------------------------------------------------
def test_the_installed_program_and_the_module() -> None:
    assert spawn("--version").out == f"gatewayd {__version__}\n"
    module = subprocess.run(
        [sys.executable, "-m", "gatewayd", "--version"], capture_output=True, text=True, check=True
    )
    assert module.stdout == f"gatewayd {__version__}\n"


@pytest.mark.parametrize("ask", ["--help", "-h", "help"])
def test_the_overview_names_every_command(ask: str) -> None:
    ran = run(ask)
    assert ran.code == ExitCode.DONE
    assert all(f"  {name}" in ran.out and row.summary in ran.out for name, row in TABLE.items())
    assert all(f"  {code.value}  {code.meaning}" in ran.out for code in ExitCode)


def test_nothing_asked_is_wrong_usage() -> None:
    ran = run()
    assert (ran.code, ran.out) == (ExitCode.USAGE, "")
    assert ran.err.startswith("usage: gatewayd COMMAND")


def test_no_such_command() -> None:
    ran = run("open-sesame" * 10)
    assert ran.code == ExitCode.USAGE
    assert ran.err.startswith("error: there is no command 'open-sesameopen-sesame")
    assert "hint: one of run, check, doctor" in ran.err
    assert len(ran.err) < 300


# --- every command -----------------------------------------------------------------
@pytest.mark.parametrize("name", everything(), ids=" ".join)
def test_every_command_has_help(name: tuple[str, ...]) -> None:
    ran = run(*name, "--help")
    assert ran.code == ExitCode.DONE
    assert ran.out.startswith(f"usage: gatewayd {' '.join(name)}")
    assert "exit codes:" in ran.out


def commands() -> list[Command]:
    found: list[Command] = []
    for name in TABLE:
        loaded = load(name)
        found.extend(loaded.commands if isinstance(loaded, Group) else [loaded])
    return found


@pytest.mark.parametrize("each", commands(), ids=lambda each: each.name)
def test_every_command_says_enough(each: Command) -> None:
    assert each.summary
    assert not each.summary.endswith(".")
    assert len(each.description.split()) >= 15
    assert each.examples
    assert all(example.startswith("gatewayd ") for example in each.examples)


@pytest.mark.parametrize("name", TABLE)
def test_the_table_and_the_module_agree(name: str) -> None:
    assert load(name).name == name
    assert load(name).summary == TABLE[name].summary


@pytest.mark.parametrize("name", everything(), ids=" ".join)
def test_an_unknown_option_is_wrong_usage(name: tuple[str, ...]) -> None:
    assert run(*name, "--no-such-option").code == ExitCode.USAGE


def test_help_loads_no_radio_stack() -> None:
    script = (
        "import sys; from gatewayd.cli import main\n"
        "for each in ('run', 'phone', 'keys', 'check'):\n"
        "    try: main([each, '--help'])\n"
        "    except SystemExit: pass\n"
        "heavy = {'bleak', 'bumble', 'amqtt', 'aiomqtt'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# --- how failure is told ---------------------------------------------------------------
def failing(error: BaseException) -> Command:
    def fail(*_: object) -> int:
        raise error

    return Command("fail", "fails", "Fails.", fail)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CommandError("broken", "mend it"), 1, "error: broken\nhint: mend it\n"),
        (CommandError("odd", code=ExitCode.UNKNOWN), 3, "error: odd\n"),
        (FileNotFoundError(2, "No such file", "a"), 1, "error: a: No such file\n"),
        (OSError("disk on fire"), 1, "error: fail: disk on fire\n"),
        (KeyboardInterrupt(), 1, "error: interrupted\n"),
    ],
)
def test_failure_is_an_error_and_a_hint(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(failing(error), []) == code
    assert capsys.readouterr() == ("", said)


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        execute(failing(ZeroDivisionError()), [])


def test_failure_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(failing(CommandError("broken", "mend it")), ["--json"]) == ExitCode.FAILED
    out, err = capsys.readouterr()
    assert err == ""
    assert '"error": "broken"' in out
    assert '"hint": "mend it"' in out


def test_output_is_for_people_or_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (False, True):
        output = Output(as_json=as_json)
        output.line("a line")
        output.document({"bytes": b"\x01\xff", "path": Path("a")})
    assert capsys.readouterr().out == 'a line\n{\n  "bytes": "01ff",\n  "path": "a"\n}\n'


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    script = (
        "import sys; from gatewayd.cli.command import *\n"
        "def talk(_, output):\n"
        "    while True: output.line('x' * 1000)\n"
        "sys.exit(execute(Command('talk', '', '', talk), []))\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, b"")


def test_a_command_without_arguments_has_json(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Command("quiet", "says nothing", "Says nothing.", lambda *_: ExitCode.DONE)
    assert execute(quiet, ["--json"]) == ExitCode.DONE
    assert capsys.readouterr().out == ""
    assert "examples:" not in command.build_parser(quiet).format_help()


# --- what strangers wrote -------------------------------------------------------------
@pytest.mark.parametrize("as_json", [True, False])
def test_no_text_of_a_stranger_reaches_the_terminal_as_a_command(
    capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    """Escape sequences (ECMA-48, also as single C1 characters), and what turns lines around."""
    hostile = "".join(chr(code) for code in (*range(9), *range(11, 32), *range(127, 160)))
    hostile += "\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069 fine, ä"
    output = Output(as_json=as_json)
    output.line(hostile)
    output.document({hostile: [hostile]})
    output.error(hostile, hostile)
    said, wrong = capsys.readouterr()
    assert "fine, ä" in said + wrong
    assert all(each.isprintable() or each == "\n" for each in said + wrong)
    if as_json:
        first, end = json.JSONDecoder().raw_decode(said)
        assert first == {hostile: [hostile]}
        assert json.loads(said[end:])["error"] == hostile
