"""What the kernel says of another process: memory, descriptors, wakings, connections to the bus."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.system.bluetoothd import BluezBus

_WAITED = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Holdings:
    """Memory in 10^6 bytes; pss_mb is 0 where the kernel does not count it."""

    rss_mb: float
    pss_mb: float
    descriptors: int
    bus_connections: int


async def holdings(pid: int, bus: BluezBus) -> Holdings:
    """Of a process that lives. OSError otherwise."""
    proc = Path(f"/proc/{pid}")
    return Holdings(
        _kilobytes(proc / "status", "VmRSS") / 1000,
        _kilobytes(proc / "smaps_rollup", "Pss") / 1000,
        len(list((proc / "fd").iterdir())),
        await bus.connections_of(pid),
    )


def wakings(pid: int) -> int:
    """How often its threads have begun to wait: as many on a busy machine."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int(_WAITED.findall((each / "status").read_text())[0]) for each in threads)


def _kilobytes(file: Path, name: str) -> float:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", file.read_text(), re.MULTILINE)
    except FileNotFoundError:
        return 0.0
    return int(found[1]) * 1.024 if found else 0.0
