"""Places with radios in them, all alike from outside: for the radio contract suite.

A world makes gateways, phones and locks; tests see only the ports. Another
adapter joins the contract by adding a world here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest

from firmware_proto.codes import LOCK_SERVICE_UUID, PHONE_SERVICE_UUID
from gatewayd.adapters.virtual_radio import (
    INSTANT,
    LOCK,
    PHONE,
    AirController,
    GattService,
    RadioOptions,
    VirtualAir,
    open_radio,
)
from gatewayd.ports.radio import Central, Peripheral
from tests.support import private_bus
from tests.support.fake_bluez_world import FakeBluezWorld
from tests.support.links import FakeAir, FakeCentral

GATEWAY = "F0:00:00:00:00:01"
MAX_ATTRIBUTE_BYTES = 512  # Core Vol 3 Part F 3.2.9: no value is longer, whatever the MTU
PHONE_1 = "F0:00:00:00:01:01"
LOCK_1 = "F0:00:00:00:02:01"
LOCK_2 = "F0:00:00:00:02:02"


class World(Protocol):
    """mtu: of every link made from now on, where it can be chosen. dial_s: after how long a dial
    fails, from now on.

    pace: how much slower than the virtual radio everything happens here. notifies_everybody: a
    gateway's fragment reaches every phone (bluez issue 1106; hence the channel ids).
    max_mtu: the largest that links here can have. cut_off: by how much a gateway's end may
    have less, because its notifications need more room (`gatt.link.notified_mtu`).
    """

    pace: float
    notifies_everybody: bool
    max_mtu: int
    cut_off: int
    mtu: int
    dial_s: float

    async def gateway(self, address: str, *, link_cap: int = 4) -> tuple[Peripheral, Central]:
        """Serves phones and dials locks, on one radio."""
        ...

    async def phone(self, address: str) -> Central:
        """Dials gateways."""
        ...

    async def lock(self, address: str) -> Peripheral:
        """Serves one gateway at a time."""
        ...

    def vanish(self, address: str) -> None:
        """Out of reach from now on."""
        ...

    def appear(self, address: str) -> None:
        """In reach again."""
        ...

    def links(self) -> int:
        """Ends of connections that anybody still holds; 0 when nothing is left."""
        ...

    async def close(self) -> None: ...


class FakeWorld:
    pace = 1.0
    notifies_everybody = False
    max_mtu = MAX_ATTRIBUTE_BYTES + 3
    cut_off = 0

    def __init__(self, mtu: int) -> None:
        self._air = FakeAir(mtu=mtu)
        self.dial_s = 5.0

    @property
    def mtu(self) -> int:
        return self._air.mtu

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        self._air.mtu = mtu

    @property
    def dial_s(self) -> float:
        return self._air.dial_deadline_s

    @dial_s.setter
    def dial_s(self, dial_s: float) -> None:
        self._air.dial_deadline_s = dial_s

    async def gateway(self, address: str, *, link_cap: int = 4) -> tuple[Peripheral, Central]:
        served = self._air.peripheral(address, PHONE_SERVICE_UUID, link_cap=link_cap)
        return served, self._air.central(LOCK_SERVICE_UUID)

    async def phone(self, address: str) -> FakeCentral:
        return self._air.central(PHONE_SERVICE_UUID)

    async def lock(self, address: str) -> Peripheral:
        return self._air.peripheral(address, LOCK_SERVICE_UUID, link_cap=1)

    def vanish(self, address: str) -> None:
        self._air.vanish(address)

    def appear(self, address: str) -> None:
        self._air.appear(address)

    def links(self) -> int:
        return sum(connection.alive for connection in self._air.connections)

    async def close(self) -> None:
        for connection in self._air.connections:
            connection.cut()


class VirtualWorld:
    """Every radio has its own controller on one instantaneous air."""

    pace = 1.0
    notifies_everybody = False
    max_mtu = MAX_ATTRIBUTE_BYTES + 3
    cut_off = 0
    model = INSTANT

    def __init__(self, mtu: int) -> None:
        self.mtu = mtu
        self.dial_s = 5.0 * self.pace
        self.air = VirtualAir(self.model)
        self.controllers: dict[str, AirController] = {}
        self._open = AsyncExitStack()

    async def radio(
        self,
        address: str,
        serves: GattService | None,
        dials: GattService | None,
        link_cap: int = 4,
    ):
        controller = AirController(self.air, f"00:00:00:00:00:{len(self.controllers) + 1:02X}")
        self.controllers[address] = controller
        return await self._open.enter_async_context(
            open_radio(
                controller,
                address=address,
                serves=serves,
                dials=dials,
                options=RadioOptions(
                    mtu=self.mtu, link_cap=link_cap, dial_s=self.dial_s, turn_s=0.1 * self.pace
                ),
            )
        )

    async def gateway(self, address: str, *, link_cap: int = 4) -> tuple[Peripheral, Central]:
        radio = await self.radio(address, PHONE, LOCK, link_cap)
        return radio.peripheral, radio.central

    async def phone(self, address: str) -> Central:
        return (await self.radio(address, None, PHONE)).central

    async def lock(self, address: str) -> Peripheral:
        return (await self.radio(address, LOCK, None, 1)).peripheral

    def vanish(self, address: str) -> None:
        self.controllers[address].vanish()

    def appear(self, address: str) -> None:
        self.controllers[address].appear()

    def links(self) -> int:
        return sum(controller.links for controller in self.controllers.values())

    async def close(self) -> None:
        await self._open.aclose()


def _worlds() -> list[Any]:
    """BlueZ where there is one: in the machine of tests.system.vm; else the radios of any machine.

    There the others would show nothing that they do not show, much faster, everywhere.
    """
    if "GATEWAYD_VM" in os.environ:
        from tests.system.bluetoothd_world import BluetoothdWorld  # noqa: PLC0415 - needs it
        from tests.system.peers_world import PeersWorld  # noqa: PLC0415 - likewise

        return [
            pytest.param(world, marks=pytest.mark.system, id=world.__name__)
            for world in (BluetoothdWorld, PeersWorld)
        ]
    no_bus = pytest.mark.skipif(not private_bus.HERE, reason="dbus-daemon is not installed")
    return [
        pytest.param(FakeWorld, id="FakeWorld"),
        pytest.param(VirtualWorld, id="VirtualWorld"),
        pytest.param(FakeBluezWorld, marks=no_bus, id="FakeBluezWorld"),
    ]


WORLDS: Sequence[Any] = _worlds()
CANCELLED_AFTER: Sequence[int] = (
    (0, 5, 30, 80, 200) if "GATEWAYD_VM" in os.environ else (*range(60), 80, 120, 200)
)
"""Iterations of the loop: every step of a dial in an instantaneous air."""
