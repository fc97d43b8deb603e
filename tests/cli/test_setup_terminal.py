"""The set-up at a real terminal: what is asked, what is said meanwhile, colours, and Ctrl-C."""

from __future__ import annotations

import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gatewayd.cli.command import ExitCode
from gatewayd.core.invitation import Claim, claim_in
from tests.support import commands
from tests.support.commands import PROGRAM
from tests.support.fitting import Fitting, make_fitting
from tests.support.operator_side import invite, operator_in
from tests.support.terminal import COLUMNS, Terminal, terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
COLOUR = re.compile(r"\x1b\[\d+m")
BROKER = ("--broker", "mqtt://127.0.0.1:1")
GOES_ON = "hint: the same command again goes on"


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    return operator_in(tmp_path / "operator")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    (tmp_path / "box").mkdir()
    return tmp_path / "box"


@pytest.fixture
def fitting(tmp_path: Path) -> Fitting:
    return make_fitting(tmp_path, ("street",))


def handed_over(operator: Path) -> str:
    """What `cloud invite` prints for a person: a QR code, the claim in groups, and words around."""
    ran = commands.run(
        "cloud", "invite", "stairwell-7", "--door", "street", "--keys", operator,
        "--store", operator / "invitations.sqlite", *BROKER,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return ran.out


async def interrupted(screen: Terminal) -> None:
    """Once is enough, wherever it waits."""
    screen.type("\x03")
    assert await screen.ended(20) == ExitCode.FAILED
    assert screen.screen.endswith(("\nerror: interrupted\n", f"\n{GOES_ON}\n")), screen.screen


async def test_the_claim_is_asked_for_and_may_be_pasted_as_it_was_printed(
    operator: Path, box: Path, tmp_path: Path
) -> None:
    claim = claim_in(handed_over(operator))
    assert claim.count("\n") > 2
    asked = tmp_path / "asked"
    words = (PROGRAM, "setup", "enrol", "--into", box, "--request", asked)
    async with terminal(words) as screen:
        await screen.shows("claim of the operator")
        screen.type(f"{claim.lower()}\n")
        assert await screen.ended() == 0, screen.screen
    assert asked.exists()
    # it is known now, and not asked for again
    asked.unlink()
    async with terminal(words) as screen:
        assert await screen.ended() == 0, screen.screen
    assert asked.exists()


async def test_what_is_no_claim_ends_with_an_empty_line(box: Path) -> None:
    async with terminal((PROGRAM, "setup", "enrol", "--into", box)) as screen:
        await screen.shows("claim of the operator")
        screen.type("GD1RBVXG\nZ\n\n")
        assert await screen.ended() == ExitCode.USAGE
    assert "error: this is no claim" in screen.screen


async def test_ctrl_c_where_the_claim_is_asked_for(box: Path) -> None:
    async with terminal((PROGRAM, "setup", "enrol", "--into", box)) as screen:
        await screen.shows("claim of the operator")
        await interrupted(screen)


def test_a_file_of_the_operators_is_read_with_all_that_is_around_the_claim(
    operator: Path, box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "claim.txt"
    file.write_text(handed_over(operator))
    with file.open() as handle:
        monkeypatch.setattr(sys, "stdin", handle)
        ran = commands.run("setup", "enrol", "-", "--into", box, "--request", tmp_path / "asked")
    assert ran.code == 0, ran.err


async def test_ctrl_c_where_the_label_is_asked_for(fitting: Fitting) -> None:
    async with fitting.radios():
        words = (PROGRAM, "setup", "claim-lock", "street", "-c", fitting.config)
        async with terminal(words) as screen:
            await screen.shows("none is heard: press its button")
            await screen.shows("label of the lock: ")
            await interrupted(screen)
    assert GOES_ON in screen.screen


async def test_every_wait_is_told_and_so_is_what_comes_next(fitting: Fitting) -> None:
    async with fitting.radios("ours") as (lock,), lock.power():
        lock.pressing = False
        words = (PROGRAM, "setup", "claim-lock", "street", "-c", fitting.config)
        async with terminal(words) as screen:
            await screen.shows("listening for 5 s")
            await screen.shows("belongs to nobody\n")
            screen.type(f"{lock.label.text()}\n")
            await screen.shows("looking for the lock with this label")
            await screen.shows("and blinks")
            lock.hands.press()
            assert await screen.ended() == 0, screen.screen
        assert "next: sudo gatewayd setup bind-door street" in screen.screen
        assert COLOUR.search(screen.raw)


async def test_a_terminal_that_is_gone_ends_it_in_order_and_the_label_is_asked_for_again(
    fitting: Fitting,
) -> None:
    async with fitting.radios("ours") as (lock,), AsyncExitStack() as stack:
        lock.pressing = False
        await stack.enter_async_context(lock.power())
        words = (PROGRAM, "setup", "claim-lock", "street", "-c", fitting.config)
        async with terminal(words) as screen:
            await screen.shows("label of the lock: ")
            screen.type(f"{lock.label.text()}\n")
            await screen.shows("press its button now")
            screen.hangs_up()
            assert await screen.ended() == ExitCode.FAILED
            assert GOES_ON in screen.screen
        async with terminal(words) as screen:
            await screen.shows("label of the lock: ")
            screen.type(f"{lock.label.text()}\n")
            await screen.shows("press its button now")
            lock.hands.press()
            assert await screen.ended() == 0, screen.screen


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
async def test_a_diagnosis_fits_the_screen(
    tmp_path: Path, environment: dict[str, str], coloured: bool
) -> None:
    words = (PROGRAM, "doctor", "-c", "absent.toml")
    async with terminal(words, environment=environment, cwd=tmp_path) as screen:
        assert await screen.ended() == ExitCode.FAILED
    assert bool(COLOUR.search(screen.raw)) is coloured
    assert max(map(len, screen.screen.splitlines())) <= COLUMNS
    assert "gatewayd setup enrol writes it" in " ".join(screen.screen.split())
    # and a file gets whole lines, without colour
    plain = commands.spawn("doctor", "-c", "absent.toml", cwd=tmp_path)
    assert "\x1b" not in plain.out
    assert any(len(line) > COLUMNS for line in plain.out.splitlines())


async def test_a_group_alone_shows_its_commands() -> None:
    ran = commands.run("setup")
    assert (ran.code, "claim-lock" in ran.err) == (ExitCode.USAGE, True)


def test_a_claim_is_found_among_other_words(operator: Path) -> None:
    text = invite(operator, *BROKER)
    for around in (text, f"Dear installer,\r\n\r\n{text}\r\n\r\nyours", f"\n{text.lower()}\n"):
        assert Claim.parse(claim_in(around)).text() == text
    assert claim_in("none") == "none"
