"""The machine's clocks.

CLOCK_BOOTTIME counts through suspend and never steps, so that within one boot
it carries trusted time further; CLOCK_MONOTONIC stands still in suspend and
would make old time look fresh.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Final

from gatewayd.core.model import Instant

BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """`ports.process.Clock` on the kernel's clocks."""

    def __init__(self, boot_id_file: Path = BOOT_ID_FILE) -> None:
        self._boot_id = _read_boot_id(boot_id_file)

    def instant(self) -> Instant:
        """Read boot time and wall time, one after the other."""
        boottime_s = time.clock_gettime(_BOOTTIME)
        return Instant(self._boot_id, boottime_s, time.time())


def _read_boot_id(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        # Not Linux: every process counts as a boot of its own, so that no
        # reading of an earlier one is ever believed.
        return str(uuid.uuid4())
