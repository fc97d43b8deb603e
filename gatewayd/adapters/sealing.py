"""HPKE (RFC 9180) base mode: only the holder of one private key reads what is sealed to it.

One suite and no other: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-128-GCM. It
draws its own ephemeral key, which is why it stands among the adapters. Base
mode says nothing about who sealed: whatever is inside has its own signature.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

OVERHEAD_BYTES: Final = 65 + 16
"""What sealing adds: the uncompressed ephemeral point, and the GCM tag."""

_SUITE: Final = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


class SealingError(Exception):
    """Not sealed to this key under this info, or changed on its way."""


def seal(plaintext: bytes, info: bytes, recipient: ec.EllipticCurvePublicKey) -> bytes:
    """`enc || ciphertext`, `OVERHEAD_BYTES` longer than the plaintext.

    `info` binds the text to where it belongs: the same bytes under another
    `info` do not open.
    """
    return _SUITE.encrypt(plaintext, recipient, info)


def unseal(sealed: bytes, info: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The plaintext. SealingError says no more than that it did not open."""
    try:
        return _SUITE.decrypt(sealed, key, info)
    except (InvalidTag, ValueError) as error:
        raise SealingError("does not open with this key") from error
