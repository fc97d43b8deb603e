"""What a gateway shows to phones and locks: a CWT (RFC 8392) signed by the operator.

Phones and locks pin the operator's `gateways` key, not the box. The credential
names the doors that the gateway serves, each with its generation; a lock takes
the highest generation that it has seen and refuses lower ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose
from firmware_proto.codes import MAX_DOOR_ID_BYTES, Fault
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError

CREDENTIAL_TYPE: Final = "application/gatewayd-gateway+cwt"
MAX_NAME_BYTES: Final = 64
LOG_KEY_BYTES: Final = 32

# claims (RFC 8392 §3.1, RFC 8747 §3.1; below -65536: private use)
_SUB, _EXP, _IAT, _CNF = 2, 4, 6, 8
_COSE_KEY: Final = 1
_DOORS, _GROUP, _LOG_KEY, _RECEIPT_KEY = -65601, -65602, -65603, -65604
_CLAIMS: Final = frozenset({_SUB, _EXP, _IAT, _CNF, _DOORS, _GROUP, _LOG_KEY, _RECEIPT_KEY})

_MAX_NUMBER: Final = 2**63 - 1  # of seconds and generations; SQLite stores no more


@dataclass(frozen=True, slots=True)
class GatewayCredential:
    """Claims of a gateway credential. Times in Unix seconds.

    One key, one purpose: `key` proves the gateway in EDHOC, `log_key` (Ed25519,
    raw) signs its checkpoints, `receipt_key` its receipts.
    """

    gateway: str
    doors: Mapping[str, int]
    """Door to generation."""
    group: str
    issued_at: int
    expires: int
    key: ec.EllipticCurvePublicKey
    log_key: bytes
    receipt_key: ec.EllipticCurvePublicKey

    def due(self, now_s: int) -> bool:
        """Whether a third of its life or less is left; so it is after its end."""
        return now_s >= self.expires - (self.expires - self.issued_at) // 3


def issue(
    credential: GatewayCredential, signer: ec.EllipticCurvePrivateKey, key_id: bytes
) -> bytes:
    """The signed credential; LocalProtocolError for claims that `verify` would refuse."""
    claims = cbor.encode(
        {
            _SUB: credential.gateway,
            _EXP: credential.expires,
            _IAT: credential.issued_at,
            _CNF: {_COSE_KEY: cose.public_key_to_cose(credential.key)},
            _DOORS: dict(credential.doors),
            _GROUP: credential.group,
            _LOG_KEY: credential.log_key,
            _RECEIPT_KEY: cose.public_key_to_cose(credential.receipt_key),
        }
    )
    try:
        _parse(claims)
    except RemoteProtocolError as error:
        raise LocalProtocolError(error.detail) from None
    return cose.sign1(
        claims,
        signer,
        protected={cose.HEADER_TYP: CREDENTIAL_TYPE},
        unprotected={cose.HEADER_KID: key_id},
    )


def verify(data: bytes, gateways_key: ec.EllipticCurvePublicKey) -> GatewayCredential:
    """The claims, when `gateways_key` signed them; times are for the caller to judge.

    Raises RemoteProtocolError: AUTHENTICATION_FAILED, or MALFORMED also for a
    claim or header that is unknown.
    """
    signed = _signed(data)
    signed.verify(gateways_key)
    return _parse(signed.payload)


def unverified(data: bytes) -> GatewayCredential:
    """What a credential says that anybody may have signed; MALFORMED when it is none.

    For a lock that belongs to nobody and so trusts nobody: whoever claims it
    names the key by which this same credential must then verify.
    """
    return _parse(_signed(data).payload)


def _signed(data: bytes) -> cose.Sign1:
    signed = cose.Sign1.parse(data)
    if signed.protected.keys() != {cose.HEADER_ALG, cose.HEADER_TYP}:
        raise _malformed("other protected headers")
    if signed.protected[cose.HEADER_TYP] != CREDENTIAL_TYPE:
        raise _malformed("another type")
    if signed.unprotected.keys() != {cose.HEADER_KID}:
        raise _malformed("other unprotected headers")
    if not isinstance(signed.unprotected[cose.HEADER_KID], bytes):
        raise _malformed("kid is no byte string")
    return signed


def _parse(payload: bytes) -> GatewayCredential:
    claims = cbor.decode(payload)
    if not isinstance(claims, dict) or claims.keys() != _CLAIMS:
        raise _malformed("unknown or missing claims")
    credential = GatewayCredential(
        gateway=_name(claims[_SUB], MAX_NAME_BYTES),
        doors=_doors(claims[_DOORS]),
        group=_name(claims[_GROUP], MAX_NAME_BYTES),
        issued_at=_number(claims[_IAT]),
        expires=_number(claims[_EXP]),
        key=_confirmation(claims[_CNF]),
        log_key=_log_key(claims[_LOG_KEY]),
        receipt_key=cose.public_key_from_cose(claims[_RECEIPT_KEY]),
    )
    if credential.expires <= credential.issued_at:
        raise _malformed("it expires before it is issued")
    if credential.key == credential.receipt_key:
        raise _malformed("one key for two purposes")
    return credential


def _doors(value: cbor.Value) -> Mapping[str, int]:
    if not isinstance(value, dict) or not value:
        raise _malformed("no doors")
    return {
        _name(door, MAX_DOOR_ID_BYTES): _number(generation) for door, generation in value.items()
    }


def _confirmation(value: cbor.Value) -> ec.EllipticCurvePublicKey:
    if not isinstance(value, dict) or value.keys() != {_COSE_KEY}:
        raise _malformed("cnf holds something else than a COSE_Key")
    return cose.public_key_from_cose(value[_COSE_KEY])


def _log_key(value: cbor.Value) -> bytes:
    if not isinstance(value, bytes) or len(value) != LOG_KEY_BYTES:
        raise _malformed("the log key is not 32 bytes")
    return value


def _name(value: cbor.Value, limit: int) -> str:
    if not isinstance(value, str) or not 0 < len(value.encode()) <= limit:
        raise _malformed("a name that is no text, empty or too long")
    return value


def _number(value: cbor.Value) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_NUMBER:
        raise _malformed("a number out of bounds")
    return value


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"gateway credential: {detail}")
