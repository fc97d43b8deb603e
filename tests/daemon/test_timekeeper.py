"""The shell of timekeeping: what is stored when, and what is asked when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from gatewayd.core.model import ClockState, Instant, TimeReading
from gatewayd.core.timekeeping import FRESH_S, TimeRefusedError
from gatewayd.ports import StorageError
from gatewayd.timekeeper import AGAIN_KEEP_S, ASK_S, KEEP_S, MEMORY_NAME, SignedTime, Timekeeper
from tests.support.gateway import LoopTime
from tests.support.household import NOW, Dice
from tests.support.memory_log import MemoryLog


@dataclass
class HandClock:
    """Moves when told."""

    boot_id: str = "one"
    boottime_s: float = 100.0
    wall_s: float = float(NOW)

    def instant(self) -> Instant:
        return Instant(self.boot_id, self.boottime_s, self.wall_s)

    def forward(self, seconds: float) -> None:
        self.boottime_s += seconds
        self.wall_s += seconds


@contextlib.asynccontextmanager
async def keeping(keeper: Timekeeper) -> AsyncIterator[list[TimeReading]]:
    """`keep` in the background; the list fills with the changes it tells."""
    told: list[TimeReading] = []

    async def changed(reading: TimeReading) -> None:
        told.append(reading)

    task = asyncio.create_task(keeper.keep(changed))
    await asyncio.sleep(0)
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()


async def trusted(clock: HandClock, memory: MemoryLog) -> Timekeeper:
    keeper = await Timekeeper.load(clock, memory, battery_clock=False)
    await keeper.provision(NOW)
    return keeper


async def test_it_knows_nothing_at_first_and_the_time_once_provisioned() -> None:
    clock, memory = HandClock(), MemoryLog()
    keeper = await Timekeeper.load(clock, memory, battery_clock=False)
    assert keeper.reading().state is ClockState.UNKNOWN
    await keeper.provision(NOW)
    assert keeper.reading().state is ClockState.TRUSTED
    assert (keeper.reading().now_s, keeper.reading().floor_s) == (NOW, NOW)
    again = await Timekeeper.load(clock, memory, battery_clock=False)
    assert again.reading() == keeper.reading()


async def test_a_time_that_is_not_believed_is_a_floor_all_the_same() -> None:
    clock, memory = HandClock(), MemoryLog()
    keeper = await trusted(clock, memory)
    await keeper.provision(NOW + 5000)
    assert keeper.reading().floor_s == NOW + 5000
    later = await Timekeeper.load(replace(clock, boot_id="two"), memory, battery_clock=False)
    assert (later.reading().state, later.reading().floor_s) == (ClockState.UNKNOWN, NOW + 5000)


@pytest.mark.parametrize("stored", [b"", b"\x80", b"noise", b"\x83\x01\x00"])
async def test_damaged_time_is_a_storage_error(stored: bytes) -> None:
    memory = MemoryLog()
    await memory.store(MEMORY_NAME, stored)
    with pytest.raises(StorageError, match="stored time is damaged"):
        await Timekeeper.load(HandClock(), memory, battery_clock=False)
    assert await memory.load(MEMORY_NAME) == stored


async def test_what_a_disk_did_not_take_is_known_and_stored_soon_after_it_is_well() -> None:
    time, clock, memory = LoopTime(), HandClock(), MemoryLog()
    keeper = await trusted(clock, memory)
    memory.failing = True
    await keeper.provision(NOW + 50)
    assert keeper.reading().floor_s >= NOW + 50, "a floor, also where it cannot be stored"
    async with keeping(keeper):
        clock.forward(AGAIN_KEEP_S)
        await time.skip(1.05)
        memory.failing = False
        clock.forward(AGAIN_KEEP_S)
        await time.skip(1.05)
    later = await Timekeeper.load(replace(clock, boot_id="two"), memory, battery_clock=False)
    assert later.reading().floor_s >= NOW + 50


async def test_the_floor_is_kept_now_and_then_and_survives_a_power_cut() -> None:
    time, clock, memory = LoopTime(), HandClock(), MemoryLog()
    keeper = await trusted(clock, memory)
    first = await memory.load(MEMORY_NAME)
    async with keeping(keeper):
        clock.forward(KEEP_S - 1)
        await time.skip(1.05)
        assert await memory.load(MEMORY_NAME) == first
        clock.forward(2)
        await time.skip(1.05)
        assert await memory.load(MEMORY_NAME) != first
    later = await Timekeeper.load(replace(clock, boot_id="two"), memory, battery_clock=False)
    assert NOW + KEEP_S - 5 < later.reading().floor_s <= NOW + KEEP_S + 1


async def test_a_floor_that_cannot_be_stored_is_tried_again() -> None:
    time, clock, memory = LoopTime(), HandClock(), MemoryLog()
    keeper = await trusted(clock, memory)
    first = await memory.load(MEMORY_NAME)
    async with keeping(keeper):
        memory.failing = True
        clock.forward(KEEP_S + 1)
        await time.skip(1.05)
        assert keeper.known.floor_s > NOW
        memory.failing = False
        clock.forward(KEEP_S + 1)
        await time.skip(1.05)
        assert await memory.load(MEMORY_NAME) != first


async def test_a_change_of_state_is_told_once() -> None:
    time, clock, memory = LoopTime(), HandClock(), MemoryLog()
    keeper = await trusted(clock, memory)
    async with keeping(keeper) as told:
        clock.forward(30 * 86400)
        await time.skip(1.05)
        await time.skip(1.05)
        assert [reading.state for reading in told] == [ClockState.HOLDOVER]


async def test_an_unchanged_state_is_not_written_again() -> None:
    clock, memory = HandClock(), MemoryLog()
    keeper = await trusted(clock, memory)
    memory.failing = True
    await keeper.update(keeper.known)
    keeper.ask(bytes(16))
    await keeper.update(keeper.known)
    with pytest.raises(StorageError):
        await keeper.update(keeper.known.raised(NOW + 1))


# --- signed time -----------------------------------------------------------------------------
async def test_time_is_asked_for_while_it_is_not_trusted_and_again_after_a_while() -> None:
    clock, memory = HandClock(), MemoryLog()
    keeper = await Timekeeper.load(clock, memory, battery_clock=False)
    signed = SignedTime(keeper, Dice())
    first = signed.question()
    assert first is not None
    assert signed.question() is None, "one question at a time"
    clock.forward(FRESH_S)
    second = signed.question()
    assert second not in {None, first}
    with pytest.raises(TimeRefusedError):
        await signed.answered(first, NOW + 10)
    clock.forward(1)
    await signed.answered(second, NOW + 10)
    assert keeper.reading().state is ClockState.TRUSTED
    clock.forward(ASK_S - 1)
    assert signed.question() is None
    clock.forward(1)
    assert signed.question() is not None


async def test_a_clock_that_somebody_steps_is_an_error_in_the_journal_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    time, clock, memory = LoopTime(), HandClock(), MemoryLog()
    keeper = await trusted(clock, memory)
    async with keeping(keeper):
        await time.skip(1.05)
        assert not caplog.records
        clock.wall_s += 86_400
        for _ in range(3):
            await time.skip(1.05)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "not believed" in caplog.text
