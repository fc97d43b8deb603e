"""One frozen dataclass per message, and one strict codec driven by their field tables.

`protocol.cddl` is the source; the dataclasses follow it. A message is a
deterministic CBOR map with integer keys (`codes.Key`). What parses re-encodes
to the same bytes; an unknown key, a missing key or a value out of bounds
refuses the message.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Final, TypeVar, get_args

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from firmware_proto import cbor
from firmware_proto.codes import (
    ID_BYTES,
    MAX_CARRIED_BYTES,
    MAX_DOOR_ID_BYTES,
    MAX_PIECE_BYTES,
    Action,
    BoltState,
    DoorState,
    EventKind,
    Fault,
    Item,
    Key,
    LatchState,
    Mechanism,
    MessageType,
    Outcome,
    Presence,
    Reason,
)
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.fields import (
    SAFE_INTEGER,
    Battery,
    BatteryRule,
    Boolean,
    Bytes,
    Enumeration,
    Field,
    Point,
    Text,
    Unsigned,
    Wire,
    from_map,
    table,
    to_map,
)

SESSION_BYTES: Final = 8
RESULT_BYTES: Final = 384
"""Every `Result` is padded to this encoded length, so that its size tells an observer nothing."""
MIN_RECEIPT_BYTES: Final = 128
MAX_RECEIPT_BYTES: Final = 320
"""Receipts stay within these bounds; then every Result can be padded to exactly its length."""
MAX_UNLATCH_MS: Final = 60_000
MAX_AJAR_MS: Final = 86_400_000
MAX_IDENTIFY_MS: Final = 60_000
PROOF_BYTES: Final = 32
MAX_STATEMENT_BYTES: Final = 512
_ONE_BYTE_HEAD: Final = 24
_TWO_BYTE_HEAD: Final = 258


_ID: Final = Bytes(ID_BYTES, ID_BYTES)
_DOOR: Final = Text(1, MAX_DOOR_ID_BYTES)
_INTEGER: Final = Unsigned(SAFE_INTEGER)
_OFFSET: Final = Unsigned(MAX_CARRIED_BYTES - 1)
_TOTAL: Final = Unsigned(MAX_CARRIED_BYTES, least=1)
_PIECE: Final = Bytes(1, MAX_PIECE_BYTES)
_RECEIPT: Final = Bytes(MIN_RECEIPT_BYTES, MAX_RECEIPT_BYTES)
_PROOF: Final = Bytes(PROOF_BYTES, PROOF_BYTES)
_STATEMENT: Final = Bytes(1, MAX_STATEMENT_BYTES)
_OUTCOME: Final = Enumeration(Outcome)
_REASON: Final = Enumeration(Reason)


# --- phone -> gateway -----------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Prepare:
    """Verify me and be ready at this door; nothing opens and nothing is recorded."""

    TYPE: ClassVar = MessageType.PREPARE
    door: Annotated[str, Wire(Key.DOOR, _DOOR)]


@dataclass(frozen=True, slots=True)
class Open:
    """Do one action at one door. `request` (16 bytes) is scoped to the key token."""

    TYPE: ClassVar = MessageType.OPEN
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    door: Annotated[str, Wire(Key.DOOR, _DOOR)]
    action: Annotated[Action, Wire(Key.ACTION, Enumeration(Action))]
    presence: Annotated[Presence, Wire(Key.PRESENCE, Enumeration(Presence))]


@dataclass(frozen=True, slots=True)
class GetResult:
    """What became of it? A phone asks about its `request`; a gateway asks about a `command`."""

    TYPE: ClassVar = MessageType.GET_RESULT
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    command: Annotated[bytes | None, Wire(Key.COMMAND, _ID)] = None


@dataclass(frozen=True, slots=True)
class Deliver:
    """A piece of something signed, for the gateway to judge; all its pieces share `request`."""

    TYPE: ClassVar = MessageType.DELIVER
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    offset: Annotated[int, Wire(Key.OFFSET, _OFFSET)]
    total: Annotated[int, Wire(Key.TOTAL, _TOTAL)]
    data: Annotated[bytes, Wire(Key.DATA, _PIECE)]


@dataclass(frozen=True, slots=True)
class Collect:
    """Give me a piece of something, from `offset` on."""

    TYPE: ClassVar = MessageType.COLLECT
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    item: Annotated[Item, Wire(Key.ITEM, Enumeration(Item))]
    offset: Annotated[int, Wire(Key.OFFSET, _OFFSET)]


# --- gateway -> phone -----------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Result:
    """How a request ended. `request` is None in the answer to `Prepare`."""

    TYPE: ClassVar = MessageType.RESULT
    request: Annotated[bytes | None, Wire(Key.REQUEST, _ID)]
    outcome: Annotated[Outcome, Wire(Key.OUTCOME, _OUTCOME)]
    reason: Annotated[Reason, Wire(Key.REASON, _REASON)]
    receipt: Annotated[bytes | None, Wire(Key.RECEIPT, _RECEIPT)] = None
    padding: Annotated[bytes, Wire(Key.PADDING, Bytes(0, RESULT_BYTES))] = b""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of what `Collect` asked for."""

    TYPE: ClassVar = MessageType.CHUNK
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    offset: Annotated[int, Wire(Key.OFFSET, _OFFSET)]
    total: Annotated[int, Wire(Key.TOTAL, _TOTAL)]
    data: Annotated[bytes, Wire(Key.DATA, _PIECE)]


# --- gateway -> lock ------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Unlatch:
    """Pull the latch for `duration_ms`, unless the lock's clock has passed `deadline_ms`."""

    TYPE: ClassVar = MessageType.UNLATCH
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    deadline_ms: Annotated[int, Wire(Key.DEADLINE_MS, _INTEGER)]
    duration_ms: Annotated[int, Wire(Key.DURATION_MS, Unsigned(MAX_UNLATCH_MS, least=1))]


@dataclass(frozen=True, slots=True)
class Unbolt:
    """Withdraw the bolt, unless the lock's clock has passed `deadline_ms`."""

    TYPE: ClassVar = MessageType.UNBOLT
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    deadline_ms: Annotated[int, Wire(Key.DEADLINE_MS, _INTEGER)]


@dataclass(frozen=True, slots=True)
class Bolt:
    """Throw the bolt, unless the lock's clock has passed `deadline_ms`."""

    TYPE: ClassVar = MessageType.BOLT
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    deadline_ms: Annotated[int, Wire(Key.DEADLINE_MS, _INTEGER)]


@dataclass(frozen=True, slots=True)
class GetState:
    """Answered by `State`."""

    TYPE: ClassVar = MessageType.GET_STATE
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]


@dataclass(frozen=True, slots=True)
class GetEvents:
    """Answered by an `Event` for each kept event with an index above `after`, then `Done`."""

    TYPE: ClassVar = MessageType.GET_EVENTS
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    after: Annotated[int, Wire(Key.AFTER, _INTEGER)]


@dataclass(frozen=True, slots=True)
class AckEvents:
    """The gateway keeps all events up to and including `upto`. Answered by `Done`."""

    TYPE: ClassVar = MessageType.ACK_EVENTS
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    upto: Annotated[int, Wire(Key.UPTO, _INTEGER)]


@dataclass(frozen=True, slots=True)
class SetTime:
    """Unix seconds, for the lock's own event log only. Answered by `Done`."""

    TYPE: ClassVar = MessageType.SET_TIME
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    time_s: Annotated[int, Wire(Key.TIME_S, _INTEGER)]


@dataclass(frozen=True, slots=True)
class Configure:
    """Settings that outlive power loss. `ajar_ms`: after how long an open door counts as ajar."""

    TYPE: ClassVar = MessageType.CONFIGURE
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    ajar_ms: Annotated[int, Wire(Key.AJAR_MS, Unsigned(MAX_AJAR_MS, least=1_000))]


@dataclass(frozen=True, slots=True)
class Identify:
    """Blink or beep for `duration_ms`, so that people see which lock this is. Moves nothing."""

    TYPE: ClassVar = MessageType.IDENTIFY
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    duration_ms: Annotated[int, Wire(Key.DURATION_MS, Unsigned(MAX_IDENTIFY_MS, least=1))]


@dataclass(frozen=True, slots=True)
class Claim:
    """Belong to this operator, as the lock of `door`. `proof` as `claiming.proof` makes it."""

    TYPE: ClassVar = MessageType.CLAIM
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    door: Annotated[str, Wire(Key.DOOR, _DOOR)]
    proof: Annotated[bytes, Wire(Key.PROOF, _PROOF)]
    root_key: Annotated[PublicKey, Wire(Key.ROOT_KEY, Point())]
    gateways_key: Annotated[PublicKey, Wire(Key.GATEWAYS_KEY, Point())]
    command_key: Annotated[PublicKey, Wire(Key.COMMAND_KEY, Point())]
    serial: Annotated[int, Wire(Key.SERIAL, _INTEGER)]


@dataclass(frozen=True, slots=True)
class Anchor:
    """Other operator's keys: `statement` is one of `statements.Anchoring`, signed by the root."""

    TYPE: ClassVar = MessageType.ANCHOR
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    statement: Annotated[bytes, Wire(Key.STATEMENT, _STATEMENT)]


@dataclass(frozen=True, slots=True)
class FactoryReset:
    """Belong to nobody again.

    `proof` shows the label's secret, or `statement` is one of `statements.Reset`, signed by the
    command key; a lock takes exactly one of them.
    """

    TYPE: ClassVar = MessageType.FACTORY_RESET
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    proof: Annotated[bytes | None, Wire(Key.PROOF, _PROOF)] = None
    statement: Annotated[bytes | None, Wire(Key.STATEMENT, _STATEMENT)] = None


# --- lock -> gateway ------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class State:
    """Everything the lock senses. `request` is None when it reports unasked."""

    TYPE: ClassVar = MessageType.STATE
    request: Annotated[bytes | None, Wire(Key.REQUEST, _ID)]
    bolt: Annotated[BoltState, Wire(Key.BOLT_STATE, Enumeration(BoltState))]
    latch: Annotated[LatchState, Wire(Key.LATCH_STATE, Enumeration(LatchState))]
    door_state: Annotated[DoorState, Wire(Key.DOOR_STATE, Enumeration(DoorState))]
    mechanism: Annotated[Mechanism, Wire(Key.MECHANISM, Enumeration(Mechanism))]
    tamper: Annotated[bool, Wire(Key.TAMPER, Boolean())]
    battery: Annotated[Battery, Wire(Key.BATTERY, BatteryRule())]
    model: Annotated[str, Wire(Key.MODEL, Text(1, 32))]
    firmware: Annotated[str, Wire(Key.FIRMWARE, Text(1, 32))]
    clock_ms: Annotated[int, Wire(Key.CLOCK_MS, _INTEGER)]


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended; the answer to `GetResult` says it of the command asked about."""

    TYPE: ClassVar = MessageType.DONE
    request: Annotated[bytes, Wire(Key.REQUEST, _ID)]
    outcome: Annotated[Outcome, Wire(Key.OUTCOME, _OUTCOME)]
    reason: Annotated[Reason, Wire(Key.REASON, _REASON)]
    clock_ms: Annotated[int, Wire(Key.CLOCK_MS, _INTEGER)]


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the lock's event log. `request` is None when it reports unasked."""

    TYPE: ClassVar = MessageType.EVENT
    request: Annotated[bytes | None, Wire(Key.REQUEST, _ID)]
    index: Annotated[int, Wire(Key.INDEX, _INTEGER)]
    clock_ms: Annotated[int, Wire(Key.CLOCK_MS, _INTEGER)]
    kind: Annotated[EventKind, Wire(Key.EVENT_KIND, Enumeration(EventKind))]
    value: Annotated[int, Wire(Key.VALUE, _INTEGER)]


# --- every relation -------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class FaultMessage:
    """The peer broke the protocol; `codes.FAULTS` says what follows from it."""

    TYPE: ClassVar = MessageType.FAULT
    request: Annotated[bytes | None, Wire(Key.REQUEST, _ID)]
    fault: Annotated[Fault, Wire(Key.FAULT, Enumeration(Fault))]


# --- in the clear, before any key exists ------------------------------------------
@dataclass(frozen=True, slots=True)
class Hello:
    """A lock's first words. `session` is None when it remembers no session."""

    TYPE: ClassVar = None
    session: Annotated[bytes | None, Wire(Key.SESSION, Bytes(SESSION_BYTES, SESSION_BYTES))]
    epoch: Annotated[int, Wire(Key.EPOCH, _INTEGER)]
    nonce: Annotated[bytes, Wire(Key.NONCE, _ID)]
    clock_ms: Annotated[int, Wire(Key.CLOCK_MS, _INTEGER)]


@dataclass(frozen=True, slots=True)
class Resume:
    """A gateway's answer: we both still know the secret of `session`."""

    TYPE: ClassVar = None
    session: Annotated[bytes, Wire(Key.SESSION, Bytes(SESSION_BYTES, SESSION_BYTES))]
    nonce: Annotated[bytes, Wire(Key.NONCE, _ID)]


Message = (
    Prepare
    | Open
    | GetResult
    | Deliver
    | Collect
    | Result
    | Chunk
    | Unlatch
    | Unbolt
    | Bolt
    | GetState
    | GetEvents
    | AckEvents
    | SetTime
    | Configure
    | Identify
    | Claim
    | Anchor
    | FactoryReset
    | State
    | Done
    | Event
    | FaultMessage
)
"""Whatever travels in a sealed record."""

_Plain = TypeVar("_Plain", Hello, Resume)


SEALED: Final[dict[int, type[Message]]] = {int(cls.TYPE): cls for cls in get_args(Message)}
"""Sealed messages by the number under key 0."""

_TABLES: Final[dict[type[Any], tuple[Field, ...]]] = {
    cls: table(cls) for cls in (*SEALED.values(), Hello, Resume)
}


def encode(message: Message | Hello | Resume) -> bytes:
    """Deterministic CBOR. LocalProtocolError when a field is out of its bounds."""
    data = to_map(_TABLES[type(message)], message)
    if message.TYPE is not None:
        data[int(Key.TYPE)] = int(message.TYPE)
    return cbor.encode(data)


def decode(data: bytes) -> Message:
    """The content of a sealed record.

    RemoteProtocolError: UNSUPPORTED for a type without a meaning here,
    MALFORMED for everything else that is not exactly a message.
    """
    body = _map(data)
    number = body.pop(int(Key.TYPE), None)
    if type(number) is not int:
        raise RemoteProtocolError(Fault.MALFORMED, "message without a type")
    cls = SEALED.get(number)
    if cls is None:
        raise RemoteProtocolError(Fault.UNSUPPORTED, "message of an unknown type")
    return from_map(cls, _TABLES[cls], body)


def decode_plain(cls: type[_Plain], data: bytes) -> _Plain:
    """A `Hello` or a `Resume`; which of them is told by the frame. MALFORMED otherwise."""
    return from_map(cls, _TABLES[cls], _map(data))


def padded(result: Result) -> Result:
    """The same result with the padding that makes it exactly `RESULT_BYTES` long, encoded."""
    room = RESULT_BYTES - len(encode(replace(result, padding=b"")))
    return replace(result, padding=bytes(padding_for(room)))


def padding_for(room: int) -> int:
    """How long a byte string must be to take `room` bytes more than an empty one.

    Its head grows by a byte at 24 and at 256, so no string takes 24 or 257;
    the bounds on receipts keep `Result` out of these two gaps.
    """
    if room < _ONE_BYTE_HEAD:
        return room
    return room - 1 if room < _TWO_BYTE_HEAD else room - 2


def _map(data: bytes) -> dict[Any, Any]:
    body = cbor.decode(data)
    if not isinstance(body, dict):
        raise RemoteProtocolError(Fault.MALFORMED, "message is not a map")
    return body
