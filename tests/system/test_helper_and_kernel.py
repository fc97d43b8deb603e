"""The radio helper's questions to the real kernel, and the doctor's to the real bluetoothd."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from gatewayd.adapters.bluez import BluezOptions, open_bluez
from gatewayd.adapters.machine import ThisMachine
from gatewayd.adapters.virtual_radio import PHONE
from gatewayd.core.diagnosis import diagnose
from gatewayd.core.diagnosis_bluez import VERSIONS
from gatewayd.core.diagnosis_radio import ADAPTERS, ADVERTISING
from gatewayd.core.findings import Severity
from gatewayd.core.recovery import Rung
from gatewayd.radio_helper.kernel import Kernel, connect
from gatewayd.radio_helper.wire import AddressType, Answer, Restart, Status, Strength
from tests.system.echo_server import echo_server
from tests.system.place import Place
from tests.system.vhci import KernelAdapter

pytestmark = pytest.mark.system
PHONE_ADDRESS = "F0:00:00:00:01:01"
RSSI_DBM = -47


def raw(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))


class Ear:
    """Answers what bumble's controller does not: how strongly is this connection received?"""

    # Core Vol 4 Part E 7.5.4 Read RSSI, 7.3.35 Read Transmit Power Level
    ANSWERS: Final = {b"\x01\x05\x14": RSSI_DBM, b"\x01\x2d\x0c": 4}

    def __init__(self, adapter: KernelAdapter) -> None:
        self._adapter = adapter
        self._others = adapter.controller.on_packet
        adapter.controller.on_packet = self.on_packet

    def on_packet(self, packet: bytes) -> None:
        value = self.ANSWERS.get(packet[:3])
        if value is None:
            self._others(packet)
            return
        said = b"\x00" + packet[4:6] + value.to_bytes(1, "little", signed=True)
        self._adapter.on_packet(b"\x04\x0e\x07\x01" + packet[1:3] + said)


def kernel() -> Kernel:
    return Kernel(connect, time.monotonic)


async def test_the_strength_of_a_phone_that_is_connected(place: Place, stopwatch):
    Ear(place.adapter)
    phone = await place.phone(PHONE_ADDRESS)
    asked = Strength(raw(place.address), raw(PHONE_ADDRESS), AddressType.RANDOM)
    async with echo_server(place.path, PHONE):
        assert await asyncio.to_thread(kernel().carry_out, asked) == Answer(Status.NOT_CONNECTED)
        link = await phone.central.dial(place.dialled_address)
        stopwatch.lap_s()
        assert await asyncio.to_thread(kernel().carry_out, asked) == Answer(Status.OK, RSSI_DBM)
        stopwatch.say("strength of a connected phone", stopwatch.lap_s())
        await link.close()


async def test_an_adapter_is_restarted(place: Place, stopwatch):
    helper = kernel()
    stopwatch.lap_s()
    restart = Restart(raw(place.address))
    assert await asyncio.to_thread(helper.carry_out, restart) == Answer(Status.OK)
    stopwatch.say("switched off and on", stopwatch.lap_s())
    assert await asyncio.to_thread(helper.carry_out, restart) == Answer(Status.TOO_SOON)
    assert await asyncio.to_thread(helper.carry_out, Restart(bytes(5) + b"\x09")) == Answer(
        Status.NO_ADAPTER
    )


class Past:
    """The radio helper without its socket: straight to the kernel."""

    def __init__(self) -> None:
        self._kernel = kernel()

    async def strength_dbm(self, adapter: str, peer: str, *, public: bool) -> int | None:
        raise NotImplementedError

    async def restart(self, adapter: str) -> None:
        asked = Restart(raw(adapter))
        assert await asyncio.to_thread(self._kernel.carry_out, asked) == Answer(Status.OK)


async def test_a_radio_whose_adapter_was_restarted_past_bluetoothd_serves_again(
    place: Place, stopwatch
):
    phone = await place.phone(PHONE_ADDRESS)
    async with open_bluez(BluezOptions(start_s=20.0, helper=Past())) as radio:
        await phone.central.dial(place.dialled_address)
        stopwatch.lap_s()
        await radio.keeper._remedies.take(Rung.RESTART_ADAPTER, None)
        async with asyncio.timeout(20):
            while radio.counts["advertisements registered"] < 2:
                await asyncio.sleep(0.02)
        stopwatch.say("adapter restarted past bluetoothd: advertising after", stopwatch.lap_s())
        link = await phone.central.dial(place.dialled_address)
        await link.write(b"here again")
        assert await (await radio.peripheral.accept()).read() == b"here again"
        machine = ThisMachine(Path("/"), os.environ, radio.adapters)
        found = {
            each.check: each.severity for each in diagnose({ADVERTISING: await machine.bluetooth()})
        }
        assert found[ADVERTISING] is Severity.FINE


async def test_without_the_capability_the_kernel_says_nothing(place: Place):
    script = (
        "from gatewayd.radio_helper.__main__ import *; from gatewayd.radio_helper.wire import *; "
        f"print(Kernel(connect, time.monotonic).carry_out(Restart(bytes.fromhex("
        f"{raw(place.address).hex()!r}))).status.name)"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--no-new-privs",
         sys.executable, "-c", script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "FAILED\n", done


async def test_the_doctor_sees_the_adapter_and_the_advertisement(place: Place):
    machine = ThisMachine(Path("/"), os.environ)
    async with echo_server(place.path, PHONE):
        seen = await machine.bluetooth()
    adapter = next(each for each in seen.adapters if each.address == place.address)
    assert adapter.advertisements == 1
    found = {
        each.check: each.severity
        for each in diagnose({VERSIONS: await machine.versions(), ADAPTERS: seen})
    }
    assert found[VERSIONS] in (Severity.FINE, Severity.NOTE)
    assert found[ADAPTERS] is Severity.FINE
    assert found[ADVERTISING] is Severity.NOT_LOOKED_AT
    assert (await machine.versions()).bluez == "5.66"
