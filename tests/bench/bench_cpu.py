"""The gateway's processor time per unlock: in all, and where it goes."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import dataclass, replace
from pathlib import Path

from gatewayd.adapters.virtual_radio import INSTANT
from gatewayd.demo.stage import until
from gatewayd.demo.story import Stage
from gatewayd.demo.world import STAIRS, STREET
from tests.bench.cpu import CpuTime, cpu_time
from tests.bench.number import Bar, Number
from tests.bench.sampled import LOOP, PARTS, RADIO, WAITING
from tests.bench.staircase import SampledChild, opened, stage, staircase

PER_DOOR = 40
IDLE_S = 4.0
LATCH_MS = 500
BAR = Bar("<=", 5.0)
LOG_THREAD = "record: the log's thread"


@dataclass(frozen=True, slots=True)
class Measured:
    """Of `unlocks` openings: processor time without what idling costs, and samples by part."""

    unlocks: int
    cpu: CpuTime
    idle: CpuTime
    samples: dict[str, int]


def run() -> list[Number]:
    """Total, own work, and each part."""
    return describe(asyncio.run(_measure()))


def describe(seen: Measured) -> list[Number]:
    """The numbers that follow from what was measured."""
    parts_ms = {part: s * 1000 / seen.unlocks for part, s in division(seen).items()}
    total_ms = seen.cpu.total_s * 1000 / seen.unlocks
    own_ms = total_ms - parts_ms.get(RADIO, 0.0)
    of = sum(seen.samples.values())
    how = (
        f"processor time of the child `gatewayd run` by /proc/PID/task/*/schedstat over"
        f" {seen.unlocks} unlocks by two phones at two doors with warm locks, less idling"
        f" ({seen.idle.total_s * 1000:.1f} ms per second); every phone connects anew"
    )
    division_how = (
        f"share of {of} samples taken by processor time in the same run, innermost frame of a"
        " known module; the log's thread as the kernel counts it"
    )
    return [
        Number(
            "gateway CPU per unlock, gatewayd's own work",
            own_ms,
            "ms",
            f"all but the simulated radio stack; {how}; {division_how}",
            BAR,
        ),
        Number("gateway CPU per unlock, with the simulated radio stack", total_ms, "ms", how),
        *(
            Number(f"  of which {part}", value, "ms", division_how)
            for part, value in sorted(parts_ms.items(), key=lambda item: -item[1])
        ),
    ]


def division(seen: Measured) -> dict[str, float]:
    """Seconds by part, which add up to the total.

    A sample in which the main thread waits was another thread's, so far as the
    kernel says that others ran; the rest is the price of waiting itself, the
    event loop's.
    """
    samples = dict(seen.samples)
    everything = sum(samples.values())
    others = everything * seen.cpu.others_s / seen.cpu.total_s
    samples[LOOP] = samples.get(LOOP, 0) + max(0, round(samples.pop(WAITING, 0) - others))
    main = sum(samples.values())
    parts = {
        part: seen.cpu.main_s * samples[part] / main for part in (*PARTS, LOOP) if samples.get(part)
    }
    return {**parts, LOG_THREAD: seen.cpu.others_s}


async def _measure() -> Measured:
    async with staircase() as (world, stack):
        world.air.model = replace(INSTANT, supervision_timeout_s=1.0)  # waiting costs nothing
        text = world.config.read_text()
        world.config.write_text(text.replace("latch_ms = 1000", f"latch_ms = {LATCH_MS}"))
        for lock in world.locks.values():
            lock.machine.motor_ms = 10
        child = SampledChild(world.config, world.directory / "samples.json")
        async with stage(child, world, stack) as scene:
            await _open_all(scene, 2)  # found the service, dialled the lock, made the keys
            idle = await _idle(child)
            began_s = asyncio.get_running_loop().time()
            child.signal(signal.SIGUSR1)
            before = cpu_time(child.pid)
            await _open_all(scene, PER_DOOR)
            await asyncio.sleep(0.3)  # the last phone's link is taken down
            used = cpu_time(child.pid).since(before)
            passed_s = asyncio.get_running_loop().time() - began_s
            child.signal(signal.SIGUSR2)
            await until(child.out.exists, 5.0)
            samples = _samples(child.out)
        return Measured(2 * PER_DOOR, used.without(idle.times(passed_s)), idle, samples)


async def _idle(child: SampledChild) -> CpuTime:
    """Processor seconds per second while nobody comes."""
    await asyncio.sleep(0.5)
    before = cpu_time(child.pid)
    await asyncio.sleep(IDLE_S)
    return cpu_time(child.pid).since(before).times(1 / IDLE_S)


async def _open_all(scene: Stage, times: int) -> None:
    async with asyncio.TaskGroup() as group:
        for door in (STREET, STAIRS):
            group.create_task(_open_often(scene, door, times), name=f"openings of {door}")


async def _open_often(scene: Stage, door: str, times: int) -> None:
    """As fast as the latch allows: before it falls, the same opening would count once more."""
    phone = await scene.phone(f"holder-{door}")
    for _ in range(times):
        await opened(phone, door)
        await asyncio.sleep(LATCH_MS / 1000 + 0.05)


def _samples(out: Path) -> dict[str, int]:
    counts: dict[str, int] = json.loads(out.read_text())
    return counts
