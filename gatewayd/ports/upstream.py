"""The operator's broker."""

from __future__ import annotations

from typing import Protocol


class Upstream(Protocol):
    """A connected session with the broker."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Returns when the broker acknowledged (QoS 1). UpstreamError otherwise."""
        ...

    async def receive(self) -> tuple[str, bytes]:
        """The next message on the subscribed topics. UpstreamError when the session is gone."""
        ...
