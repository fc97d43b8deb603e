"""What the operator keeps of every log it has pulled, as a port.

Whoever implements it decides inside one transaction; a call that returned is
durable, a call that did not has changed nothing or everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gatewayd.core.erasure import Erase
from gatewayd.core.merkle import CompactRange
from gatewayd.core.pull import LogAlarmError, Verified
from gatewayd.ports import PortError


class OutrunError(PortError):
    """Somebody else stored more of this log meanwhile: read again, pull from there."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is kept of one log."""

    range: CompactRange = CompactRange()  # noqa: RUF009 - frozen, and the same for every empty log
    note: bytes | None = None
    """The last checkpoint verified, as the gateway signed it and we cosigned it."""


class Closed(NamedTuple):
    """A log whose gateway was retired: so many entries were kept then, in Unix seconds."""

    kept: int
    time_s: int


class Erasing(NamedTuple):
    """An erasure that a gateway was told: the order's name and number, when, and what."""

    origin: str
    name: bytes
    number: int
    ordered_s: int
    wanted: Erase


class CloudStore(Protocol):
    """Leaves by (origin, seq). Nothing in it is ever overwritten."""

    def held(self, origin: str) -> Held:
        """What is kept; nothing of an unknown log."""
        ...

    def keep(self, origin: str, verified: Verified, note: bytes) -> int:
        """Store the leaves and the cosigned `note`; returns how many of them were new.

        The same leaf again is harmless. LogAlarmError (FORKED) for another
        leaf in a place that is taken, OutrunError for leaves that do not begin
        where the kept ones end: nothing is stored then. An entry that says that an
        erasure was carried out ends it.
        """
        ...

    def close(self, origin: str, kept: int, time_s: int) -> None:
        """The gateway is retired; what follows its first `kept` entries may be missing."""
        ...

    def closed(self, origin: str) -> Closed | None:
        """When it was; None while it writes."""
        ...

    def alarm(self, origin: str, error: LogAlarmError, time_s: int) -> None:
        """Keep the evidence."""
        ...
