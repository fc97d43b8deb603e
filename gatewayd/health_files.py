"""How the gateway is, in files for programs on the same machine: `selftest`, node_exporter."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd import gate, metrics
from gatewayd.health import Health
from gatewayd.ports.process import Pulse

_log: Final = logging.getLogger(__name__)
_MODE: Final = 0o644
_WRITE_S: Final = 60.0


def runtime_directory(environment: Mapping[str, str]) -> Path | None:
    """The first that systemd made for us (RuntimeDirectory=); None without one."""
    first = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None


@dataclass(frozen=True, slots=True)
class HealthFiles:
    """runtime: where `gate.FILE` is written. metrics: the file for node_exporter. None: neither.

    connected: whether a session with the broker stands; None without a broker.
    """

    health: Health
    runtime: Path | None
    metrics: Path | None
    connected: Callable[[], bool | None]

    async def keep(self, pulse: Pulse) -> None:
        """Write both every few seconds, until cancelled. A file that cannot be written is told."""
        failed = ""
        while True:
            pulse.beat(_WRITE_S + gate.WRITE_EVERY_S)
            try:
                for path, data in self.documents():
                    await asyncio.to_thread(replace, path, data)
                failed = ""
            except OSError as error:
                if str(error) != failed:
                    _log.warning("what tells our health cannot be written: %s", error)
                failed = str(error)
            await asyncio.sleep(gate.WRITE_EVERY_S)

    def documents(self) -> Iterable[tuple[Path, bytes]]:
        """What the files are to say now."""
        status, connected = self.health.status(), self.connected()
        if self.runtime is not None:
            instant = self.health.timekeeper.instant()
            local = gate.of(
                status,
                boot_id=instant.boot_id,
                written_s=instant.boottime_s,
                wall_s=instant.wall_s,
                floor_s=self.health.timekeeper.reading().floor_s,
                uplink={None: "none", True: "up", False: "down"}[connected],
            )
            yield self.runtime / gate.FILE, gate.write(local)
        if self.metrics is not None:
            yield self.metrics, metrics.text(status, connected=connected).encode()


def replace(path: Path, data: bytes) -> None:
    """All at once: a reader finds the old file or the new one. OSError."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _MODE), "wb") as file:
        os.fchmod(file.fileno(), _MODE)  # whatever the unit's UMask: others are to read it
        file.write(data)
    draft.replace(path)
