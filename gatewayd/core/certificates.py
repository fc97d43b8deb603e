"""X.509 as far as MQTT needs it (RFC 5280, RFC 2986): an authority, requests, certificates.

Brokers know gateways by the certificate's common name. What phones and locks
believe is the gateway credential and never one of these.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.term import Term

MAX_BYTES: Final = 2048
"""One of ours has half of it; nothing larger is even parsed."""
RENEW_AT: Final = 3
"""A certificate is renewed when a third of its life is left."""

_BACKDATED_S: Final = 3600  # clocks that are a little behind believe it, too
_SERIAL_BYTES: Final = 16
_NOTHING: Final = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, key_cert_sign=False, crl_sign=False,
    encipher_only=False, decipher_only=False,
)  # fmt: skip
_SIGNS: Final = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
    encipher_only=False, decipher_only=False,
)  # fmt: skip


class Use(Enum):
    """What a certificate is for."""

    CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
    SERVER = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True, slots=True)
class Certificate:
    """One that was parsed; who signed it is for `signed_by` to say. Times in Unix seconds."""

    der: bytes = field(repr=False)
    name: str
    key: ec.EllipticCurvePublicKey
    since: int
    until: int

    @classmethod
    def parse(cls, der: bytes) -> Certificate:
        """RemoteProtocolError (MALFORMED) for anything but a certificate of ours for P-256."""
        if len(der) > MAX_BYTES:
            raise _malformed("too long for a certificate")
        with _strictly("no certificate"):
            found = x509.load_der_x509_certificate(der)
            key, name = found.public_key(), _common_name(found.subject)
            since, until = found.not_valid_before_utc, found.not_valid_after_utc
        return cls(der, name, _p256(key), int(since.timestamp()), int(until.timestamp()))

    def signed_by(self, issuer: ec.EllipticCurvePublicKey) -> bool:
        """Whether this key signed it."""
        return signed_by(self.der, issuer)

    def due(self, now_s: int) -> bool:
        """Whether it is time for the next one; so it is after its end."""
        return now_s >= self.until - (self.until - self.since) // RENEW_AT

    def pem(self) -> bytes:
        """As files have it."""
        return pem(self.der)


@dataclass(frozen=True, slots=True)
class Authority:
    """Whoever signs certificates: a key, and the certificate that names it."""

    certificate: Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(
        cls,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        now_s: int,
        lifetime_s: int,
        serial: bytes,
    ) -> Authority:
        """A new one, signed by itself; it signs certificates, and no authorities below it."""
        subject = _name(name)
        builder = _builder(subject, subject, key.public_key(), now_s, lifetime_s, serial)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        builder = builder.add_extension(_SIGNS, critical=True)
        return cls(_signed(builder, key), key)

    def issue(  # noqa: PLR0913 - a certificate says all of this
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        *,
        use: Use,
        now_s: int,
        lifetime_s: int,
        serial: bytes,
        addresses: Iterable[x509.GeneralName] = (),
    ) -> Certificate:
        """A certificate for `key`. `serial`: 16 random bytes; `addresses`: of a server."""
        issuer = x509.load_der_x509_certificate(self.certificate.der)
        builder = _builder(_name(name), issuer.subject, key, now_s, lifetime_s, serial)
        parent = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.certificate.key)
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_NOTHING, critical=True)
            .add_extension(x509.ExtendedKeyUsage([use.value]), critical=False)
            .add_extension(parent, critical=False)
        )
        names = tuple(addresses)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return _signed(builder, self.key)


def signed_by(der: bytes, issuer: ec.EllipticCurvePublicKey) -> bool:
    """Whether this key signed a certificate of anybody's. RemoteProtocolError when it is none."""
    check_foreign(der)
    found = x509.load_der_x509_certificate(der)
    if found.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        return False  # what stands outside of what is signed must say the same (RFC 5280 §4.1.1.2)
    try:
        issuer.verify(found.signature, found.tbs_certificate_bytes, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def pem(der: bytes) -> bytes:
    """A certificate of anybody's, as files have it."""
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def from_pem(data: bytes) -> tuple[bytes, ...]:
    """The certificates in a file, DER. RemoteProtocolError when there is none, or a broken one."""
    with _strictly("no certificates in PEM form"):
        return tuple(
            each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(data)
        )


def check_foreign(der: bytes) -> bytes:
    """A certificate of anybody's, of which nothing is asked here. RemoteProtocolError."""
    with _strictly("no certificate"):
        x509.load_der_x509_certificate(der)
    return der


def term(der: bytes) -> Term:
    """When a certificate of anybody's is valid. RemoteProtocolError."""
    found = x509.load_der_x509_certificate(check_foreign(der))
    since, until = found.not_valid_before_utc, found.not_valid_after_utc
    return Term(max(0, int(since.timestamp())), max(0, int(until.timestamp())))


def request(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request (PKCS #10, DER) of whoever holds `key`; the same bytes for the same arguments."""
    builder = x509.CertificateSigningRequestBuilder(_name(name))
    return builder.sign(key, SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def key_of_request(der: bytes) -> ec.EllipticCurvePublicKey:
    """The key in a request whose holder signed it. Names and wishes in it count for nothing.

    Raises RemoteProtocolError: MALFORMED, AUTHENTICATION_FAILED.
    """
    if len(der) > MAX_BYTES:
        raise _malformed("too long for a request")
    with _strictly("no request for a certificate"):
        found = x509.load_der_x509_csr(der)
        key, genuine = _p256(found.public_key()), found.is_signature_valid
    if not genuine:
        raise RemoteProtocolError(Fault.AUTHENTICATION_FAILED, "X.509: its holder did not sign it")
    return key


# --- details --------------------------------------------------------------------
@contextmanager
def _strictly(otherwise: str) -> Iterator[None]:
    # the library warns of what its later versions refuse, as serial numbers that are not positive
    # (RFC 5280 §4.1.2.2), and finds some names out only when they are asked for (TypeError)
    with warnings.catch_warnings(action="error", category=UserWarning):
        try:
            yield
        except (ValueError, TypeError, UserWarning, UnsupportedAlgorithm, x509.InvalidVersion):
            raise _malformed(otherwise) from None


def _builder(  # noqa: PLR0913, PLR0917 - what every certificate says
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now_s: int,
    lifetime_s: int,
    serial: bytes,
) -> x509.CertificateBuilder:
    start_s = now_s - min(_BACKDATED_S, lifetime_s // 10)
    # positive, and at most 20 bytes (RFC 5280 §4.1.2.2)
    number = int.from_bytes(b"\x01" + serial[:_SERIAL_BYTES], "big")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(number)
        .not_valid_before(datetime.fromtimestamp(start_s, UTC))
        .not_valid_after(datetime.fromtimestamp(now_s + lifetime_s, UTC))
        .add_extension(identifier, critical=False)
    )


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> Certificate:
    made = builder.sign(key, SHA256(), ecdsa_deterministic=True)
    return Certificate.parse(made.public_bytes(Encoding.DER))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _common_name(subject: x509.Name) -> str:
    match list(subject):
        case [x509.NameAttribute(oid=NameOID.COMMON_NAME, value=str(value))]:
            return value
        case _:
            raise _malformed("a subject that is not one common name")


def _p256(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _malformed("a key that is not on P-256")
    return key


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"X.509: {detail}")
