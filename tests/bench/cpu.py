"""Processor time of another process, thread by thread, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_AFTER_NAME = 2
_UTIME, _STIME = 13, 14


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Seconds. `main_s` of the main thread, `others_s` of the threads that are left."""

    main_s: float
    others_s: float

    @property
    def total_s(self) -> float:
        return self.main_s + self.others_s

    def since(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(self.main_s - earlier.main_s, self.others_s - earlier.others_s)

    def without(self, other: CpuTime) -> CpuTime:
        """What is left when `other` is taken off; never less than nothing."""
        return CpuTime(
            max(0.0, self.main_s - other.main_s), max(0.0, self.others_s - other.others_s)
        )

    def times(self, factor: float) -> CpuTime:
        return CpuTime(self.main_s * factor, self.others_s * factor)


def cpu_time(pid: int) -> CpuTime:
    """Of all threads that live. OSError when there is no such process."""
    main_s = others_s = 0.0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        seconds = _thread(thread)
        if thread.name == str(pid):
            main_s += seconds
        else:
            others_s += seconds
    return CpuTime(main_s, others_s)


def _thread(thread: Path) -> float:
    try:
        return int((thread / "schedstat").read_text().split()[0]) / 1e9
    except FileNotFoundError:  # a kernel without CONFIG_SCHED_INFO counts in ticks of 10 ms
        # the name, second field, may hold spaces
        fields = (thread / "stat").read_text().rpartition(")")[2].split()
        at = [int(fields[index - _AFTER_NAME]) for index in (_UTIME, _STIME)]
        return sum(at) * _TICK_S
