"""EDHOC's arithmetic (RFC 9528 §4, §5): transcript hashes, key derivation, encryption."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError

HASH_BYTES: Final = 32
MAX_OUTPUT_BYTES: Final = 255 * HASH_BYTES  # RFC 5869 §2.3
_KEY_BYTES: Final = 16
_IV_BYTES: Final = 13
_TAG_BYTES: Final = 8  # AES-CCM-16-64-128
_EVEN_Y: Final = b"\x02"  # any y does: ECDH uses x only (RFC 9528 Appendix B)
_ECDH: Final = ec.ECDH()

# info labels of EDHOC_KDF (RFC 9528 §4.1.2)
_KEYSTREAM_2 = 0
_SALT_3E2M = 1
MAC_2: Final = 2
_KEY_3, _IV_3 = 3, 4
_SALT_4E3M = 5
MAC_3: Final = 6
_OUT = 7
_KEY_4, _IV_4 = 8, 9
_EXPORTER = 10


def public_x(key: ec.EllipticCurvePublicKey) -> bytes:
    """The x coordinate, 32 bytes: how EDHOC sends ephemeral keys (RFC 9528 §3.7)."""
    cose.check_curve(key)
    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)[1:]


def public_key_from_x(x: bytes) -> ec.EllipticCurvePublicKey:
    """One of the two keys with that x; RemoteProtocolError (MALFORMED) when there is none."""
    return cose.public_key_from_point(_EVEN_Y + x)


def transcript_2(g_y: bytes, message_1: bytes) -> bytes:
    """TH_2 (RFC 9528 §5.3.2)."""
    hashed = sha256(message_1).digest()
    return sha256(cbor.byte_string(g_y) + cbor.byte_string(hashed)).digest()


def next_transcript(transcript: bytes, plaintext: bytes, cred: bytes) -> bytes:
    """TH_3 of TH_2, TH_4 of TH_3 (RFC 9528 §5.4.2)."""
    return sha256(cbor.byte_string(transcript) + plaintext + cred).digest()


def derive(prk: bytes, label: int, context: bytes, length: int) -> bytes:
    """EDHOC_KDF (RFC 9528 §4.1.2); `length` in bytes, 1..8160."""
    info = cbor.encode_sequence((label, context, length))
    return HKDFExpand(SHA256(), length, info).derive(prk)


def prk_2e(
    transcript: bytes, ephemeral: ec.EllipticCurvePrivateKey, peer: ec.EllipticCurvePublicKey
) -> bytes:
    """RFC 9528 §4.1.1.1."""
    return _extract(transcript, ephemeral.exchange(_ECDH, peer))


def prk_3e2m(
    prk: bytes,
    transcript: bytes,
    own: ec.EllipticCurvePrivateKey,
    peer: ec.EllipticCurvePublicKey,
) -> bytes:
    """RFC 9528 §4.1.1.2: X with the responder's static key, or that key with G_X."""
    salt = derive(prk, _SALT_3E2M, transcript, HASH_BYTES)
    return _extract(salt, own.exchange(_ECDH, peer))


def prk_4e3m(
    prk: bytes,
    transcript: bytes,
    own: ec.EllipticCurvePrivateKey,
    peer: ec.EllipticCurvePublicKey,
) -> bytes:
    """RFC 9528 §4.1.1.3: Y with the initiator's static key, or that key with G_Y."""
    salt = derive(prk, _SALT_4E3M, transcript, HASH_BYTES)
    return _extract(salt, own.exchange(_ECDH, peer))


def prk_exporter(prk: bytes, transcript: bytes) -> bytes:
    """RFC 9528 §4.1.3 and figure 6: PRK_out is of no other use here."""
    return derive(derive(prk, _OUT, transcript, HASH_BYTES), _EXPORTER, b"", HASH_BYTES)


def xor_2(prk: bytes, transcript: bytes, text: bytes) -> bytes:
    """PLAINTEXT_2 to CIPHERTEXT_2 and back; confidential only, MAC_2 inside authenticates."""
    keystream = derive(prk, _KEYSTREAM_2, transcript, len(text))
    mixed = int.from_bytes(text, "big") ^ int.from_bytes(keystream, "big")
    return mixed.to_bytes(len(text), "big")


def check_mac(prk: bytes, label: int, context: bytes, received: bytes) -> None:
    """MAC_2 or MAC_3; RemoteProtocolError (AUTHENTICATION_FAILED) when it does not match."""
    if not hmac.compare_digest(derive(prk, label, context, len(received)), received):
        raise RemoteProtocolError(Fault.AUTHENTICATION_FAILED, "EDHOC: the MAC does not match")


def seal_3(prk: bytes, transcript: bytes, plaintext: bytes) -> bytes:
    """CIPHERTEXT_3 under K_3, IV_3 and TH_3."""
    return _seal(prk, (_KEY_3, _IV_3), transcript, plaintext)


def open_3(prk: bytes, transcript: bytes, ciphertext: bytes) -> bytes:
    """PLAINTEXT_3; RemoteProtocolError (AUTHENTICATION_FAILED)."""
    return _open(prk, (_KEY_3, _IV_3), transcript, ciphertext)


def seal_4(prk: bytes, transcript: bytes, plaintext: bytes) -> bytes:
    """CIPHERTEXT_4 under K_4, IV_4 and TH_4."""
    return _seal(prk, (_KEY_4, _IV_4), transcript, plaintext)


def open_4(prk: bytes, transcript: bytes, ciphertext: bytes) -> bytes:
    """PLAINTEXT_4; RemoteProtocolError (AUTHENTICATION_FAILED)."""
    return _open(prk, (_KEY_4, _IV_4), transcript, ciphertext)


def _extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt, secret, "sha256")


def _seal(prk: bytes, labels: tuple[int, int], transcript: bytes, plaintext: bytes) -> bytes:
    cipher, nonce, associated = _cipher(prk, labels, transcript)
    return cipher.encrypt(nonce, plaintext, associated)


def _open(prk: bytes, labels: tuple[int, int], transcript: bytes, ciphertext: bytes) -> bytes:
    cipher, nonce, associated = _cipher(prk, labels, transcript)
    try:
        return cipher.decrypt(nonce, ciphertext, associated)
    except InvalidTag:
        raise RemoteProtocolError(
            Fault.AUTHENTICATION_FAILED, "EDHOC: the ciphertext is not authentic"
        ) from None


def _cipher(prk: bytes, labels: tuple[int, int], transcript: bytes) -> tuple[AESCCM, bytes, bytes]:
    """Cipher, nonce and associated data (RFC 9528 Appendix C.3)."""
    key_label, iv_label = labels
    cipher = AESCCM(derive(prk, key_label, transcript, _KEY_BYTES), _TAG_BYTES)
    nonce = derive(prk, iv_label, transcript, _IV_BYTES)
    return cipher, nonce, cbor.encode(["Encrypt0", b"", transcript])
