"""A gateway's certificate with who signed it, and how the operator sends the next one.

Nothing in it is secret, so a renewal is signed by the operator's gateways key and not sealed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.certificates import Certificate
from gatewayd.core.trust import Role, Trust, signed_by

RENEWAL_TYPE: Final = "application/gatewayd-certificate+cbor"
MAX_RENEWAL_BYTES: Final = 8192

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, and who signed it."""

    certificate: Certificate
    authority: Certificate

    @classmethod
    def parse(cls, certificate: bytes, authority: bytes) -> Self:
        """Both are DER. RemoteProtocolError."""
        return cls(Certificate.parse(certificate), Certificate.parse(authority))

    def check(self, gateway: str, key: ec.EllipticCurvePublicKey) -> None:
        """RemoteProtocolError (AUTHENTICATION_FAILED) unless it is this gateway's, for this key."""
        if (self.certificate.name, self.certificate.key) != (gateway, key):
            raise _unauthentic("it is for another name or key")
        if not self.certificate.signed_by(self.authority.key):
            raise _unauthentic("it is not its authority's")

    def sign(self, gateways: ec.EllipticCurvePrivateKey) -> bytes:
        """What a gateway gets that asked for its next certificate."""
        payload = cbor.encode([_FORMAT, self.certificate.der, self.authority.der])
        return cose.sign1(payload, gateways, protected={cose.HEADER_TYP: RENEWAL_TYPE})

    @classmethod
    def verify(
        cls, data: bytes, trust: Trust, gateway: str, key: ec.EllipticCurvePublicKey
    ) -> Self:
        """The next certificate of `gateway` for its `key`. RemoteProtocolError."""
        if len(data) > MAX_RENEWAL_BYTES:
            raise _malformed("too long")
        signed = cose.Sign1.parse(data)
        if not signed.is_typed(RENEWAL_TYPE):
            raise _malformed("another type of statement")
        if not any(signed_by(signed, each) for each in trust.keys(Role.GATEWAYS)):
            raise _unauthentic("the gateways key did not sign it")
        match cbor.decode(signed.payload):
            case [1, bytes(certificate), bytes(authority)]:
                found = cls.parse(certificate, authority)
            case _:
                raise _malformed("other fields")
        found.check(gateway, key)
        return found


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"certificate: {detail}")


def _unauthentic(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.AUTHENTICATION_FAILED, f"certificate: {detail}")
