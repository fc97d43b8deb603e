"""What the daemon needs of the outside: a module per neighbour, seven methods a port at most.

An adapter implements a port; only composition roots choose which. Every error a
port may raise stands here and says what it implies about delivery.
"""

from __future__ import annotations

from asyncio import Future
from typing import Any

from firmware_proto.codes import Reason


class PortError(Exception):
    """Something outside failed. `remedy`: what a person can do, in one line; may be empty.

    `may_have_happened`: the other side may have acted all the same.
    """

    may_have_happened = False

    def __init__(self, why: str = "", remedy: str = "") -> None:
        super().__init__(why)
        self.remedy = remedy


class LinkClosedError(PortError):
    """The connection is gone. What was written last may or may not have arrived."""

    may_have_happened = True


class RadioError(PortError):
    """No connection came about; nothing was sent."""


class StorageError(PortError):
    """The entry does not exist: disk full, read-only or I/O error (`reason`).

    `late`: it took too long (LOG_SLOW) and is still being written; then this
    tells when that has ended, and only a failure of it says that nothing exists.
    """

    def __init__(
        self,
        why: str = "",
        remedy: str = "",
        *,
        reason: Reason = Reason.LOG_UNAVAILABLE,
        late: Future[Any] | None = None,
    ) -> None:
        super().__init__(why, remedy)
        self.reason = reason
        self.late = late


class UpstreamError(PortError):
    """The broker is away; nothing is lost, because the log itself is the outbox."""


class NotSeenError(PortError):
    """A part of the machine could not be looked at; `remedy` says how it can be."""
