"""What a gateway and a lock say to each other; `messages` has what every relation says, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from firmware_proto.codes import (
    BoltState,
    DoorState,
    EventKind,
    Key,
    LatchState,
    Mechanism,
    MessageType,
    Outcome,
    Reason,
)
from firmware_proto.fields import (
    DOOR,
    ID,
    INTEGER,
    OUTCOME,
    REASON,
    Battery,
    BatteryRule,
    Boolean,
    Bytes,
    Enumeration,
    Point,
    Text,
    Unsigned,
    Wire,
)

SESSION_BYTES: Final = 8
MAX_UNLATCH_MS: Final = 60_000
MAX_AJAR_MS: Final = 86_400_000
MAX_IDENTIFY_MS: Final = 60_000
PROOF_BYTES: Final = 32
MAX_STATEMENT_BYTES: Final = 512

_PROOF: Final = Bytes(PROOF_BYTES, PROOF_BYTES)
_STATEMENT: Final = Bytes(1, MAX_STATEMENT_BYTES)
_SESSION: Final = Bytes(SESSION_BYTES, SESSION_BYTES)


# --- gateway -> lock ------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Unlatch:
    """Pull the latch for `duration_ms`, unless the lock's clock has passed `deadline_ms`."""

    TYPE: ClassVar = MessageType.UNLATCH
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    deadline_ms: Annotated[int, Wire(Key.DEADLINE_MS, INTEGER)]
    duration_ms: Annotated[int, Wire(Key.DURATION_MS, Unsigned(MAX_UNLATCH_MS, least=1))]


@dataclass(frozen=True, slots=True)
class Unbolt:
    """Withdraw the bolt, unless the lock's clock has passed `deadline_ms`."""

    TYPE: ClassVar = MessageType.UNBOLT
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    deadline_ms: Annotated[int, Wire(Key.DEADLINE_MS, INTEGER)]


@dataclass(frozen=True, slots=True)
class Bolt:
    """Throw the bolt, unless the lock's clock has passed `deadline_ms`."""

    TYPE: ClassVar = MessageType.BOLT
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    deadline_ms: Annotated[int, Wire(Key.DEADLINE_MS, INTEGER)]


@dataclass(frozen=True, slots=True)
class GetState:
    """Answered by `State`."""

    TYPE: ClassVar = MessageType.GET_STATE
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]


@dataclass(frozen=True, slots=True)
class GetEvents:
    """Answered by an `Event` for each kept event with an index above `after`, then `Done`."""

    TYPE: ClassVar = MessageType.GET_EVENTS
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    after: Annotated[int, Wire(Key.AFTER, INTEGER)]


@dataclass(frozen=True, slots=True)
class AckEvents:
    """The gateway keeps all events up to and including `upto`. Answered by `Done`."""

    TYPE: ClassVar = MessageType.ACK_EVENTS
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    upto: Annotated[int, Wire(Key.UPTO, INTEGER)]


@dataclass(frozen=True, slots=True)
class SetTime:
    """Unix seconds, for the lock's own event log only. Answered by `Done`."""

    TYPE: ClassVar = MessageType.SET_TIME
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    time_s: Annotated[int, Wire(Key.TIME_S, INTEGER)]


@dataclass(frozen=True, slots=True)
class Configure:
    """Settings that outlive power loss. `ajar_ms`: after how long an open door counts as ajar."""

    TYPE: ClassVar = MessageType.CONFIGURE
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    ajar_ms: Annotated[int, Wire(Key.AJAR_MS, Unsigned(MAX_AJAR_MS, least=1_000))]


@dataclass(frozen=True, slots=True)
class Identify:
    """Blink or beep for `duration_ms`, so that people see which lock this is. Moves nothing."""

    TYPE: ClassVar = MessageType.IDENTIFY
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    duration_ms: Annotated[int, Wire(Key.DURATION_MS, Unsigned(MAX_IDENTIFY_MS, least=1))]


@dataclass(frozen=True, slots=True)
class Claim:
    """Belong to this operator, as the lock of `door`. `proof` as `claiming.proof` makes it."""

    TYPE: ClassVar = MessageType.CLAIM
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    door: Annotated[str, Wire(Key.DOOR, DOOR)]
    proof: Annotated[bytes, Wire(Key.PROOF, _PROOF)]
    root_key: Annotated[PublicKey, Wire(Key.ROOT_KEY, Point())]
    gateways_key: Annotated[PublicKey, Wire(Key.GATEWAYS_KEY, Point())]
    command_key: Annotated[PublicKey, Wire(Key.COMMAND_KEY, Point())]
    serial: Annotated[int, Wire(Key.SERIAL, INTEGER)]


@dataclass(frozen=True, slots=True)
class Anchor:
    """Other operator's keys: `statement` is one of `statements.Anchoring`, signed by the root."""

    TYPE: ClassVar = MessageType.ANCHOR
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    statement: Annotated[bytes, Wire(Key.STATEMENT, _STATEMENT)]


@dataclass(frozen=True, slots=True)
class FactoryReset:
    """Belong to nobody again.

    `proof` shows the label's secret, or `statement` is one of `statements.Reset`, signed by the
    command key; a lock takes exactly one of them.
    """

    TYPE: ClassVar = MessageType.FACTORY_RESET
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    proof: Annotated[bytes | None, Wire(Key.PROOF, _PROOF)] = None
    statement: Annotated[bytes | None, Wire(Key.STATEMENT, _STATEMENT)] = None


# --- lock -> gateway ------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class State:
    """Everything the lock senses. `request` is None when it reports unasked."""

    TYPE: ClassVar = MessageType.STATE
    request: Annotated[bytes | None, Wire(Key.REQUEST, ID)]
    bolt: Annotated[BoltState, Wire(Key.BOLT_STATE, Enumeration(BoltState))]
    latch: Annotated[LatchState, Wire(Key.LATCH_STATE, Enumeration(LatchState))]
    door_state: Annotated[DoorState, Wire(Key.DOOR_STATE, Enumeration(DoorState))]
    mechanism: Annotated[Mechanism, Wire(Key.MECHANISM, Enumeration(Mechanism))]
    tamper: Annotated[bool, Wire(Key.TAMPER, Boolean())]
    battery: Annotated[Battery, Wire(Key.BATTERY, BatteryRule())]
    model: Annotated[str, Wire(Key.MODEL, Text(1, 32))]
    firmware: Annotated[str, Wire(Key.FIRMWARE, Text(1, 32))]
    clock_ms: Annotated[int, Wire(Key.CLOCK_MS, INTEGER)]


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended; the answer to `GetResult` says it of the command asked about."""

    TYPE: ClassVar = MessageType.DONE
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    outcome: Annotated[Outcome, Wire(Key.OUTCOME, OUTCOME)]
    reason: Annotated[Reason, Wire(Key.REASON, REASON)]
    clock_ms: Annotated[int, Wire(Key.CLOCK_MS, INTEGER)]


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the lock's event log. `request` is None when it reports unasked."""

    TYPE: ClassVar = MessageType.EVENT
    request: Annotated[bytes | None, Wire(Key.REQUEST, ID)]
    index: Annotated[int, Wire(Key.INDEX, INTEGER)]
    clock_ms: Annotated[int, Wire(Key.CLOCK_MS, INTEGER)]
    kind: Annotated[EventKind, Wire(Key.EVENT_KIND, Enumeration(EventKind))]
    value: Annotated[int, Wire(Key.VALUE, INTEGER)]


# --- in the clear, before any key exists ------------------------------------------
@dataclass(frozen=True, slots=True)
class Hello:
    """A lock's first words. `session` is None when it remembers no session."""

    TYPE: ClassVar = None
    session: Annotated[bytes | None, Wire(Key.SESSION, _SESSION)]
    epoch: Annotated[int, Wire(Key.EPOCH, INTEGER)]
    nonce: Annotated[bytes, Wire(Key.NONCE, ID)]
    clock_ms: Annotated[int, Wire(Key.CLOCK_MS, INTEGER)]


@dataclass(frozen=True, slots=True)
class Resume:
    """A gateway's answer: we both still know the secret of `session`."""

    TYPE: ClassVar = None
    session: Annotated[bytes, Wire(Key.SESSION, _SESSION)]
    nonce: Annotated[bytes, Wire(Key.NONCE, ID)]
