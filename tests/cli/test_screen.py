"""A line on a terminal: folded at words, coloured where colour is wanted; elsewhere as it is."""

from __future__ import annotations

import io

import pytest

from gatewayd.cli.screen import USUAL_COLUMNS, Tint, columns, shown

LONG = "warning        clock battery     " + "so many words " * 6
HANG = 33


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_terminal_nothing_is_done() -> None:
    assert shown(LONG, Tint.BAD, HANG, io.StringIO()) == LONG


def test_a_long_line_goes_on_below_its_column() -> None:
    first, *others = shown(LONG, Tint.PLAIN, HANG, Tty()).splitlines()
    assert first.startswith("warning        clock battery     so many words")
    assert others
    assert all(line[:HANG].isspace() and not line[HANG].isspace() for line in others)
    assert max(map(len, (first, *others))) <= USUAL_COLUMNS
    assert " ".join((first, *others)).split() == LONG.split()


def test_what_people_copy_is_never_cut() -> None:
    label = "GWL1-" + "-".join(["AIBE7"] * 20)
    assert label in shown(f"label: {label}", Tint.PLAIN, 2, Tty())
    assert shown(LONG, Tint.PLAIN, None, Tty()) == LONG


def test_a_narrow_terminal_folds_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert shown(LONG, Tint.PLAIN, HANG, Tty()) == LONG


@pytest.mark.parametrize(
    ("name", "value", "coloured"),
    [
        ("NO_COLOR", "1", False),
        ("NO_COLOR", "", True),
        ("TERM", "dumb", False),
        ("TERM", "xterm", True),
    ],
)
def test_colour(monkeypatch: pytest.MonkeyPatch, name: str, value: str, coloured: bool) -> None:
    monkeypatch.setenv(name, value)
    assert shown("x", Tint.BAD, None, Tty()) == ("\x1b[31mx\x1b[0m" if coloured else "x")
    assert shown("x", Tint.PLAIN, None, Tty()) == "x"


@pytest.mark.parametrize(("asked", "wanted"), [("132", 132), ("0", 80), ("wide", 80), ("", 80)])
def test_columns(monkeypatch: pytest.MonkeyPatch, asked: str, wanted: int) -> None:
    monkeypatch.setenv("COLUMNS", asked)
    assert columns(io.StringIO()) == wanted
