"""The line that ends a run of everything: each test is counted once."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import run
from tests.system import suite
from tests.system.lanes import Ended, Errand

PROGRAM = Path(__file__).parent.parent / ".ci/tally.py"


def told(*lines: str, failed_steps: int = 0) -> str:
    ran = subprocess.run(
        [sys.executable, PROGRAM, str(failed_steps)],
        input="\n".join(lines), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return ran.stdout.removesuffix("\n")


def machines(**ran: str) -> list[str]:
    """The table as the suite makes it: by name, what pytest said last in the machine."""
    transcript, ended = suite.Transcript(), []
    for word, summary in ran.items():
        errand = Errand(word.replace("_", ", "), [])
        ended.append(Ended(errand, int("failed" in summary), 12.3))
        transcript.tell(errand, f"vm| === {summary} in 9.87s ===")
    return list(transcript.report(ended))


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        (
            "=== 5499 passed, 3 skipped in 1145.03s (0:19:05) ===",
            "5499 passed, 0 failed, 3 skipped",
        ),
        ("= 2 failed, 7 passed, 1 error in 0.10s =", "7 passed, 3 failed, 0 skipped"),
        ("===== 1 passed, 4 deselected in 2.00s =====", "1 passed, 0 failed, 0 skipped"),
        ("= 1 passed, 2 xfailed, 1 warning in 2.00s =", "1 passed, 0 failed, 2 skipped"),
        ("faults| === 5 passed in 1.00s ===", "0 passed, 0 failed, 0 skipped"),
        ("    === 5 passed in 1.00s ===", "0 passed, 0 failed, 0 skipped"),
        ("=== tests: passed after 5 s", "0 passed, 0 failed, 0 skipped"),
        ("Found 5 passed doors \xff", "0 passed, 0 failed, 0 skipped"),
    ],
)
def test_one_line(line: str, counted: str) -> None:
    assert told("before", line, "after") == counted


def test_several_runs_and_the_machines_table() -> None:
    table = machines(faults="3 passed", story="5 passed, 1 skipped")
    assert told("== 2 passed in 1.00s ==", *table) == "10 passed, 0 failed, 1 skipped"


def test_what_was_tried_again_counts_as_it_went_alone() -> None:
    table = machines(faults="2 failed, 3 passed", faults_alone="2 passed", story="1 failed")
    assert told(*table) == "5 passed, 1 failed, 0 skipped"
    table = machines(faults="2 failed, 3 passed", faults_alone="1 failed, 1 passed")
    assert told(*table) == "4 passed, 1 failed, 0 skipped"


def test_what_pytest_was_given_again_counts_as_it_went_alone() -> None:
    first = "== 1 failed, 5 passed, 1 skipped in 1.00s =="
    again = f"{run.TOLD} tests/x.py::y"
    assert told(first, again, "== 1 passed in 1.00s ==") == "6 passed, 0 failed, 1 skipped"
    assert told(first, again, "== 1 failed in 1.00s ==") == "5 passed, 1 failed, 1 skipped"


def test_a_step_that_failed_without_a_count_is_a_failure() -> None:
    assert told("== 2 passed in 1.00s ==", failed_steps=2) == "2 passed, 2 failed, 0 skipped"
    assert told("== 3 failed in 1.00s ==", failed_steps=1) == "0 passed, 3 failed, 0 skipped"


def test_the_sample_is_of_this_pytest(tmp_path: Path) -> None:
    """The summary of the pytest that we use is one that is counted."""
    (tmp_path / "test_some.py").write_text("def test_it(): pass\n")
    words = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", tmp_path, tmp_path]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert told(*said.splitlines()) == "1 passed, 0 failed, 0 skipped"
