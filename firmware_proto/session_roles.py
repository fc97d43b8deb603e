"""The two roles of the handshake, shared by both relations.

The initiator shows its credential only to a responder that it trusts; the
responder shows its own to anybody who asks (RFC 9528 §9.1).
"""

from __future__ import annotations

from typing import ClassVar, Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, edhoc, records
from firmware_proto.codes import Fault, FrameKind
from firmware_proto.edhoc import AwaitingMessage2, AwaitingMessage3, Completed, Message2, Message3
from firmware_proto.edhoc_wire import KID
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.framing import Framing
from firmware_proto.session import MAX_CREDENTIAL_BYTES, CredentialReceived, Session
from firmware_proto.session_tables import SessionState

LABEL_BINDING: Final = 32776
BINDING_BYTES: Final = 32


class _Handshaking(Session):
    """Holds what a side brings into a handshake, each used once."""

    def __init__(  # noqa: PLR0913 - what a handshake needs, all by name
        self,
        framing: Framing,
        state: SessionState,
        *,
        ephemeral: ec.EllipticCurvePrivateKey,
        connection_id: bytes,
        static_key: ec.EllipticCurvePrivateKey,
        id_cred: cbor.Encodable,
        credential: bytes,
    ) -> None:
        super().__init__(framing, state)
        if len(credential) > MAX_CREDENTIAL_BYTES:
            raise LocalProtocolError(f"a credential has at most {MAX_CREDENTIAL_BYTES} bytes")
        self._ephemeral = ephemeral
        self._connection_id = connection_id
        self._static_key = static_key
        self._id_cred = id_cred
        self._credential = credential
        self._binding: bytes | None = None

    @property
    def binding(self) -> bytes | None:
        """32 bytes that only the two ends of this handshake know; None without a handshake."""
        return self._binding

    def _completed(self, completed: Completed) -> None:
        """The handshake is over."""
        self._records = records.derive(completed, initiator=self.INITIATOR)
        self._binding = completed.export(LABEL_BINDING, b"", BINDING_BYTES)


class InitiatorSession(_Handshaking):
    """Sends message_1 and message_3."""

    INITIATOR: ClassVar = True
    PEER_BY_KEY_ID: ClassVar[bool]
    """How the responder names its credential: by key id, or as a CWT by value."""

    _awaiting: AwaitingMessage2
    _message_2: Message2
    _shown: CredentialReceived

    def _start(self) -> None:
        message_1, self._awaiting = edhoc.start(self._ephemeral, self._connection_id)
        self._queue(FrameKind.MESSAGE_1, message_1)

    def _receive_message_2(self, body: bytes) -> CredentialReceived:
        self._message_2 = self._awaiting.receive(body)
        id_cred = self._message_2.id_cred
        if self.PEER_BY_KEY_ID:
            self._shown = CredentialReceived(None, _key_id(id_cred))
        else:
            self._shown = CredentialReceived(edhoc.cwt_from_id(id_cred), None)
        return self._shown

    def _prove(self, public_key: ec.EllipticCurvePublicKey, credential: bytes | None) -> None:
        cred = _verbatim(self._shown, credential)
        responder = self._message_2.authenticate(public_key, cred)
        message_3, completed = responder.send(self._static_key, self._id_cred, self._credential)
        self._queue(FrameKind.MESSAGE_3, message_3)
        self._completed(completed)


class ResponderSession(_Handshaking):
    """Answers message_1 by itself; the initiator's credential is a CWT by value."""

    INITIATOR: ClassVar = False

    _awaiting: AwaitingMessage3
    _message_3: Message3
    _shown: CredentialReceived

    def _receive_message_1(self, body: bytes) -> None:
        message_2, self._awaiting = edhoc.receive_message_1(body).send(
            self._ephemeral,
            self._connection_id,
            self._static_key,
            self._id_cred,
            self._credential,
        )
        self._queue(FrameKind.MESSAGE_2, message_2)

    def _receive_message_3(self, body: bytes) -> CredentialReceived:
        self._message_3 = self._awaiting.receive(body)
        self._shown = CredentialReceived(edhoc.cwt_from_id(self._message_3.id_cred), None)
        return self._shown

    def _prove(self, public_key: ec.EllipticCurvePublicKey, credential: bytes | None) -> None:
        cred = _verbatim(self._shown, credential)
        self._completed(self._message_3.authenticate(public_key, cred))


def _key_id(id_cred: cbor.Value) -> bytes:
    key_id = id_cred.get(KID) if isinstance(id_cred, dict) and len(id_cred) == 1 else None
    if not isinstance(key_id, bytes):
        raise RemoteProtocolError(Fault.UNSUPPORTED, "the credential is not named by a key id")
    return key_id


def _verbatim(shown: CredentialReceived, given: bytes | None) -> bytes:
    """The credential that the handshake binds: what the peer showed, else what the caller has."""
    credential = given if shown.credential is None else shown.credential
    if credential is None:
        raise LocalProtocolError("a credential named by key id must be given to trust()")
    return credential
