"""Vectors about claiming: labels, proofs, and what the operator signs for locks."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_proto import cbor, cose
from firmware_proto.claiming import Label
from firmware_proto.statements import Anchoring, Reset
from tests.vectorgen import example
from tests.vectorgen.vector import ACCEPT, Vector

SECRET = bytes(range(0xC0, 0xD0))
SERIAL = 7


def label() -> Label:
    """Of the lock of the worked example."""
    return Label(example.KEYS["lock"].public_key(), SECRET)


def anchoring() -> Anchoring:
    """The keys of the worked example; its issuer plays the command key."""
    return Anchoring(
        SERIAL, example.KEYS["gateways"].public_key(), example.KEYS["issuer"].public_key()
    )


def vectors() -> Iterator[Vector]:
    """All of them."""
    yield from _labels()
    yield from _proofs()
    yield from _anchors()
    yield from _resets()


def _labels() -> Iterator[Vector]:
    text = label().text()
    point = label().key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    good = (("label", text), ("lock key", uncompressed(label().key)), ("secret", SECRET))
    yield Vector("label", "a label as printed", ACCEPT, "label", good)
    typed = (("label", text.lower().replace("-", " ")), *good[1:])
    yield Vector("label-typed", "a label as typed", ACCEPT, "label", typed)
    for name, about, wrong in (
        ("prefix", "it begins otherwise", "X" + text[1:]),
        (
            "letter",
            "a letter is changed",
            text[:-3] + ("A" if text[-3] != "A" else "B") + text[-2:],
        ),
        ("short", "a letter is missing", text[:-1]),
        ("long", "a letter too many", text + "A"),
        ("digit", "a digit that base32 has not", text[:10] + "1" + text[11:]),
        ("bits", "bits behind the end that are not zero", _nonzero_tail(text)),
        ("point", "no point has this x", _text(b"\x02" + bytes(31) + b"\x01" + SECRET)),
        ("form", "a point in another form", _text(b"\x04" + point[1:] + SECRET)),
    ):
        yield Vector(f"label-bad-{name}", about, "malformed", "label", (("label", wrong),))


def _text(data: bytes) -> str:
    whole = data + hashlib.sha256(data).digest()[:3]
    return "GWL1" + base64.b32encode(whole).decode().rstrip("=")


def _nonzero_tail(text: str) -> str:
    """52 bytes are 416 bits, 84 letters 420: the last four have to be zero."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    return text[:-1] + letters[letters.index(text[-1]) | 1]


def uncompressed(key: ec.EllipticCurvePublicKey) -> bytes:
    """SEC 1."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _proofs() -> Iterator[Vector]:
    binding = example.lock_trace()["binding"]
    for purpose in ("claim", "reset"):
        content = cbor.encode([f"gatewayd {purpose}", binding])
        lines = (
            ("secret", SECRET),
            ("purpose", purpose),
            ("binding", binding),
            ("proof", hmac.new(SECRET, content, hashlib.sha256).digest()),
        )
        yield Vector(
            f"proof-{purpose}", f"in handshake-lock, for {purpose}", ACCEPT, "proof", lines
        )


def _anchors() -> Iterator[Vector]:
    root, other = example.KEYS["phone"], example.KEYS["issuer"]  # the phone plays the root
    gateways, command = anchoring().gateways_key, anchoring().command_key
    good = {52: SERIAL, 50: uncompressed(gateways)[1:], 51: uncompressed(command)[1:]}
    key = ("root key", uncompressed(root.public_key()))
    lines = (key, ("statement", anchoring().sign(root)), ("serial", str(SERIAL)))
    yield Vector("anchor", "as it should be", ACCEPT, "anchor", lines)
    for name, about, fault, data in (
        ("signer", "signed by another key", "authentication_failed", anchoring().sign(other)),
        ("type", "of the type of a reset", "malformed", _signed(root, good, Reset.TYP)),
        ("fields", "a key is missing", "malformed",
         _signed(root, {52: SERIAL, 50: good[50]}, Anchoring.TYP)),
        ("unknown", "a key that nobody knows", "malformed",
         _signed(root, {**good, 0: 1}, Anchoring.TYP)),
        ("serial", "true for a serial", "malformed",
         _signed(root, {**good, 52: True}, Anchoring.TYP)),
        ("point", "a key that is no point", "malformed",
         _signed(root, {**good, 50: bytes(64)}, Anchoring.TYP)),
    ):  # fmt: skip
        yield Vector(f"anchor-bad-{name}", about, fault, "anchor", (key, ("statement", data)))


def _resets() -> Iterator[Vector]:
    command, other = example.KEYS["issuer"], example.KEYS["phone"]
    named = Reset(example.LOCK_KEY_ID, example.EPOCH)
    good = {55: example.LOCK_KEY_ID, 29: example.EPOCH}
    key = ("command key", uncompressed(command.public_key()))
    epoch = ("epoch", str(example.EPOCH))
    lines = (key, ("statement", named.sign(command)), ("key id", example.LOCK_KEY_ID), epoch)
    yield Vector("reset", "as it should be", ACCEPT, "reset", lines)
    for name, about, fault, data in (
        ("signer", "signed by another key", "authentication_failed", named.sign(other)),
        ("type", "of the type of an anchor", "malformed",
         _signed(command, good, Anchoring.TYP)),
        ("key-id", "a key id of 7 bytes", "malformed",
         _signed(command, {**good, 55: bytes(7)}, Reset.TYP)),
        ("fields", "the epoch is missing", "malformed",
         _signed(command, {55: example.LOCK_KEY_ID}, Reset.TYP)),
        ("array", "no map", "malformed", _signed(command, [1], Reset.TYP)),
    ):  # fmt: skip
        yield Vector(f"reset-bad-{name}", about, fault, "reset", (key, ("statement", data)))


def _signed(key: ec.EllipticCurvePrivateKey, fields: cbor.Encodable, typ: str) -> bytes:
    return cose.sign1(cbor.encode(fields), key, protected={cose.HEADER_TYP: typ})
