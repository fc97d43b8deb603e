"""What the operator says to gateways, signed: the same bytes by MQTT or on a phone.

First form: three orders, each signed by the key that the trust bundle names for
its kind. An order is idempotent by id and forgotten when the floor has passed
its expiry; who carries it out keeps the ids.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose
from firmware_proto.codes import ID_BYTES, Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.trust import Trust

ENVELOPE_TYPE: Final = "application/gatewayd-envelope+cbor"
EVERYBODY: Final = "*"
"""The addressee of what every gateway must hear."""
LATEST_S: Final = 253_402_300_799
"""9999-12-31T23:59:59Z: beyond it there is no calendar to hold a schedule against."""

_FORMAT: Final = 1
_HEADERS: Final = {cose.HEADER_ALG, cose.HEADER_TYP}


class Kind(IntEnum):
    """What a statement is about."""

    PULL = 1  # command key: send the log from an entry on
    ACK = 2  # command key: the log up to an entry is kept elsewhere
    TIME = 3  # time key: the answer to a nonce


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


def signer_of(kind: Kind, trust: Trust) -> ec.EllipticCurvePublicKey:
    """The key that must have signed statements of this kind."""
    return trust.time_key if kind is Kind.TIME else trust.command_key


def sign(statement: Statement, key: cose.SigningKey) -> bytes:
    """The statement as the operator sends it."""
    return cose.sign1(_encode(statement), key, protected={cose.HEADER_TYP: ENVELOPE_TYPE})


def verify(
    data: bytes, trust: Trust, *, kind: Kind, addressees: Collection[str], floor_s: int
) -> Statement:
    """The statement in `data`, if it is of this kind and for us.

    Args:
        data: an envelope from anywhere.
        trust: names the key that must have signed it.
        kind: the kind expected here.
        addressees: this gateway's id, its door group and `EVERYBODY`.
        floor_s: the time that has certainly passed (`TimeReading.floor_s`).

    Raises RemoteProtocolError: AUTHENTICATION_FAILED, MALFORMED, UNEXPECTED
    (another kind, or for somebody else), CLOCK_EXPIRED (the floor has passed it).
    """
    signed = cose.Sign1.parse(data)
    signed.verify(signer_of(kind, trust))
    if signed.protected.keys() != _HEADERS or signed.protected[cose.HEADER_TYP] != ENVELOPE_TYPE:
        raise _refused(Fault.MALFORMED, "another type of statement")
    if signed.unprotected:
        raise _refused(Fault.MALFORMED, "an unprotected header")
    statement = _decode(cbor.decode(signed.payload))
    if _encode(statement) != signed.payload:  # to Python true is a number, too
        raise _refused(Fault.MALFORMED, "another format")
    if statement.kind is not kind or statement.addressee not in addressees:
        raise _refused(Fault.UNEXPECTED, "another kind, or for somebody else")
    if floor_s >= statement.expires:
        raise _refused(Fault.CLOCK_EXPIRED, "expired")
    return statement


def _encode(statement: Statement) -> bytes:
    return cbor.encode(
        [
            _FORMAT,
            int(statement.kind),
            statement.addressee,
            statement.id,
            statement.expires,
            statement.body,
        ]
    )


def _decode(value: cbor.Value) -> Statement:
    match value:
        case [_, int(kind), str(addressee), bytes(identity), int(expires), body] if (
            kind in _KINDS and len(identity) == ID_BYTES
        ):
            return Statement(_KINDS[kind], addressee, identity, int(expires), body)
        case _:
            raise _refused(Fault.MALFORMED, "other fields")


_KINDS: Final = {int(kind): kind for kind in Kind}


def _refused(fault: Fault, detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(fault, f"envelope: {detail}")
