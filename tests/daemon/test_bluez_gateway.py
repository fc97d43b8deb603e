"""The daemon on BlueZ: what a configuration says of it; `gatewayd run` serves phones there."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from gatewayd.config import check, load
from tests.support import private_bus
from tests.support.commands import running
from tests.support.fake_bluez_world import ADAPTER_ADDRESS, HCI, FakeBluezWorld
from tests.support.site import Site, make_site

GOOD = f'kind = "bluez"\nadapter = "{ADAPTER_ADDRESS}"'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def says(site: Site, radio: str) -> Site:
    text = site.config.read_text().replace('hci = "unix:air.sock"', radio)
    site.replace("gatewayd.toml", text.encode())
    return site


@pytest.mark.parametrize(
    "radio",
    ['kind = "bluez"', GOOD, f'{GOOD}\nlock_adapter = "00:00:00:00:00:02"'],
)
def test_radios_that_can_be_meant(site: Site, radio: str) -> None:
    assert check(says(site, radio).config) == []
    assert load(site.config).radio.kind == "bluez"


@pytest.mark.parametrize(
    ("radio", "message"),
    [
        ("", "radio.hci is missing"),
        ('kind = "virtual"', "radio.hci is missing"),
        (f'{GOOD}\nhci = "unix:air.sock"', 'radio.hci has no use with kind = "bluez"'),
        (f'hci = "unix:a"\nadapter = "{ADAPTER_ADDRESS}"', "radio.adapter has no use"),
        (f'hci = "unix:a"\nlock_adapter = "{ADAPTER_ADDRESS}"', "radio.lock_adapter has no use"),
        (f'{GOOD}\nlock_adapter = "{ADAPTER_ADDRESS}"', "is the adapter that serves phones"),
        ('kind = "bluez"\nlock_adapter = "00:00:00:00:00:02"', "radio.adapter is not"),
        ('kind = "bluez"\nadapter = "hci0"', "radio.adapter: expected another form"),
        ('kind = "bluetooth"', "radio.kind"),
    ],
)
def test_radios_that_cannot(site: Site, radio: str, message: str) -> None:
    problems = check(says(site, radio).config)
    assert len(problems) == 1
    assert message in problems[0].message


async def says_line(journal: asyncio.StreamReader, wanted: bytes) -> None:
    async with asyncio.timeout(60):
        while wanted not in (line := await journal.readline()):
            assert line, "it ended"


@pytest.mark.skipif(not private_bus.HERE, reason="dbus-daemon is not installed")
async def test_the_daemon_serves_phones_on_bluez(site: Site) -> None:
    says(site, GOOD)
    world = FakeBluezWorld(mtu=247)
    try:
        await world.start_bluez()
        async with running("run", "-c", site.config) as daemon:
            assert daemon.stderr is not None
            await says_line(daemon.stderr, b"serving")
            assert world.bluez.advertisement is not None
            assert world.bluez.advertisement["LocalName"].endswith(" stairwell-7")
            assert world.bluez.value(HCI, "org.bluez.Adapter1", "Powered")
            await says_line(daemon.stderr, b"gatewayd.self_test")
            daemon.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                assert await daemon.wait() == 0
    finally:
        await world.close()
