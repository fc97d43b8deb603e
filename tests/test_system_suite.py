"""What the system tests' suite tries once more alone, and what it says in the end."""

import sys

import pytest

from tests.system import lanes, suite
from tests.system.lanes import Ended, Errand

TEST = "tests/system/test_faults.py::test_ten_phones_at_once"


def ended(name: str, code: int) -> Ended:
    return Ended(Errand(name, ["true"]), code, 1.0)


def said(*lines: str, name: str = "faults") -> suite.Transcript:
    transcript = suite.Transcript()
    for line in lines:
        transcript.tell(Errand(name, []), line)
    return transcript


def test_a_failed_test_is_tried_alone_in_a_machine_of_its_kind() -> None:
    transcript = said(
        f"FAILED {TEST} - TimeoutError", "FAILED", "tests/x.py::y FAILED", name="systemd: life"
    )
    (errand,) = suite.second_tries([ended("systemd: life", 1), ended("numbers", 0)], transcript)
    assert errand.name == "systemd: life, alone"
    assert errand.command[-1] == TEST
    assert "--systemd" in errand.command


def test_what_went_wrong_in_setup_is_tried_alone() -> None:
    (errand,) = suite.second_tries([ended("faults", 1)], said(f"ERROR {TEST}"))
    assert errand.command[-1] == TEST


@pytest.mark.parametrize("code", [2, 124, 125])
def test_a_machine_that_went_wrong_is_not_tried_again(code: int) -> None:
    assert suite.second_tries([ended("faults", code)], said(f"FAILED {TEST}")) == []


def test_a_machine_that_names_no_test_is_not_tried_again() -> None:
    assert suite.second_tries([ended("faults", 1)], said("Segmentation fault")) == []


def test_many_failures_are_no_coincidence() -> None:
    lines = [f"FAILED {TEST}{number}" for number in range(suite.AGAIN + 1)]
    assert suite.second_tries([ended("faults", 1)], said(*lines)) == []
    assert len(suite.second_tries([ended("faults", 1)], said(*lines[1:]))) == 1


def test_the_report_names_what_failed() -> None:
    transcript = said(f"FAILED {TEST} - TimeoutError", "=== 1 failed, 2 passed in 3.00s ===")
    *_, line, failure = transcript.report([ended("faults", 1)])
    assert "FAILED (1)" in line
    assert "1 failed, 2 passed" in line
    assert failure.strip() == f"FAILED {TEST} - TimeoutError"


@pytest.mark.parametrize(
    ("company", "alone", "verdict"),
    [([0, 0], [], 0), ([0, 1], [0], 0), ([0, 1], [1], 1), ([1, 1], [0], 1), ([125], [], 1)],
)
def test_the_verdict(company: list[int], alone: list[int], verdict: int) -> None:
    assert (
        suite.verdict([ended("m", c) for c in company], [ended("a", c) for c in alone]) == verdict
    )


def test_one_lane_is_one_after_another() -> None:
    lines: list[str] = []
    both = [Errand(n, [sys.executable, "-c", f"print('{n}')"]) for n in ("first", "second")]
    codes = lanes.Lanes(lambda _errand, line: lines.append(line), 1).carry_out(both)
    assert (lines, [each.code for each in codes]) == (["first", "second"], [0, 0])
