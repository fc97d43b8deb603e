"""The machine, as `gatewayd doctor` looks at it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from gatewayd.core.diagnosis_bluez import Settings, Versions
from gatewayd.core.diagnosis_host import Access, Disk, Journal
from gatewayd.core.diagnosis_host import Clock as ClockChips
from gatewayd.core.diagnosis_radio import Bluetooth
from gatewayd.core.diagnosis_unit import Settings as UnitSettings


class Machine(Protocol):
    """Looks, and changes nothing but a small file of its own. NotSeenError wherever it cannot."""

    async def versions(self) -> Versions:
        """Of the kernel and of the bluetoothd that runs, or else is installed."""
        ...

    async def settings(self) -> Settings:
        """What bluetoothd was told."""
        ...

    async def bluetooth(self) -> Bluetooth:
        """Adapters, and who uses them."""
        ...

    async def clock(self, *, promised: bool | None) -> ClockChips:
        """The clocks that outlive a power cut; `promised` is handed on."""
        ...

    async def disk(self, state: Path, *, writing: bool = True) -> Disk:
        """The disk under the log's directory, or under the nearest parent that exists.

        `writing`: also how long it takes to keep something.
        """
        ...

    async def journal(self) -> Journal:
        """Where journald writes."""
        ...

    async def unit(self) -> UnitSettings:
        """How systemd is to run the daemon."""
        ...

    async def access(self, state: Path) -> Access:
        """Users, policies, and whose the log's directory is."""
        ...
