"""A broker that is a few lines in memory: every message can be seen, made up, or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gatewayd.ports import UpstreamError


class Killed(BaseException):
    """The process dies here. Not an Exception, so that nothing can handle it."""


@dataclass
class Fuse:
    """Kills at step number `after`; a step is any call to the outside, before and after it."""

    after: int
    steps: int = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps > self.after:
            raise Killed


@dataclass
class Hub:
    """All sessions, and everything that was ever published."""

    sessions: list[HubSession] = field(default_factory=list)
    published: list[tuple[str, bytes]] = field(default_factory=list)
    retained: dict[str, bytes] = field(default_factory=dict)
    lose: Callable[[str, bytes], bool] = lambda _topic, _payload: False

    @asynccontextmanager
    async def connect(self, *filters: str, fuse: Fuse | None = None) -> AsyncIterator[HubSession]:
        session = HubSession(self, filters, fuse or Fuse(2**31))
        for topic, payload in self.retained.items():
            session.offer(topic, payload)
        self.sessions.append(session)
        try:
            yield session
        finally:
            self.sessions.remove(session)

    def deliver(self, topic: str, payload: bytes) -> None:
        """To whoever subscribed, from nobody in particular."""
        for session in self.sessions:
            session.offer(topic, payload)

    def kick(self) -> None:
        """End every session from the broker's side."""
        for session in self.sessions:
            session.inbox.put_nowait(None)


@dataclass
class HubSession:
    """`ports.upstream.Upstream`."""

    hub: Hub
    filters: tuple[str, ...]
    fuse: Fuse
    inbox: asyncio.Queue[tuple[str, bytes] | None] = field(default_factory=asyncio.Queue)

    def offer(self, topic: str, payload: bytes) -> None:
        if any(_matches(each, topic) for each in self.filters):
            self.inbox.put_nowait((topic, payload))

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.fuse.step()
        await asyncio.sleep(0)
        self.hub.published.append((topic, payload))
        if retain:
            self.hub.retained[topic] = payload
        if not self.hub.lose(topic, payload):
            self.hub.deliver(topic, payload)
        self.fuse.step()

    async def receive(self) -> tuple[str, bytes]:
        self.fuse.step()
        message = await self.inbox.get()
        if message is None:
            raise UpstreamError("kicked")
        self.fuse.step()
        return message


def _matches(pattern: str, topic: str) -> bool:
    one, other = pattern.split("/"), topic.split("/")
    return len(one) == len(other) and all(
        left in ("+", right) for left, right in zip(one, other, strict=True)
    )
