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
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose, edhoc_keys, edhoc_wire
from firmware_proto.codes import Fault
from firmware_proto.edhoc_wire import KCWT, METHODS, STATIC_DH, SUITE, Ead, Plaintext
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError

UNSPECIFIED_ERROR: Final = b"\x01\x60"
"""EDHOC error 1 with no text (RFC 9528 §6.2): the same for whatever went wrong."""

_METHOD: Final = METHODS[STATIC_DH]
_MAX_LABEL: Final = 0xFFFF
_CWT_ITEMS: Final = 4
_SUBJECT, _CNF, _COSE_KEY, _KEY_ID = 2, 8, 1, 2  # RFC 8392, RFC 8747, RFC 9052 §7.1


@dataclass(frozen=True, slots=True)
class _State:
    """What both sides know after message_2; prk and transcript move on with every step."""

    ephemeral: ec.EllipticCurvePrivateKey = field(repr=False)
    peer_ephemeral: ec.EllipticCurvePublicKey
    c_i: bytes
    c_r: bytes
    prk: bytes = field(repr=False)
    transcript: bytes


class _Step:
    """Something that happens once."""

    __slots__ = ("_used",)

    def __init__(self) -> None:
        self._used = False

    def _use(self) -> None:
        if self._used:
            raise LocalProtocolError("this step of the handshake has been taken already")
        self._used = True


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


class AwaitingMessage2(_Step):
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
        self._use()
        g_y, ciphertext = edhoc_wire.parse_message_2(message_2)
        _check_not_reflected(g_y, self._ephemeral)
        peer = edhoc_keys.public_key_from_x(g_y)
        transcript = edhoc_keys.transcript_2(g_y, self._message_1)
        prk = edhoc_keys.prk_2e(transcript, self._ephemeral, peer)
        plaintext = edhoc_keys.xor_2(prk, transcript, ciphertext)
        c_r, content = edhoc_wire.parse_plaintext_2(plaintext, _METHOD.mac_2_bytes)
        state = _State(self._ephemeral, peer, self._connection_id, c_r, prk, transcript)
        return Message2(state, content, plaintext)


class Message2(_Step):
    """Initiator: message_2 names a credential; nothing in it is proved yet."""

    __slots__ = ("_content", "_plaintext", "_state", "ead", "id_cred")

    def __init__(self, state: _State, content: Plaintext, plaintext: bytes) -> None:
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
        self._use()
        edhoc_keys.check_curve(public_key)
        state = self._state
        prk = edhoc_keys.prk_3e2m(state.prk, state.transcript, state.ephemeral, public_key)
        context = _context_2(state, self._content, cred)
        edhoc_keys.check_mac(prk, edhoc_keys.MAC_2, context, self._content.mac)
        transcript = edhoc_keys.next_transcript(state.transcript, self._plaintext, cred)
        return AuthenticatedResponder(replace(state, prk=prk, transcript=transcript), public_key)


class AuthenticatedResponder(_Step):
    """Initiator: the responder is who it says; now say who we are."""

    __slots__ = ("_public_key", "_state")

    def __init__(self, state: _State, public_key: ec.EllipticCurvePublicKey) -> None:
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
        self._use()
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


class Message1(_Step):
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
        self._use()
        _check_not_reflected(self._parts.g_x, ephemeral)
        g_y = edhoc_keys.public_x(ephemeral.public_key())
        transcript = edhoc_keys.transcript_2(g_y, self._message_1)
        prk_2e = edhoc_keys.prk_2e(transcript, ephemeral, self._peer)
        prk = edhoc_keys.prk_3e2m(prk_2e, transcript, static_key, self._peer)
        state = _State(ephemeral, self._peer, self._parts.c_i, connection_id, prk, transcript)
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


class AwaitingMessage3(_Step):
    """Responder: message_2 is sent."""

    __slots__ = ("_state", "_static_key")

    def __init__(self, state: _State, static_key: ec.EllipticCurvePrivateKey) -> None:
        super().__init__()
        self._state = state
        self._static_key = static_key

    def receive(self, message_3: bytes) -> Message3:
        """Decrypt message_3, whose sender is not proved yet. RemoteProtocolError is final."""
        self._use()
        state = self._state
        ciphertext = edhoc_wire.parse_ciphertext(message_3)
        plaintext = edhoc_keys.open_3(state.prk, state.transcript, ciphertext)
        content = edhoc_wire.parse_plaintext_3(plaintext, _METHOD.mac_3_bytes)
        return Message3(state, content, plaintext, self._static_key)


class Message3(_Step):
    """Responder: message_3 names a credential; that its sender holds the key is not proved."""

    __slots__ = ("_content", "_plaintext", "_state", "_static_key", "ead", "id_cred")

    def __init__(
        self,
        state: _State,
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
        self._use()
        edhoc_keys.check_curve(public_key)
        _check_not_own(public_key, self._static_key)
        state = self._state
        prk = edhoc_keys.prk_4e3m(state.prk, state.transcript, state.ephemeral, public_key)
        context = _context_3(state, self._content, cred)
        edhoc_keys.check_mac(prk, edhoc_keys.MAC_3, context, self._content.mac)
        transcript = edhoc_keys.next_transcript(state.transcript, self._plaintext, cred)
        return Completed(replace(state, prk=prk, transcript=transcript), initiator=False)


# --- both -----------------------------------------------------------------------
class Completed(_Step):
    """The handshake is done; keys for the application come from `export`.

    The initiator does not know yet that the responder has them: that takes
    message_4 or a first sealed record (RFC 9528 §5.4.2).
    """

    __slots__ = ("_exporter", "_state", "connection_ids", "initiator", "transcript_hash")

    def __init__(self, state: _State, *, initiator: bool) -> None:
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
        self._use()
        plaintext = edhoc_wire.encode_ead(ead)
        sealed = edhoc_keys.seal_4(self._state.prk, self._state.transcript, plaintext)
        return edhoc_wire.compose_ciphertext(sealed)

    def check_message_4(self, message_4: bytes) -> tuple[Ead, ...]:
        """Initiator: its EAD_4; RemoteProtocolError unless the responder has the same keys."""
        if not self.initiator:
            raise LocalProtocolError("message_4 is the responder's")
        self._use()
        ciphertext = edhoc_wire.parse_ciphertext(message_4)
        plaintext = edhoc_keys.open_4(self._state.prk, self._state.transcript, ciphertext)
        return edhoc_wire.parse_plaintext_4(plaintext)


# --- credentials ----------------------------------------------------------------
def ccs(subject: str, public_key: ec.EllipticCurvePublicKey, kid: bytes) -> bytes:
    """A CWT Claims Set: how a bare key dresses as a credential (RFC 9528 §3.5.2)."""
    key = {**cose.public_key_to_cose(public_key), _KEY_ID: kid}
    return cbor.encode({_SUBJECT: subject, _CNF: {_COSE_KEY: key}})


def kcwt_id(cwt: bytes) -> dict[int, cbor.Value]:
    """ID_CRED carrying an untagged CWT by value (RFC 9528 §3.5.3.1)."""
    return {KCWT: cbor.decode(cwt)}


def cwt_from_id(id_cred: cbor.Value) -> bytes:
    """The CWT in an ID_CRED, byte for byte: encodings are unique, so none had to be kept.

    RemoteProtocolError (UNSUPPORTED) when the credential is not a CWT by value.
    """
    if not isinstance(id_cred, dict) or id_cred.keys() != {KCWT}:
        raise RemoteProtocolError(Fault.UNSUPPORTED, "EDHOC: the credential is no CWT by value")
    cwt = id_cred[KCWT]
    if not isinstance(cwt, list) or len(cwt) != _CWT_ITEMS:
        raise edhoc_wire.malformed("the CWT is not four items")
    return cbor.encode(cwt)


# --- details --------------------------------------------------------------------
def _context_2(state: _State, content: Plaintext, cred: bytes) -> bytes:
    """<< C_R, ID_CRED_R, TH_2, CRED_R, ? EAD_2 >> (RFC 9528 §5.3.2)."""
    return edhoc_wire.encode_identifier(state.c_r) + _context_3(state, content, cred)


def _context_3(state: _State, content: Plaintext, cred: bytes) -> bytes:
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
