"""One door, one phone: round trips until it is open, and the time from tap to motor."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass, field

from firmware_proto.codes import Outcome, Reason
from gatewayd.adapters.virtual_radio import Exchanges, RadioLink
from gatewayd.demo.child import Child
from gatewayd.demo.stage import Opening
from gatewayd.demo.story import SUPERVISION_S, Measured, Stage
from gatewayd.demo.world import AIR, AWAKE_MS, SLEEPING_MS, STAIRS, STREET
from gatewayd.emulators.phone import Report
from tests.bench.number import Bar, Number
from tests.bench.staircase import Noticed, stage, staircase

EACH = 4
LATCH_S = 1.05
ROUND_TRIPS = Bar("==", 2)

WARM = "warm lock"
COLD_NEW = "sleeping lock, first meeting"
COLD = "sleeping lock"
PREPARED_WARM = "after Prepare, warm lock"
PREPARED_COLD = "after Prepare, sleeping lock"

CONDITIONS = {
    WARM: "the gateway holds the link to a lock with mains power",
    COLD_NEW: "the gateway has never met this lock: dials, EDHOC handshake",
    COLD: "dials, and resumes the session of before",
    PREPARED_WARM: "the phone connected and prepared 0.4 s before the tap, at the warm lock",
    PREPARED_COLD: "the phone connected and prepared 0.4 s before the tap, at the sleeping lock",
}


@dataclass(slots=True)
class Seen:
    """What every opening at the phone cost, first visit of the phone and later ones apart."""

    openings: list[Opening] = field(default_factory=list)
    round_trips: list[int] = field(default_factory=list)
    first: list[Exchanges] = field(default_factory=list)
    later: list[Exchanges] = field(default_factory=list)


def run() -> list[Number]:
    """Round trips and their neighbours, then tap to command by profile."""
    return describe(asyncio.run(_measure()))


def describe(seen: Seen) -> list[Number]:
    """The numbers that follow from what was seen."""
    return [*_exchanges(seen), *_profiles(seen.openings)]


def _exchanges(seen: Seen) -> list[Number]:
    taps = f"the most of {len(seen.round_trips)} openings with a tap and no Prepare"
    numbers = [
        Number(
            "application round trips, connected to opened",
            max(seen.round_trips),
            "",
            f"how often the phone wrote and then had to wait; {taps}",
            ROUND_TRIPS,
        )
    ]
    for name, exchanges in (("first visit", seen.first), ("later visit", seen.later)):
        most = max(exchanges, key=lambda one: one.att_requests)
        numbers.append(
            Number(
                f"ATT round trips before them, {name}",
                most.att_requests,
                "",
                f"{most.mtu_exchanges} for the MTU, {most.discoveries} to find the service,"
                f" {most.subscribes} to subscribe; counted at the phone's link, the most of"
                f" {len(exchanges)}; beside them {most.writes} writes and"
                f" {most.notifications} notifications carried the two round trips",
            )
        )
    return numbers


def _profiles(openings: list[Opening]) -> list[Number]:
    numbers = []
    for profile, condition in CONDITIONS.items():
        found = [each for each in openings if each.profile == profile]
        parts = ", ".join(
            f"{part} {statistics.median(each.parts[part] for each in found):.0f}"
            for part in found[0].parts
        )
        numbers.append(
            Number(
                f"tap to command at the motor, {profile}",
                float(statistics.median(each.tap_to_command for each in found)),
                "ms",
                f"{condition}; medians of {len(found)}: {parts}; connection interval"
                f" {AIR.connection_interval_s or 0:.3f} s, the gateway advertises every 20 to"
                f" 30 ms, a lock every {AWAKE_MS[0] / 1000:.1f} (mains) or"
                f" {SLEEPING_MS[0] / 1000:.1f} s (asleep); tap and motor on one clock, the"
                " gateway's steps from its journal",
            )
        )
    return numbers


async def _measure() -> Seen:
    seen = Seen()
    async with staircase() as (world, stack), stage(Child(world.config), world, stack) as scene:
        await _tap(scene, STAIRS, COLD_NEW, seen)
        for _ in range(EACH):
            await _tap(scene, STREET, WARM, seen)
            await _fall_asleep(scene)
            await _tap(scene, STAIRS, COLD, seen)
            await _tap(scene, STREET, PREPARED_WARM, seen, prepared=True)
            await _fall_asleep(scene)
            await _tap(scene, STAIRS, PREPARED_COLD, seen, prepared=True)
        seen.openings = scene.record.openings
    return seen


async def _tap(
    scene: Stage, door: str, profile: str, seen: Seen, *, prepared: bool = False
) -> None:
    phone = await scene.phone("anna")
    if not isinstance(phone.central, Noticed):
        phone.central = Noticed(phone.central)
    lock = scene.world.locks[door]
    report = await Measured(scene, lock, profile).open(phone, prepared=prepared)
    if (report.outcome, report.reason) != (Outcome.CONFIRMED, Reason.OK):
        raise AssertionError(f"{profile}: {report.outcome.name} {report.reason.name}")
    if not prepared:
        _count(report, phone.central, seen)
    await asyncio.sleep(LATCH_S / 2)  # doors take turns: before the latch falls nothing moves


def _count(report: Report, central: Noticed, seen: Seen) -> None:
    if not isinstance(central.link, RadioLink):
        raise TypeError("only the virtual radio counts its exchanges")
    (seen.later if seen.round_trips else seen.first).append(central.link.exchanges)
    seen.round_trips.append(report.exchanges)


async def _fall_asleep(scene: Stage) -> None:
    """The lock on the stairs lets its link die, as after a while without use."""
    lock = scene.world.locks[STAIRS]
    lock.vanish()
    await asyncio.sleep(SUPERVISION_S)
    lock.appear()
