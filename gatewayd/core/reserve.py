"""What stands in the reserve: entries that the log could not take, each in a slot of its own.

The reserve is a ring of slots on ground that was written when there was room,
so that a full disk does not matter. A slot is a length, deterministic CBOR,
zeros, and a tag keyed with this log's own secret: a torn slot, and one of another
log, is no entry. Numbers only rise, and the log remembers up to which number it has
taken the entries over, so that none is taken over twice.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from firmware_proto import cbor
from firmware_proto.codes import ID_BYTES, Fault, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.audit import TIME_STEP_S, code, door_name, fixed_bytes, number
from gatewayd.core.model import (
    Asked,
    ClockState,
    Command,
    CommandId,
    EntryKind,
    Fact,
    TimeReading,
    Verdict,
)

SLOT_BYTES: Final = 512
"""What a disk writes whole or not at all; with the tag it matters little if it does not."""
SLOTS: Final = 1024
EMERGENCY_SLOTS: Final = 256
"""The last ones are not for residents: two slots are one opening."""
COUNT_SLOT: Final = SLOTS
"""One behind the ring: how many entries are missing, when the ring itself is full."""
MERGED_NAME: Final = "reserve"
"""Under this name the log remembers the last number that it has taken over."""

_VERSION: Final = 1
_LENGTH_BYTES: Final = 2
_TAG_BYTES: Final = 16
_HASH_BYTES: Final = 32
_ITEMS: Final = 12


@dataclass(frozen=True, slots=True)
class Reserved:
    """One entry, with what `ports.storage.AuditLog.append` is told beside the fact."""

    number: int
    fact: Fact
    command: Command | None = None
    asked: Asked | None = None
    settles: CommandId | None = None

    def encode(self, secret: bytes) -> bytes:
        """The slot. Its time is cut to the minute, as in the log."""
        named = self.settles
        if self.command is not None:
            named = self.command.id
        elif self.asked is not None:
            named = self.asked.command
        fact = self.fact
        body = cbor.encode(
            [
                _VERSION,
                self.number,
                fact.time.now_s - fact.time.now_s % TIME_STEP_S,
                int(fact.time.state),
                int(fact.kind),
                fact.door,
                int(fact.verdict.outcome),
                int(fact.verdict.reason),
                fact.about,
                named,
                None if self.asked is None else self.asked.key,
                None if self.asked is None else self.asked.content,
            ]
        )
        filled = len(body).to_bytes(_LENGTH_BYTES, "big") + body
        padded = filled.ljust(SLOT_BYTES - _TAG_BYTES, b"\0")
        return padded + _tag(secret, padded)

    @classmethod
    def decode(cls, secret: bytes, slot: bytes) -> Reserved | None:
        """Read a slot; None for whatever is not whole, and not of this log."""
        padded, tag = slot[:-_TAG_BYTES], slot[-_TAG_BYTES:]
        if len(slot) != SLOT_BYTES or not hmac.compare_digest(tag, _tag(secret, padded)):
            return None
        body = padded[_LENGTH_BYTES:][: int.from_bytes(padded[:_LENGTH_BYTES], "big")]
        try:
            found = _parse(cbor.decode(body))
        except RemoteProtocolError:
            return None
        return found if found.encode(secret) == slot else None


def slot_of(number: int) -> int:
    """Where in the ring an entry stands."""
    return number % SLOTS


def room(first: int, number: int, *, emergency: bool) -> bool:
    """May an entry get `number` while `first` is the lowest that the log has not taken over?"""
    return number - first < (SLOTS if emergency else SLOTS - EMERGENCY_SLOTS)


def found(secret: bytes, slots: Sequence[bytes], merged: int) -> list[Reserved]:
    """The entries that the log does not have yet, in their order."""
    read = (Reserved.decode(secret, slot) for slot in slots)
    return sorted((each for each in read if each and each.number > merged), key=lambda e: e.number)


def _parse(items: cbor.Value) -> Reserved:
    if not isinstance(items, list) or len(items) != _ITEMS or items[0] != _VERSION:
        raise RemoteProtocolError(Fault.UNSUPPORTED, "not an entry of this version")
    _, counted, time_s, clock, kind, door, outcome, reason, about, named, key, content = items
    fact = Fact(
        TimeReading(code(ClockState, clock), number(time_s), math.inf, 0),
        code(EntryKind, kind),
        door_name(door),
        Verdict(code(Outcome, outcome), code(Reason, reason)),
        number(about),
    )
    id_ = None if named is None else CommandId(fixed_bytes(named, ID_BYTES))
    asked = None
    if id_ is not None and key is not None:
        asked = Asked(fixed_bytes(key, _HASH_BYTES), fixed_bytes(content, _HASH_BYTES), id_)
    if fact.kind is EntryKind.INTENT and id_ is not None and fact.door is not None:
        return Reserved(number(counted), fact, Command(id_, fact.door), asked)
    return Reserved(number(counted), fact, asked=asked, settles=None if asked else id_)


def _tag(secret: bytes, padded: bytes) -> bytes:
    return hmac.digest(secret, b"gatewayd reserve" + padded, hashlib.sha256)[:_TAG_BYTES]
