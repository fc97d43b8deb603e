"""What a phone and a gateway say to each other; `messages` has what every relation says, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from firmware_proto.codes import (
    MAX_CARRIED_BYTES,
    MAX_PIECE_BYTES,
    Action,
    Item,
    Key,
    MessageType,
    Outcome,
    Presence,
    Reason,
)
from firmware_proto.fields import DOOR, ID, OUTCOME, REASON, Bytes, Enumeration, Unsigned, Wire

RESULT_BYTES: Final = 384
"""Every `Result` is padded to this encoded length, so that its size tells an observer nothing."""
MIN_RECEIPT_BYTES: Final = 128
MAX_RECEIPT_BYTES: Final = 320
"""Receipts stay within these bounds; then every Result can be padded to exactly its length."""

_OFFSET: Final = Unsigned(MAX_CARRIED_BYTES - 1)
_TOTAL: Final = Unsigned(MAX_CARRIED_BYTES, least=1)
_PIECE: Final = Bytes(1, MAX_PIECE_BYTES)
_RECEIPT: Final = Bytes(MIN_RECEIPT_BYTES, MAX_RECEIPT_BYTES)


# --- phone -> gateway -----------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Prepare:
    """Verify me and be ready at this door; nothing opens and nothing is recorded."""

    TYPE: ClassVar = MessageType.PREPARE
    door: Annotated[str, Wire(Key.DOOR, DOOR)]


@dataclass(frozen=True, slots=True)
class Open:
    """Do one action at one door. `request` (16 bytes) is scoped to the key token."""

    TYPE: ClassVar = MessageType.OPEN
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    door: Annotated[str, Wire(Key.DOOR, DOOR)]
    action: Annotated[Action, Wire(Key.ACTION, Enumeration(Action))]
    presence: Annotated[Presence, Wire(Key.PRESENCE, Enumeration(Presence))]


@dataclass(frozen=True, slots=True)
class Deliver:
    """A piece of something signed, for the gateway to judge; all its pieces share `request`."""

    TYPE: ClassVar = MessageType.DELIVER
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    offset: Annotated[int, Wire(Key.OFFSET, _OFFSET)]
    total: Annotated[int, Wire(Key.TOTAL, _TOTAL)]
    data: Annotated[bytes, Wire(Key.DATA, _PIECE)]


@dataclass(frozen=True, slots=True)
class Collect:
    """Give me a piece of something, from `offset` on."""

    TYPE: ClassVar = MessageType.COLLECT
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    item: Annotated[Item, Wire(Key.ITEM, Enumeration(Item))]
    offset: Annotated[int, Wire(Key.OFFSET, _OFFSET)]


# --- gateway -> phone -----------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Result:
    """How a request ended. `request` is None in the answer to `Prepare`."""

    TYPE: ClassVar = MessageType.RESULT
    request: Annotated[bytes | None, Wire(Key.REQUEST, ID)]
    outcome: Annotated[Outcome, Wire(Key.OUTCOME, OUTCOME)]
    reason: Annotated[Reason, Wire(Key.REASON, REASON)]
    receipt: Annotated[bytes | None, Wire(Key.RECEIPT, _RECEIPT)] = None
    padding: Annotated[bytes, Wire(Key.PADDING, Bytes(0, RESULT_BYTES))] = b""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of what `Collect` asked for."""

    TYPE: ClassVar = MessageType.CHUNK
    request: Annotated[bytes, Wire(Key.REQUEST, ID)]
    offset: Annotated[int, Wire(Key.OFFSET, _OFFSET)]
    total: Annotated[int, Wire(Key.TOTAL, _TOTAL)]
    data: Annotated[bytes, Wire(Key.DATA, _PIECE)]
