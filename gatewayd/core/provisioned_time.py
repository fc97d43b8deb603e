"""A time signed at provisioning: it answers no question, so it proves a floor.

In form it is a TIME statement whose nonce is zero; a gateway draws its own
nonces at random, so neither can ever pass for the other.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.codes import ID_BYTES, Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import envelope
from gatewayd.core.envelope import EVERYBODY, Kind, Statement, TimeAnswer
from gatewayd.core.trust import Trust

NO_NONCE: Final = bytes(ID_BYTES)
LIFETIME_S: Final = 86_400


def sign(gateway: str, time_s: int, identity: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """What `gateway` is given when it is set up at `time_s`; `identity` is 16 random bytes."""
    answer = TimeAnswer(NO_NONCE, time_s)
    statement = Statement(Kind.TIME, gateway, identity, time_s + LIFETIME_S, answer.body())
    return envelope.sign(statement, key)


def verify(data: bytes, trust: Trust, gateway: str) -> int:
    """The time in such a statement, Unix seconds.

    Its expiry is not asked: a floor stays true for ever.

    Raises RemoteProtocolError: as `envelope.verify`, and UNEXPECTED for the
    answer to a question.
    """
    addressees = {gateway, trust.group, EVERYBODY}
    statement = envelope.verify(data, trust, kind=Kind.TIME, addressees=addressees, floor_s=0)
    answer = TimeAnswer.of(statement.body)
    if answer.nonce != NO_NONCE:
        raise RemoteProtocolError(Fault.UNEXPECTED, "signed time: it answers a question")
    return answer.time_s
