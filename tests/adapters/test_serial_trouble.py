"""What a line may do to a gateway: babble, lie, be wired wrongly, and go in every way there is."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import serial

from firmware_proto.codes import FrameKind, Outcome
from firmware_proto.serial_framing import SerialFraming
from firmware_proto.session import ERROR_FRAME
from gatewayd.adapters.serial_line import SerialCentral
from gatewayd.adapters.serial_line import port as ports_of_line
from gatewayd.core.model import CommandId
from gatewayd.locks import UNREACHABLE
from gatewayd.ports import RadioError
from tests.adapters.test_serial_line import OPENED, SHORT, LineSite, open_files, opened
from tests.support.cable import Cable, Plug, cable
from tests.support.household import IMPATIENT, TIMING, until

ONE, TWO, THREE = (CommandId(bytes([number]) * 16) for number in (1, 2, 3))
BABBLE = """
import os, select, sys
fd, data = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
while True:
    select.select([], [fd], [])
    os.write(fd, data)
"""


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Cable]:
    async with cable(tmp_path) as made:
        yield made


@pytest.fixture
def site(tmp_path: Path, line: Cable) -> LineSite:
    return LineSite(tmp_path, line, SHORT)


def framed(*frames: bytes) -> bytes:
    return b"".join(SerialFraming().cut(frame)[0] for frame in frames)


# --- a line that is never quiet ----------------------------------------------------------------
@contextlib.contextmanager
def babbling(plug: Plug, data: bytes):
    """`data` comes out of `plug` for ever, as fast as it is read."""
    assert plug.master is not None
    process = subprocess.Popen(
        [sys.executable, "-c", BABBLE, str(plug.master), data.hex()], pass_fds=[plug.master]
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "data",
    [os.urandom(1000), bytes(1000), b"\x01" * 1000, b"\xff" * 1000, framed(b"\x05record" * 30)],
    ids=["noise", "zeros", "ones", "one endless frame", "whole frames"],
)
@pytest.mark.parametrize("half_duplex", [False, True])
async def test_a_line_that_babbles_without_end(
    tmp_path: Path, line: Cable, data: bytes, half_duplex: bool
) -> None:
    """A device on USB may send as fast as it pleases: others must have the processor all the same.

    It is told before and opens after; what it was asked meanwhile ended in time.
    """
    site = LineSite(tmp_path, line, replace(SHORT, half_duplex=half_duplex))
    async with site.powered(), opened(site, IMPATIENT) as client:
        await client.prepare()
        port = site.central._port
        assert port is not None
        turns = 0

        async def turning() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.01)

        watch = asyncio.create_task(turning())
        await asyncio.sleep(0.5)
        quiet = 2 * turns  # in a second: a hundred, unless the machine is busy
        with babbling(line.near, data):
            await asyncio.sleep(0.3)
            began_s, used_s, read = time.monotonic(), time.process_time(), port.heard.octets
            turns = 0
            await asyncio.sleep(1.0)
            took_s = time.monotonic() - began_s
            share = (time.process_time() - used_s) / took_s
            rate = (port.heard.octets - read) / took_s
            assert turns > 0.4 * quiet
            verdict = await client.unlatch(ONE, 1)
        watch.cancel()
        measured = f"read {rate / 1000:.0f} kB/s, which took {share:.0%} of a processor"
        assert rate < 1.5 * ports_of_line.FASTER * SHORT.baud / 10, measured
        assert share < 0.6, measured
        assert port._framing.held <= 4096
        moved = site.machine.openings_for(ONE)
        if verdict.outcome is not Outcome.UNKNOWN:
            assert (verdict.outcome is Outcome.CONFIRMED) == (moved == 1)
        await asyncio.sleep(0.2)
        assert await client.unlatch(TWO, 1) == OPENED


# --- somebody else on the wire ------------------------------------------------------------------
async def test_what_was_said_once_opens_nothing_when_it_is_said_again(site: LineSite) -> None:
    line = site.line
    async with site.powered(), opened(site) as client:
        assert await client.unlatch(ONE, 1) == OPENED
        recorded = bytes(line.near.heard)
        line.inject(line.far, recorded)
        await asyncio.sleep(0.3)
        for frame in SerialFraming().receive(recorded):  # and one by one, as if answered
            line.inject(line.far, framed(frame))
            await asyncio.sleep(0.03)
        await asyncio.sleep(0.2)
        assert site.machine.openings == 1
        await client.close()
        assert await client.unlatch(TWO, 1) == OPENED
    assert site.machine.openings == 2


async def test_nobody_who_repeats_a_locks_words_is_the_lock(site: LineSite) -> None:
    line = site.line
    async with opened(site, IMPATIENT) as client:
        async with site.powered():
            assert await client.unlatch(ONE, 1) == OPENED
            await client.close()
        said = SerialFraming().receive(bytes(line.far.heard))
        line.far.heard.clear()

        def impostor(data: bytes) -> bytes:
            for frame in SerialFraming().receive(data):
                if frame[0] == FrameKind.ATTACH:
                    impostor.left = list(said)
                if impostor.left:
                    line.inject(line.near, framed(impostor.left.pop(0)))
            return b""

        impostor.left = []
        line.near.carry = impostor
        assert await client.unlatch(TWO, 1) == UNREACHABLE
        assert await client.result_of(TWO) is None
        line.near.carry = bytes
    async with site.powered(), opened(site) as client:
        assert await client.unlatch(THREE, 1) == OPENED
    assert site.machine.openings_for(TWO) == 0


@pytest.mark.parametrize(
    "injected",
    [
        framed(bytes([FrameKind.ATTACH])),
        framed(ERROR_FRAME),
        framed(bytes([FrameKind.HELLO]) + b"\x80" * 30),
        framed(bytes([FrameKind.RECORD]) + bytes(40)),
        framed(bytes([FrameKind.MESSAGE_1]) + bytes(40)),
        framed(b"\xff" * 2048),
    ],
    ids=["attach", "error", "hello", "record", "message_1", "nothing known"],
)
@pytest.mark.parametrize("towards", ["lock", "gateway"])
async def test_strangers_who_speak_on_the_line_can_only_be_a_nuisance(
    site: LineSite, injected: bytes, towards: str
) -> None:
    line = site.line
    plug = line.far if towards == "lock" else line.near

    async def intrude() -> None:
        while True:
            line.inject(plug, injected)
            await asyncio.sleep(0.02)

    async with site.powered(), opened(site, IMPATIENT) as client:
        intruding = asyncio.create_task(intrude())
        verdicts = [await client.unlatch(CommandId(bytes([n]) * 16), 1) for n in range(4)]
        intruding.cancel()
        await asyncio.sleep(0.1)
        for number, verdict in enumerate(verdicts):
            command = CommandId(bytes([number]) * 16)
            moved = site.machine.openings_for(command)
            assert moved <= 1
            if verdict.outcome is not Outcome.UNKNOWN:
                assert (verdict.outcome is Outcome.CONFIRMED) == (moved == 1)
        await client.close()
    async with site.powered(), opened(site) as client:
        assert await client.unlatch(CommandId(b"9" * 16), 1) == OPENED


# --- what the journal says of it ------------------------------------------------------------------
def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if "serial_line" in each.name]


async def nobody(site: LineSite) -> None:
    """Three tries that nobody answers."""
    for _ in range(3):
        with pytest.raises(RadioError):
            await site.central.dial(str(site.line.near.path))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("silent", "nothing is heard on {path}; has the lock power?"),
        ("noise", "on {path} there is noise"),
        ("inverted", "on {path} there is noise"),
        ("loop", "on {path} we hear ourselves and nobody else; has the lock power?"),
        ("another", "somebody speaks on {path}, but no lock answers"),
        ("missing", "{path} cannot be opened: No such file or directory; plug it in"),
    ],
)
async def test_a_fitter_reads_what_to_look_for(
    site: LineSite, caplog: pytest.LogCaptureFixture, fault: str, expected: str
) -> None:
    caplog.set_level(logging.INFO)
    line, near = site.line, site.line.near
    times = itertools.count(1)

    def answered(data: bytes) -> bytes:
        if fault in {"noise", "inverted", "another"}:
            inverted = bytes(~byte & 0xFF for byte in data)
            line.inject(
                near,
                {
                    "noise": b"\xf0\x00\x81" * next(times),
                    "inverted": inverted,
                    "another": framed(b"\x42hi"),
                }[fault],
            )
        return b""

    near.carry = answered
    near.echoes = fault == "loop"
    if fault == "missing":
        line.unplug(near)
    await nobody(site)
    (told,) = set(messages(caplog))
    assert len(messages(caplog)) == 1
    assert told.startswith(expected.format(path=near.path))
    assert "; " in told
    if fault == "missing":
        line.plug(near)
    near.carry, near.echoes = bytes, False
    async with site.powered(), opened(site) as client:
        assert await client.unlatch(ONE, 1) == OPENED
    assert messages(caplog)[1:] == [f"{near.path}: the lock answers"]


async def test_another_program_on_the_line(
    site: LineSite, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(site.line.near.path)
    other = SerialCentral(path, SHORT)
    async with site.powered(), opened(site) as client:
        await client.prepare()
        with pytest.raises(RadioError, match="another program has it") as caught:
            await other.dial(path)
        assert "fuser" in caught.value.remedy
    await other.close()


# --- devices that go ----------------------------------------------------------------------------
@pytest.mark.parametrize("how", [errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBADF, 0])
@pytest.mark.parametrize("call", ["read", "write"])
async def test_every_way_in_which_a_device_goes(
    site: LineSite,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    how: int,
    call: str,
) -> None:
    """Drivers differ in what they say when their adapter is pulled out; 0 is the end of file."""
    if call == "write" and how == 0:
        pytest.skip("a write that takes nothing is no end of file")
    real = getattr(os, call)
    fallen: list[int] = []
    async with site.powered(), opened(site, replace(TIMING, answer_s=1.0)) as client:
        await client.prepare()
        port = site.central._port
        assert port is not None
        assert port._transport is not None
        assert port._transport.serial is not None
        device = port._transport.serial.fileno()

        def failing(descriptor: int, *rest):
            if descriptor == device and not fallen:
                fallen.append(how)
                if how == 0:
                    return b""
                raise OSError(how, os.strerror(how))
            return real(descriptor, *rest)

        with monkeypatch.context() as patched:
            patched.setattr(os, call, failing)
            verdict = await client.unlatch(ONE, 1)
            assert fallen
        if verdict.outcome is Outcome.UNKNOWN:
            verdict = await client.result_of(ONE) or verdict
        moved = site.machine.openings_for(ONE)
        assert (verdict.outcome is Outcome.CONFIRMED) == (moved == 1)
        assert not port.usable
        assert str(site.line.near.path) in "".join(messages(caplog))
        assert await client.unlatch(TWO, 1) == OPENED


async def test_a_read_that_finds_nothing_is_no_end(
    site: LineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.read
    blocked: list[int] = []
    async with site.powered(), opened(site) as client:
        await client.prepare()
        port = site.central._port
        assert port is not None
        assert port._transport is not None
        assert port._transport.serial is not None
        device = port._transport.serial.fileno()

        def blocking(descriptor: int, size: int) -> bytes:
            if descriptor == device and len(blocked) < 3:
                blocked.append(descriptor)
                raise BlockingIOError
            return real(descriptor, size)

        with monkeypatch.context() as patched:
            patched.setattr(os, "read", blocking)
            assert await client.unlatch(ONE, 1) == OPENED
        assert len(blocked) == 3
        assert port.usable


async def test_unplugged_at_every_moment_a_kept_link_comes_back(
    site: LineSite, caplog: pytest.LogCaptureFixture
) -> None:
    """Also while the device is being opened, which no driver does in one step."""
    chance = random.Random(7)
    async with site.powered(), opened(site, replace(TIMING, retry_at_most_s=0.05)) as client:
        warm = asyncio.create_task(client.keep_warm())
        for _ in range(40):
            await asyncio.sleep(chance.random() * 0.1)
            site.line.unplug(site.line.near)
            await asyncio.sleep(chance.random() * 0.03)
            site.line.plug(site.line.near)
            assert not warm.done()
        await until(lambda: site.central._link is not None and not site.central._link.closed, 5)
        assert await client.unlatch(ONE, 1) == OPENED
        warm.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await warm
    assert "Traceback" not in caplog.text
    assert [each for each in caplog.records if each.name == "asyncio"] == []


async def test_a_device_that_goes_while_it_is_set_up(
    site: LineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ports_of_line._Device._reconfigure_port
    tries: list[int] = []

    def failing(self: ports_of_line._Device, force_update: bool = False) -> None:
        tries.append(1)
        if len(tries) == 2:  # the first one is the opening's own
            raise serial.SerialException("Could not configure port")
        real(self, force_update)

    before = open_files()
    monkeypatch.setattr(ports_of_line._Device, "_reconfigure_port", failing)
    with pytest.raises(RadioError, match="was gone again: Could not configure port"):
        await ports_of_line.open_port(str(site.line.near.path), 9600, site.central._make_port)
    assert open_files() == before
    async with site.powered(), opened(site) as client:
        assert await client.unlatch(ONE, 1) == OPENED


async def test_a_device_that_is_another_one_when_it_is_back(site: LineSite, line: Cable) -> None:
    """The name that udev keeps leads elsewhere: what is open is the old one."""
    async with site.powered(), opened(site, replace(TIMING, answer_s=1.0)) as client:
        assert await client.unlatch(ONE, 1) == OPENED
        before = line.near.path.readlink()
        for number in range(3):
            line.unplug(line.near)
            await until(lambda: site.central._port is None or not site.central._port.usable)
            await asyncio.sleep(0.02)
            held = os.openpty()  # somebody else takes the number meanwhile
            line.plug(line.near)
            assert await client.unlatch(CommandId(bytes([90 + number]) * 16), 1) == OPENED
            for descriptor in held:
                os.close(descriptor)
        assert line.near.path.readlink() != before
