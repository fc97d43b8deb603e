"""The installer's path: which pages there are for this site, and how far each is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from gatewayd.adapters.web.session import Work
from gatewayd.adapters.web.wire import Status

MACHINE: Final = "/machine"
ENROL: Final = "/enrol"
WALK: Final = "/walk"
REPORT: Final = "/report"


@dataclass(frozen=True, slots=True)
class Stage:
    """One page. bad: done, and not well."""

    path: str
    title: str
    state: Literal["todo", "done", "bad"]
    note: str = ""
    door: str = ""


def stages(status: Status, results: Mapping[str, Work]) -> list[Stage]:
    """In the order in which they are to be done."""
    found = [_machine(results), _enrol(status)]
    doors = status.doors
    for door in doors:
        found += _door(door, status.locks.get(door["door"]))
    locks = [door for door in doors if door["lock"] and door["moved_by"]]
    if locks:
        found.append(_walk(locks))
    if doors:
        found.append(_report(status, results))
    return found


def following(found: Sequence[Stage]) -> Stage:
    """What is to be done next: what was not done, then what was not good."""
    for state in ("todo", "bad"):
        for stage in found:
            if stage.state == state and stage.path != MACHINE:
                return stage
            if stage.state == state == "todo":
                return stage
    return found[-1]


def _machine(results: Mapping[str, Work]) -> Stage:
    title = "Look at the machine"
    work = results.get(MACHINE)
    if work is None or work.ended is None:
        return Stage(MACHINE, title, "todo")
    document = work.ended.document
    if not isinstance(document, dict) or "findings" not in document:
        return Stage(MACHINE, title, "bad", "it could not be looked at")
    errors = sum(each["severity"] == "error" for each in document["findings"])
    if errors:
        many = f"{errors} error{'s' * (errors > 1)}"
        return Stage(MACHINE, title, "bad", f"{many} when it was last looked at")
    return Stage(MACHINE, title, "done", "fit for a door")


def _enrol(status: Status) -> Stage:
    title = "Enrol the gateway"
    if status.enrolment != "nothing":
        return Stage(ENROL, title, "todo", "waits for the operator's answer")
    if not status.configured:
        return Stage(ENROL, title, "todo")
    return Stage(ENROL, title, "done", f"{status.gateway} of {status.group}")


def _door(door: Mapping[str, Any], lock: Mapping[str, Any] | None) -> Iterator[Stage]:
    name = door["door"]
    if lock is not None:
        claimed = lock["stage"] == "claimed"
        note = f"{lock['model']}, {lock['address']}" if claimed else f"{lock['stage']}: go on"
        yield Stage(f"/lock/{name}", "Claim the lock", "done" if claimed else "todo", note, name)
    else:
        yield Stage(
            f"/lock/{name}", "Claim the lock", "done" if door["moved_by"] else "todo",
            "not needed" if door["moved_by"] else "", name,
        )  # fmt: skip
    yield Stage(
        f"/bind/{name}", "Bind the door", "done" if door["moved_by"] else "todo",
        f"moved by {door['moved_by']}" if door["moved_by"] else "", name,
    )  # fmt: skip
    opened = [each for each in door["trials"] if each["outcome"] == "confirmed"]
    failed = [each for each in door["trials"] if each["outcome"] != "confirmed"]
    note = f"{failed[0]['outcome']}, leaf {failed[0]['leaf']}" if failed else ""
    note = note or ("opened, leaf open and closed" if len(opened) > 1 else "")
    note = note or ("once more, with the leaf closed" if opened else "")
    done = len(opened) > 1 and not failed
    yield Stage(f"/open/{name}", "Test opening", "done" if done else "todo", note, name)


def _walk(locks: Sequence[Mapping[str, Any]]) -> Stage:
    title = "Dial every lock"
    walks = [door["walk"] for door in locks]
    if None in walks:
        return Stage(WALK, title, "todo")
    if any(walk["faults"] for walk in walks):
        return Stage(WALK, title, "bad", "not reached well enough")
    return Stage(WALK, title, "done", "reached well")


def _report(status: Status, results: Mapping[str, Work]) -> Stage:
    title = "Hand over"
    if not status.complete:
        missing = sum(len(door["missing"]) for door in status.doors)
        return Stage(REPORT, title, "todo", f"{missing} missing")
    return Stage(REPORT, title, "done" if REPORT in results else "todo")
