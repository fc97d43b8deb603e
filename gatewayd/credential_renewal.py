"""The gateway's credential, asked for anew before it ends: the same claims, a later end.

What was installed, and what the operator states by envelope, say which doors
there are; a renewed one says nothing but that it is still so. It counts while
those say the same, and phones and locks are shown it from the next handshake on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from firmware_proto.credential import GatewayCredential
from gatewayd.core.term import Term
from gatewayd.core.trust import Trust, later
from gatewayd.ports.storage import Memory

MEMORY_NAME: Final = "renewed credential"
_AGAIN_S: Final = 3600
_TRIES: Final = 90
"""In a whole life, at least; a third of them before it ends."""
_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Terms:
    """When our credential and certificate are valid; whoever renews them says so."""

    credential: Callable[[], Term | None] = lambda: None
    certificate: Callable[[], Term | None] = lambda: None


@dataclass(slots=True)
class CredentialRenewal:
    """Of one gateway; `sync.Renewal`."""

    held: GatewayCredential
    data: bytes = field(repr=False)
    """`held`, as it is shown."""
    trust: Callable[[], Trust]
    memory: Memory
    now_s: Callable[[], int]
    """The best estimate of Unix time."""
    show: Callable[[bytes], None]
    """To whoever comes from now on."""
    asked_s: int = 0

    def question(self) -> bytes | None:
        """Our credential, when it is time for the next one: whoever has it knows who asks."""
        now_s = self.now_s()
        again_s = min(_AGAIN_S, (self.held.expires - self.held.issued_at) // _TRIES)
        if not self.held.due(now_s) or now_s - self.asked_s < again_s:
            return None
        self.asked_s = now_s
        return self.data

    async def answered(self, payload: bytes) -> bool:
        """Keep it; whether it ends later than ours.

        RemoteProtocolError when it is not this operator's or says anything else, StorageError.
        """
        new = later(payload, self.held, self.trust())
        if new is None:
            return False
        await self.memory.store(MEMORY_NAME, payload)
        self.held, self.data = new, payload
        self.show(payload)
        _log.info("our credential was renewed")
        return True
