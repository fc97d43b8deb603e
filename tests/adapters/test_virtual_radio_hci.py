"""A radio whose controller is at the other end of a unix socket, in one process and in two."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatewayd.adapters.virtual_radio import (
    INSTANT,
    LOCK,
    PHONE,
    AirController,
    Radio,
    RadioOptions,
    VirtualAir,
    open_radio,
    serve_hci,
    stack,
)
from gatewayd.ports import LinkClosedError, RadioError
from tests.support.worlds import GATEWAY, PHONE_1

ROOT = Path(__file__).parents[2]
CHILD = ROOT / "tests" / "support" / "hci_child.py"


@asynccontextmanager
async def phone_on(air: VirtualAir, dial_s: float = 10.0) -> AsyncIterator[Radio]:
    controller = AirController(air, "00:00:00:00:01:01")
    options = RadioOptions(dial_s=dial_s)
    async with open_radio(controller, address=PHONE_1, dials=PHONE, options=options) as radio:
        yield radio


@asynccontextmanager
async def child(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        CHILD,
        f"unix:{path}",
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.stdout.read()  # until its end: closes the pipe
        await process.wait()


async def test_a_killed_host_drops_its_links_and_the_next_one_finds_a_fresh_radio(tmp_path: Path):
    air, path = VirtualAir(INSTANT), tmp_path / "hci"
    async with serve_hci(air, path, address="00:00:00:00:00:01"), phone_on(air) as phone:
        async with child(path) as process:
            link = await phone.central.dial(GATEWAY)
            await link.write(b"first life")
            assert await link.read() == b"first life"
            process.send_signal(signal.SIGKILL)
            with pytest.raises(LinkClosedError):
                await link.read()
            assert link.code == 0x08  # supervision timeout: nobody said goodbye
        async with child(path):
            link = await phone.central.dial(GATEWAY)
            await link.write(b"second life")
            assert await link.read() == b"second life"
            await link.close()
    assert not path.exists()


async def test_both_roles_work_over_the_socket(tmp_path: Path):
    air, path = VirtualAir(INSTANT), tmp_path / "hci"
    lock_controller = AirController(air, "00:00:00:00:02:01")
    lock_address = "F0:00:00:00:02:01"
    async with (
        serve_hci(air, path, address="00:00:00:00:00:01"),
        open_radio(f"unix:{path}", address=GATEWAY, serves=PHONE, dials=LOCK) as gateway,
        open_radio(lock_controller, address=lock_address, serves=LOCK) as lock,
        phone_on(air) as phone,
    ):
        assert list(await gateway.central.scan(0.05)) == [lock_address]
        link = await phone.central.dial(GATEWAY)
        served = await gateway.peripheral.accept()
        to_lock = await gateway.central.dial(lock_address)
        at_lock = await lock.peripheral.accept()
        await link.write(b"open")
        await to_lock.write(await served.read())
        await at_lock.write(await at_lock.read() + b"ed")
        await served.write(await to_lock.read())
        assert await link.read() == b"opened"


async def test_everyone_is_told_when_the_controller_goes_away(tmp_path: Path):
    air, path = VirtualAir(INSTANT), tmp_path / "hci"
    async with serve_hci(air, path, address="00:00:00:00:00:01"), phone_on(air) as phone:
        async with open_radio(f"unix:{path}", address=GATEWAY, serves=PHONE, dials=LOCK) as gateway:
            await phone.central.dial(GATEWAY)
            served = await gateway.peripheral.accept()
            waiting = [
                asyncio.create_task(served.read()),
                asyncio.create_task(gateway.peripheral.accept()),
                asyncio.create_task(gateway.central.dial("F0:00:00:00:02:01")),
                asyncio.create_task(gateway.central.scan(5)),
            ]
            await asyncio.sleep(0.05)
            # another host takes the controller over
            _, intruder = await asyncio.open_unix_connection(path)
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [
                LinkClosedError,
                RadioError,
                RadioError,
                RadioError,
            ]
            with pytest.raises(RadioError):
                await gateway.peripheral.accept()
            with pytest.raises(RadioError):
                await gateway.central.dial("F0:00:00:00:02:01")
            with pytest.raises(RadioError):
                await gateway.central.scan(5)
            with pytest.raises(LinkClosedError):
                await served.write(b"x")
            await served.close()
            assert gateway.links == []
        intruder.close()
        await intruder.wait_closed()


async def test_garbage_at_the_socket_hangs_up_and_harms_nobody(tmp_path: Path):
    air, path = VirtualAir(INSTANT), tmp_path / "hci"
    async with serve_hci(air, path, address="00:00:00:00:00:01") as controller:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"\xff garbage")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        # a whole packet that means nothing: data for a connection that does not exist
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(bytes.fromhex("02 0100 0200 aabb") + bytes.fromhex("01 030c 00"))
        assert await reader.readexactly(7) == bytes.fromhex("04 0e 04 01 030c 00")
        writer.close()
        await writer.wait_closed()
        async with (
            open_radio(f"unix:{path}", address=GATEWAY, serves=PHONE) as gateway,
            phone_on(air) as phone,
        ):
            await phone.central.dial(GATEWAY)
            await gateway.peripheral.accept()
        assert controller.links == 0


async def test_no_controller_is_a_radio_error(tmp_path: Path):
    for source in (f"unix:{tmp_path / 'nothing'}", "tcp:localhost"):
        with pytest.raises(RadioError):
            async with open_radio(source, address=GATEWAY):
                pytest.fail("there is no controller")


async def test_a_controller_that_says_nothing_is_a_radio_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stack, "POWER_ON_S", 0.05)
    path = tmp_path / "hci"
    ended = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        ended.set()

    async with await asyncio.start_unix_server(swallow, path):
        with pytest.raises(RadioError, match="does not start"):
            async with open_radio(f"unix:{path}", address=GATEWAY):
                pytest.fail("it does not answer")
        await ended.wait()


async def test_leaving_leaves_the_controller_fresh():
    air = VirtualAir(INSTANT)
    controller = AirController(air, "00:00:00:00:00:01")
    before = asyncio.all_tasks()
    async with phone_on(air) as phone:
        async with open_radio(controller, address=GATEWAY, serves=PHONE) as gateway:
            link = await phone.central.dial(GATEWAY)
            served = await gateway.peripheral.accept()
            assert len(gateway.links) == len(phone.links) == 1
            with pytest.raises(LookupError):
                _ = gateway.central
            with pytest.raises(LookupError):
                _ = phone.peripheral
        with pytest.raises(LinkClosedError):
            await served.read()
        with pytest.raises(LinkClosedError):
            await link.read()
        assert link.code == 0x13  # a goodbye
        assert controller.links == 0
        assert not controller.le_legacy_advertiser.enabled
        # the same controller serves again
        async with open_radio(controller, address=GATEWAY, serves=PHONE) as gateway:
            await phone.central.dial(GATEWAY)
            await gateway.peripheral.accept()
    assert asyncio.all_tasks() == before
    controller.close()
    assert controller not in air.controllers
