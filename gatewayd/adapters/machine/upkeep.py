"""What only the status tells of a machine: how worn its card is, which of two systems it runs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gatewayd.adapters.machine.files import read
from gatewayd.core.findings import number

_SECTOR_BYTES: Final = 512
"""Of this file, whatever the disk has (Documentation/block/stat.rst)."""
_SECTORS_WRITTEN: Final = 6
_WORN_OUT: Final = 0x0B
"""JEDEC 84-B50, EXT_CSD 268: 1 for up to 10 %, … 10 for up to 100 %, 11 for beyond."""


@dataclass(frozen=True, slots=True)
class Wear:
    """None where the kernel does not say."""

    written_bytes: int | None
    life_used_percent: int | None
    own_bytes: int | None = None
    """What this process caused to be written (`write_bytes`, proc(5))."""


def wear(state: Path, root: Path) -> Wear:
    """Of the block device under `state`, or under its nearest parent that exists."""
    place = state.absolute()
    while not place.exists():
        place = place.parent
    device = place.stat().st_dev
    disk = wear_of(root / f"sys/dev/block/{os.major(device)}:{os.minor(device)}")
    own = re.search(
        r"^write_bytes: (\d{1,18})$", read(root / "proc/self/io") or "", re.MULTILINE | re.ASCII
    )
    return replace(disk, own_bytes=int(own[1]) if own else None)


def wear_of(block: Path) -> Wear:
    """`block`: the kernel's directory of a disk, or of a partition on one."""
    counted = (read(block / "stat") or "").split()
    sectors = number(counted[_SECTORS_WRITTEN]) if len(counted) > _SECTORS_WRITTEN else None
    return Wear(
        None if sectors is None else sectors * _SECTOR_BYTES,
        _life(read(block / "device/life_time") or read(block / "../device/life_time") or ""),
    )


def _life(text: str) -> int | None:
    """The worse of the two kinds of memory that an eMMC may have: `0x02 0x01`."""
    try:
        worst = max((int(each, 16) for each in text[:64].split()), default=0)
    except ValueError:
        return None
    return worst * 10 if 0 < worst <= _WORN_OUT else None


def slot(root: Path) -> str:
    """As RAUC tells it on the kernel's command line (`rauc.slot=A`); empty where nobody does."""
    for word in (read(root / "proc/cmdline") or "").split():
        name, _, value = word.partition("=")
        if name == "rauc.slot":
            return value
    return ""
