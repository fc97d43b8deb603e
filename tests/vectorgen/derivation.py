"""The handshake and its keys, computed a second time in one straight line after RFC 9528.

Independent of `firmware_proto`: only hash, HMAC, HKDF-Expand, AES-CCM and ECDH
of the crypto library, and a dozen lines of CBOR. What comes out is compared
with what the sessions really send.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

Key = ec.EllipticCurvePrivateKey


# --- as much CBOR as is needed ---------------------------------------------------------
def head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes([major << 5 | value])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 1 << 8 * size:
            return bytes([major << 5 | code]) + value.to_bytes(size, "big")
    raise ValueError(value)


def integer(value: int) -> bytes:
    return head(0, value) if value >= 0 else head(1, -1 - value)


def bstr(value: bytes) -> bytes:
    return head(2, len(value)) + value


def tstr(value: str) -> bytes:
    return head(3, len(value.encode())) + value.encode()


def array(*items: bytes) -> bytes:
    return head(4, len(items)) + b"".join(items)


def identifier(value: bytes) -> bytes:
    """One byte that is the encoding of -24..23 travels as that integer (RFC 9528 §3.3.2)."""
    is_integer = len(value) == 1 and (value[0] < 0x18 or 0x20 <= value[0] < 0x38)
    return value if is_integer else bstr(value)


# --- arithmetic ------------------------------------------------------------------------
def x_of(key: Key) -> bytes:
    return key.public_key().public_numbers().x.to_bytes(32, "big")


def dh(private: Key, public: Key) -> bytes:
    return private.exchange(ec.ECDH(), public.public_key())


def extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt, secret, "sha256")


def kdf(prk: bytes, label: int, context: bytes, length: int) -> bytes:
    info = integer(label) + bstr(context) + integer(length)
    return HKDFExpand(SHA256(), length, info).derive(prk)


def digest(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def seal_record(  # noqa: PLR0913 - all that goes into a record
    key: bytes,
    iv: bytes,
    direction: int | None,
    counter: int,
    plaintext: bytes,
    *,
    tag_bytes: int = 16,
) -> bytes:
    """An untagged COSE_Encrypt0; `counter` below 65536 here. None: a wrong, empty external_aad."""
    protected = bytes.fromhex("a101181e")
    external_aad = array(tstr("gatewayd record"), integer(direction or 0))
    if direction is None:
        external_aad = b""
    associated = array(tstr("Encrypt0"), bstr(protected), bstr(external_aad))
    high, low = divmod(counter, 256)
    nonce = iv[:-2] + bytes([iv[-2] ^ high, iv[-1] ^ low])
    ciphertext = AESCCM(key, tag_bytes).encrypt(nonce, plaintext, associated)
    partial_iv = bytes([high, low]) if high else bytes([low])
    return array(bstr(protected), b"\xa1\x06" + bstr(partial_iv), bstr(ciphertext))


# --- the handshake -----------------------------------------------------------------------
@dataclass(frozen=True)
class Side:
    """What one side brings. `id_cred` is the map, `id_plain` how it stands in the plaintext."""

    ephemeral: Key
    static: Key
    identifier: bytes
    id_cred: bytes
    id_plain: bytes
    cred: bytes


@dataclass
class Trace:
    """Named values in the order in which they come about."""

    values: dict[str, bytes] = field(default_factory=dict)

    def put(self, name: str, value: bytes) -> bytes:
        assert name not in self.values
        self.values[name] = value
        return value

    def __getitem__(self, name: str) -> bytes:
        return self.values[name]


def handshake(one: Side, other: Side) -> Trace:
    """Method 3, suite 2: every value of RFC 9528 that an implementer may want to compare."""
    trace = Trace()
    put = trace.put
    _message_1(put, one)
    _message_2(put, trace, one, other)
    _message_3(put, trace, one, other)
    prk_out = put("PRK_out", kdf(trace["PRK_4e3m"], 7, trace["TH_4"], 32))
    exporter = put("PRK_exporter", kdf(prk_out, 10, b"", 32))
    put("key initiator to responder", kdf(exporter, 32768, b"", 16))
    put("key responder to initiator", kdf(exporter, 32769, b"", 16))
    put("IV initiator to responder", kdf(exporter, 32770, b"", 13))
    put("IV responder to initiator", kdf(exporter, 32771, b"", 13))
    put("resumption secret", kdf(exporter, 32772, b"", 32))
    put("session id", kdf(exporter, 32773, b"", 8))
    put("binding", kdf(exporter, 32776, b"", 32))
    return trace


def message_2_after(message_1: bytes, one: Side, other: Side) -> Trace:
    """What `other` answers when `one` sends another message_1, of the same ephemeral key."""
    trace = Trace({"message_1": message_1})
    _message_2(trace.put, trace, one, other)
    return trace


def keystream_2(trace: Trace, length: int) -> bytes:
    """KEYSTREAM_2 for a plaintext of another length; it is no prefix of the longer one."""
    return kdf(trace["PRK_2e"], 0, trace["TH_2"], length)


def _message_1(put, one: Side) -> None:
    g_x = put("G_X", x_of(one.ephemeral))
    put("message_1", integer(3) + integer(2) + bstr(g_x) + identifier(one.identifier))


def _message_2(put, trace: Trace, one: Side, other: Side) -> None:
    g_y = put("G_Y", x_of(other.ephemeral))
    hashed = put("H(message_1)", digest(trace["message_1"]))
    th_2 = put("TH_2", digest(bstr(g_y), bstr(hashed)))
    prk_2e = put("PRK_2e", extract(th_2, put("G_XY", dh(one.ephemeral, other.ephemeral))))
    salt = put("SALT_3e2m", kdf(prk_2e, 1, th_2, 32))
    prk_3e2m = put("PRK_3e2m", extract(salt, put("G_RX", dh(other.static, one.ephemeral))))
    context = put(
        "context_2", identifier(other.identifier) + other.id_cred + bstr(th_2) + other.cred
    )
    mac_2 = put("MAC_2", kdf(prk_3e2m, 2, context, 8))
    plaintext = put("PLAINTEXT_2", identifier(other.identifier) + other.id_plain + bstr(mac_2))
    keystream = put("KEYSTREAM_2", kdf(prk_2e, 0, th_2, len(plaintext)))
    ciphertext = bytes(a ^ b for a, b in zip(plaintext, keystream, strict=True))
    put("message_2", bstr(g_y + ciphertext))


def _message_3(put, trace: Trace, one: Side, other: Side) -> None:
    th_3 = put("TH_3", digest(bstr(trace["TH_2"]), trace["PLAINTEXT_2"], other.cred))
    prk_3e2m = trace["PRK_3e2m"]
    salt = put("SALT_4e3m", kdf(prk_3e2m, 5, th_3, 32))
    prk_4e3m = put("PRK_4e3m", extract(salt, put("G_IY", dh(one.static, other.ephemeral))))
    context = put("context_3", one.id_cred + bstr(th_3) + one.cred)
    mac_3 = put("MAC_3", kdf(prk_4e3m, 6, context, 8))
    plaintext = put("PLAINTEXT_3", one.id_plain + bstr(mac_3))
    key = put("K_3", kdf(prk_3e2m, 3, th_3, 16))
    iv = put("IV_3", kdf(prk_3e2m, 4, th_3, 13))
    associated = put("A_3", array(tstr("Encrypt0"), bstr(b""), bstr(th_3)))
    put("message_3", bstr(AESCCM(key, 8).encrypt(iv, plaintext, associated)))
    put("TH_4", digest(bstr(th_3), plaintext, one.cred))


def resumption(secret: bytes, nonce_l: bytes, nonce_g: bytes, hello: bytes, resume: bytes) -> Trace:
    """The keys of a resumed connection."""
    trace = Trace()
    put = trace.put
    prk = put("PRK", extract(nonce_l + nonce_g, secret))
    transcript = put("H(Hello | Resume)", digest(hello, resume))
    for name, label, direction, length in (
        ("key initiator to responder", 32774, 0, 16),
        ("key responder to initiator", 32774, 1, 16),
        ("IV initiator to responder", 32775, 0, 13),
        ("IV responder to initiator", 32775, 1, 13),
    ):
        info = array(integer(label), integer(direction), bstr(transcript))
        put(name, HKDFExpand(SHA256(), length, info).derive(prk))
    return trace
