"""What every relation says, and one strict codec for the messages of all of them.

`protocol.cddl` is the source; the dataclasses, here, in `phone_messages` and in
`lock_messages`, follow it, and their field tables drive the codec. A message is a
deterministic CBOR map with integer keys (`codes.Key`). What parses re-encodes to the
same bytes; an unknown key, a missing key or a value out of bounds refuses the message.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Final, TypeVar, get_args

from firmware_proto import cbor
from firmware_proto.codes import Fault, Key, MessageType
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.fields import ID, Enumeration, Field, Wire, from_map, table, to_map
from firmware_proto.lock_messages import (
    AckEvents,
    Anchor,
    Bolt,
    Claim,
    Configure,
    Done,
    Event,
    FactoryReset,
    GetEvents,
    GetState,
    Hello,
    Identify,
    Resume,
    SetTime,
    State,
    Unbolt,
    Unlatch,
)
from firmware_proto.phone_messages import (
    RESULT_BYTES,
    Chunk,
    Collect,
    Deliver,
    Open,
    Prepare,
    Result,
)

_ONE_BYTE_HEAD: Final = 24
_TWO_BYTE_HEAD: Final = 258


@dataclass(frozen=True, slots=True)
class GetResult:
    """What became of it? A phone asks about its `request`; a gateway asks about a `command`."""

    TYPE: ClassVar = MessageType.GET_RESULT
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    command: Annotated[bytes | None, Wire(Key.COMMAND, ID)] = None


@dataclass(frozen=True, slots=True)
class FaultMessage:
    """The peer broke the protocol; `codes.FAULTS` says what follows from it."""

    TYPE: ClassVar = MessageType.FAULT
    request: Annotated[bytes | None, Wire(Key.REQUEST, ID)]
    fault: Annotated[Fault, Wire(Key.FAULT, Enumeration(Fault))]


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
