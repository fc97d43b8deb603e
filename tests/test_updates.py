"""Updates with a way back: our scripts against a directory that stands for the boot partition.

The firmware is played from what the Raspberry Pi documentation says of autoboot.txt and
tryboot; `gatewayd selftest` is the real one, on files as the daemon writes them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatewayd import gate
from gatewayd.health_files import replace
from tests.cli.test_selftest_command import leave
from tests.support.commands import PROGRAM

ROOT = Path(__file__).parent.parent
UPDATES = ROOT / "systemd/updates"
BACKEND = UPDATES / "tryboot-backend"
MENDER = UPDATES / "ArtifactCommit_Enter_50_gatewayd"
PARTITIONS = {"2": "A", "3": "B"}
A_STARTS = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"
B_STARTS = "[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=2\n"
STEPS = ("dd", "vcmailbox")
"""The programs by which the backend changes anything."""
CUT = """#!/bin/sh
count=$(($(cat "$BOARD/steps") + 1))
echo $count >"$BOARD/steps"
[ "$CUT_BEFORE" != $count ] || { kill -9 $PPID; exit 1; }
"""


@dataclass
class Board:
    """A Pi with its boot partition, and a firmware that keeps one flag over a restart."""

    directory: Path

    def __post_init__(self) -> None:
        for name in ("boot", "chosen", "bin"):
            (self.directory / name).mkdir()
        self.autoboot.write_text(A_STARTS)
        mailbox = '[ "$1 $2 $3" = "0x00038064 4 0" ] && echo "$4" >"$BOARD/flag"\n'
        dd = 'exec /bin/dd "$@"\n'
        for name, does in (("vcmailbox", mailbox), ("dd", dd)):
            path = self.directory / "bin" / name
            path.write_text(CUT + does)
            path.chmod(0o755)
        self.starts()

    @property
    def autoboot(self) -> Path:
        return self.directory / "boot/autoboot.txt"

    @property
    def flag(self) -> Path:
        return self.directory / "flag"

    def starts(self) -> str:
        """The slot that the firmware starts; the flag counts once."""
        tried = self.flag.exists() and self.flag.read_text().strip() == "1"
        self.flag.unlink(missing_ok=True)
        sections: dict[str, dict[str, str]] = {}
        for line in self.autoboot.read_text().splitlines():
            if line.startswith("["):
                values = sections.setdefault(line, {})
            else:
                key, _, value = line.partition("=")
                values[key] = value
        found = {**sections["[all]"], **(sections["[tryboot]"] if tried else {})}
        number = int(found["boot_partition"])
        (self.directory / "chosen/partition").write_bytes(number.to_bytes(4, "big"))
        return PARTITIONS[str(number)]

    def power_cut(self) -> str:
        """As `starts`, but a flag does not outlive it."""
        self.flag.unlink(missing_ok=True)
        return self.starts()

    def ask(self, *words: str, cut_before: int = 0) -> subprocess.CompletedProcess[str]:
        (self.directory / "steps").write_text("0")
        environment = {
            "PATH": f"{self.directory}/bin:/usr/bin:/bin",
            "BOARD": str(self.directory),
            "GATEWAYD_BOOT": str(self.directory / "boot"),
            "GATEWAYD_CHOSEN": str(self.directory / "chosen"),
            "CUT_BEFORE": str(cut_before),
        }
        return subprocess.run(
            [BACKEND, *words], env=environment, capture_output=True, text=True,
            check=False, timeout=30,
        )  # fmt: skip

    def says(self, *words: str) -> str:
        ran = self.ask(*words)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def steps(self) -> int:
        return int((self.directory / "steps").read_text())


@pytest.fixture
def board(tmp_path: Path) -> Board:
    (tmp_path / "board").mkdir()
    return Board(tmp_path / "board")


def gate_passes(runtime: Path) -> bool:
    """As the unit asks, without the wait."""
    words = [PROGRAM, "selftest", "--runtime", runtime]
    return subprocess.run(words, capture_output=True, check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("well", [True, False])
def test_a_system_that_passes_the_gate_stays_and_one_that_fails_is_gone(
    board: Board, tmp_path: Path, well: bool
) -> None:
    assert (board.says("get-primary"), board.says("get-current")) == ("A", "A")
    board.says("set-state", "B", "bad")  # RAUC, before it writes over B
    board.says("set-primary", "B")
    assert (board.says("get-state", "A"), board.says("get-state", "B")) == ("good", "bad")
    assert board.autoboot.read_text() == A_STARTS, "nothing is promised yet"
    assert board.starts() == "B"
    assert board.says("get-current") == "B"
    if well:
        leave(tmp_path)
    else:
        replace(tmp_path / gate.FILE, b"nonsense")
    if gate_passes(tmp_path):
        board.says("set-state", board.says("get-current"), "good")
    assert board.starts() == ("B" if well else "A")
    assert board.autoboot.read_text() == (B_STARTS if well else A_STARTS)
    # and the next update goes the other way round
    running = board.says("get-current")
    target = "A" if running == "B" else "B"
    board.says("set-primary", target)
    assert board.starts() == target
    assert board.power_cut() == running


@pytest.mark.parametrize("flag_survives", [True, False])
def test_the_power_may_go_between_any_two_steps(board: Board, flag_survives: bool) -> None:
    cut = board.starts if flag_survives else board.power_cut
    update = [
        ("set-state", "B", "bad"),
        ("set-primary", "B"),
        ("start",),
        ("set-state", "B", "good"),
    ]
    cuts = 0
    for last, words in enumerate(update):
        for step in range(1, 4):
            board.flag.unlink(missing_ok=True)
            board.autoboot.write_text(A_STARTS)
            board.starts()
            for each in update[:last]:
                if each == ("start",):
                    assert board.starts() == "B"
                else:
                    board.says(*each)
            if words == ("start",):
                continue
            ran = board.ask(*words, cut_before=step)
            done = board.steps() < step
            assert (ran.returncode == 0) is done
            cuts += not done
            assert board.autoboot.read_text() in {A_STARTS, B_STARTS}
            expected = {"A", "B"} if words == ("set-primary", "B") else {"B" if done else "A"}
            if words != ("set-state", "B", "good"):
                expected |= {"A"}
            assert cut() in expected
            # whatever was tried once, the way back is still there
            assert board.power_cut() == ("B" if board.autoboot.read_text() == B_STARTS else "A")
    assert cuts == 3, "one step in each"


def test_a_half_written_update_is_not_tried_and_a_trial_is_not_written_over(board: Board) -> None:
    board.says("set-primary", "B")
    board.says("set-primary", "A")  # taken back
    assert board.starts() == "A"
    board.says("set-primary", "B")
    board.says("set-state", "B", "bad")  # another update, before the first was tried
    assert board.starts() == "A", "half of B is written"
    board.says("set-primary", "B")
    assert board.starts() == "B"
    ran = board.ask("set-state", "A", "bad")
    assert ran.returncode == 1
    assert ran.stderr == "error: B is on trial, and A is the way back: not now\n"
    assert board.power_cut() == "A"


def test_a_system_that_is_said_to_be_bad_gives_way(board: Board) -> None:
    board.says("set-state", "A", "bad")
    assert board.says("get-primary") == "B"
    assert board.starts() == "B"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("set-primary", "C"), "error: no slot C: there are A and B\n"),
        (("set-state", "B", "fine"), "error: usage: "),
        (("set-state", "B"), "error: usage: "),
        (("explode",), "error: usage: "),
        ((), "error: usage: "),
    ],
)
def test_nonsense_changes_nothing(board: Board, words: tuple[str, ...], error: str) -> None:
    ran = board.ask(*words)
    assert ran.returncode == 1
    assert ran.stderr.startswith(error)
    assert (board.autoboot.read_text(), board.flag.exists()) == (A_STARTS, False)


@pytest.mark.parametrize(
    "words", [("get-primary",), ("set-primary", "B"), ("set-state", "A", "bad")]
)
def test_a_file_of_somebody_elses_is_left_alone(board: Board, words: tuple[str, ...]) -> None:
    theirs = "[all]\nboot_partition=4\n"
    board.autoboot.write_text(theirs)
    ran = board.ask(*words)
    assert ran.returncode != 0
    assert "is not as this program writes it" in ran.stderr
    assert (board.autoboot.read_text(), board.flag.exists()) == (theirs, False)
    board.autoboot.unlink()
    assert "is not there" in board.ask(*words).stderr


def test_what_was_not_started_by_this_scheme_is_not_marked(board: Board) -> None:
    (board.directory / "chosen/partition").write_bytes((1).to_bytes(4, "big"))
    ran = board.ask("set-state", "B", "good")
    assert (ran.returncode, board.autoboot.read_text()) == (1, A_STARTS)
    assert "from partition 1, which is neither" in ran.stderr
    (board.directory / "chosen/partition").unlink()
    assert "is this a Raspberry Pi" in board.ask("get-current").stderr


@pytest.mark.parametrize(("code", "wanted"), [(0, 0), (1, 1), (2, 1), (3, 1), (21, 1)])
def test_mender_goes_back_for_whatever_is_not_well(tmp_path: Path, code: int, wanted: int) -> None:
    """Codes but 0, 1 and 21 (later) are reserved; its log has what was said on stderr."""
    stub = tmp_path / "gatewayd"
    stub.write_text(f'#!/bin/sh\necho "$@"\nexit {code}\n')
    stub.chmod(0o755)
    ran = subprocess.run(
        [MENDER], env={"PATH": f"{tmp_path}:{os.defpath}"},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (wanted, "", "selftest --wait 900\n")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="apt install shellcheck")
@pytest.mark.parametrize("script", sorted(UPDATES.iterdir()), ids=lambda path: path.name)
def test_the_scripts_are_clean(script: Path) -> None:
    words = [shutil.which("shellcheck") or "", script]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
