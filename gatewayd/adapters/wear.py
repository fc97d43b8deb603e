"""What this daemon writes to its card, and how worn the card says it is, where it says so.

`write_bytes` of /proc/self/io (proc(5)) is what we caused the disk to be sent. Of a
whole disk the kernel counts sectors (block/stat.rst); an eMMC tells its age in tenths
(JEDEC eMMC 5.0, DEVICE_LIFE_TIME_EST), an SD card tells nothing.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

_SECTOR_BYTES: Final = 512
_SECTORS_WRITTEN: Final = 6
_DAY_S: Final = 86400.0
_TENTHS: Final = 10


class Wear:
    """Since this was made, for the disk under `state`."""

    def __init__(self, state: Path, root: Path = Path("/")) -> None:
        self._root = root
        self._began_s = time.monotonic()
        self._before = self._own() or 0
        self._device = self._find(state)

    def report(self, openings: int) -> dict[str, object]:
        """For the operator's status; what cannot be read is left out. `openings`: made so far."""
        told: dict[str, object] = {}
        own = self._own()
        if own is not None:
            written = max(0, own - self._before)
            days = max(time.monotonic() - self._began_s, 1.0) / _DAY_S
            told["written_bytes"] = written
            told["written_bytes_per_day"] = round(written / days)
            if openings:
                told["written_bytes_per_opening"] = round(written / openings)
        if self._device is not None:
            fields = _text(self._device / "stat").split()
            if len(fields) > _SECTORS_WRITTEN and fields[_SECTORS_WRITTEN].isdecimal():
                told["disk_written_bytes"] = int(fields[_SECTORS_WRITTEN]) * _SECTOR_BYTES
            used = life_used_percent(_text(self._device / "device/life_time"))
            if used is not None:
                told["disk_life_used_percent"] = used
        return told

    def _own(self) -> int | None:
        for line in _text(self._root / "proc/self/io").splitlines():
            name, _, value = line.partition(": ")
            if name == "write_bytes" and value.isdecimal():
                return int(value)
        return None

    def _find(self, state: Path) -> Path | None:
        """The whole disk, of which `state` may be on a partition."""
        try:
            number = state.stat().st_dev
            link = self._root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
            found = link.resolve(strict=True)
        except OSError:
            return None
        return found.parent if (found / "partition").exists() else found


def life_used_percent(life_time: str) -> int | None:
    """The worse of both kinds of cells: `0x03 0x01` means 20 to 30 % used, which is told as 30."""
    try:
        ages = [int(each, 16) for each in life_time.split()]
    except ValueError:
        return None
    return max(ages) * _TENTHS if ages and max(ages) > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return ""
