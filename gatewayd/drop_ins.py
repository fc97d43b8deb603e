"""What the daemon's unit is opened for: drop-ins of the package, as a configuration needs them.

A gateway with a broker has to reach a network, one with a relay a GPIO chip; every
other stays closed (docs/install.md). Links, so that a later package's count.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.config.model import Config

RELAY: Final = "relay.conf"
ELEMENT_PIN: Final = "element.pin"
"""Beside the key that is in a secure element, where the daemon is to have it."""
SYSTEMD: Final = Path("/run/systemd/system")
"""Is there where systemd runs: sd_booted(3)."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Where the package keeps its drop-ins, and where systemd reads them."""

    shipped: Path = Path("/usr/share/gatewayd/drop-ins")
    read: Path = Path("/etc/systemd/system/gatewayd.service.d")

    def open_for(self, *names: str) -> list[Path]:
        """Place those that are not there yet; only root can. OSError.

        Nothing where the package is not installed: whoever starts the daemon then sees to it.
        """
        missing = [name for name in names if not os.path.lexists(self.read / name)]
        if os.geteuid() != 0 or not all((self.shipped / name).exists() for name in missing):
            return []
        for name in missing:
            self.read.mkdir(parents=True, exist_ok=True)
            (self.read / name).symlink_to(self.shipped / name)
        if missing and SYSTEMD.is_dir():
            subprocess.run(["systemctl", "daemon-reload"], check=False)  # noqa: S607 - root's PATH
        return [self.read / name for name in missing]


def needed(config: Config) -> Iterator[str]:
    """By name, for everything that the configuration names."""
    if config.uplink is not None:
        yield "uplink.conf"
        if config.uplink.key is not None and config.uplink.key.name == "tls.key":
            yield "uplink-certificate.conf"
    if (config.keys.gateway.parent / ELEMENT_PIN).exists():
        yield "element.conf"
    if any(door.relay is not None for door in config.doors):
        yield RELAY
    if any(door.lock is not None and door.lock.serial is not None for door in config.doors):
        yield "serial.conf"
