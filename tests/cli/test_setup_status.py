"""What comes next, wherever a set-up was left."""

from __future__ import annotations

from typing import Any

import pytest

from gatewayd.cli.setup.report import _following

OPENED = [{"leaf": leaf, "outcome": "confirmed"} for leaf in ("open", "closed")]


def door(name: str, moved_by: str = "", trials: object = ()) -> dict[str, Any]:
    return {"door": name, "moved_by": moved_by, "trials": trials}


def found(*doors: dict[str, Any], **others: Any) -> dict[str, Any]:
    plain = {"enrolment": "nothing", "configured": True, "complete": False, "locks": {}}
    return {**plain, "doors": doors, **others}


def street(stage: str) -> dict[str, Any]:
    return {"street": {"stage": stage}}


@pytest.mark.parametrize(
    ("left", "following"),
    [
        ({"enrolment": "nothing", "configured": False}, "setup enrol"),
        ({"enrolment": "asking", "configured": False}, "setup enrol"),
        (found(door("street"), enrolment="answered"), "setup enrol"),
        (found(door("street")), "setup claim-lock street\n"),
        (found(door("street"), locks=street("claiming")), "setup claim-lock street"),
        (found(door("street", "a lock"), locks=street("releasing")), "setup release-lock street"),
        (found(door("street"), locks=street("claimed")), "setup bind-door street"),
        (found(door("street", "a lock"), locks=street("claimed")), "setup test-open street"),
        (found(door("street", "a relay", OPENED[:1])), "setup test-open street"),
        (found(door("street", "a relay", [*OPENED[:1] * 2])), "setup test-open street"),
        (found(door("street", "a lock", OPENED), door("cellar")), "setup claim-lock cellar\n"),
        (found(door("street", "a lock", OPENED)), "doctor --walk"),
        (found(door("street", "a lock", OPENED), complete=True), "setup report"),
    ],
)
def test_what_comes_next(left: dict[str, Any], following: str) -> None:
    said = _following(left)
    assert said.startswith(f"sudo gatewayd {following}")
    assert "\n" in following or said == f"sudo gatewayd {following}"
