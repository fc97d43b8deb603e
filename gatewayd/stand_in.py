"""The daemon stands aside while a step of a set-up takes its place, where systemd runs it.

Stopped, and started again when the step ends, however that comes: the step becomes
the daemon's user, who may not do it, or is killed. So somebody waits who stays root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.drop_ins import SYSTEMD

UNIT: Final = "gatewayd.service"
CONFIGURATION: Final = Path("/etc/gatewayd/gatewayd.toml")
"""Which the unit names. A gateway elsewhere is run by somebody else."""
_AT_REST: Final = {"inactive", "failed", ""}
"""A daemon that fails and is tried again is `activating`, and takes the log now and then."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """As this machine's systemd runs it. systemd: is there where systemd runs."""

    configuration: Path = CONFIGURATION
    systemd: Path = SYSTEMD
    systemctl: str = "systemctl"

    def runs(self, path: Path) -> bool:
        """Whether it is there, or on its way, with this configuration."""
        if not self.systemd.is_dir() or path.absolute() != self.configuration:
            return False
        asked = self._do("show", "--property=ActiveState", "--value")
        return asked.stdout.strip() not in _AT_REST

    @contextmanager
    def aside(self, path: Path, tell: Callable[[str], None]) -> Iterator[None]:
        """Without the daemon of this configuration; afterwards it runs if it ran before."""
        if os.geteuid() != 0 or not self.runs(path):
            yield
            return
        tell("gatewayd stops for this: no phone opens a door until it runs again")
        # in a session of its own: what ends the step, as Ctrl-C, does not end it
        starter = subprocess.Popen(  # noqa: S603 - nothing from outside
            ["sh", "-c", 'cat; exec "$0" start "$1"', self.systemctl, UNIT],  # noqa: S607 - root's PATH
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            self._do("stop")
            yield
        finally:
            starter.communicate()
            tell(
                "gatewayd does not start again: journalctl -u gatewayd says why"
                if starter.returncode
                else "gatewayd runs again"
            )

    def _do(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - likewise
            [self.systemctl, *words, UNIT], capture_output=True, text=True, check=False
        )
