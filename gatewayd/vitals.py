"""The shell of `core.heartbeat`: one record of all watched tasks, and a `Pulse` for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gatewayd.core.heartbeat import Heartbeat
from gatewayd.ports.process import Pulse


class Vitals:
    """Who has shown life; `now_s` is a clock that never steps."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._heartbeat = Heartbeat()

    def watch(self, name: str, within_s: float) -> TaskPulse:
        """Expect `name` to be heard of within `within_s`, and from then on as it says itself."""
        pulse = TaskPulse(self, name)
        pulse.beat(within_s)
        return pulse

    def silent(self) -> tuple[str, ...]:
        """Whoever is late or has ended."""
        return self._heartbeat.silent(self._now_s())

    def beat(self, name: str, within_s: float) -> None:
        """See `Heartbeat.beat`."""
        self._heartbeat = self._heartbeat.beat(name, self._now_s(), within_s)

    def waits(self, name: str) -> None:
        """See `Heartbeat.waits`."""
        self._heartbeat = self._heartbeat.waits(name)

    def ended(self, name: str) -> None:
        """See `Heartbeat.ended`."""
        self._heartbeat = self._heartbeat.ended(name)


class TaskPulse:
    """`ports.process.Pulse` of one watched task."""

    def __init__(self, vitals: Vitals, name: str) -> None:
        self._vitals = vitals
        self._name = name

    def beat(self, within_s: float) -> None:
        """See `ports.process.Pulse`."""
        self._vitals.beat(self._name, within_s)

    def waits(self) -> None:
        """See `ports.process.Pulse`."""
        self._vitals.waits(self._name)

    def part(self, name: str) -> Pulse:
        """See `ports.process.Pulse`."""
        pulse = TaskPulse(self._vitals, f"{self._name}: {name}")
        pulse.waits()
        return pulse

    def ended(self) -> None:
        """The task is over: nothing feeds the watchdog any more."""
        self._vitals.ended(self._name)


class Unwatched:
    """`ports.process.Pulse` where nobody takes it: tests, tools, parts used on their own."""

    def beat(self, within_s: float) -> None:
        """Nobody listens."""

    def waits(self) -> None:
        """Nobody listens."""

    def part(self, name: str) -> Pulse:
        """Nobody listens to a part either."""
        del name
        return self


UNWATCHED: Final = Unwatched()
