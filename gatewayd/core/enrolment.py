"""What a new gateway asks of the operator, and what it is answered.

Both travel through a broker that nobody believes, or as files. The request is
signed by the key that only the claim's holder can derive. The answer is sealed
to a key of this one request, names the request, and is signed by the
operator's gateways key, which the trust bundle names, which the root signed,
whose fingerprint the claim has. So a broker can keep both back, and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.credential import LOG_KEY_BYTES, GatewayCredential
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import certificates, provisioned_time
from gatewayd.core.invitation import CLAIM_ID_BYTES, Claim, claim_id, fingerprint, is_broker
from gatewayd.core.renewal import Issued
from gatewayd.core.trust import Role, Trust, signed_by, verify_bundle, verify_credential

REQUEST_TYPE: Final = "application/gatewayd-enrolment-request+cbor"
ANSWER_TYPE: Final = "application/gatewayd-enrolment-answer+cbor"
MAX_REQUEST_BYTES: Final = 4096
MAX_ANSWER_BYTES: Final = 48 * 1024
"""A trust bundle is most of it; one packet of a broker may have 64 KiB."""
MOST_AUTHORITIES: Final = 4

_FORMAT: Final = 1


class Refusal(IntEnum):
    """Why an authentic request gets nothing."""

    USED = 1
    """Another device has used this claim."""
    EXPIRED = 2
    OTHER_KEYS = 3
    """The gateway that it is for enrolled with other keys: this is another box, or another card."""
    SUPERSEDED = 4
    """Another gateway has its doors."""

    @property
    def words(self) -> str:
        """For people."""
        return _WORDS[self]


_WORDS: Final = {
    Refusal.USED: "the claim is used",
    Refusal.EXPIRED: "the claim is expired",
    Refusal.OTHER_KEYS: "this gateway enrolled before, with other keys",
    Refusal.SUPERSEDED: "its doors are another gateway's now",
}


class EnrolmentRefusedError(Exception):
    """The operator says no; it is his answer, not the broker's."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.name.lower())
        self.refusal = refusal


# --- the request ------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The public halves of a gateway's keys; the private ones never leave it."""

    claim: bytes
    """`Claim.id`."""
    certificate_request: bytes
    key: ec.EllipticCurvePublicKey
    log_key: bytes
    receipt_key: ec.EllipticCurvePublicKey
    answer_key: ec.EllipticCurvePublicKey
    """The answer is sealed to it; made for this request, and forgotten with it."""

    @property
    def tls_key(self) -> ec.EllipticCurvePublicKey:
        """What the certificate is asked for. RemoteProtocolError when its holder did not sign."""
        return certificates.key_of_request(self.certificate_request)

    @property
    def digest(self) -> bytes:
        """What an answer names: all that is asked, but not the signature under it."""
        return sha256(self.encode()).digest()

    def sign(self, claim: Claim) -> bytes:
        """The request as it is sent; the same bytes each time (RFC 8032 draws no randomness)."""
        return cose.sign1(self.encode(), claim.key, protected={cose.HEADER_TYP: REQUEST_TYPE})

    @classmethod
    def verify(cls, data: bytes, claim_key: ed25519.Ed25519PublicKey) -> Request:
        """The request in `data`.

        Raises RemoteProtocolError: AUTHENTICATION_FAILED unless whoever holds
        the claim and the keys made it, MALFORMED.
        """
        signed = _parse(data, REQUEST_TYPE, MAX_REQUEST_BYTES)
        signed.verify(claim_key)
        found = _decode_request(cbor.decode(signed.payload))
        if found.claim != claim_id(claim_key):
            raise _malformed("it is of another claim")
        if found.encode() != signed.payload:
            raise _malformed("not in the one form that a request has")
        keys = (found.key, found.receipt_key, found.answer_key, found.tls_key)
        if any(keys.count(each) > 1 for each in keys):
            raise _malformed("one key for two purposes")
        return found

    def encode(self) -> bytes:
        """What is signed."""
        return cbor.encode(
            [
                _FORMAT,
                self.claim,
                self.certificate_request,
                cose.public_key_to_cose(self.key),
                self.log_key,
                cose.public_key_to_cose(self.receipt_key),
                cose.public_key_to_cose(self.answer_key),
            ]
        )


def claim_of(data: bytes) -> bytes:
    """Which claim a request names, before anything of it is believed. RemoteProtocolError."""
    signed = _parse(data, REQUEST_TYPE, MAX_REQUEST_BYTES)
    return _decode_request(cbor.decode(signed.payload)).claim


def _decode_request(value: cbor.Value) -> Request:
    match value:
        case [_, bytes(claim), bytes(request), key, bytes(log_key), receipt, answer] if (
            len(claim) == CLAIM_ID_BYTES and len(log_key) == LOG_KEY_BYTES
        ):
            return Request(
                claim=claim,
                certificate_request=request,
                key=cose.public_key_from_cose(key),
                log_key=log_key,
                receipt_key=cose.public_key_from_cose(receipt),
                answer_key=cose.public_key_from_cose(answer),
            )
        case _:
            raise _malformed("other fields")


# --- the answer -------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Everything that a gateway gets besides the keys that it made itself."""

    credential: bytes
    certificate: bytes
    authority: bytes
    """Who signed the certificate, DER as it."""
    broker: str
    """Where the gateway is to keep its session."""
    authorities: tuple[bytes, ...]
    """Who signed that broker's certificate; none: whom the system believes."""
    time: bytes
    """Signed for this gateway a moment before the answer left."""
    bindings: bytes | None = None
    """What moves its doors, as the body of BINDINGS, as far as the operator knows."""

    def encode(self) -> list[cbor.Encodable]:
        """As it stands in an answer."""
        return [
            self.credential,
            self.certificate,
            self.authority,
            self.broker,
            list(self.authorities),
            self.time,
            self.bindings,
        ]


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A grant that was verified, with all that it was held against."""

    root: ec.EllipticCurvePublicKey
    bundle: bytes
    trust: Trust
    grant: Grant
    credential: GatewayCredential
    time_s: int


def sign_answer(
    digest: bytes,
    result: Grant | Refusal,
    *,
    root: ec.EllipticCurvePublicKey,
    bundle: bytes,
    gateways: ec.EllipticCurvePrivateKey,
) -> bytes:
    """The answer to the request of that digest, before it is sealed."""
    body = int(result) if isinstance(result, Refusal) else result.encode()
    statement = cose.sign1(
        cbor.encode([_FORMAT, digest, body]), gateways, protected={cose.HEADER_TYP: ANSWER_TYPE}
    )
    return _outside(root, bundle, statement)


def _outside(root: ec.EllipticCurvePublicKey, bundle: bytes, statement: bytes) -> bytes:
    return cbor.encode([_FORMAT, cose.public_key_to_cose(root), bundle, statement])


def seal_info(claim: bytes) -> bytes:
    """Binds a sealed answer to the claim for which it was sealed."""
    return b"gatewayd enrolment " + claim


def verify_answer(data: bytes, claim: Claim, request: Request) -> Enrolled:
    """The grant in an opened answer, held against the claim and against what was asked.

    Raises:
        RemoteProtocolError: it is not this operator's answer to this request.
        EnrolmentRefusedError: it is, and the answer is no.
    """
    match cbor.decode(data):
        case [_, root_key, bytes(bundle), bytes(statement)]:
            root = cose.public_key_from_cose(root_key)
        case _:
            raise _malformed("other fields")
    if _outside(root, bundle, statement) != data:
        raise _malformed("not in the one form that an answer has")
    if fingerprint(root) != claim.root:
        raise unauthentic("the root key is not the one that the claim names")
    trust = verify_bundle(bundle, root)
    if trust.group != claim.group:
        raise unauthentic("the trust bundle is of another group")
    signed = _parse(statement, ANSWER_TYPE, MAX_ANSWER_BYTES)
    if not any(signed_by(signed, key) for key in trust.keys(Role.GATEWAYS)):
        raise unauthentic("the gateways key did not sign it")
    match cbor.decode(signed.payload):
        case [1, bytes(digest), body] if digest == request.digest:
            grant = _decode_result(body)
        case _:
            raise unauthentic("it answers another request")
    ours = verify_credential(grant.credential, trust)
    _compare(ours, claim, request)
    Issued.parse(grant.certificate, grant.authority).check(claim.gateway, request.tls_key)
    time_s = provisioned_time.verify(grant.time, trust, claim.gateway)
    return Enrolled(root, bundle, trust, grant, ours, time_s)


def _decode_result(value: cbor.Value) -> Grant:
    match value:
        case int(code) if code in _REFUSALS and code is not True:
            raise EnrolmentRefusedError(_REFUSALS[code])
        case [
            bytes(ours), bytes(certificate), bytes(authority), str(broker), list(authorities),
            bytes(time), None | bytes() as bindings,
        ] if is_broker(broker) and len(authorities) <= MOST_AUTHORITIES:  # fmt: skip
            return Grant(
                credential=ours,
                certificate=certificate,
                authority=authority,
                broker=broker,
                authorities=tuple(_authority(each) for each in authorities),
                time=time,
                bindings=bindings,
            )
        case _:
            raise _malformed("neither a grant nor a refusal")


_REFUSALS: Final = {int(each): each for each in Refusal}


def _authority(value: cbor.Value) -> bytes:
    if not isinstance(value, bytes):
        raise _malformed("an authority that is no byte string")
    return certificates.check_foreign(value)


def _compare(ours: GatewayCredential, claim: Claim, request: Request) -> None:
    named = (ours.gateway, ours.group, tuple(sorted(ours.doors)))
    if named != (claim.gateway, claim.group, claim.doors):
        raise unauthentic("the credential is not for what the claim names")
    keys = (ours.key, ours.log_key, ours.receipt_key)
    if keys != (request.key, request.log_key, request.receipt_key):
        raise unauthentic("the credential is for other keys than ours")


# --- details --------------------------------------------------------------------
def _parse(data: bytes, kind: str, most: int) -> cose.Sign1:
    if len(data) > most:
        raise _malformed("too long")
    signed = cose.Sign1.parse(data)
    if not signed.is_typed(kind):
        raise _malformed("another type of statement")
    return signed


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"enrolment: {detail}")


def unauthentic(detail: str) -> RemoteProtocolError:
    """For what somebody else than he should has said."""
    return RemoteProtocolError(Fault.AUTHENTICATION_FAILED, f"enrolment: {detail}")
