"""Orders: what the operator tells gateways to do, signed; the same bytes by MQTT or on a phone.

Each is signed by a key that the trust bundle names for its kind, and idempotent
by id. What has a lasting effect is numbered, too, so that a gateway notices what
was kept from it (`core.orders`). What is to hold from now on is `core.state`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose
from firmware_proto.codes import ID_BYTES, Fault
from firmware_proto.credential import LOG_KEY_BYTES
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.trust import Role, Trust, signed_by

ENVELOPE_TYPE: Final = "application/gatewayd-envelope+cbor"
EVERYBODY: Final = "*"
"""The addressee of what every gateway must hear."""
LATEST_S: Final = 253_402_300_799
"""9999-12-31T23:59:59Z: beyond it there is no calendar to hold a schedule against."""

_FORMAT: Final = 2
_NAME_LABEL: Final = "gatewayd order"
_MAX_NUMBER: Final = 2**63 - 1


class Kind(IntEnum):
    """What a statement is about."""

    PULL = 1  # command key: send the log from an entry on
    ACK = 2  # command key: the log up to an entry is kept elsewhere
    TIME = 3  # time key: the answer to a nonce
    RETIRE = 4  # command key, numbered: open nothing any more, the log is closed
    FLOOR = 5  # root or recovery key: the time that has passed was signed wrongly
    OPEN = 6  # command key: open a door now, where this gateway lets a helpdesk do that
    ERASE = 7  # command key, numbered: forget entries of the log
    DIAGNOSE = 8  # command key: how are you?


NUMBERED: Final = frozenset({Kind.RETIRE, Kind.ERASE})
"""What must not be done twice, nor be kept from a gateway unnoticed.

Of the others each is harmless when repeated: a pull reads, an acknowledgement
raises a cursor, a time answers one nonce, a floor names the one that it mends. An opening is
not numbered, because one that came too late is none that is missing: it has a
memory of its own (`core.helpdesk`).
"""


ANSWERED_AGAIN: Final = frozenset({Kind.OPEN})
"""What is carried out once, and whose repetition gets the same answer: its handler sees to it."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One order. `id` is 16 random bytes; `expires` is Unix seconds, the first second too late."""

    kind: Kind
    addressee: str
    """A gateway, a door group, or `EVERYBODY`."""
    id: bytes
    expires: int
    body: cbor.Value
    """Its form depends on the kind; what is parsed here is only that it is deterministic CBOR."""
    number: int | None = None
    """1, then one more for each of `NUMBERED` to this addressee; None for every other kind."""
    signer: bytes = field(default=b"", compare=False)
    """Key id of who signed it; set by `opened`."""

    @property
    def name(self) -> bytes:
        """32 bytes that stand for this order and the key that signed it, and tell neither."""
        named: list[cbor.Encodable] = [_NAME_LABEL, self.signer, _encode(self)]
        return hashlib.sha256(cbor.encode(named)).digest()


class TimeAnswer(NamedTuple):
    """The body of a TIME statement: at `time_s` the time key saw `nonce`."""

    nonce: bytes
    time_s: int

    def body(self) -> list[cbor.Value]:
        """For `Statement.body`."""
        return [self.nonce, self.time_s]

    @classmethod
    def of(cls, body: cbor.Value) -> TimeAnswer:
        """The answer in a body; RemoteProtocolError (MALFORMED) when it is none."""
        match body:
            # 0 and 1 are no times, and to Python true is 1
            case [bytes(nonce), int(time_s)] if len(nonce) == ID_BYTES and 1 < time_s <= LATEST_S:
                return cls(nonce, time_s)
            case _:
                raise _refused(Fault.MALFORMED, "not an answer about time")


class Retire(NamedTuple):
    """The body of a RETIRE statement: what follows entry `kept` is a gap that is declared."""

    kept: int
    """How many entries of the gateway's log the operator has."""
    log_key: bytes
    """Whose log: raw Ed25519. A gateway that replaces another may have its name."""

    def body(self) -> list[cbor.Value]:
        """For `Statement.body`."""
        return [self.kept, self.log_key]

    @classmethod
    def of(cls, body: cbor.Value) -> Retire:
        """The order in a body; RemoteProtocolError (MALFORMED) when it is none."""
        match body:
            case [kept, bytes(log_key)] if (
                type(kept) is int and 0 <= kept <= _MAX_NUMBER and len(log_key) == LOG_KEY_BYTES
            ):
                return cls(kept, log_key)
            case _:
                raise _refused(Fault.MALFORMED, "not an order to retire")


class Floor(NamedTuple):
    """The body of a FLOOR statement: whoever's floor is above `above_s` goes back to `to_s`.

    It mends one wrong signature about time. `above_s` lies well beyond the true
    time, so that nothing happens when it is repeated.
    """

    above_s: int
    to_s: int

    def body(self) -> list[cbor.Value]:
        """For `Statement.body`."""
        return [self.above_s, self.to_s]

    @classmethod
    def of(cls, body: cbor.Value) -> Floor:
        """The order in a body; RemoteProtocolError (MALFORMED) when it is none."""
        match body:
            case [above_s, to_s] if (
                type(above_s) is int and type(to_s) is int and 0 <= to_s < above_s <= LATEST_S
            ):
                return cls(above_s, to_s)
            case _:
                raise _refused(Fault.MALFORMED, "not an order about the floor")


def signers(kind: Kind, trust: Trust) -> tuple[ec.EllipticCurvePublicKey, ...]:
    """The keys of which one must have signed statements of this kind."""
    match kind:
        case Kind.TIME:
            return trust.keys(Role.TIME)
        case Kind.FLOOR:
            return trust.roots if trust.recovery is None else (*trust.roots, trust.recovery)
        case _:
            return trust.keys(Role.COMMAND)


def sign(statement: Statement, key: cose.SigningKey) -> bytes:
    """The statement as the operator sends it."""
    return cose.sign1(_encode(statement), key, protected={cose.HEADER_TYP: ENVELOPE_TYPE})


def opened(data: bytes, trust: Trust) -> tuple[Statement, bytes]:
    """The statement in `data`, whatever it is and whoever it is for, and its signer's key id.

    Raises RemoteProtocolError: AUTHENTICATION_FAILED, MALFORMED, UNSUPPORTED.
    """
    signed = cose.Sign1.parse(data)
    if not signed.is_typed(ENVELOPE_TYPE):
        raise _refused(Fault.MALFORMED, "another type of statement")
    statement = _decode(cbor.decode(signed.payload))
    if _encode(statement) != signed.payload:  # to Python true is a number, too
        raise _refused(Fault.MALFORMED, "another format")
    for key in signers(statement.kind, trust):
        if signed_by(signed, key):
            signer = cose.key_id(key)
            return replace(statement, signer=signer), signer
    raise _refused(Fault.AUTHENTICATION_FAILED, "nobody signed it who may")


def check(statement: Statement, addressees: Collection[str], floor_s: int) -> None:
    """Whether it is for us, and in time.

    Args:
        statement: from `opened`.
        addressees: this gateway's id, its door group and `EVERYBODY`.
        floor_s: the time that has certainly passed (`TimeReading.floor_s`).

    Raises RemoteProtocolError: UNEXPECTED (for somebody else), CLOCK_EXPIRED
    (the floor has passed it; not asked of what mends the floor).
    """
    if statement.addressee not in addressees:
        raise _refused(Fault.UNEXPECTED, "for somebody else")
    if floor_s >= statement.expires and statement.kind is not Kind.FLOOR:
        raise _refused(Fault.CLOCK_EXPIRED, "expired")


def verify(
    data: bytes, trust: Trust, *, kind: Kind, addressees: Collection[str], floor_s: int
) -> Statement:
    """The statement in `data`, if it is of this kind, for us and in time.

    Raises RemoteProtocolError as `opened` and `check`, and UNEXPECTED for another kind.
    """
    statement, _ = opened(data, trust)
    if statement.kind is not kind:
        raise _refused(Fault.UNEXPECTED, "another kind")
    check(statement, addressees, floor_s)
    return statement


def _encode(statement: Statement) -> bytes:
    return cbor.encode(
        [
            _FORMAT,
            int(statement.kind),
            statement.addressee,
            statement.id,
            statement.expires,
            statement.number,
            statement.body,
        ]
    )


def _decode(value: cbor.Value) -> Statement:
    match value:
        case [_, int(kind), str(addressee), bytes(identity), int(expires), number, body] if (
            kind in _KINDS and len(identity) == ID_BYTES
        ):
            known = _KINDS[kind]
            if known not in NUMBERED and number is None:
                return Statement(known, addressee, identity, int(expires), body)
            if known in NUMBERED and type(number) is int and 0 < number <= _MAX_NUMBER:
                return Statement(known, addressee, identity, int(expires), body, number)
            raise _refused(Fault.MALFORMED, "numbered, or not, as its kind is not")
        case _:
            raise _refused(Fault.MALFORMED, "other fields")


_KINDS: Final = {int(kind): kind for kind in Kind}


def _refused(fault: Fault, detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(fault, f"envelope: {detail}")
