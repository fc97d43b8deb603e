"""What a process has from the system that runs it: time, chance, supervision."""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from gatewayd.core.model import Instant


class Clock(Protocol):
    """All the clocks at once."""

    def instant(self) -> Instant:
        """Read them."""
        ...


class Entropy(Protocol):
    """Chance, drawn only at the edge."""

    def token_bytes(self, count: int) -> bytes:
        """`count` bytes that nobody can guess."""
        ...

    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """A fresh P-256 key for one handshake."""
        ...

    def fraction(self) -> float:
        """A number in [0, 1), for jitter."""
        ...


class Supervisor(Protocol):
    """systemd, or nobody."""

    def ready(self) -> None:
        """Phones are being served."""
        ...

    def status(self, text: str) -> None:
        """One line for people."""
        ...

    def alive(self) -> None:
        """Every named task has shown life."""
        ...

    def stopping(self) -> None:
        """The daemon has begun to stop."""
        ...


class Pulse(Protocol):
    """How one long-running task shows that it is not hung; see `core.heartbeat`."""

    def beat(self, within_s: float) -> None:
        """I live; unless you hear of me within so many seconds, I hang."""
        ...

    def waits(self) -> None:
        """I live, and wait for somebody outside, for as long as it takes.

        Only before an await that cannot be stuck: a queue, an event, a stream.
        """
        ...

    def part(self, name: str) -> Pulse:
        """The pulse of a task within this task. It waits until it says otherwise."""
        ...
