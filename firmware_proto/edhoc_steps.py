"""What the steps of both EDHOC roles share, and where both arrive: `Completed`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import edhoc_keys, edhoc_wire
from firmware_proto.edhoc_wire import Ead
from firmware_proto.errors import LocalProtocolError

_MAX_LABEL: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class State:
    """What both sides know after message_2; prk and transcript move on with every step."""

    ephemeral: ec.EllipticCurvePrivateKey = field(repr=False)
    peer_ephemeral: ec.EllipticCurvePublicKey
    c_i: bytes
    c_r: bytes
    prk: bytes = field(repr=False)
    transcript: bytes


class Step:
    """Something that happens once."""

    __slots__ = ("_used",)

    def __init__(self) -> None:
        self._used = False

    def use(self) -> None:
        """Take the step; LocalProtocolError when it has been taken already."""
        if self._used:
            raise LocalProtocolError("this step of the handshake has been taken already")
        self._used = True


class Completed(Step):
    """The handshake is done; keys for the application come from `export`.

    The initiator does not know yet that the responder has them: that takes
    message_4 or a first sealed record (RFC 9528 §5.4.2).
    """

    __slots__ = ("_exporter", "_state", "connection_ids", "initiator", "transcript_hash")

    def __init__(self, state: State, *, initiator: bool) -> None:
        super().__init__()
        self.initiator = initiator
        self.transcript_hash = state.transcript
        """TH_4, 32 bytes: names this handshake, and is no secret."""
        self.connection_ids = (state.c_i, state.c_r)
        self._state = state
        self._exporter = edhoc_keys.prk_exporter(state.prk, state.transcript)

    def export(self, label: int, context: bytes, length: int) -> bytes:
        """EDHOC_Exporter (RFC 9528 §4.2.1): `length` bytes (1..8160) for one purpose."""
        if not 0 <= label <= _MAX_LABEL:
            raise LocalProtocolError("no such exporter label")
        if not 0 < length <= edhoc_keys.MAX_OUTPUT_BYTES:
            raise LocalProtocolError("the exporter gives 1 to 8160 bytes")
        return edhoc_keys.derive(self._exporter, label, context, length)

    def make_message_4(self, *, ead: Sequence[Ead] = ()) -> bytes:
        """Responder: key confirmation where no sealed record follows (RFC 9528 §5.5)."""
        if self.initiator:
            raise LocalProtocolError("message_4 is the responder's")
        self.use()
        plaintext = edhoc_wire.encode_ead(ead)
        sealed = edhoc_keys.seal_4(self._state.prk, self._state.transcript, plaintext)
        return edhoc_wire.compose_ciphertext(sealed)

    def check_message_4(self, message_4: bytes) -> tuple[Ead, ...]:
        """Initiator: its EAD_4; RemoteProtocolError unless the responder has the same keys."""
        if not self.initiator:
            raise LocalProtocolError("message_4 is the responder's")
        self.use()
        ciphertext = edhoc_wire.parse_ciphertext(message_4)
        plaintext = edhoc_keys.open_4(self._state.prk, self._state.transcript, ciphertext)
        return edhoc_wire.parse_plaintext_4(plaintext)
