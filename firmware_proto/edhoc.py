"""EDHOC (RFC 9528): cipher suite 2, method 3, both roles, one type per step.

Each step is an object that can be used once and hands over the next one, so an
order of messages that the protocol does not know cannot be written down. A
message that is refused ends the exchange: there is no step to go on from.

    Initiator                               Responder
    start                   -- message_1 -> receive_message_1
    AwaitingMessage2        <- message_2 -- Message1.send
    Message2.authenticate
    AuthenticatedResponder  -- message_3 -> AwaitingMessage3
    Completed                               Message3.authenticate -> Completed

Private keys are used through `exchange` and `public_key` only, so one in a
secure element needs no more than an object with these two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose, edhoc_keys, edhoc_wire
from firmware_proto.codes import Fault
from firmware_proto.edhoc_credentials import ccs, cwt_from_id, kcwt_id
from firmware_proto.edhoc_steps import Completed, State, Step
from firmware_proto.edhoc_wire import METHODS, STATIC_DH, SUITE, Ead, Plaintext
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "UNSPECIFIED_ERROR",
    "AuthenticatedResponder",
    "AwaitingMessage2",
    "AwaitingMessage3",
    "Completed",
    "Ead",
    "Message1",
    "Message2",
    "Message3",
    "ccs",
    "cwt_from_id",
    "kcwt_id",
    "receive_message_1",
    "start",
]

UNSPECIFIED_ERROR: Final = b"\x01\x60"
"""EDHOC error 1 with no text (RFC 9528 §6.2): the same for whatever went wrong."""

_METHOD: Final = METHODS[STATIC_DH]


# --- initiator ------------------------------------------------------------------
def start(
    ephemeral: ec.EllipticCurvePrivateKey,
    connection_id: bytes,
    *,
    suites: tuple[int, ...] = (SUITE,),
    ead: Sequence[Ead] = (),
) -> tuple[bytes, AwaitingMessage2]:
    """message_1, and the step that waits for its answer.

    `ephemeral` must be fresh. `suites` ends in 2; we prefer those before it,
    which the responder has refused (RFC 9528 §6.3).
    """
    if suites[-1:] != (SUITE,):
        raise LocalProtocolError("only suite 2 can be selected")
    g_x = edhoc_keys.public_x(ephemeral.public_key())
    parts = edhoc_wire.Message1(STATIC_DH, suites, g_x, connection_id, tuple(ead))
    message_1 = edhoc_wire.compose_message_1(parts)
    return message_1, AwaitingMessage2(ephemeral, connection_id, message_1)


class AwaitingMessage2(Step):
    """Initiator: message_1 is sent."""

    __slots__ = ("_connection_id", "_ephemeral", "_message_1")

    def __init__(
        self, ephemeral: ec.EllipticCurvePrivateKey, connection_id: bytes, message_1: bytes
    ) -> None:
        super().__init__()
        self._ephemeral = ephemeral
        self._connection_id = connection_id
        self._message_1 = message_1

    def receive(self, message_2: bytes) -> Message2:
        """Decrypt message_2, which may still be anybody's. RemoteProtocolError is final."""
        self.use()
        g_y, ciphertext = edhoc_wire.parse_message_2(message_2)
        _check_not_reflected(g_y, self._ephemeral)
        peer = edhoc_keys.public_key_from_x(g_y)
        transcript = edhoc_keys.transcript_2(g_y, self._message_1)
        prk = edhoc_keys.prk_2e(transcript, self._ephemeral, peer)
        plaintext = edhoc_keys.xor_2(prk, transcript, ciphertext)
        c_r, content = edhoc_wire.parse_plaintext_2(plaintext, _METHOD.mac_2_bytes)
        state = State(self._ephemeral, peer, self._connection_id, c_r, prk, transcript)
        return Message2(state, content, plaintext)


class Message2(Step):
    """Initiator: message_2 names a credential; nothing in it is proved yet."""

    __slots__ = ("_content", "_plaintext", "_state", "ead", "id_cred")

    def __init__(self, state: State, content: Plaintext, plaintext: bytes) -> None:
        super().__init__()
        self.id_cred: dict[Any, Any] = content.id_cred
        """ID_CRED_R as a map: {4: kid}, {13: COSE_Sign1 as an array} or another."""
        self.ead: tuple[Ead, ...] = content.ead
        """Items that are not critical; ignore those that you do not know."""
        self._state = state
        self._content = content
        self._plaintext = plaintext

    def authenticate(
        self, public_key: ec.EllipticCurvePublicKey, cred: bytes
    ) -> AuthenticatedResponder:
        """Check that the responder holds the key of the credential `cred` (CRED_R, verbatim).

        That the credential may be believed is for the caller to know.
        RemoteProtocolError (AUTHENTICATION_FAILED) is final.
        """
        self.use()
        cose.check_curve(public_key)
        state = self._state
        prk = edhoc_keys.prk_3e2m(state.prk, state.transcript, state.ephemeral, public_key)
        context = _context_2(state, self._content, cred)
        edhoc_keys.check_mac(prk, edhoc_keys.MAC_2, context, self._content.mac)
        transcript = edhoc_keys.next_transcript(state.transcript, self._plaintext, cred)
        return AuthenticatedResponder(replace(state, prk=prk, transcript=transcript), public_key)


class AuthenticatedResponder(Step):
    """Initiator: the responder is who it says; now say who we are."""

    __slots__ = ("_public_key", "_state")

    def __init__(self, state: State, public_key: ec.EllipticCurvePublicKey) -> None:
        super().__init__()
        self._state = state
        self._public_key = public_key

    def send(
        self,
        static_key: ec.EllipticCurvePrivateKey,
        id_cred: cbor.Encodable,
        cred: bytes,
        *,
        ead: Sequence[Ead] = (),
    ) -> tuple[bytes, Completed]:
        """message_3, and the keys. `cred` is CRED_I, verbatim, of which `static_key` is the key."""
        self.use()
        cose.check_curve(static_key)
        _check_not_own(self._public_key, static_key)
        state = self._state
        prk = edhoc_keys.prk_4e3m(state.prk, state.transcript, static_key, state.peer_ephemeral)
        named = Plaintext(edhoc_wire.check_id_cred(id_cred), b"", tuple(ead))
        context = _context_3(state, named, cred)
        mac = edhoc_keys.derive(prk, edhoc_keys.MAC_3, context, _METHOD.mac_3_bytes)
        plaintext = edhoc_wire.compose_plaintext(named._replace(mac=mac))
        ciphertext = edhoc_keys.seal_3(state.prk, state.transcript, plaintext)
        message_3 = edhoc_wire.compose_ciphertext(ciphertext)
        transcript = edhoc_keys.next_transcript(state.transcript, plaintext, cred)
        done = replace(state, prk=prk, transcript=transcript)
        return message_3, Completed(done, initiator=True)


# --- responder ------------------------------------------------------------------
def receive_message_1(message_1: bytes) -> Message1:
    """RemoteProtocolError: MALFORMED, or UNSUPPORTED for method, suite and critical EAD."""
    parts = edhoc_wire.parse_message_1(message_1)
    return Message1(parts, edhoc_keys.public_key_from_x(parts.g_x), message_1)


class Message1(Step):
    """Responder: message_1 is sound; anybody can make one."""

    __slots__ = ("_message_1", "_parts", "_peer", "ead")

    def __init__(
        self, parts: edhoc_wire.Message1, peer: ec.EllipticCurvePublicKey, message_1: bytes
    ) -> None:
        super().__init__()
        self.ead: tuple[Ead, ...] = parts.ead
        self._parts = parts
        self._peer = peer
        self._message_1 = message_1

    def send(  # noqa: PLR0913 - the five things that RFC 9528 §5.3.2 asks for
        self,
        ephemeral: ec.EllipticCurvePrivateKey,
        connection_id: bytes,
        static_key: ec.EllipticCurvePrivateKey,
        id_cred: cbor.Encodable,
        cred: bytes,
        *,
        ead: Sequence[Ead] = (),
    ) -> tuple[bytes, AwaitingMessage3]:
        """message_2, and the step that waits for its answer.

        `ephemeral` must be fresh; `cred` is CRED_R, verbatim, of which
        `static_key` is the key.
        """
        self.use()
        cose.check_curve(static_key)
        _check_not_reflected(self._parts.g_x, ephemeral)
        g_y = edhoc_keys.public_x(ephemeral.public_key())
        transcript = edhoc_keys.transcript_2(g_y, self._message_1)
        prk_2e = edhoc_keys.prk_2e(transcript, ephemeral, self._peer)
        prk = edhoc_keys.prk_3e2m(prk_2e, transcript, static_key, self._peer)
        state = State(ephemeral, self._peer, self._parts.c_i, connection_id, prk, transcript)
        named = Plaintext(edhoc_wire.check_id_cred(id_cred), b"", tuple(ead))
        context = _context_2(state, named, cred)
        mac = edhoc_keys.derive(prk, edhoc_keys.MAC_2, context, _METHOD.mac_2_bytes)
        content = edhoc_wire.compose_plaintext(named._replace(mac=mac))
        plaintext = edhoc_wire.encode_identifier(connection_id) + content
        edhoc_wire.check_size(plaintext)
        message_2 = edhoc_wire.compose_ciphertext(
            g_y + edhoc_keys.xor_2(prk_2e, transcript, plaintext)
        )
        transcript = edhoc_keys.next_transcript(transcript, plaintext, cred)
        return message_2, AwaitingMessage3(replace(state, transcript=transcript), static_key)


class AwaitingMessage3(Step):
    """Responder: message_2 is sent."""

    __slots__ = ("_state", "_static_key")

    def __init__(self, state: State, static_key: ec.EllipticCurvePrivateKey) -> None:
        super().__init__()
        self._state = state
        self._static_key = static_key

    def receive(self, message_3: bytes) -> Message3:
        """Decrypt message_3, whose sender is not proved yet. RemoteProtocolError is final."""
        self.use()
        state = self._state
        ciphertext = edhoc_wire.parse_ciphertext(message_3)
        plaintext = edhoc_keys.open_3(state.prk, state.transcript, ciphertext)
        content = edhoc_wire.parse_plaintext_3(plaintext, _METHOD.mac_3_bytes)
        return Message3(state, content, plaintext, self._static_key)


class Message3(Step):
    """Responder: message_3 names a credential; that its sender holds the key is not proved."""

    __slots__ = ("_content", "_plaintext", "_state", "_static_key", "ead", "id_cred")

    def __init__(
        self,
        state: State,
        content: Plaintext,
        plaintext: bytes,
        static_key: ec.EllipticCurvePrivateKey,
    ) -> None:
        super().__init__()
        self.id_cred: dict[Any, Any] = content.id_cred
        """ID_CRED_I as a map, as in `Message2`."""
        self.ead: tuple[Ead, ...] = content.ead
        self._state = state
        self._content = content
        self._plaintext = plaintext
        self._static_key = static_key

    def authenticate(self, public_key: ec.EllipticCurvePublicKey, cred: bytes) -> Completed:
        """Check that the initiator holds the key of the credential `cred` (CRED_I, verbatim).

        RemoteProtocolError (AUTHENTICATION_FAILED) is final.
        """
        self.use()
        cose.check_curve(public_key)
        _check_not_own(public_key, self._static_key)
        state = self._state
        prk = edhoc_keys.prk_4e3m(state.prk, state.transcript, state.ephemeral, public_key)
        context = _context_3(state, self._content, cred)
        edhoc_keys.check_mac(prk, edhoc_keys.MAC_3, context, self._content.mac)
        transcript = edhoc_keys.next_transcript(state.transcript, self._plaintext, cred)
        return Completed(replace(state, prk=prk, transcript=transcript), initiator=False)


# --- details --------------------------------------------------------------------
def _context_2(state: State, content: Plaintext, cred: bytes) -> bytes:
    """<< C_R, ID_CRED_R, TH_2, CRED_R, ? EAD_2 >> (RFC 9528 §5.3.2)."""
    return edhoc_wire.encode_identifier(state.c_r) + _context_3(state, content, cred)


def _context_3(state: State, content: Plaintext, cred: bytes) -> bytes:
    """<< ID_CRED_I, TH_3, CRED_I, ? EAD_3 >> (RFC 9528 §5.4.2)."""
    named = cbor.encode(content.id_cred) + cbor.byte_string(state.transcript)
    return named + cred + edhoc_wire.encode_ead(content.ead)


def _check_not_reflected(x: bytes, ephemeral: ec.EllipticCurvePrivateKey) -> None:
    if x == edhoc_keys.public_x(ephemeral.public_key()):
        raise RemoteProtocolError(Fault.REPLAYED, "EDHOC: our own ephemeral key came back")


def _check_not_own(
    public_key: ec.EllipticCurvePublicKey, static_key: ec.EllipticCurvePrivateKey
) -> None:
    """RFC 9528 §9.2: nobody takes part in a handshake with itself."""
    if public_key == static_key.public_key():
        raise RemoteProtocolError(Fault.AUTHENTICATION_FAILED, "EDHOC: the peer's key is ours")
