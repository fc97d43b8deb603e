"""What an installer has set up on site: `setup.toml` in the state directory, replaced whole.

Locks that were claimed, what was bound to which door, and what was tried.
`gatewayd setup` writes it for itself; the daemon is told of bindings in a form
of its own (`config.provisional`), which ends them after a week.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from firmware_proto.errors import RemoteProtocolError
from gatewayd import keyfiles
from gatewayd.config import encode, stated
from gatewayd.config.decode import Problem, Report, decode
from gatewayd.config.model import Config, Door, LockFiles, Name, Relay
from gatewayd.core.model import DoorId
from gatewayd.keyfiles import KeyFileError

NAME: Final = "setup.toml"

_Time = Annotated[int, Meta(ge=0, le=253_402_300_799, description="Unix seconds, to 9999")]
_Milliseconds = Annotated[int, Meta(ge=0, le=3_600_000, description="milliseconds")]
_Text = Annotated[str, Meta(max_length=64, description="at most 64 letters")]


class ClaimedLock(Struct, frozen=True, kw_only=True):
    """A lock that this gateway claims, has claimed, or lets go; a door has one."""

    door: Name
    address: str
    key: Path
    stage: Literal["claiming", "claimed", "releasing"]
    epoch: Annotated[int, Meta(ge=0, le=2**53 - 1, description="of the lock")] = 0
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
    try:
        if not path.exists():
            return Setup(), []
    except OSError:  # nobody sets up in a state that cannot even be looked into
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
            text += f"\n[[{name}]]\n{encode.table(each, state)}"
    again, report = decode(text, Setup, state)
    if again != setup:
        problem = report.problems[0]
        raise KeyFileError(f"{NAME} cannot hold this: {problem.message}", problem.hint)
    if len(text.encode()) > keyfiles.MAX_FILE_BYTES:
        raise KeyFileError(f"{NAME} would be too large to be read", "walk with fewer --dials")
    keyfiles.replace_file(state / NAME, text.encode())


# --- what was bound ---------------------------------------------------------------------------
def place(config: Config, setup: Setup) -> Config:
    """`config` with what was bound to its doors on site."""
    return replace(config, door=tuple(_placed(door, setup) for door in config.doors))


def _placed(door: Door, setup: Setup) -> Door:
    binding = setup.binding_of(door.id)
    return door if binding is None else replace(door, lock=binding.lock, relay=binding.relay)


def body(config: Config, setup: Setup, name: str) -> bytes | None:
    """A door that was bound, in the form of an operator's BINDINGS, for the daemon; None: not.

    KeyFileError for a lock's key that cannot be read, and for a door that cannot be so.
    """
    if setup.binding_of(name) is None:
        return None
    doors = [door for door in place(config, setup).doors if door.id == name]
    packed = stated.body(
        doors,
        {
            DoorId(door.id): keyfiles.read_p256_public(door.lock.key, "lock key")
            for door in doors
            if door.lock is not None
        },
    )
    try:
        stated.bindings(packed)
    except RemoteProtocolError as error:
        raise KeyFileError(error.detail, "gatewayd check says more") from None
    return packed


def report_problems(state: Path, problems: list[Problem], report: Report) -> None:
    """They are of another file than the report's."""
    for problem in problems:
        said = f"{state / NAME}:{problem.line}: {problem.message}"
        report.add(("gateway", "state"), said, problem.hint)
