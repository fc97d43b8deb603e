"""A lock's radio through bluezero: its program, and our end of the pipe to it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, Variant
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.codes import (
    LOCK_INFO_UUID,
    LOCK_REQUEST_UUID,
    LOCK_RESPONSE_UUID,
    LOCK_SERVICE_UUID,
    UNCLAIMED_LOCK_UUID,
)
from gatewayd.adapters.bluezero import BluezeroOptions, open_bluezero, server
from gatewayd.adapters.bluezero.peripheral import DEBIAN
from gatewayd.adapters.bluezero.server import Frames, Kind, frame
from gatewayd.ports import LinkClosedError, RadioError
from gatewayd.ports.radio import Link
from tests.support import private_bus
from tests.support.fake_bluez import CHARACTERISTIC, DEVICE, FakeBluez

ADAPTER = "B8:27:EB:00:00:01"
HCI = "/org/bluez/hci0"
GATEWAY = f"{HCI}/dev_00_AA_01_00_00_01"


# --- the frames ---------------------------------------------------------------------------
SOME = [
    (Kind.READY, 0, ADAPTER.encode()),
    (Kind.SUBSCRIBED, 1, b""),
    (Kind.WRITTEN, 255, bytes(600)),
    (Kind.HANG_UP, 1, b""),
]


def test_frames_whole_byte_by_byte_and_cut_short() -> None:
    stream = b"".join(frame(*each) for each in SOME)
    assert Frames().receive(stream) == SOME
    frames, found = Frames(), []
    for byte in stream:
        found += frames.receive(bytes([byte]))
    assert found == SOME
    for end in range(len(frame(*SOME[0]))):
        assert Frames().receive(stream[:end]) == []


@settings(max_examples=50)
@given(st.binary(max_size=300), st.integers(0, 255), st.sampled_from(Kind))
def test_frames_come_back_as_they_were(body: bytes, link: int, kind: Kind) -> None:
    assert Frames().receive(frame(kind, link, body)) == [(kind, link, body)]


def test_frames_that_are_none() -> None:
    with pytest.raises(ValueError, match="99"):
        Frames().receive(bytes([99, 0, 0, 0]))
    with pytest.raises(ValueError, match="65535"):
        frame(Kind.NOTIFY, 0, bytes(0x10000))


# --- our end, against programs of a few lines ------------------------------------------------
HEAD = f"""
import sys, time
sys.path.insert(0, {str(Path(server.__file__).parent)!r})
from server import Frames, Kind, frame
def say(*words):
    sys.stdout.buffer.write(frame(*words))
    sys.stdout.flush()
def hear():
    frames = Frames()
    while data := sys.stdin.buffer.read1(65536):
        yield from frames.receive(data)
"""
ECHO = """
say(Kind.READY, 0, b"B8:27:EB:00:00:01")
say(Kind.GONE, 0)  # of nobody
for number in (1, 2):
    say(Kind.SUBSCRIBED, number)
    say(Kind.WRITTEN, number, (100).to_bytes(2, "big") + b"hello %d" % number)
    say(Kind.WRITTEN, number - 1, bytes(3))  # late, of the link before
    for kind, link, body in hear():
        if kind is Kind.HANG_UP:
            say(Kind.GONE, number)
            break
        say(Kind.WRITTEN, number, (100).to_bytes(2, "big") + body)
sys.stdout.buffer.write(frame(Kind.SUBSCRIBED, 3) + frame(Kind.SUBSCRIBED, 4))
"""


@contextlib.asynccontextmanager
async def played(script: str, directory: Path, start_s: float = 10.0) -> AsyncIterator[Any]:
    program = directory / "program.py"
    program.write_text(HEAD + script)
    options = BluezeroOptions(python=Path(sys.executable), program=program, start_s=start_s)
    async with open_bluezero(options) as radio:
        yield radio


async def expect_closed(link: Link, why: str | None = None) -> None:
    with pytest.raises(LinkClosedError, match=why):
        await link.read()


async def test_links_come_grow_and_go_one_after_the_other(tmp_path: Path) -> None:
    async with played(ECHO, tmp_path) as radio:
        assert await radio.ready() == ADAPTER
        for number in (1, 2):
            link = await radio.accept()
            assert radio.links == [link]
            assert await link.read() == b"hello %d" % number
            assert link.mtu == 98  # two bytes may be needed for the length of a value
            await link.write(bytes(95))
            assert await link.read() == bytes(95)
            with pytest.raises(ValueError, match="96 bytes at MTU 98"):
                await link.write(bytes(96))
            await link.close()
            await expect_closed(link)
            assert link not in radio.links
        last = await radio.accept()
        assert last.mtu == 23
        with pytest.raises(RadioError, match="bluezero has ended"):
            await radio.accept()
        await expect_closed(last)


@pytest.mark.parametrize(
    ("script", "why", "remedy"),
    [
        ("say(Kind.TROUBLE, 0, b'no module dbus')", "no module dbus", "python3-dbus"),
        ("say(Kind.TROUBLE, 0, b'no module bluezero')", "no module bluezero", "pip install"),
        ("say(Kind.TROUBLE, 0, b'AdapterError: No Bluetooth adapter found')", "adapter", "plug"),
        ("say(Kind.TROUBLE, 0, b'Failed to connect to socket /run/x')", "/run/x", "start dbus"),
        ("say(Kind.TROUBLE, 0, b'\\xff')", "cannot serve", ""),
        ("raise SystemExit(3)", "bluezero has ended", ""),
        ("sys.stdout.buffer.write(bytes(9)); sys.stdout.flush()", "another language", ""),
    ],
)
async def test_a_program_that_cannot_start(
    tmp_path: Path, script: str, why: str, remedy: str
) -> None:
    with pytest.raises(RadioError, match=why) as caught:
        async with played(script, tmp_path):
            pytest.fail("it never began")
    assert remedy in caught.value.remedy


async def test_a_program_that_never_begins_is_ended(tmp_path: Path) -> None:
    with pytest.raises(RadioError, match="does not advertise within"):
        async with played("time.sleep(60)", tmp_path, 0.5):
            pytest.fail("it never began")


async def test_trouble_later_ends_the_link_and_whoever_waits(tmp_path: Path) -> None:
    script = """
say(Kind.READY, 0, b"x")
say(Kind.SUBSCRIBED, 1)
next(hear())
say(Kind.TROUBLE, 0, b"bluetoothd is gone")
"""
    async with played(script, tmp_path) as radio:
        link = await radio.accept()
        waiting = [asyncio.create_task(radio.accept()) for _ in range(2)]
        await link.write(b"x")
        await expect_closed(link, "bluetoothd is gone")
        for each in waiting:
            with pytest.raises(RadioError, match="bluetoothd is gone"):
                await each


async def test_writing_to_a_program_that_has_died(tmp_path: Path) -> None:
    script = """
import os
say(Kind.READY, 0, b"x")
say(Kind.SUBSCRIBED, 1)
os.close(0)
time.sleep(60)
"""
    async with played(script, tmp_path) as radio:
        link = await radio.accept()
        with pytest.raises(LinkClosedError):
            await write_for_ever(link)


async def test_no_python_to_run_it() -> None:
    with pytest.raises(RadioError, match="does not exist") as caught:
        async with open_bluezero(BluezeroOptions(python=Path("/nonexistent/python3"))):
            pytest.fail("nobody runs it")
    assert "apt install" in caught.value.remedy


async def write_for_ever(link: Link) -> None:
    while True:
        await link.write(bytes(20))
        await asyncio.sleep(0.01)


# --- the program, on a real D-Bus with a fake bluetoothd ---------------------------------------
def _bluezero_is_here() -> bool:
    if not private_bus.HERE or importlib.util.find_spec("bluezero") is None:
        return False
    if not DEBIAN.exists():
        return False
    return subprocess.run([DEBIAN, "-c", "import dbus, gi"], check=False).returncode == 0


needs_bluezero = pytest.mark.skipif(
    not _bluezero_is_here(), reason="bluezero, python3-dbus or python3-gi is not installed"
)


class Gateway:
    """The far side: what bluetoothd would tell bluezero of a gateway that connects."""

    def __init__(self, bluez: FakeBluez) -> None:
        self.bluez = bluez
        self.notified: asyncio.Queue[bytes] = asyncio.Queue()
        bluez.on_notification = lambda value: self.notified.put_nowait(bytes(value))
        bluez.methods[DEVICE, "Disconnect"] = self.disconnect

    async def connect(self, device: str = GATEWAY) -> None:
        self.bluez.add_device(device, Connected=True)
        await self.bluez.characteristic(LOCK_RESPONSE_UUID, "StartNotify", "", [])

    async def write(self, value: bytes, device: str = GATEWAY, mtu: int = 185) -> None:
        options = {"device": Variant("o", device), "mtu": Variant("q", mtu)}
        await self.bluez.characteristic(
            LOCK_REQUEST_UUID, "WriteValue", "aya{sv}", [value, options]
        )

    async def disconnect(self, message: Message | None = None) -> None:
        path = GATEWAY if message is None else message.path or ""
        self.bluez.change(path, DEVICE, Connected=False)
        self.bluez.remove(path)
        await self.bluez.characteristic(LOCK_RESPONSE_UUID, "StopNotify", "", [])


@pytest.fixture
async def bluez() -> AsyncIterator[FakeBluez]:
    async with private_bus.private_bus(), asyncio.timeout(60):
        bluez = FakeBluez()
        await bluez.start()
        bluez.add_adapter(HCI, ADAPTER)
        yield bluez
        await bluez.stop()


@needs_bluezero
async def test_a_lock_that_belongs_to_nobody_advertises_so(bluez: FakeBluez) -> None:
    options = BluezeroOptions(adapter=ADAPTER, advertised=UNCLAIMED_LOCK_UUID)
    async with open_bluezero(options):
        assert bluez.advertisement is not None
        assert bluez.advertisement["ServiceUUIDs"] == [UNCLAIMED_LOCK_UUID]


@needs_bluezero
async def test_the_table_and_the_advertisement_are_the_protocols(bluez: FakeBluez) -> None:
    async with open_bluezero(BluezeroOptions(adapter=ADAPTER)) as radio:
        assert await radio.ready() == ADAPTER
        assert bluez.value(HCI, "org.bluez.Adapter1", "Powered") is True
        uuids = [next(iter(each.values()))["UUID"] for each in bluez.table.values()]
        assert sorted(uuids) == sorted(
            [LOCK_SERVICE_UUID, LOCK_REQUEST_UUID, LOCK_RESPONSE_UUID, LOCK_INFO_UUID]
        )
        flags = {
            each[CHARACTERISTIC]["UUID"]: each[CHARACTERISTIC]["Flags"]
            for each in bluez.table.values()
            if CHARACTERISTIC in each
        }
        assert flags == {
            LOCK_REQUEST_UUID: ["write", "write-without-response"],
            LOCK_RESPONSE_UUID: ["notify"],
            LOCK_INFO_UUID: ["read"],
        }
        assert bluez.advertisement is not None
        assert bluez.advertisement["ServiceUUIDs"] == [LOCK_SERVICE_UUID]
        assert "LocalName" not in bluez.advertisement
        (info,) = await bluez.characteristic(LOCK_INFO_UUID, "ReadValue", "a{sv}", [{}])
        assert bytes(info) == b""


@needs_bluezero
async def test_the_lock_speaks_first_then_both(bluez: FakeBluez) -> None:
    gateway = Gateway(bluez)
    async with open_bluezero() as radio:
        for _ in range(2):
            await gateway.connect()
            link = await radio.accept()
            assert link.mtu == 23
            await link.write(b"hello")
            assert await gateway.notified.get() == b"hello"
            await gateway.write(b"message_1")
            assert await link.read() == b"message_1"
            assert link.mtu == 183
            await link.write(bytes(180))
            assert await gateway.notified.get() == bytes(180)
            await gateway.disconnect()
            await expect_closed(link)


@needs_bluezero
async def test_the_lock_hangs_up(bluez: FakeBluez) -> None:
    gateway = Gateway(bluez)
    bluez.add_adapter("/org/bluez/hci1", "B8:27:EB:00:00:02")
    bluez.add_device("/org/bluez/hci1/dev_F0_00_00_00_00_01", Connected=True)
    async with open_bluezero(BluezeroOptions(adapter=ADAPTER)) as radio:
        await gateway.connect()
        link = await radio.accept()
        await link.close()
        assert bluez.calls["Disconnect"] == 1  # nobody else's on another adapter
        await gateway.connect()
        assert not (await radio.accept()).closed
    assert bluez.calls["Disconnect"] == 2


@needs_bluezero
async def test_a_second_gateway_is_not_heard_and_goes_with_the_first(bluez: FakeBluez) -> None:
    gateway, second = Gateway(bluez), f"{HCI}/dev_00_AA_01_00_00_02"
    async with open_bluezero() as radio:
        await gateway.connect()
        link = await radio.accept()
        await gateway.write(b"one")
        bluez.add_device(second, Connected=True)
        await gateway.write(b"foreign", second)
        await gateway.write(b"two")
        assert [await link.read(), await link.read()] == [b"one", b"two"]
        elsewhere = GATEWAY.replace("hci0", "hci1")  # the same gateway, on another adapter
        bluez.add_device(elsewhere, Connected=True)
        bluez.change(elsewhere, DEVICE, Connected=False)
        await gateway.write(b"three")
        assert await link.read() == b"three"
        bluez.change(GATEWAY, DEVICE, Connected=False)  # the second is still subscribed
        await expect_closed(link)
        while second in bluez.objects:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)


@needs_bluezero
async def test_bluetoothd_ends_and_so_does_the_radio(bluez: FakeBluez) -> None:
    async with open_bluezero() as radio:
        await bluez.stop()
        with pytest.raises(RadioError, match="bluetoothd is gone"):
            await radio.accept()


@needs_bluezero
@pytest.mark.parametrize("method", ["RegisterApplication", "RegisterAdvertisement"])
async def test_bluetoothd_refuses(bluez: FakeBluez, method: str) -> None:
    bluez.refuse[method] = ["NotPermitted"]
    with pytest.raises(RadioError, match="refuses the lock's table or advertisement"):
        async with open_bluezero():
            pytest.fail("it never began")


@needs_bluezero
async def test_no_adapter(bluez: FakeBluez) -> None:
    bluez.remove(HCI)
    with pytest.raises(RadioError, match="No Bluetooth adapter") as caught:
        async with open_bluezero():
            pytest.fail("it never began")
    assert "plug" in caught.value.remedy


@needs_bluezero
async def test_no_bluetoothd() -> None:
    async with private_bus.private_bus():
        with pytest.raises(RadioError, match="ServiceUnknown") as caught:
            async with open_bluezero():
                pytest.fail("it never began")
    assert "systemctl start bluetooth" in caught.value.remedy
