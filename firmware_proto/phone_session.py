"""Both ends of a phone's connection to a gateway."""

from __future__ import annotations

from typing import ClassVar, Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import edhoc
from firmware_proto.framing import Framing
from firmware_proto.messages import FaultMessage, GetResult
from firmware_proto.phone_messages import Chunk, Collect, Deliver, Open, Prepare, Result
from firmware_proto.session import CredentialReceived, Direction
from firmware_proto.session_roles import InitiatorSession, ResponderSession
from firmware_proto.session_tables import (
    GATEWAY,
    GATEWAY_DEADLINES,
    PHONE,
    PHONE_DEADLINES,
    Input,
    SessionState,
)

PHONE_SAYS: Final = Direction(
    frozenset({Prepare, Open, GetResult, Deliver, Collect, FaultMessage}), asks_by_command=False
)
GATEWAY_SAYS: Final = Direction(frozenset({Result, Chunk, FaultMessage}), asks_by_command=False)


class PhoneSession(InitiatorSession):
    """The phone's end. `credential` is its key token; `static_key` the key named in it."""

    TABLE: ClassVar = PHONE
    DEADLINES: ClassVar = PHONE_DEADLINES
    SAYS: ClassVar = PHONE_SAYS
    HEARS: ClassVar = GATEWAY_SAYS
    PEER_BY_KEY_ID: ClassVar = False

    def __init__(
        self,
        framing: Framing,
        *,
        ephemeral: ec.EllipticCurvePrivateKey,
        connection_id: bytes,
        static_key: ec.EllipticCurvePrivateKey,
        credential: bytes,
    ) -> None:
        super().__init__(
            framing,
            SessionState.START,
            ephemeral=ephemeral,
            connection_id=connection_id,
            static_key=static_key,
            id_cred=edhoc.kcwt_id(credential),
            credential=credential,
        )

    def begin(self) -> None:
        """Queue message_1."""
        target = self._allowed(Input.BEGIN)
        self._start()
        self._state = target

    def _handshake(self, kind: Input, body: bytes) -> CredentialReceived:  # noqa: ARG002 - only message_2 can come
        return self._receive_message_2(body)


class GatewaySession(ResponderSession):
    """The gateway's end towards a phone. `credential` is its gateway credential."""

    TABLE: ClassVar = GATEWAY
    DEADLINES: ClassVar = GATEWAY_DEADLINES
    SAYS: ClassVar = GATEWAY_SAYS
    HEARS: ClassVar = PHONE_SAYS

    def __init__(
        self,
        framing: Framing,
        *,
        ephemeral: ec.EllipticCurvePrivateKey,
        connection_id: bytes,
        static_key: ec.EllipticCurvePrivateKey,
        credential: bytes,
    ) -> None:
        super().__init__(
            framing,
            SessionState.AWAITING_MESSAGE_1,
            ephemeral=ephemeral,
            connection_id=connection_id,
            static_key=static_key,
            id_cred=edhoc.kcwt_id(credential),
            credential=credential,
        )

    def _handshake(self, kind: Input, body: bytes) -> CredentialReceived | None:
        if kind is Input.MESSAGE_3:
            return self._receive_message_3(body)
        self._receive_message_1(body)
        return None
