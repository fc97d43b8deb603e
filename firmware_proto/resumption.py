"""The secret that outlives a connection between a gateway and a lock, and the records made of it.

Both sides contribute a fresh nonce to every connection, so nothing captured
fits another one, and a gateway restored from an old image cannot run a key
stream twice.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from firmware_proto import cbor
from firmware_proto.edhoc import Completed
from firmware_proto.errors import LocalProtocolError
from firmware_proto.lock_messages import SESSION_BYTES, Hello, Resume
from firmware_proto.messages import decode_plain
from firmware_proto.records import IV_BYTES, KEY_BYTES, Direction, Records

SECRET_BYTES: Final = 32

# EDHOC_Exporter labels, private use (RFC 9528 §10.1), after those of records.
LABEL_SECRET: Final = 32772
LABEL_SESSION: Final = 32773
# Labels within the key schedule of a resumption; never given to the exporter.
LABEL_KEY: Final = 32774
LABEL_IV: Final = 32775


@dataclass(frozen=True, slots=True)
class ResumptionSecret:
    """What both sides remember: `session` (8 bytes) names it, `secret` (32 bytes) never leaves."""

    session: bytes
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.session) != SESSION_BYTES or len(self.secret) != SECRET_BYTES:
            raise LocalProtocolError("a session id has 8 bytes and a resumption secret 32")

    @classmethod
    def from_handshake(cls, completed: Completed) -> Self:
        """The same on both sides of one handshake."""
        return cls(
            session=completed.export(LABEL_SESSION, b"", SESSION_BYTES),
            secret=completed.export(LABEL_SECRET, b"", SECRET_BYTES),
        )


def records(
    secret: ResumptionSecret, hello_bytes: bytes, resume_bytes: bytes, *, initiator: bool
) -> Records:
    """The records of one resumed connection, seen from one side; the gateway is the initiator.

    `hello_bytes` and `resume_bytes` are the bodies as they were on the wire.
    RemoteProtocolError (MALFORMED) when one of them is not what it should be.
    """
    hello = decode_plain(Hello, hello_bytes)
    resume = decode_plain(Resume, resume_bytes)
    # HKDF-Extract (RFC 5869 §2.2)
    prk = hmac.digest(hello.nonce + resume.nonce, secret.secret, "sha256")
    transcript = sha256(hello_bytes + resume_bytes).digest()

    def derive(label: int, direction: Direction, length: int) -> bytes:
        info = cbor.encode([label, direction, transcript])
        return HKDFExpand(SHA256(), length, info).derive(prk)

    return Records.from_keys(
        key_i2r=derive(LABEL_KEY, Direction.INITIATOR_TO_RESPONDER, KEY_BYTES),
        key_r2i=derive(LABEL_KEY, Direction.RESPONDER_TO_INITIATOR, KEY_BYTES),
        iv_i2r=derive(LABEL_IV, Direction.INITIATOR_TO_RESPONDER, IV_BYTES),
        iv_r2i=derive(LABEL_IV, Direction.RESPONDER_TO_INITIATOR, IV_BYTES),
        initiator=initiator,
    )
