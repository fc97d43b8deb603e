"""The demo is a test too: its chapters say what should happen, its exit code whether it did."""

from __future__ import annotations

from tests.support.commands import spawn


def test_the_day_at_the_staircase_goes_as_it_should() -> None:
    ran = spawn("demo", "--json", timeout_s=150)
    assert ran.code == 0, ran.out + ran.err
    assert ran.json["holds"] is True
    assert ran.err == ""
