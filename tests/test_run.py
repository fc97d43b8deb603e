"""What failed beside others is tried once more alone, and is a failure when it fails again."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import run

CHECKOUT = Path(__file__).parent.parent
ONCE = """
from pathlib import Path

def test_it():
    first = not Path("tried").exists()
    Path("tried").touch()
    assert not first

def test_other():
    Path("others").open("a").write("x")
"""
NEVER = "def test_it(): assert False\n"


def carried_out(directory: Path, tests: str) -> tuple[int, str]:
    (directory / "test_some.py").write_text(tests)
    (directory / "pytest.ini").write_text("[pytest]\n")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.run"], cwd=directory, capture_output=True, text=True,
        check=False, env={"PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    return ran.returncode, ran.stdout


def test_one_that_passes_alone_passes_and_the_others_are_not_repeated(tmp_path: Path) -> None:
    code, said = carried_out(tmp_path, ONCE)
    assert code == 0
    assert f"{run.TOLD} test_some.py::test_it\n" in said
    assert "1 failed, 1 passed" in said
    assert (tmp_path / "others").read_text() == "x"


def test_one_that_fails_again_is_a_failure(tmp_path: Path) -> None:
    code, said = carried_out(tmp_path, NEVER)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert said.count("1 failed in") == 2


def test_many_are_no_coincidence(tmp_path: Path) -> None:
    many = "".join(NEVER.replace("it", f"it_{n}") for n in range(run.AGAIN + 1))
    code, said = carried_out(tmp_path, many)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert run.TOLD not in said


def test_what_cannot_be_collected_is_not_tried_again(tmp_path: Path) -> None:
    code, said = carried_out(tmp_path, "import nothing_of_that_name\n")
    assert code == pytest.ExitCode.INTERRUPTED
    assert run.TOLD not in said


def test_what_an_earlier_run_left_is_not_tried(tmp_path: Path) -> None:
    carried_out(tmp_path, NEVER.replace("it", "gone"))
    code, said = carried_out(tmp_path, ONCE)
    assert code == 0
    assert f"{run.TOLD} test_some.py::test_it\n" in said
