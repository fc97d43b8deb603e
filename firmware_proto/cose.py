"""The part of COSE (RFC 9052, 9053) in use here: COSE_Sign1 and P-256 keys."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_proto import cbor
from firmware_proto.codes import Fault
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError

SigningKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
VerifyingKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

# header parameters (RFC 9052 §3.1, RFC 9596)
HEADER_ALG: Final = 1
HEADER_CRIT: Final = 2
HEADER_KID: Final = 4
HEADER_TYP: Final = 16

# algorithms (RFC 9053 §2, RFC 9864); we write the first of each pair
ES256: Final = -7
ESP256: Final = -9
EDDSA: Final = -8
ED25519: Final = -19

# COSE_Key (RFC 9053 §7.1)
_KTY, _KID, _CRV, _X, _Y = 1, 2, -1, -2, -3
_EC2: Final = 2
_P256: Final = 1

_COORDINATE_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_SIGN1_ITEMS: Final = 4
_KEY_ID_BYTES: Final = 8
_SIGNATURE1: Final = b"\x84" + cbor.encode("Signature1")
_ECDSA: Final = ec.ECDSA(SHA256())
_ECDSA_DETERMINISTIC: Final = ec.ECDSA(SHA256(), deterministic_signing=True)  # RFC 6979
_NOTHING: Final[Mapping[int, Any]] = {}
_HEADERS_REMEMBERED: Final = 16


class Sign1(NamedTuple):
    """An untagged COSE_Sign1, parsed but believed only after `verify`."""

    protected: Mapping[cbor.MapKey, cbor.Value]
    unprotected: Mapping[cbor.MapKey, cbor.Value]
    payload: bytes
    signature: bytes
    protected_bytes: bytes
    """The protected header as signed."""

    @classmethod
    def parse(cls, data: bytes) -> Sign1:
        """Raises RemoteProtocolError (MALFORMED, or UNSUPPORTED for critical headers)."""
        items = cbor.decode(data)
        if not isinstance(items, list) or len(items) != _SIGN1_ITEMS:
            raise _malformed("not four items")
        protected_bytes, unprotected, payload, signature = items
        if not (
            isinstance(protected_bytes, bytes)
            and isinstance(unprotected, dict)
            and isinstance(payload, bytes)
            and isinstance(signature, bytes)
        ):
            raise _malformed("items of other types")
        if len(signature) != _SIGNATURE_BYTES:
            raise _malformed("a signature that is not 64 bytes long")
        protected = _protected_header(protected_bytes)
        if unprotected:
            _check_labels(unprotected)
            if not protected.keys().isdisjoint(unprotected):
                raise _malformed("a label in both headers")
        return cls(protected, unprotected, payload, signature, protected_bytes)

    def is_typed(self, kind: str) -> bool:
        """Whether its headers say that it is of this type (RFC 9596), and nothing else."""
        if self.protected.keys() != {HEADER_ALG, HEADER_TYP} or self.unprotected:
            return False
        return self.protected[HEADER_TYP] == kind

    def verify(self, public_key: VerifyingKey, external_aad: bytes = b"") -> None:
        """Raises RemoteProtocolError (AUTHENTICATION_FAILED) unless `public_key` signed this.

        The algorithm belongs to the key that the caller trusts; the header
        only has to agree, it never chooses.
        """
        algorithm = self.protected.get(HEADER_ALG)
        signed = _to_be_signed(self.protected_bytes, external_aad, self.payload)
        try:
            if isinstance(public_key, ed25519.Ed25519PublicKey):
                _check_algorithm(algorithm, EDDSA, ED25519)
                public_key.verify(self.signature, signed)
            else:
                _check_algorithm(algorithm, ES256, ESP256)
                check_curve(public_key)
                public_key.verify(_to_der(self.signature), signed, _ECDSA)
        except InvalidSignature:
            raise _unauthentic("the signature does not verify") from None


def sign1(
    payload: bytes,
    key: SigningKey,
    *,
    protected: Mapping[int, Any],
    unprotected: Mapping[int, Any] = _NOTHING,
    external_aad: bytes = b"",
) -> bytes:
    """An untagged COSE_Sign1 of `payload`; `alg` is added to the protected header.

    ECDSA is deterministic (RFC 6979), so the same arguments give the same bytes.
    """
    ed = isinstance(key, ed25519.Ed25519PrivateKey)
    header = cbor.encode({**protected, HEADER_ALG: EDDSA if ed else ES256})
    signed = _to_be_signed(header, external_aad, payload)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(signed)
    else:
        check_curve(key)
        signature = _from_der(key.sign(signed, _ECDSA_DETERMINISTIC))
    return cbor.encode([header, unprotected, payload, signature])


def public_key_to_cose(key: ec.EllipticCurvePublicKey) -> dict[int, Any]:
    """A COSE_Key with both coordinates."""
    check_curve(key)
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    x, y = point[1 : 1 + _COORDINATE_BYTES], point[1 + _COORDINATE_BYTES :]
    return {_KTY: _EC2, _CRV: _P256, _X: x, _Y: y}


def public_key_from_cose(key: cbor.Value) -> ec.EllipticCurvePublicKey:
    """The P-256 key in a COSE_Key, which holds kty, crv, x, y, perhaps kid, and nothing else.

    Raises RemoteProtocolError (MALFORMED), also for a point that is not on the curve.
    """
    if not isinstance(key, dict) or key.keys() - {_KID} != {_KTY, _CRV, _X, _Y}:
        raise _bad_key("unknown or missing members")
    if key[_KTY] != _EC2 or key[_CRV] != _P256 or key[_CRV] is True:  # to Python, true is 1
        raise _bad_key("not P-256")
    if not isinstance(key.get(_KID, b""), bytes):
        raise _bad_key("kid is no byte string")
    x, y = key[_X], key[_Y]
    if not isinstance(x, bytes) or len(x) != _COORDINATE_BYTES:
        raise _bad_key("x is not 32 bytes")
    if isinstance(y, bool):  # the sign of y (RFC 9053 §7.1.1)
        return public_key_from_point(bytes((2 + y,)) + x)
    if not isinstance(y, bytes) or len(y) != _COORDINATE_BYTES:
        raise _bad_key("y is not 32 bytes")
    return public_key_from_point(b"\x04" + x + y)


def public_key_from_point(point: bytes) -> ec.EllipticCurvePublicKey:
    """The P-256 key of a SEC 1 point; RemoteProtocolError (MALFORMED) when it is none."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise RemoteProtocolError(Fault.MALFORMED, "not a point on P-256") from None


def check_curve(key: ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey) -> None:
    """LocalProtocolError unless the caller's key is on P-256."""
    if not isinstance(key.curve, ec.SECP256R1):
        raise LocalProtocolError("the key is not on P-256")


def key_id(key: ec.EllipticCurvePublicKey) -> bytes:
    """How a key is named, 8 bytes: the head of its COSE Key Thumbprint (RFC 9679, SHA-256)."""
    return sha256(cbor.encode(public_key_to_cose(key))).digest()[:_KEY_ID_BYTES]


# --- details --------------------------------------------------------------------
def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"COSE_Sign1: {detail}")


def _bad_key(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"COSE_Key: {detail}")


def _unauthentic(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.AUTHENTICATION_FAILED, f"COSE_Sign1: {detail}")


# One issuer writes the same header into all that it signs. The caller sees a
# view that cannot be written to; strangers can only push out what is remembered.
@lru_cache(_HEADERS_REMEMBERED)
def _protected_header(encoded: bytes) -> Mapping[cbor.MapKey, cbor.Value]:
    header = cbor.decode(encoded)
    if not isinstance(header, dict):
        raise _malformed("the protected header is no map")
    _check_labels(header)
    return MappingProxyType(header)


def _check_labels(header: Mapping[cbor.MapKey, cbor.Value]) -> None:
    """RFC 9052 §3: labels are numbers or text; no critical ones are known."""
    for label in header:
        if label == HEADER_CRIT:
            raise RemoteProtocolError(Fault.UNSUPPORTED, "COSE_Sign1: critical headers")
        if isinstance(label, bytes):
            raise _malformed("a label that is a byte string")


def _check_algorithm(algorithm: cbor.Value, *accepted: int) -> None:
    # `in` would take True for 1, but no algorithm here is 0 or 1
    if algorithm not in accepted:
        raise _unauthentic("the algorithm in the header is not the key's")


def _to_be_signed(protected: bytes, external_aad: bytes, payload: bytes) -> bytes:
    """Sig_structure (RFC 9052 §4.4)."""
    string = cbor.byte_string
    return _SIGNATURE1 + string(protected) + string(external_aad) + string(payload)


def _to_der(signature: bytes) -> bytes:
    r, s = signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:]
    return encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))


def _from_der(signature: bytes) -> bytes:
    r, s = decode_dss_signature(signature)
    return r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
