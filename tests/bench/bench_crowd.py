"""Forty phones at one gateway with a radio of four links: who is served, and how soon."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from firmware_proto.codes import Outcome, Reason
from gatewayd.demo.child import Child
from gatewayd.demo.story import Stage
from gatewayd.demo.world import STAIRS, STREET
from gatewayd.emulators.phone import Phone, Report
from tests.bench.cpu import cpu_time
from tests.bench.number import Bar, Number, percentile
from tests.bench.staircase import ADDRESS, stage, staircase

PHONES = 40
WITHIN_S = 10.0
SERVED = {
    (Outcome.CONFIRMED, Reason.OK),
    (Outcome.CONFIRMED, Reason.ALREADY_OPEN),
}
BAR = Bar("==", PHONES)


@dataclass(frozen=True, slots=True)
class Crowd:
    """How one crowd fared."""

    reports: list[Report]
    last_s: float
    """From the first arrival to the last answer."""
    moved: int
    """Openings at the locks."""
    cpu_s: float
    """Processor time of the gateway's process."""


def run() -> list[Number]:
    """Forty who come in ten seconds, and forty at once."""
    spread, at_once = asyncio.run(_measure())
    return [
        *describe("forty phones in ten seconds", spread, f"one every {WITHIN_S / PHONES} s", BAR),
        *describe("forty phones at once", at_once, "all in the same moment", None),
    ]


def describe(name: str, crowd: Crowd, coming: str, bar: Bar | None) -> list[Number]:
    """The numbers that follow from what happened."""
    served = [each for each in crowd.reports if (each.outcome, each.reason) in SERVED]
    again = sum(each.attempts > 1 for each in crowd.reports)
    how = (
        f"{PHONES} phones, each with a radio and a key of its own, {coming}, half of them at each"
        f" of two doors; `gatewayd run` as a child whose radio holds 4 phones; served: confirmed,"
        f" by an opening of its own or the one under way; {again} connected more than once;"
        f" {crowd.moved} openings at the locks; the last answer came after {crowd.last_s:.1f} s"
    )
    waited = [each.timings.total_s for each in served] or [crowd.last_s]
    return [
        Number(f"{name}: served", len(served), "", how, bar),
        Number(
            f"{name}: tap to answer, p50",
            percentile(waited, 0.5),
            "s",
            "of those served, at the phone, with connecting and the lock's motor of 0.15 s",
        ),
        Number(f"{name}: tap to answer, p95", percentile(waited, 0.95), "s", "the same"),
        Number(
            f"{name}: gateway CPU per phone",
            crowd.cpu_s * 1000 / PHONES,
            "ms",
            "all threads of `gatewayd run`, the simulated radio stack with it, by /proc",
        ),
    ]


async def _measure() -> tuple[Crowd, Crowd]:
    async with staircase() as (world, stack), stage(Child(world.config), world, stack) as scene:
        phones = [await scene.phone(f"phone-{number}") for number in range(PHONES)]
        spread = await _crowd(scene, phones, WITHIN_S)
        await asyncio.sleep(2.0)  # links are gone, latches have fallen
        return spread, await _crowd(scene, phones, 0.0)


async def _crowd(scene: Stage, phones: list[Phone], within_s: float) -> Crowd:
    locks = scene.world.locks.values()
    before = sum(lock.machine.openings for lock in locks)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    cpu = cpu_time(scene.child.pid)
    async with asyncio.TaskGroup() as group:
        errands = [
            group.create_task(
                _arrive(phone, number, number * within_s / PHONES), name=f"phone {number}"
            )
            for number, phone in enumerate(phones)
        ]
    moved = sum(lock.machine.openings for lock in locks) - before
    return Crowd(
        [errand.result() for errand in errands],
        loop.time() - began_s,
        moved,
        cpu_time(scene.child.pid).since(cpu).total_s,
    )


async def _arrive(phone: Phone, number: int, after_s: float) -> Report:
    await asyncio.sleep(after_s)
    return await phone.open_door((STREET, STAIRS)[number % 2], address=ADDRESS)
