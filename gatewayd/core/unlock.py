"""One opening, as a table: no door opens unrecorded, because no other arrow exists.

The shell of a door turns what happens into events, calls `advance`, and then
runs the effects. Dialling the lock and recording the intent run side by side;
only a durable record has an arrow to ACTUATING, in the log or, where the log fails a
key that may open all the same, in the reserve. One arrow more, `Unrecorded`, is for
the emergency class alone, when neither takes anything. A pair of phase and event that
is not in `TABLE` is a bug in the shell and raises `IllegalTransitionError`.

What the shell owes this table:

* Every `Dial` is answered by `LinkReady` or `LinkFailed`. A `Dial` while one is
  under way joins it, and the two share one answer. The shell bounds the wait.
* `Record` is answered by `Recorded`, `RecordFailed`, or `LogFailed` when policy
  lets this key open without the log; `Reserve` then by `Reserved`, `RecordFailed`
  or, for emergencies, `Unrecorded`. `Command` is answered by `Finished` (silence of
  the lock is a verdict, UNKNOWN), `RecordOutcome` by `OutcomeRecorded` or
  `OutcomeNotRecorded`. The phone going away changes nothing.
* After CLOSED only a late answer to `Dial` is expected, and ignored: the log
  failed, or the holder was refused, while the lock was being dialled. Every
  other late event is illegal, since each would be a second answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from firmware_proto.codes import Outcome, Reason
from gatewayd.core.model import EntryKind, Verdict


class Phase(Enum):
    """Where an opening stands."""

    WAITING = "waiting"  # the token is verified; the holder has not asked yet
    RECORDING = "recording"  # neither link nor record yet
    LINKED = "linked"  # link ready, record not yet
    RECORDED = "recorded"  # record durable, link not yet
    UNREACHABLE = "unreachable"  # link failed, record not yet
    ACTUATING = "actuating"  # the command is on its way to the lock
    SETTLING = "settling"  # the verdict is known and is being recorded
    CLOSED = "closed"


# --- events: what happened ------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Prepared:
    """The holder may soon ask (`Prepare`), and would be allowed to."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The holder asked to open, and policy allows it; an `emergency` even unrecorded."""

    emergency: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The holder asked to open, and policy does not allow it."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class LinkReady:
    """The lock can be commanded without delay."""


@dataclass(frozen=True, slots=True)
class LinkFailed:
    """The lock could not be reached in time."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The intent is on disk, as entry number `seq`."""

    seq: int


@dataclass(frozen=True, slots=True)
class RecordFailed:
    """The intent is not known to be on disk (StorageError), and this key waits for that."""

    reason: Reason = Reason.LOG_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class LogFailed:
    """The log did not take the intent; this key may open once the reserve has."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """The intent is on disk, in the reserve; it has no number yet."""


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """Neither took the intent. Only an emergency goes on; a gap record will count it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The command ended; silence is `Verdict(UNKNOWN, LOCK_SILENT)`."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class OutcomeRecorded:
    """The verdict is on disk, as entry number `seq`."""

    seq: int


@dataclass(frozen=True, slots=True)
class OutcomeNotRecorded:
    """The verdict is not in the log, at most in the reserve: no receipt can name it."""


Event = (
    Prepared
    | Allowed
    | Refused
    | LinkReady
    | LinkFailed
    | Recorded
    | RecordFailed
    | LogFailed
    | Reserved
    | Unrecorded
    | Finished
    | OutcomeRecorded
    | OutcomeNotRecorded
)


# --- effects: what the shell must now do ------------------------------------------
@dataclass(frozen=True, slots=True)
class Record:
    """Append an INTENT entry together with the command it announces."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Write the same into the reserve."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Make the lock ready (`Lock.prepare`); returns at once when it is."""


@dataclass(frozen=True, slots=True)
class Command:
    """Send the recorded command to the lock, once. Not to be confused with `model.Command`."""


@dataclass(frozen=True, slots=True)
class RecordOutcome:
    """Append the verdict: OUTCOME about `intent_seq`, or REFUSAL where there was no intent."""

    kind: EntryKind
    verdict: Verdict
    intent_seq: int | None


@dataclass(frozen=True, slots=True)
class Reply:
    """Tell the phone. `seq` is the entry that a receipt may name; None: send no receipt."""

    verdict: Verdict
    seq: int | None


Effect = Record | Reserve | Dial | Command | RecordOutcome | Reply


# --- the state and the table ---------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Unlock:
    """One opening. `intent_seq` is set once the intent is in the log, `verdict` once known."""

    phase: Phase = Phase.WAITING
    intent_seq: int | None = None
    verdict: Verdict | None = None
    emergency: bool = False


class IllegalTransitionError(Exception):
    """The table has no arrow for this event in this phase: a bug in the shell.

    `Unrecorded` has none for a key that is not of the emergency class.
    """


Maker = Callable[[Unlock, Event], Effect]


@dataclass(frozen=True, slots=True)
class Arrow:
    """Where an event leads, what must then be done, and the verdict that it implies."""

    to: Phase
    effects: tuple[Maker, ...] = ()
    verdict: Verdict | None = None


def _record(_state: Unlock, _event: Event) -> Effect:
    return Record()


def _reserve(_state: Unlock, _event: Event) -> Effect:
    return Reserve()


def _dial(_state: Unlock, _event: Event) -> Effect:
    return Dial()


def _command(_state: Unlock, _event: Event) -> Effect:
    return Command()


def _outcome(state: Unlock, event: Event) -> Effect:
    kind = EntryKind.REFUSAL if isinstance(event, Refused) else EntryKind.OUTCOME
    return RecordOutcome(kind, _known(state), state.intent_seq)


def _reply(state: Unlock, event: Event) -> Effect:
    return Reply(_known(state), event.seq if isinstance(event, OutcomeRecorded) else None)


_UNREACHABLE: Final = Verdict(Outcome.REFUSED, Reason.LOCK_UNREACHABLE)
_NOT_RECORDED: Final = Arrow(Phase.CLOSED, (_reply,))
_GO: Final = Arrow(Phase.ACTUATING, (_command,))
_NOT_REACHED: Final = Arrow(Phase.SETTLING, (_outcome,), _UNREACHABLE)

TABLE: Final[dict[tuple[Phase, type[Event]], Arrow]] = {
    (Phase.WAITING, Prepared): Arrow(Phase.WAITING, (_dial,)),
    (Phase.WAITING, LinkReady): Arrow(Phase.WAITING),
    (Phase.WAITING, LinkFailed): Arrow(Phase.WAITING),
    (Phase.WAITING, Allowed): Arrow(Phase.RECORDING, (_record, _dial)),
    (Phase.WAITING, Refused): Arrow(Phase.SETTLING, (_outcome,)),
    (Phase.RECORDING, LinkReady): Arrow(Phase.LINKED),
    (Phase.RECORDING, LinkFailed): Arrow(Phase.UNREACHABLE),
    (Phase.RECORDING, Recorded): Arrow(Phase.RECORDED),
    (Phase.RECORDING, RecordFailed): _NOT_RECORDED,
    (Phase.LINKED, Recorded): _GO,
    (Phase.LINKED, RecordFailed): _NOT_RECORDED,
    (Phase.RECORDED, LinkReady): _GO,
    (Phase.RECORDED, LinkFailed): _NOT_REACHED,
    (Phase.UNREACHABLE, Recorded): _NOT_REACHED,
    (Phase.UNREACHABLE, RecordFailed): _NOT_RECORDED,
    # the log failed a key that may open all the same
    (Phase.RECORDING, LogFailed): Arrow(Phase.RECORDING, (_reserve,)),
    (Phase.LINKED, LogFailed): Arrow(Phase.LINKED, (_reserve,)),
    (Phase.UNREACHABLE, LogFailed): Arrow(Phase.UNREACHABLE, (_reserve,)),
    (Phase.RECORDING, Reserved): Arrow(Phase.RECORDED),
    (Phase.LINKED, Reserved): _GO,
    (Phase.UNREACHABLE, Reserved): _NOT_REACHED,
    # and in an emergency no disk at all is needed
    (Phase.RECORDING, Unrecorded): Arrow(Phase.RECORDED),
    (Phase.LINKED, Unrecorded): _GO,
    (Phase.UNREACHABLE, Unrecorded): _NOT_REACHED,
    (Phase.ACTUATING, Finished): Arrow(Phase.SETTLING, (_outcome,)),
    (Phase.SETTLING, OutcomeRecorded): Arrow(Phase.CLOSED, (_reply,)),
    (Phase.SETTLING, OutcomeNotRecorded): Arrow(Phase.CLOSED, (_reply,)),
    # a refusal, or a failing log, may overtake the answer to `Dial`
    (Phase.SETTLING, LinkReady): Arrow(Phase.SETTLING),
    (Phase.SETTLING, LinkFailed): Arrow(Phase.SETTLING),
    (Phase.CLOSED, LinkReady): Arrow(Phase.CLOSED),
    (Phase.CLOSED, LinkFailed): Arrow(Phase.CLOSED),
}


def advance(state: Unlock, event: Event) -> tuple[Unlock, tuple[Effect, ...]]:
    """The next state and what to do now. IllegalTransitionError where the table has no arrow."""
    arrow = TABLE.get((state.phase, type(event)))
    if arrow is None or (isinstance(event, Unrecorded) and not state.emergency):
        raise IllegalTransitionError(f"{type(event).__name__} in {state.phase.name}")
    after = Unlock(
        phase=arrow.to,
        intent_seq=event.seq if isinstance(event, Recorded) else state.intent_seq,
        verdict=_verdict(state, event, arrow),
        emergency=event.emergency if isinstance(event, Allowed) else state.emergency,
    )
    return after, tuple(make(after, event) for make in arrow.effects)


def _verdict(state: Unlock, event: Event, arrow: Arrow) -> Verdict | None:
    if isinstance(event, Finished):
        return event.verdict
    if isinstance(event, Refused | RecordFailed):
        return Verdict(Outcome.REFUSED, event.reason)
    return arrow.verdict or state.verdict


def _known(state: Unlock) -> Verdict:
    if state.verdict is None:
        raise IllegalTransitionError(f"no verdict in {state.phase.name}")
    return state.verdict
