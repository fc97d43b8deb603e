"""What drop-ins open, and nothing else does: a GPIO chip, a serial line, the network."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.core.model import Verdict
from gatewayd.demo.world import STREET
from gatewayd.emulators.lock import LockEmulator, LockSettings
from tests.support.wired_lock import LINE, SerialPeripheral
from tests.system.gpio_sim import STRIKE, SimChip
from tests.system.house import LATCH_S, OPENED, House
from tests.system.systemd_house import (
    CONFIGURATION,
    DAEMON,
    as_shipped,
    configured,
    probed,
    type_in,
)
from tests.system.systemd_unit import run

if not Path("/run/systemd/system").is_dir():
    pytest.skip("needs: vm.py test --systemd", allow_module_level=True)

pytest_plugins = ["tests.system.systemd_fixture"]
pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="session")]

NEAR, FAR = "/dev/ttyS1", "/dev/ttyS2"
"""The ends of one cable (vm.py)."""
LOCK_OF_STREET = re.compile(r'(?<=id = "street"\n)(.*?)^lock = .*?$', re.MULTILINE | re.DOTALL)
CALLED_S = 10.0
UNCALLED_S = 4.0
"""The daemon tries more often than that in its first seconds."""


def with_street(actuator: str):
    """The configuration with another thing on the street door."""

    def change(text: str) -> str:
        changed, count = LOCK_OF_STREET.subn(lambda found: found.group(1) + actuator, text)
        assert count == 1
        return changed

    return change


@pytest.fixture
def chip() -> Iterator[SimChip]:
    chip = SimChip()
    try:
        yield chip
    finally:
        chip.remove()


async def settled_device(path: str, group: str) -> None:
    """udev has given it the group that Debian's rules, or ours, give it."""
    await run("udevadm", "trigger", "--action=add", path)
    await run("udevadm", "settle")
    assert (await run("stat", "--format=%G", path)).strip() == group


# --- relays -----------------------------------------------------------------------------------
async def test_a_relay_pulls_with_its_drop_in_only(installed: House, chip: SimChip):
    await settled_device(str(chip.path), "gpio")
    relay = f'relay = {{ chip = "{chip.path}", line = {STRIKE} }}'
    async with configured(with_street(relay)):
        report = await installed.open_door()
        print(f"without the drop-in: {report.outcome.name} {report.reason.name}")
        assert Verdict(report.outcome, report.reason) != OPENED
        assert chip.level() == 0
        await type_in("Relays")
        report = await installed.open_door()
        print(f"with it: {report.outcome.name} {report.reason.name}")
        assert Verdict(report.outcome, report.reason) == OPENED
        await asyncio.to_thread(chip.wait, 0, 2 * LATCH_S)
        with chip.watched() as seen:
            await installed.open_door()
            await asyncio.sleep(2 * LATCH_S)
        assert [level for _, level in seen] == [0, 1, 0]
        print(f"memory with one relay: {await DAEMON.number('MemoryCurrent') / 1e6:.1f} MB")
        await run("chmod", "666", NEAR)  # whoever owns it: the unit says no
        found = await probed(DAEMON)
        assert (found["GPIO chip"], found["serial line"]) == ("ok", "EPERM")
        await DAEMON.do("stop")
        assert chip.level() == 0


# --- wired locks --------------------------------------------------------------------------------
@contextlib.asynccontextmanager
async def wired_lock(house: House) -> AsyncIterator[None]:
    """The lock of the street, at the far end of the cable."""
    lock = house.world.locks[STREET]
    emulator = LockEmulator(
        *(lock.store, lock.machine, SystemClock(), SystemEntropy()),
        settings=LockSettings(wire=LINE),
    )
    plug = SerialPeripheral(FAR)
    task = asyncio.create_task(emulator.run(plug), name="wired lock")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await plug.close()


async def test_a_wired_lock_opens_with_its_drop_in_only(installed: House, chip: SimChip):
    await settled_device(NEAR, "dialout")
    wired = f'lock = {{ serial = "{NEAR}", key = "lock-street.pub.pem" }}'
    async with wired_lock(installed), configured(with_street(wired)):
        report = await installed.open_door()
        print(f"without the drop-in: {report.outcome.name} {report.reason.name}")
        assert Verdict(report.outcome, report.reason) != OPENED
        await type_in("Wired locks")
        await installed.opens()
        await run("chmod", "666", str(chip.path))
        found = await probed(DAEMON)
        assert (found["GPIO chip"], found["serial line"]) == ("EPERM", "ok")


# --- the network --------------------------------------------------------------------------------
async def test_a_broker_is_reached_with_the_drop_in_only(installed: House):
    called = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", installed.world.broker_port)
    async with server, configured():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(called.wait(), UNCALLED_S)
        await type_in("A broker")
        await asyncio.wait_for(called.wait(), CALLED_S)
        await installed.opens()


async def test_the_certificates_key_is_handed_over_like_the_others(installed: House):
    key = CONFIGURATION.with_name("tls.key")
    key.write_text("a key\n")
    try:
        await type_in("A broker that wants a certificate of ours")
        assert key.stat().st_mode & 0o777 == 0o600
        said = await run("cat", "/run/credentials/gatewayd.service/tls.key")
        assert said == key.read_text()
    finally:
        key.unlink()
        await as_shipped()
