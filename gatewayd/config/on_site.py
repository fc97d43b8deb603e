"""What an installer has set up on site: `setup.toml` in the state directory, replaced whole.

Locks that were claimed, what moves which door until the operator says so, and
what was tried. `gatewayd setup` writes it; the daemon reads the bindings only,
and only for doors for which the configuration names neither lock nor relay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gatewayd import keyfiles
from gatewayd.config.decode import Problem, Report, decode
from gatewayd.config.model import Config, Door, LockFiles, Name, Relay
from gatewayd.core.model import DoorId
from gatewayd.keyfiles import KeyFileError

NAME: Final = "setup.toml"
BINDING_S: Final = 7 * 86_400
"""How long a binding holds before the operator has confirmed it."""

_Time = Annotated[int, Meta(ge=0, le=2**53 - 1, description="Unix seconds")]
_Milliseconds = Annotated[int, Meta(ge=0, le=3_600_000, description="milliseconds")]
_Text = Annotated[str, Meta(max_length=64, description="at most 64 letters")]


class ClaimedLock(Struct, frozen=True, kw_only=True):
    """A lock that this gateway claims, has claimed, or lets go; a door has one."""

    door: Name
    address: str
    key: Path
    stage: Literal["claiming", "claimed", "releasing"]
    model: _Text = ""
    firmware: _Text = ""


class Binding(Struct, frozen=True, kw_only=True):
    """What moves a door until `until_s`, unless the operator confirms it before."""

    door: Name
    since_s: _Time
    until_s: _Time
    lock: LockFiles | None = None
    relay: Relay | None = None


class TestOpening(Struct, frozen=True, kw_only=True):
    """One opening that the installer watched."""

    __test__ = False

    door: Name
    leaf: Literal["open", "closed"]
    time_s: _Time
    outcome: Literal["confirmed", "refused", "unknown"]
    reason: _Text
    took_ms: _Milliseconds


class Walk(Struct, frozen=True, kw_only=True):
    """How well a lock was reached: a time per dial that succeeded, and how strong it was heard."""

    door: Name
    time_s: _Time
    dials: Annotated[int, Meta(ge=1, le=1000, description="how often it was dialled")]
    took_ms: tuple[_Milliseconds, ...] = ()
    strength_dbm: tuple[int, ...] = ()


class Setup(Struct, frozen=True, kw_only=True):
    """The whole file."""

    lock: tuple[ClaimedLock, ...] = ()
    binding: tuple[Binding, ...] = ()
    opening: tuple[TestOpening, ...] = ()
    walk: tuple[Walk, ...] = ()

    def lock_of(self, door: str) -> ClaimedLock | None:
        """The lock that is claimed for a door."""
        return next((each for each in self.lock if each.door == door), None)

    def binding_of(self, door: str) -> Binding | None:
        """What moves a door for the time being."""
        return next((each for each in self.binding if each.door == door), None)

    def with_lock(self, door: str, lock: ClaimedLock | None) -> Setup:
        """With another lock for a door, or none."""
        return replace(self, lock=_others(self.lock, door, lock))

    def with_binding(self, door: str, binding: Binding | None) -> Setup:
        """With another binding of a door, or none."""
        return replace(self, binding=_others(self.binding, door, binding))

    def with_opening(self, opening: TestOpening) -> Setup:
        """With the last opening of that door and leaf."""
        kept = [o for o in self.opening if (o.door, o.leaf) != (opening.door, opening.leaf)]
        return replace(self, opening=(*kept, opening))

    def with_walk(self, walk: Walk) -> Setup:
        """With the last walk of that door."""
        return replace(self, walk=_others(self.walk, walk.door, walk))


def _others(kept: tuple[Any, ...], door: str, new: object | None) -> tuple[Any, ...]:
    rest = tuple(each for each in kept if each.door != door)
    return rest if new is None else (*rest, new)


# --- the file ---------------------------------------------------------------------------------
def load(state: Path) -> tuple[Setup, list[Problem]]:
    """What is there, and every problem with it; nothing when nothing was set up."""
    path = state / NAME
    if not path.exists():
        return Setup(), []
    try:
        text = keyfiles.read_file(path, "set-up").decode()
    except KeyFileError as error:
        return Setup(), [Problem(1, error.message, error.hint)]
    except UnicodeDecodeError:
        return Setup(), [Problem(1, "not UTF-8", "restore it from a backup")]
    found, report = decode(text, Setup, state)
    return found or Setup(), sorted(report.problems)


def save(state: Path, setup: Setup) -> None:
    """Durable when it returns; after a power cut there is the old file or the new one.

    OSError; KeyFileError, and nothing is written, for what could not be read again.
    """
    text = "# Written by gatewayd setup, for gatewayd run. Do not edit.\n"
    for name in ("lock", "binding", "opening", "walk"):
        for each in getattr(setup, name):
            text += f"\n[[{name}]]\n{_table(each, state)}"
    again, report = decode(text, Setup, state)
    if again != setup:
        problem = report.problems[0]
        raise KeyFileError(f"{NAME} cannot hold this: {problem.message}", problem.hint)
    keyfiles.replace_file(state / NAME, text.encode())


def _table(value: Struct, state: Path, prefix: str = "") -> str:
    """A struct as dotted keys; what has its default is left out."""
    text = ""
    for field in msgspec.structs.fields(type(value)):
        item = getattr(value, field.name)
        if not field.required and item == field.default:
            continue
        if isinstance(item, Struct):
            text += _table(item, state, f"{prefix}{field.name}.")
        else:
            text += f"{prefix}{field.name} = {_scalar(item, state)}\n"
    return text


def _scalar(item: object, state: Path) -> str:
    if isinstance(item, Path):
        item = str(item.relative_to(state) if item.is_relative_to(state) else item)
    # JSON's texts, numbers, booleans and lists are TOML's, too
    return json.dumps(item, ensure_ascii=False)


# --- for the daemon ---------------------------------------------------------------------------
def place(config: Config, setup: Setup) -> tuple[Config, Mapping[DoorId, int]]:
    """`config` with what moves its unbound doors, and until when each of these holds."""
    doors, until = [], {}
    for door in config.doors:
        binding = setup.binding_of(door.id)
        if binding is None or is_bound(door):
            doors.append(door)
            continue
        doors.append(replace(door, lock=binding.lock, relay=binding.relay))
        until[DoorId(door.id)] = binding.until_s
    return replace(config, door=tuple(doors)), until


def is_bound(door: Door) -> bool:
    """Whether the configuration itself names what moves a door."""
    return door.lock is not None or door.relay is not None


def report_problems(state: Path, problems: list[Problem], report: Report) -> None:
    """They are of another file than the report's."""
    for problem in problems:
        said = f"{state / NAME}:{problem.line}: {problem.message}"
        report.add(("gateway", "state"), said, problem.hint)
