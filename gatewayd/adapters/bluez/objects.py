"""What bluetoothd has told about adapters and devices. Pure: signals and replies come as values.

Only these two interfaces are kept: a house has hundreds of devices, each with a
tree of GATT objects below it that is nobody's business here (bleak issue 500).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gatewayd import addresses
from gatewayd.adapters.bluez import names

KEPT: Final = frozenset({names.ADAPTER, names.DEVICE})
Properties = Mapping[str, Any]


class Objects:
    """Adapters and devices, by path, as last told."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], dict[str, Any]] = {}

    def replace(self, managed: Mapping[str, Mapping[str, Properties]]) -> None:
        """Forget everything; know what GetManagedObjects answered."""
        self._known.clear()
        for path, interfaces in managed.items():
            self.added(path, interfaces)

    def added(self, path: str, interfaces: Mapping[str, Properties]) -> None:
        """InterfacesAdded."""
        for interface in interfaces.keys() & KEPT:
            self._known[path, interface] = dict(interfaces[interface])

    def removed(self, path: str, interfaces: list[str]) -> None:
        """InterfacesRemoved."""
        for interface in interfaces:
            self._known.pop((path, interface), None)

    def changed(self, path: str, interface: str, values: Properties) -> None:
        """PropertiesChanged; of an object that nobody announced it counts for nothing."""
        known = self._known.get((path, interface))
        if known is not None:
            known.update(values)

    # --- questions ------------------------------------------------------------------------
    def get(self, path: str, interface: str) -> Properties | None:
        """The properties of one object; None when there is no such object."""
        return self._known.get((path, interface))

    def adapter(self, address: str | None) -> str | None:
        """Path of the adapter with this address, or of the first; None when it is not there.

        Adapters are known by address, because a USB reset turns hci0 into hci2
        (scyto/ha-bluetooth-audio-manager issue 315).
        """
        found = sorted(
            path
            for (path, interface), properties in self._known.items()
            if interface == names.ADAPTER
            and (address is None or properties.get("Address") == addresses.plain(address))
        )
        return found[0] if found else None

    def powered(self, adapter: str) -> bool:
        """Whether an adapter is there and switched on."""
        return bool((self.get(adapter, names.ADAPTER) or {}).get("Powered"))

    def devices(self, adapter: str) -> Iterator[str]:
        """Paths of the devices that are known of `adapter`."""
        for path, interface in self._known:
            if interface == names.DEVICE and names.adapter_of(path) == adapter:
                yield path

    def connected(self, adapter: str) -> Iterator[str]:
        """Paths of the devices that are connected through `adapter`."""
        for (path, interface), properties in self._known.items():
            if interface != names.DEVICE or names.adapter_of(path) != adapter:
                continue
            if properties.get("Connected"):
                yield path

    def is_connected(self, device: str) -> bool:
        """Whether one device is there and connected."""
        return bool((self.get(device, names.DEVICE) or {}).get("Connected"))
