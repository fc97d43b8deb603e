"""What the rungs of the recovery ladder do to an adapter and to bluetoothd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gatewayd.adapters.bluez import adapter, names
from gatewayd.adapters.bluez.bluetoothd import Bluetoothd
from gatewayd.adapters.bluez.bus import Bus
from gatewayd.core.recovery import Rung
from gatewayd.ports.radio import RadioHelper

UNIT: Final = "bluetooth.service"
"""The one unit that `systemd/50-gatewayd-bluetooth.rules` lets the daemon restart."""


class Remedies:
    """Each by its rung. `helper`: the radio helper, where there is one.

    `restarted` is told the path of an adapter that was off for a moment: bluetoothd may not be
    asked, for it sends one PropertiesChanged for what happens at once, and that says Powered.
    """

    def __init__(
        self,
        bus: Bus,
        bluetoothd: Bluetoothd,
        helper: RadioHelper | None,
        restarted: Callable[[str], None],
    ) -> None:
        self._bus = bus
        self._restarted = restarted
        self._bluetoothd = bluetoothd
        self._helper = helper

    @property
    def lacking(self) -> frozenset[Rung]:
        """Rungs that are not there."""
        return frozenset() if self._helper is not None else frozenset({Rung.RESTART_ADAPTER})

    async def take(self, rung: Rung, address: str | None) -> None:
        """Do it to the adapter with this address, or to the first. BusError or RadioError."""
        path = self._bluetoothd.objects.adapter(address)
        if rung is Rung.POWER_CYCLE and path is not None:
            await adapter.power_cycle(self._bluetoothd, path)
        elif rung is Rung.RESTART_ADAPTER and path is not None and self._helper is not None:
            known = self._bluetoothd.objects.get(path, names.ADAPTER) or {}
            await self._helper.restart(str(known.get("Address")))
            self._restarted(path)
        elif rung is Rung.RESTART_BLUETOOTHD:
            await self._restart_bluetoothd()

    async def _restart_bluetoothd(self) -> None:
        """Through systemd; refused unless polkit or the unit's owner allows it."""
        await self._bus.call(
            "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager", "RestartUnit", "ss", [UNIT, "replace"],
        )  # fmt: skip
