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


EVERY_STATUS: Final = f"{PREFIX}/gateway/+/status"
_STATUS: Final = re.compile(rf"{PREFIX}/gateway/({_NAME.pattern})/status")


def status_of(topic: str) -> str | None:
    """Whose status a topic is for; None when it is none."""
    found = _STATUS.fullmatch(topic)
    return None if found is None else found[1]


def _checked(name: str) -> str:
    """ValueError for a name that would reach into other topics."""
    if not _NAME.fullmatch(name):
        raise ValueError("a name on the broker has 1 to 64 of A-Z a-z 0-9 . _ -")
    return name


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
