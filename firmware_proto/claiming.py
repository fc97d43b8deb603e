"""How a lock becomes somebody's: what its label says, and the proof that somebody has read it.

The label carries the lock's public key, by which a gateway knows that it talks
to this very lock, and a secret, by which the lock knows that the gateway's
installer stands before it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_proto import cbor, cose, edhoc
from firmware_proto.codes import Fault
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError

SECRET_BYTES: Final = 16
BUTTON_S: Final = 120.0
"""How long after its button was pressed a lock may be claimed or reset by its label."""
NOBODYS: Final = ""
"""The door of a lock that belongs to nobody; no door has this name."""

_PREFIX: Final = "GWL1"
_GROUP: Final = 5
_CHECK_BYTES: Final = 3
_POINT_BYTES: Final = 33
_MAX_TEXT: Final = 512
_BETWEEN: Final = re.compile(r"[\s:.-]+")


class Purpose(Enum):
    """What a proof is for; one for one thing proves nothing for another."""

    CLAIM = "gatewayd claim"
    RESET = "gatewayd reset"


def proof(secret: bytes, binding: bytes, purpose: Purpose) -> bytes:
    """HMAC-SHA-256 by the label's secret over what this handshake alone has."""
    return hmac.digest(secret, cbor.encode([purpose.value, binding]), "sha256")


def nobodys_credential(key: ec.EllipticCurvePublicKey) -> bytes:
    """The CCS of a lock before it is claimed."""
    return edhoc.ccs(NOBODYS, key, cose.key_id(key))


@dataclass(frozen=True, slots=True)
class Label:
    """What stands on a lock, as QR code and as text to type."""

    key: ec.EllipticCurvePublicKey
    secret: bytes = field(repr=False)

    def text(self) -> str:
        """`GWL1` and base32 in groups of five, in the letters of a QR code's alphanumeric mode."""
        point = self.key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        data = point + self.secret
        letters = base64.b32encode(data + _check(data)).decode().rstrip("=")
        groups = [letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP)]
        return "-".join((_PREFIX, *groups))

    @classmethod
    def parse(cls, text: str) -> Label:
        """From a QR code or from fingers: small letters, spaces and hyphens do not matter.

        RemoteProtocolError (MALFORMED) says what is wrong, never what was typed.
        """
        letters = _BETWEEN.sub("", text[:_MAX_TEXT]).upper()
        if not letters.startswith(_PREFIX):
            raise _malformed(f"it begins with {_PREFIX}")
        letters = letters.removeprefix(_PREFIX)
        try:
            data = base64.b32decode(letters + "=" * (-len(letters) % 8))
        except (binascii.Error, ValueError):
            raise _malformed("it has the letters A to Z and the digits 2 to 7") from None
        if len(data) != _POINT_BYTES + SECRET_BYTES + _CHECK_BYTES:
            raise _malformed("letters are missing, or too many")
        data, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
        if check != _check(data):
            raise _malformed("a letter is wrong")
        label = cls(cose.public_key_from_point(data[:_POINT_BYTES]), data[_POINT_BYTES:])
        if label.text().replace("-", "") != _PREFIX + letters:  # base32 ends in bits of no use
            raise _malformed("a letter is wrong")
        return label

    def __post_init__(self) -> None:
        cose.check_curve(self.key)
        if len(self.secret) != SECRET_BYTES:
            raise LocalProtocolError(f"a claim secret has {SECRET_BYTES} bytes")


def _check(data: bytes) -> bytes:
    return sha256(data).digest()[:_CHECK_BYTES]


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"that is no lock's label: {detail}")
