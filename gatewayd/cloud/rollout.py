"""Settings go out in rings: what each gateway is to be sent, and whether a ring may have its turn.

Pure. What was sent before is the memory, so a roll-out that was interrupted goes on
where it was, and is undone by sending what was sent before, whole, under a higher serial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gatewayd.cloud.fleet import Alarm, ring_of
from gatewayd.core.model import GatewayId


class Sent(NamedTuple):
    """Settings that one gateway was sent."""

    serial: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """A new state."""

    serial: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Again:
    """It was sent, and the gateway does not say that it has it: the broker gets it once more."""

    serial: int


@dataclass(frozen=True, slots=True)
class Has:
    """It has what is wanted."""

    serial: int


@dataclass(frozen=True, slots=True)
class Leave:
    """It is left alone, and why."""

    why: str


Step = Send | Again | Has | Leave


def forth(sent: Sequence[Sent], held: int, wanted: bytes) -> Step:
    """What brings one gateway these settings.

    sent: ascending. held: the serial that it says it has for itself; 0 for none.
    """
    latest = sent[-1] if sent else Sent(0, b"")
    if held > latest.serial:
        return Leave(f"has settings of serial {held}, which were not sent from here")
    if latest.body == wanted:
        return Has(held) if held == latest.serial else Again(latest.serial)
    return Send(latest.serial + 1, wanted)


def back(sent: Sequence[Sent], held: int, wanted: bytes, before: bytes | None) -> Step:
    """What takes these settings back. before: what holds where nothing was sent earlier."""
    latest = sent[-1] if sent else Sent(0, b"")
    if held > latest.serial:
        return Leave(f"has settings of serial {held}, which were not sent from here")
    when = [index for index, each in enumerate(sent) if each.body == wanted]
    if not when:
        return Leave("was never sent these settings")
    earlier = [each.body for each in sent[: when[-1]] if each.body != wanted]
    body = earlier[-1] if earlier else before
    if body is None:
        return Leave("was sent nothing before: say what to go back to with --before")
    if latest.body == wanted:
        return Send(latest.serial + 1, body)
    if latest.body != body:
        return Leave("was sent other settings since")
    return Has(held) if held == latest.serial else Again(latest.serial)


def targets(gateways: Sequence[GatewayId], ring: int) -> list[GatewayId]:
    """Who has a change once it has reached this ring."""
    return sorted(each for each in gateways if ring_of(each) <= ring)


def objections(
    steps: Mapping[GatewayId, Step], alarms: Sequence[Alarm], ring: int
) -> Iterator[tuple[GatewayId, str]]:
    """Why this ring may not have its turn: who of the smaller ones is not well, or has it not.

    Statuses are unsigned: whoever owns the broker can keep a change from going on, or say that
    all is well.
    """
    for gateway, step in steps.items():
        if ring_of(gateway) < ring and isinstance(step, Send | Again):
            yield gateway, "has not got it yet"
    for alarm in alarms:
        if ring_of(alarm.gateway) < ring:
            yield GatewayId(alarm.gateway), alarm.name.replace("_", " ")
