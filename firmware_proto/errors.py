"""Who erred: we did (LocalProtocolError) or the peer did (RemoteProtocolError).

Any other exception out of a parser or a session is a bug in this package.
"""

from __future__ import annotations

from firmware_proto.codes import Fault


class ProtocolError(Exception):
    """Either side broke the protocol. Raise one of the two subclasses."""


class LocalProtocolError(ProtocolError):
    """The caller asked for something that the protocol does not allow now."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow.

    `fault` says what, for the local log and, where the peer is already
    authenticated, for a sealed `Fault` message. `detail` is for people; it
    never contains bytes chosen by the peer.
    """

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"{fault.name.lower()}: {detail}")
        self.fault = fault
        self.detail = detail
