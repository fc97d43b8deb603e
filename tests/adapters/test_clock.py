"""The clock reads three clocks that belong together."""

from __future__ import annotations

import time
from pathlib import Path

from gatewayd.adapters.clock import SystemClock


def test_an_instant_has_this_boot_and_this_moment() -> None:
    before = time.time()
    instant = SystemClock().instant()
    assert before <= instant.wall_s <= time.time()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    assert instant.boot_id == boot_id


def test_boottime_never_runs_backwards() -> None:
    clock = SystemClock()
    readings = [clock.instant().boottime_s for _ in range(100)]
    assert readings == sorted(readings)
    assert readings[-1] <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_without_proc_every_clock_is_its_own_boot(tmp_path: Path) -> None:
    first = SystemClock(tmp_path / "absent").instant()
    second = SystemClock(tmp_path / "absent").instant()
    assert first.boot_id != second.boot_id
