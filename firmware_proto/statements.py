"""What the operator signs for locks: new keys to trust, and leave to belong to nobody again.

Each is a COSE_Sign1 of a type of its own over a map like that of a message, and
has exactly one encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Self

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault, Key
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.fields import INTEGER, Bytes, Point, Wire, from_map, table, to_map

KEY_ID_BYTES: Final = 8


class _Statement:
    """Signs and verifies a dataclass whose fields are annotated with `Wire`."""

    __slots__ = ()

    TYP: ClassVar[str]

    def sign(self, key: cose.SigningKey) -> bytes:
        """As the operator states it. LocalProtocolError for a field out of its bounds."""
        content: dict[int, Any] = to_map(table(type(self)), self)
        return cose.sign1(cbor.encode(content), key, protected={cose.HEADER_TYP: self.TYP})

    @classmethod
    def verify(cls, data: bytes, key: cose.VerifyingKey) -> Self:
        """RemoteProtocolError: AUTHENTICATION_FAILED, or MALFORMED."""
        signed = cose.Sign1.parse(data)
        signed.verify(key)
        if not signed.is_typed(cls.TYP):
            raise _malformed("another type of statement")
        body = cbor.decode(signed.payload)
        if not isinstance(body, dict):
            raise _malformed("not a map")
        return from_map(cls, table(cls), body)


@dataclass(frozen=True, slots=True)
class Anchoring(_Statement):
    """Root: the operator's keys from now on. Locks take exactly the serial after their own."""

    TYP: ClassVar = "application/gatewayd-anchor+cbor"
    serial: Annotated[int, Wire(Key.SERIAL, INTEGER)]
    gateways_key: Annotated[PublicKey, Wire(Key.GATEWAYS_KEY, Point())]
    command_key: Annotated[PublicKey, Wire(Key.COMMAND_KEY, Point())]


@dataclass(frozen=True, slots=True)
class Reset(_Statement):
    """Command key: the lock with this key shall belong to nobody; in this epoch, in no later."""

    TYP: ClassVar = "application/gatewayd-lock-reset+cbor"
    key_id: Annotated[bytes, Wire(Key.KEY_ID, Bytes(KEY_ID_BYTES, KEY_ID_BYTES))]
    epoch: Annotated[int, Wire(Key.EPOCH, INTEGER)]


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"statement to a lock: {detail}")
