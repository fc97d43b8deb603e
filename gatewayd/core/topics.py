"""Where gateways and the operator's cloud meet on the broker.

Nothing is believed because of its topic: a topic only says what to look at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gatewayd.core.model import GatewayId

PREFIX: Final = "gatewayd/v1"
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _checked(name: str) -> str:
    """ValueError for a name that would reach into other topics."""
    if not _NAME.fullmatch(name):
        raise ValueError("a name on the broker has 1 to 64 of A-Z a-z 0-9 . _ -")
    return name


@dataclass(frozen=True, slots=True)
class GroupTopics:
    """The topics of a door group: what is retained for all its gateways."""

    group: str

    @property
    def for_gateway(self) -> tuple[str, ...]:
        """What every gateway of the group subscribes to; nothing for a name that fits no topic."""
        return (f"{self._lists}/#",) if _NAME.fullmatch(self.group) else ()

    @property
    def _lists(self) -> str:
        return f"{PREFIX}/group/{self.group}/list"

    def list(self, name: str) -> str:
        """Where one status list is retained; `name` only keeps several apart. ValueError."""
        _checked(self.group)
        return f"{self._lists}/{_checked(name)}"

    def has_list(self, topic: str) -> bool:
        """Is it a topic of status lists? A broker's `#` matches the level above, too."""
        return topic == self._lists or topic.startswith(f"{self._lists}/")


@dataclass(frozen=True, slots=True)
class GatewayTopics:
    """The topics of one gateway. ValueError for an id that cannot stand in a topic."""

    gateway: GatewayId

    def __post_init__(self) -> None:
        _checked(self.gateway)

    @property
    def _base(self) -> str:
        return f"{PREFIX}/gateway/{self.gateway}"

    @property
    def status(self) -> str:
        """Retained JSON: is it there, and how is it. Also the topic of its last will."""
        return f"{self._base}/status"

    @property
    def checkpoint(self) -> str:
        """A signed checkpoint as a hint that there is something to pull."""
        return f"{self._base}/checkpoint"

    @property
    def time(self) -> str:
        """A nonce that wants a signed time."""
        return f"{self._base}/up/time"

    def answer(self, request: bytes) -> str:
        """The answer to one order."""
        return f"{self._base}/up/{request.hex()}"

    def down(self, kind: str) -> str:
        """Envelopes for this gateway."""
        return f"{self._base}/down/{_checked(kind)}"

    @property
    def for_gateway(self) -> tuple[str, ...]:
        """What the gateway subscribes to."""
        return (f"{self._base}/down/+",)

    @property
    def for_cloud(self) -> tuple[str, ...]:
        """What the cloud subscribes to while it pulls."""
        return (f"{self._base}/up/+", self.status)
