"""What a gateway answers to an order, signed by its log key and sealed to the operator.

The answer names the order by its id, so that no broker can make one up, repeat an
old one or give it to another order. What it says depends on the order's kind.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.checkpoint import Verifier
from gatewayd.core.envelope import Kind
from gatewayd.core.model import Verdict

MAX_ANSWER_BYTES: Final = 64 * 1024
"""Of an answer as it is sealed."""

_FORMAT: Final = 1
_LABEL: Final = "gatewayd answer"
_MAX_NUMBER: Final = 2**63 - 1


def sign(
    kind: Kind, request: bytes, body: cbor.Encodable, origin: str, log_key: Ed25519PrivateKey
) -> bytes:
    """The answer to the order `request`."""
    payload = cbor.encode([_FORMAT, int(kind), request, body])
    return cose.sign1(payload, log_key, protected={}, external_aad=_aad(origin))


def verify(data: bytes, kind: Kind, request: bytes, log: Verifier) -> cbor.Value:
    """The body of an answer that this log's gateway gave to `request`.

    RemoteProtocolError for everything else: anybody at the broker may have sent it.
    """
    signed = cose.Sign1.parse(data)
    signed.verify(Ed25519PublicKey.from_public_bytes(log.key), external_aad=_aad(log.name))
    match cbor.decode(signed.payload):
        case [version, answered, bytes(to), body] if (type(version), version) == (
            int,
            _FORMAT,
        ) and (type(answered), answered) == (int, kind):
            if to != request:
                raise RemoteProtocolError(Fault.REPLAYED, "the answer to another order")
            return body
        case _:
            raise RemoteProtocolError(Fault.MALFORMED, "not an answer to this kind of order")


def seal_info(origin: str, request: bytes) -> bytes:
    """The HPKE `info` of an answer: it opens for this log and this order only."""
    return cbor.encode([_LABEL, origin, request])


def _aad(origin: str) -> bytes:
    return cbor.encode([_LABEL, origin])


class Opened(NamedTuple):
    """The answer to OPEN: one of three outcomes, and the entry that says so."""

    verdict: Verdict
    seq: int | None = None
    receipt: bytes | None = None
    """As a phone gets one, with the order's name in place of the token's: for the holder."""

    def body(self) -> list[cbor.Encodable]:
        """For `sign`."""
        return [int(self.verdict.outcome), int(self.verdict.reason), self.seq, self.receipt]

    @classmethod
    def of(cls, body: cbor.Value) -> Opened:
        """The answer in a body. RemoteProtocolError (MALFORMED) when it is none."""
        match body:
            case [outcome, reason, seq, receipt] if (
                type(outcome) is int
                and type(reason) is int
                and (seq is None or (type(seq) is int and 0 <= seq <= _MAX_NUMBER))
                and (receipt is None or isinstance(receipt, bytes))
            ):
                try:
                    return cls(Verdict(Outcome(outcome), Reason(reason)), seq, receipt)
                except ValueError:
                    pass  # of a newer gateway, or of none
        raise RemoteProtocolError(Fault.MALFORMED, "not an answer about an opening")
