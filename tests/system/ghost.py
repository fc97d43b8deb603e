"""A phone that is gone, without a word, as soon as it has taken a given number of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gatewayd.ports.radio import Central, Link


class Steps:
    """Counts steps, and calls `vanish` after the last one that is allowed; -1 allows all."""

    def __init__(self, allowed: int, vanish: Callable[[], None]) -> None:
        self.taken: list[str] = []
        self.vanished = False
        self._allowed = allowed
        self._vanish = vanish

    def take(self, what: str) -> None:
        """One more."""
        if self.vanished:
            return
        self.taken.append(what)
        if len(self.taken) == self._allowed:
            self.vanished = True
            self._vanish()


class GhostCentral:
    """A `Central` whose every fragment is a step: written, or read."""

    def __init__(self, central: Central, steps: Steps) -> None:
        self._central = central
        self._steps = steps

    async def scan(self, seconds: float) -> Sequence[str]:
        return await self._central.scan(seconds)

    async def dial(self, address: str) -> Link:
        link = await self._central.dial(address)
        self._steps.take("subscribed")
        return _GhostLink(link, self._steps)


class _GhostLink:
    def __init__(self, link: Link, steps: Steps) -> None:
        self._link = link
        self._steps = steps
        self.close = link.close

    @property
    def mtu(self) -> int:
        return self._link.mtu

    async def read(self) -> bytes:
        fragment = await self._link.read()
        self._steps.take(f"read {len(fragment)} bytes")
        return fragment

    async def write(self, fragment: bytes) -> None:
        await self._link.write(fragment)
        self._steps.take(f"wrote {len(fragment)} bytes")
