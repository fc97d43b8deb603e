"""A claim: what an operator hands to an installer, so that one new gateway becomes his.

It is read off a screen, from paper or out of a QR code, so it is short, and has
a checksum for who types. Its secret stays with whoever holds the claim: the
operator keeps the public half of a key that is derived from it, and can verify
what the claim signs without being able to sign. Format 1.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError

SECRET_BYTES: Final = 16
FINGERPRINT_BYTES: Final = 16
"""Of the root key: 128 bits, for whoever wants a second root of the same one."""
CLAIM_ID_BYTES: Final = 16
MOST_DOORS: Final = 16
MAX_BROKER_BYTES: Final = 200
MAX_GROUP_BYTES: Final = 64

_PREFIX: Final = "GD1"
"""1 stands in no base32 (RFC 4648 §6), so what follows begins where it must."""
_SECURE: Final = "mqtts://"
_CHECKSUM_BYTES: Final = 4
_MAX_TEXT: Final = 2000
_INFO: Final = b"gatewayd claim"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_BROKER: Final = re.compile(r"mqtts?://[A-Za-z0-9.:\[\]_-]+")
_GROUP_OF: Final = 5


class NotAClaimError(ValueError):
    """What was typed or scanned is no claim; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a claim says."""

    gateway: str
    group: str
    doors: tuple[str, ...]
    """Which the gateway may serve, in ascending order."""
    broker: str
    """Where to enrol: mqtts://host:port, or mqtt:// on the same machine."""
    anchor: ec.EllipticCurvePublicKey | None
    """The key that signed the broker's certificate; None: whom the system believes."""
    root: bytes
    """`fingerprint` of the operator's root key."""
    expires: int
    """Unix seconds by the operator's clock, the first second too late."""
    secret: bytes = field(repr=False)

    @property
    def key(self) -> ed25519.Ed25519PrivateKey:
        """What the holder of the claim signs with."""
        derived = HKDF(SHA256(), 32, salt=None, info=_INFO).derive(self.secret)
        return ed25519.Ed25519PrivateKey.from_private_bytes(derived)

    @property
    def id(self) -> bytes:
        """How both sides name it where everybody listens."""
        return claim_id(self.key.public_key())

    def text(self) -> str:
        """For a QR code, whose alphanumeric mode has all of its characters."""
        data = cbor.encode(
            [
                self.gateway,
                self.group,
                list(self.doors),
                self.broker.removeprefix(_SECURE),
                None if self.anchor is None else _compressed(self.anchor),
                self.root,
                self.expires,
                self.secret,
            ]
        )
        encoded = base64.b32encode(data + _checksum(data)).decode()
        return _PREFIX + encoded.rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Claim:
        """The claim in `text`; blanks, line ends, hyphens and small letters do not matter.

        NotAClaimError for anything but exactly one claim in its one form.
        """
        if len(text) > _MAX_TEXT or not text.isascii():
            raise NotAClaimError("too long, or with letters that no claim has")
        plain = re.sub(r"[\s-]", "", text).upper()
        if not plain.startswith(_PREFIX):
            raise NotAClaimError(f"a claim begins with {_PREFIX}")
        try:
            claim = _decode(cbor.decode(_checked(plain.removeprefix(_PREFIX))))
        except RemoteProtocolError as error:
            raise NotAClaimError(error.detail) from None
        if claim.text() != plain:
            raise NotAClaimError("not in the one form that a claim has")
        return claim


def claim_in(text: str) -> str:
    """The claim in what was handed over, as `gatewayd cloud invite` prints it: one paragraph."""
    paragraphs = re.split(r"\n\s*\n", text)
    return next((each for each in paragraphs if each.lstrip().upper().startswith(_PREFIX)), text)


def claim_id(key: ed25519.Ed25519PublicKey) -> bytes:
    """The name of the claim whose public half this is."""
    return sha256(key.public_bytes_raw()).digest()[:CLAIM_ID_BYTES]


def fingerprint(root: ec.EllipticCurvePublicKey) -> bytes:
    """The head of a root key's COSE Key Thumbprint (RFC 9679)."""
    return sha256(cbor.encode(cose.public_key_to_cose(root))).digest()[:FINGERPRINT_BYTES]


def is_broker(url: str) -> bool:
    """Whether this may be a broker's address: nothing in it but scheme, host and port."""
    return len(url) <= MAX_BROKER_BYTES and _BROKER.fullmatch(url) is not None


def grouped(text: str, in_a_line: int = 8) -> str:
    """A claim as people read and type it: groups of five, some in a line."""
    groups = [text[at : at + _GROUP_OF] for at in range(0, len(text), _GROUP_OF)]
    lines = [groups[at : at + in_a_line] for at in range(0, len(groups), in_a_line)]
    return "\n".join(" ".join(line) for line in lines)


# --- details --------------------------------------------------------------------
def _checked(encoded: str) -> bytes:
    try:
        data = base64.b32decode(encoded + "=" * (-len(encoded) % 8))
    except ValueError:  # binascii.Error is one
        raise NotAClaimError("a character that no claim has, or one that is missing") from None
    body, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if checksum != _checksum(body):
        raise NotAClaimError("the checksum does not fit: a character is wrong or missing")
    return body


def _checksum(data: bytes) -> bytes:
    return sha256(_INFO + data).digest()[:_CHECKSUM_BYTES]


def _decode(value: cbor.Value) -> Claim:
    match value:
        case [
            str(gateway),
            str(group),
            list(doors),
            str(broker),
            None | bytes() as anchor,
            bytes(root),
            int(expires),
            bytes(secret),
        ] if expires > 1:  # to Python true is 1
            return Claim(
                gateway=_name(gateway),
                group=_group(group),
                doors=_doors(doors),
                broker=_broker(broker),
                anchor=None if anchor is None else cose.public_key_from_point(anchor),
                root=_sized(root, FINGERPRINT_BYTES),
                expires=expires,
                secret=_sized(secret, SECRET_BYTES),
            )
        case _:
            raise NotAClaimError("other fields")


def _name(value: cbor.Value) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise NotAClaimError("a name that is none")
    return value


def _group(value: str) -> str:
    if not 0 < len(value.encode()) <= MAX_GROUP_BYTES or not value.isprintable():
        raise NotAClaimError("a door group that is none")
    return value


def _doors(values: list[cbor.Value]) -> tuple[str, ...]:
    doors = tuple(_name(each) for each in values)
    if not 0 < len(doors) <= MOST_DOORS or list(doors) != sorted(set(doors)):
        raise NotAClaimError("doors that are none, too many, or out of order")
    return doors


def _broker(value: str) -> str:
    url = value if "://" in value else _SECURE + value
    if not is_broker(url):
        raise NotAClaimError("the address of no broker")
    return url


def _sized(value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise RemoteProtocolError(Fault.MALFORMED, "a value of another length")
    return value


def _compressed(key: ec.EllipticCurvePublicKey) -> bytes:
    cose.check_curve(key)
    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
