"""Connections to phones and locks: both ends of both relations use the same three ports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Link(Protocol):
    """One connection, carrying whole fragments in order in both directions."""

    @property
    def mtu(self) -> int:
        """The ATT MTU now in force (23..517); a fragment holds at most mtu - 3 bytes."""
        ...

    async def read(self) -> bytes:
        """The next fragment. LinkClosedError when the connection is gone."""
        ...

    async def write(self, fragment: bytes) -> None:
        """Hand one fragment to the radio. LinkClosedError when the connection is gone.

        Its `may_have_happened` is False where nothing of the fragment was handed over.
        """
        ...

    async def close(self) -> None:
        """Disconnect; harmless when already disconnected."""
        ...


class Peripheral(Protocol):
    """The advertising side: a gateway towards phones, a lock towards gateways."""

    async def accept(self) -> Link:
        """The next central that connected and subscribed.

        The adapter holds at most `MAX_MESSAGE_BYTES` unread per link and drops
        the link beyond that.
        """
        ...


class Central(Protocol):
    """The dialling side: a phone towards gateways, a gateway towards locks."""

    async def dial(self, address: str) -> Link:
        """Connect, exchange the MTU, find the service, subscribe. RadioError when that fails."""
        ...


@dataclass(frozen=True, slots=True)
class Sighting:
    """An advertiser of a relation's service. Its name is unproved, and often empty.

    strength_dbm: None where the radio does not say.
    """

    address: str
    strength_dbm: int | None
    name: str = ""


class Lookout(Central, Protocol):
    """A phone's dialling side, which also looks around."""

    async def scan(self, seconds: float) -> Sequence[str]:
        """Addresses advertising this relation's service, strongest first."""
        ...

    async def look(
        self, seconds: float, heard: Callable[[Sighting], None] = lambda _: None
    ) -> Sequence[Sighting]:
        """Who advertises this relation's service, strongest first. `heard` sees each at once."""
        ...


class RadioHelper(Protocol):
    """What a radio can do only for a privileged process. Addresses as F0:F1:F2:F3:F4:F5."""

    async def strength_dbm(self, adapter: str, peer: str, *, public: bool) -> int | None:
        """RSSI of a connected peer, None when it is not connected. RadioError otherwise.

        `public` says of which kind the peer's address is. For people and for
        convenience only: signal strength is no proof of nearness.
        """
        ...

    async def restart(self, adapter: str) -> None:
        """Switch an adapter off and on, which ends every connection. RadioError when it fails."""
        ...
