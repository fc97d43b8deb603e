"""What each step of the installer's page is called in the terminal, and what is typed into it.

A table, and nothing that the page asks for is on a command line but what it
was decoded as. Secrets are typed: other users of a machine see command lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gatewayd.adapters.web import wire
from gatewayd.adapters.web.wire import Step

REQUEST: Final = "enrolment.request"
FILES: Final[Mapping[type, tuple[str, ...]]] = {
    wire.Report: ("handover.html", "handover.json"),
    wire.WriteRequest: (REQUEST,),
}
"""What a step leaves for the installer's device."""


@dataclass(frozen=True, slots=True)
class Where:
    """A gateway's configuration, and a directory for what only passes through.

    key_in: the secure element for new keys, as a URI.
    """

    config: Path
    scratch: Path
    key_in: str = ""

    @property
    def site(self) -> list[str]:
        """For a step on a configured gateway."""
        return ["-c", str(self.config)]

    @property
    def into(self) -> list[str]:
        """For enrolment."""
        return ["--into", str(self.config.parent)]


Typed = tuple[list[str], str]
"""The words behind `gatewayd`, and what is typed."""


def typed(step: Step, where: Where) -> Typed:
    """How a step is said in the terminal."""
    return _COMMANDS[type(step)](step, where)


# --- the steps --------------------------------------------------------------------------------
def _enrol(step: wire.Enrol, where: Where) -> Typed:
    new = ["-", *(["--key-in", where.key_in] if where.key_in else [])]
    return ["setup", "enrol", *(new if step.claim else []), *where.into], step.claim


def _request(step: wire.WriteRequest, where: Where) -> Typed:
    words, claim = _enrol(wire.Enrol(step.claim), where)
    return [*words, "--request", str(where.scratch / REQUEST)], claim


def _answer(step: wire.TakeAnswer, where: Where) -> Typed:
    answer = where.scratch / "enrolment.answer"
    answer.write_bytes(step.data)
    return ["setup", "enrol", *where.into, "--answer", str(answer)], ""


def _claim(step: wire.ClaimLock, where: Where) -> Typed:
    words = ["setup", "claim-lock", step.door, *(["-"] if step.label else []), *where.site]
    words += ["--anchor-serial", str(step.serial)] if step.serial else []
    return words, f"{step.label}\n"


def _release(step: wire.ReleaseLock, where: Where) -> Typed:
    return ["setup", "release-lock", step.door, "-", *where.site], f"{step.label}\n"


def _forget(step: wire.ForgetLock, where: Where) -> Typed:
    return ["setup", "release-lock", step.door, "--forget", *where.site], ""


def _bind(step: wire.BindDoor, where: Where) -> Typed:
    words = ["setup", "bind-door", step.door]
    words += ["--relay", step.relay] if step.relay else []
    words += ["--contact", step.contact] if step.contact else []
    words += ["--pulse-ms", str(step.pulse_ms)] if step.pulse_ms is not None else []
    words += ["--active-low"] if step.active_low else []
    return [*words, *where.site], ""


def _unbind(step: wire.UnbindDoor, where: Where) -> Typed:
    return ["setup", "unbind-door", step.door, *where.site], ""


def _test_open(step: wire.TestOpen, where: Where) -> Typed:
    words = ["setup", "test-open", step.door, "--leaf", step.leaf, "--yes"]
    return [*words, *where.site], ""


_COMMANDS: Final[Mapping[type, Callable[[Any, Where], Typed]]] = {
    wire.Doctor: lambda _, where: (["doctor", *where.site], ""),
    wire.Enrol: _enrol,
    wire.WriteRequest: _request,
    wire.TakeAnswer: _answer,
    wire.Scan: lambda _, where: (["setup", "scan", *where.site], ""),
    wire.ClaimLock: _claim,
    wire.ReleaseLock: _release,
    wire.ForgetLock: _forget,
    wire.BindDoor: _bind,
    wire.UnbindDoor: _unbind,
    wire.TestOpen: _test_open,
    wire.Walk: lambda _, where: (["doctor", "--walk", *where.site], ""),
    wire.Report: lambda _, where: (
        ["setup", "report", "--out", str(where.scratch), *where.site],
        "",
    ),
}
