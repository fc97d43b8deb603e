"""One door's actuator, whatever is at the other end of the link or of the wire."""

from __future__ import annotations

from typing import Protocol

from gatewayd.core.model import CommandId, Verdict


class Lock(Protocol):
    """A lock or relay as a door sees it; speaks no bytes."""

    async def prepare(self) -> None:
        """Be ready to command without delay. RadioError when the lock cannot be reached."""
        ...

    async def unlatch(self, command: CommandId, duration_ms: int) -> Verdict:
        """Open. Never raises for what the lock or the radio does: silence is UNKNOWN."""
        ...

    async def result_of(self, command: CommandId) -> Verdict | None:
        """What became of a command; None while the lock cannot be asked."""
        ...

    async def close(self) -> None:
        """Let the link go."""
        ...
