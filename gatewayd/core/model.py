"""The values every stage passes on. Imports nothing of the daemon but the shared numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, NewType

from firmware_proto.codes import Outcome, Reason

DoorId = NewType("DoorId", str)
GatewayId = NewType("GatewayId", str)
CommandId = NewType("CommandId", bytes)
"""16 random bytes, made before the record naming them; the lock persists them before it moves."""

_ORIGIN: Final = "gatewayd/"


def origin_of(gateway: GatewayId) -> str:
    """The name of a gateway's log: first line of its checkpoints, and name of its log key."""
    return f"{_ORIGIN}{gateway}"


def gateway_of(origin: str) -> GatewayId:
    """Whose log it is."""
    return GatewayId(origin.removeprefix(_ORIGIN))


class ClockState(IntEnum):
    """How far the wall clock may be believed; every log entry says in which it was written."""

    TRUSTED = 1
    HOLDOVER = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Instant:
    """One reading of the clocks, taken at the edge and handed inwards.

    `boottime_s` counts from boot and never steps (CLOCK_BOOTTIME); `boot_id`
    says which boot; `wall_s` is whatever the system believes, in Unix seconds.
    """

    boot_id: str
    boottime_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class TimeReading:
    """What `core.timekeeping` makes of an instant.

    `now_s` is the best estimate in Unix seconds, `bound_s` how wrong it may be
    (infinite when UNKNOWN), `floor_s` the time that has certainly passed.
    """

    state: ClockState
    now_s: int
    bound_s: float
    floor_s: int


LOG_TROUBLES: Final = frozenset(
    {
        Reason.LOG_UNAVAILABLE,  # damaged, in use, closed: whatever is none of the others
        Reason.LOG_FULL,
        Reason.LOG_READ_ONLY,
        Reason.LOG_IO_ERROR,
        Reason.LOG_SLOW,
    }
)
"""Why the log may not take an entry; everybody who is refused for it hears which."""


class WithoutLog(NamedTuple):
    """What a key may do when the log fails it.

    In the troubles of `reserve` it opens once its entry is durable in the
    reserve instead; `unrecorded` opens even where that takes nothing either.
    """

    reserve: frozenset[Reason] = frozenset()
    unrecorded: bool = False


NEVER: Final = WithoutLog()


class Decision(NamedTuple):
    """Allowed or not, and the one reason that reply, log and metrics share."""

    allowed: bool
    reason: Reason
    without_log: WithoutLog = NEVER


@dataclass(frozen=True, slots=True)
class Verdict:
    """How something ended: one of three outcomes and its reason."""

    outcome: Outcome
    reason: Reason


INTERRUPTED: Final = Verdict(Outcome.UNKNOWN, Reason.RESTARTED)
"""What is known of a command that was recorded, and whose outcome nobody wrote down."""


class EntryKind(IntEnum):
    """What a log entry tells."""

    STARTED = 1  # the daemon started
    INTENT = 2  # a command is about to be sent to a lock
    OUTCOME = 3  # how it ended; `about` is the seq of the intent
    REFUSAL = 4  # an authenticated holder was refused
    STRANGERS = 5  # `about` is how many strangers were refused in this minute
    JOINED = 6  # a holder was allowed and joined a running or just confirmed opening
    RESOLVED = 7  # a lock answered GetResult after UNKNOWN; `about` is the seq of the intent
    CLOCK = 8  # the clock state changed
    RETIRED = 9  # the last entry of a log; `about` is how many the operator had when he closed it
    GAP = 10  # the log took nothing for a while; `about` is how many entries are missing
    ORDERED = 11  # the operator ordered an opening: refused, or INTENT or JOINED follows
    ERASED = 12  # the operator had `about` entries forgotten: their bodies are gone


@dataclass(frozen=True, slots=True)
class Fact:
    """What is to be written: an entry without what the log adds (seq, salt, commitment)."""

    time: TimeReading
    kind: EntryKind
    door: DoorId | None
    verdict: Verdict
    about: int = 0
    order: bytes | None = None
    """`envelope.Statement.name` of the order that it carries out: the leaf's commitment."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command to a lock, stored in the same transaction as its INTENT entry."""

    id: CommandId
    door: DoorId
    intent_seq: int = -1
    """Position of the INTENT entry; set by the log."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to be remembered for 24 hours, and the command whose verdict answers it.

    `key` is a keyed hash over token identity and request id, and `content`
    over what was asked: neither tells who.
    """

    key: bytes
    content: bytes
    command: CommandId


@dataclass(frozen=True, slots=True)
class Record:
    """The log entry that says how a request ended; what a receipt names."""

    seq: int
    door: DoorId
    time_s: int


@dataclass(frozen=True, slots=True)
class PastRequest:
    """What is remembered of a request; `verdict` and `record` are None while it runs."""

    content: bytes
    verdict: Verdict | None = None
    record: Record | None = None
