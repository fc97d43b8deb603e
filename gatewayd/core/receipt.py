"""A signed receipt to the phone: proof of a visit while the cloud is down.

Anybody who has the gateway's credential, hence the operator's public key, can
check it offline. It names the token by a hash and the log entry by origin and
number, and tells the minute, never the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault, Outcome
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.model import DoorId

RECEIPT_TYPE: Final = "application/gatewayd-receipt+cbor"
MINUTE_S: Final = 60

_FORMAT: Final = 1
_HASH_BYTES: Final = 32
_OUTCOMES: Final = {int(outcome): outcome for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a gateway certifies."""

    door: DoorId
    minute_s: int
    """Unix seconds, a multiple of 60."""
    token: bytes
    """`TokenIdentity.digest()`."""
    outcome: Outcome
    origin: str
    """The log's origin line."""
    seq: int
    """The entry that recorded the outcome."""


def cut_to_minute(time_s: int) -> int:
    """For `minute_s`."""
    return time_s - time_s % MINUTE_S


def issue(receipt: Receipt, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The receipt, signed by the gateway's receipt key. ValueError for a time within a minute."""
    if receipt.minute_s % MINUTE_S:
        raise ValueError("a receipt tells the minute, not the second")
    return cose.sign1(_encode(receipt), key, protected={cose.HEADER_TYP: RECEIPT_TYPE})


def verify(data: bytes, key: ec.EllipticCurvePublicKey) -> Receipt:
    """The receipt in `data`, signed by `key`.

    Raises RemoteProtocolError (AUTHENTICATION_FAILED or MALFORMED).
    """
    signed = cose.Sign1.parse(data)
    signed.verify(key)
    if not signed.is_typed(RECEIPT_TYPE):
        raise _malformed("another type of statement")
    receipt = _decode(cbor.decode(signed.payload))
    if _encode(receipt) != signed.payload:
        raise _malformed("not in the one form that a receipt has")
    return receipt


def _encode(receipt: Receipt) -> bytes:
    return cbor.encode(
        [
            _FORMAT,
            receipt.door,
            receipt.minute_s,
            receipt.token,
            int(receipt.outcome),
            receipt.origin,
            receipt.seq,
        ]
    )


def _decode(value: cbor.Value) -> Receipt:
    match value:
        case [_, str(door), int(minute_s), bytes(token), int(outcome), str(origin), int(seq)] if (
            minute_s % MINUTE_S == 0 and len(token) == _HASH_BYTES and outcome in _OUTCOMES
        ):
            numbered = _OUTCOMES[outcome], origin, int(seq)
            return Receipt(DoorId(door), int(minute_s), token, *numbered)
        case _:
            raise _malformed("other fields")


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"receipt: {detail}")
