"""An adapter that plays one role at a time, and one adapter per role: the same doors open.

And what the kernel makes of both roles on one adapter.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

from gatewayd.adapters.bluez import BluezOptions, BluezRadio, open_bluez
from gatewayd.adapters.bluez.keeper import State
from gatewayd.core.diagnosis_bluez import SIMULTANEOUS_ROLES
from gatewayd.demo.world import STAIRS, STREET
from gatewayd.radio_helper.kernel import connect
from gatewayd.radio_helper.mgmt import MAX_PACKET_BYTES
from tests.system.bluetoothd import ADAPTER, Bluetoothd
from tests.system.house import House, open_house
from tests.system.place import Place
from tests.system.systemd_unit import run
from tests.system.vhci import KernelAdapter

pytestmark = pytest.mark.system
MAIN_CONF: Final = Path("/etc/bluetooth/main.conf")
BOTH: Final = "central-peripheral"
SECOND: Final = "00:AA:01:00:00:02"


@pytest.fixture
def one_role(bluetoothd: Bluetoothd) -> Iterator[Bluetoothd]:
    """A bluetoothd that was not told to let adapters play both roles."""
    told = MAIN_CONF.read_text()
    lines = [line for line in told.splitlines() if not line.startswith("KernelExperimental")]
    bluetoothd.kill()
    MAIN_CONF.write_text("\n".join(lines))
    bluetoothd.start()
    yield bluetoothd
    bluetoothd.kill()
    MAIN_CONF.write_text(told)


async def opens_both(house: House, stopwatch, how: str) -> None:
    """A warm lock and one that sleeps and is dialled for every opening."""
    for door in (STREET, STAIRS):
        stopwatch.lap_s()
        await house.opens(door=door)
        stopwatch.say(f"{how}: {door} opened", stopwatch.lap_s())


async def found(house: House, check: str) -> list[str]:
    """What the doctor says to one question."""
    said = await run("gatewayd", "doctor", "-c", str(house.world.config), "--json", check=False)
    return [each["message"] for each in json.loads(said)["findings"] if each["check"] == check]


async def test_one_role_at_a_time(one_role: Bluetoothd, tmp_path: Path, stopwatch):
    """Nobody can call while a lock is dialled; the doctor says so."""
    async with open_house(one_role, tmp_path) as house:
        place = house.place
        assert BOTH not in (await place.bus.objects())[place.path][ADAPTER]["Roles"]
        await opens_both(house, stopwatch, "one role at a time")
        await opens_both(house, stopwatch, "one role at a time, everybody known")
        assert any("one at a time" in text for text in await found(house, "adapters"))


async def test_a_second_adapter_for_locks(bluetoothd: Bluetoothd, tmp_path: Path, stopwatch):
    async with open_house(bluetoothd, tmp_path, lock_adapter=SECOND) as house:
        assert house.lock_adapter is not None
        await opens_both(house, stopwatch, "two adapters")
        await opens_both(house, stopwatch, "two adapters, everybody known")
        async with asyncio.timeout(10):
            while house.place.adapter.controller.links:  # the phone's, which is about to go
                await asyncio.sleep(0.05)
        assert house.lock_adapter.controller.links >= 1  # the warm lock's at least


# --- what the kernel makes of both roles -----------------------------------------------------
SET_ADVERTISING_PARAMETERS: Final = 0x2006
CREATE_CONNECTION: Final = 0x200D
COMMAND: Final = 0x01
COMMAND_COMPLETE: Final = b"\x04\x0e"
DISALLOWED: Final = 0x0C
SET_EXPERIMENTAL_FEATURE: Final = 0x004A  # of the management socket: doc/mgmt-protocol.rst
QUIET: Final = BluezOptions(start_s=20.0, refresh_s=1000.0, retry_s=1000.0)
"""Advertises once, and tries once more after it was told to."""


class Wire:
    """Listens between the kernel and its controller.

    on_air: was it advertising, at each Create Connection? refused: parameters of advertising.
    """

    def __init__(self, adapter: KernelAdapter) -> None:
        self.on_air: list[bool] = []
        self.refused = 0
        self._advertiser = adapter.controller.le_legacy_advertiser
        self._commands = adapter.controller.on_packet
        self._events = adapter.on_packet
        adapter.controller.on_packet = self._command
        adapter.on_packet = self._event

    def _command(self, packet: bytes) -> None:
        if packet[0] == COMMAND and _opcode(packet[1:]) == CREATE_CONNECTION:
            self.on_air.append(self._advertiser.enabled)
        self._commands(packet)

    def _event(self, packet: bytes) -> None:
        if packet.startswith(COMMAND_COMPLETE):
            refused = packet[6] == DISALLOWED
            self.refused += refused and _opcode(packet[4:]) == SET_ADVERTISING_PARAMETERS
        self._events(packet)


def _opcode(packet: bytes) -> int:
    return int.from_bytes(packet[:2], "little")


def tell_kernel_of_both_roles(adapter: KernelAdapter) -> None:
    """What bluetoothd does not do."""
    feature = UUID(SIMULTANEOUS_ROLES).bytes[::-1] + b"\x01"
    command = struct.pack("<HHH", SET_EXPERIMENTAL_FEATURE, adapter.index, len(feature)) + feature
    done = struct.pack("<HHHHB", 1, adapter.index, 3 + 20, SET_EXPERIMENTAL_FEATURE, 0)
    with contextlib.closing(connect()) as mgmt:
        mgmt.settimeout(5)
        mgmt.send(command)
        while not mgmt.recv(MAX_PACKET_BYTES).startswith(done):
            pass


async def dial_and_hang_up(place: Place, radio: BluezRadio) -> None:
    address = place.unknown_address()
    await place.lock(address)
    link = await radio.central.dial(address)
    await link.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


async def test_nobody_finds_the_gateway_while_a_lock_is_dialled(place: Place):
    """Though bluetoothd was told of both roles, and says that it has them."""
    wire, advertiser = Wire(place.adapter), place.adapter.controller.le_legacy_advertiser
    async with open_bluez(QUIET) as radio:
        assert radio.health()["radio_both_roles"] is True
        await place.advertising()
        await dial_and_hang_up(place, radio)
        assert set(wire.on_air) == {False}
        await place.advertising()
        await radio.keeper._withdraw()
        await until(lambda: not advertiser.enabled)
        radio.keeper.wake()
        await until(lambda: radio.counts["advertisements registered"] == 2)
        await place.advertising()
    assert not wire.refused


async def test_a_kernel_told_of_both_roles_loses_its_advertisement(place: Place):
    """Why nobody tells it (docs/decisions/0026). A kernel with which this fails is mended."""
    wire, advertiser = Wire(place.adapter), place.adapter.controller.le_legacy_advertiser
    await asyncio.to_thread(tell_kernel_of_both_roles, place.adapter)
    async with open_bluez(QUIET) as radio:
        await place.advertising()
        await dial_and_hang_up(place, radio)
        assert set(wire.on_air) == {True}
        await radio.keeper._withdraw()
        await asyncio.sleep(1)
        assert advertiser.enabled  # the kernel takes it for off, and does not switch it off
        radio.keeper.wake()
        await until(lambda: radio.keeper.state is State.FAILING)
    assert wire.refused
