"""A lock on a serial line: the real port, the real protocol, over a pair of pseudo-terminals."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_proto.codes import DoorState, FrameKind, LatchState, Outcome, Reason
from firmware_proto.framing import WholeFrames
from firmware_proto.serial_framing import SerialFraming
from firmware_proto.session import ERROR_FRAME
from gatewayd.adapters.serial_line import LineSettings, SerialCentral
from gatewayd.adapters.serial_line import port as ports_of_line
from gatewayd.core.model import CommandId, Verdict
from gatewayd.emulators.lock import LockEmulator
from gatewayd.emulators.lock_faults import PowerCut, PowerLostError
from gatewayd.lock_timing import LockTiming
from gatewayd.locks import SILENT, UNREACHABLE, RemoteLock
from gatewayd.ports import LinkClosedError, RadioError
from gatewayd.ports.radio import Central, Link, Peripheral
from tests.support.cable import Cable, Plug, cable
from tests.support.household import IMPATIENT, QUICK, TIMING, LockSite, Operator, resolved, until
from tests.support.links import FakeAir
from tests.support.wired_lock import HALF_DUPLEX_LINE, LINE, SerialPeripheral

OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
ONE = CommandId(b"1" * 16)
TWO = CommandId(b"2" * 16)
ATTACH = bytes([FrameKind.ATTACH])
HELLO = bytes([FrameKind.HELLO])

SHORT = LineSettings(dial_s=0.6, attach_s=0.15, reopen_s=0.02)
NOISE = bytes(range(256)) + b"\x00\xff\x00\x05\x00"


class LineSite(LockSite):
    """One lock on disk at the far end of a cable, a gateway at the near end."""

    def __init__(self, directory: Path, line: Cable, settings: LineSettings) -> None:
        super().__init__(directory, FakeAir(), Operator())
        self.line = line
        self.settings = settings
        self.identity = replace(self.identity, address=str(line.near.path))
        self.central = SerialCentral(str(line.near.path), settings)
        wire = HALF_DUPLEX_LINE if settings.half_duplex else LINE
        self.lock_settings = replace(QUICK, wire=wire)

    @contextlib.asynccontextmanager
    async def powered(self) -> AsyncIterator[LockEmulator]:
        lock = LockEmulator(
            self.store, self.machine, self.clock, self.dice,
            faults=self.faults, settings=self.lock_settings,
        )  # fmt: skip
        plug = SerialPeripheral(str(self.line.far.path), self.settings)

        async def run() -> None:
            with contextlib.suppress(PowerLostError):
                await lock.run(plug)
            await plug.close()

        task = asyncio.create_task(run(), name="lock under test")
        await until(lambda: plug._port is not None, 5)  # what comes earlier is thrown away
        try:
            yield lock
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await plug.close()

    def remote(self, timing: LockTiming = TIMING) -> RemoteLock:
        return RemoteLock(
            self.central,
            self.identity,
            self.operator.gateway(),
            self.clock,
            self.dice,
            framing=lambda _: WholeFrames(),
            timing=timing,
            on_state=self.states.append,
        )


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Cable]:
    async with cable(tmp_path) as made:
        yield made


@contextlib.asynccontextmanager
async def opened(site: LineSite, timing: LockTiming = TIMING) -> AsyncIterator[RemoteLock]:
    client = site.remote(timing)
    try:
        yield client
    finally:
        await client.close()
        await site.central.close()


@pytest.fixture(params=[False, True], ids=["full duplex", "half duplex"])
def site(request: pytest.FixtureRequest, tmp_path: Path, line: Cable) -> LineSite:
    return LineSite(tmp_path, line, replace(SHORT, half_duplex=request.param))


@pytest.fixture
def quick(tmp_path: Path, line: Cable) -> LineSite:
    """Full duplex, for what does not depend on it."""
    return LineSite(tmp_path, line, SHORT)


def kinds(heard: bytes) -> list[int]:
    return [frame[0] for frame in SerialFraming().receive(bytes(heard))]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Damage:
    """Changes the frame with this number, counted from 0, in one direction."""

    def __init__(self, number: int, how: Callable[[bytes], bytes]) -> None:
        self.number = number
        self.how = how
        self.seen = 0
        self._framing = SerialFraming()

    def __call__(self, data: bytes) -> bytes:
        """Frames are written whole, and a pseudo-terminal keeps them so."""
        result = b""
        for frame in self._framing.receive(data):
            (sent,) = SerialFraming().cut(frame)
            result += self.how(sent) if self.seen == self.number else sent
            self.seen += 1
        return result


# --- the ports ------------------------------------------------------------------------------
def test_both_ends_are_what_the_ports_ask_for() -> None:
    central: Central = SerialCentral("/dev/null")
    peripheral: Peripheral = SerialPeripheral("/dev/null")
    assert central is not peripheral


async def test_opens(site: LineSite) -> None:
    async with site.powered(), opened(site) as client:
        await client.prepare()
        assert await client.unlatch(ONE, 1) == OPENED
        assert await client.unlatch(TWO, 1) == OPENED
        assert await client.result_of(ONE) == OPENED
    assert site.machine.openings == 2
    assert kinds(site.line.near.heard).count(FrameKind.MESSAGE_1) == 1


async def test_the_second_connection_resumes(site: LineSite) -> None:
    async with site.powered(), opened(site) as client:
        await client.prepare()
        await client.close()
        site.line.near.heard.clear()
        assert await client.unlatch(ONE, 1) == OPENED
    assert kinds(site.line.near.heard)[:2] == [FrameKind.ATTACH, FrameKind.RESUME]


async def test_a_lock_reports_on_a_line_and_is_silent_on_a_half_duplex_one(
    site: LineSite,
) -> None:
    async with site.powered() as lock, opened(site) as client:
        assert await client.unlatch(ONE, 1) == OPENED
        told = len(site.states)
        lock.body.move_door(is_open=True)
        if site.settings.half_duplex:
            await until(lambda: lock.body.state(None).latch is LatchState.REST)
            await asyncio.sleep(0.05)
            assert len(site.states) == told
            site.clock.skip_s += 601  # what is asked is told
            await client.prepare()
            assert len(site.states) == told + 1
        else:
            await until(lambda: site.states[-1].door_state is DoorState.OPEN)
            await until(lambda: site.states[-1].latch is LatchState.REST)


async def test_a_half_duplex_lock_speaks_once_for_every_request(tmp_path, line: Cable) -> None:
    site = LineSite(tmp_path, line, replace(SHORT, half_duplex=True))
    flights: list[str] = []
    for plug, name in ((line.near, "gateway"), (line.far, "lock")):
        plug.carry = lambda data, name=name: (flights.append(name), data)[1]
    async with site.powered() as lock, opened(site) as client:
        for command in (ONE, TWO):
            assert await client.unlatch(command, 1) == OPENED
            lock.body.move_door(is_open=True)
            lock.body.move_door(is_open=False)
            await asyncio.sleep(0.05)
    collapsed = [name for at, name in enumerate(flights) if at == 0 or flights[at - 1] != name]
    assert collapsed == ["gateway", "lock"] * (len(collapsed) // 2)
    assert flights.count("lock") == len(collapsed) // 2


@pytest.mark.parametrize("ends", ["near", "far", "both"])
async def test_an_end_that_hears_itself(tmp_path, line: Cable, ends: str) -> None:
    site = LineSite(tmp_path, line, replace(SHORT, half_duplex=True))
    line.near.echoes = ends in {"near", "both"}
    line.far.echoes = ends in {"far", "both"}
    async with site.powered(), opened(site) as client:
        assert await client.unlatch(ONE, 1) == OPENED
        await client.close()
        assert await client.unlatch(TWO, 1) == OPENED
        assert await client.result_of(TWO) == OPENED
    assert site.machine.openings == 2


async def test_an_absent_lock_is_unreachable(site: LineSite) -> None:
    async with opened(site) as client:
        assert await client.unlatch(ONE, 1) == UNREACHABLE
        assert await client.result_of(ONE) is None
        with pytest.raises(RadioError, match="nothing is heard"):
            await client.prepare()
    assert set(kinds(site.line.near.heard)) == {FrameKind.ATTACH}


async def test_a_line_has_no_other_locks(quick: LineSite) -> None:
    async with quick.powered():
        with pytest.raises(RadioError, match="is not on the line"):
            await quick.central.dial("/dev/ttyUSB7")
        await (await quick.central.dial(str(quick.line.near.path))).close()
    await quick.central.close()


# --- what lines do ---------------------------------------------------------------------------
async def test_noise_between_frames_in_both_directions(site: LineSite) -> None:
    line = site.line
    line.near.carry = lambda data: NOISE + data + NOISE
    line.far.carry = lambda data: NOISE + data + NOISE
    async with site.powered(), opened(site) as client:
        for number in range(5):
            line.inject(line.near, NOISE[number:])
            line.inject(line.far, NOISE[number:])
            assert await client.unlatch(CommandId(bytes([number]) * 16), 1) == OPENED
    assert site.machine.openings == 5


@pytest.mark.parametrize(
    ("resumed", "how"), [(False, "truncated"), (True, "lost"), (True, "flipped")]
)
@pytest.mark.parametrize("direction", ["to lock", "to gateway"])
async def test_each_frame_damaged_in_turn(
    quick: LineSite, how: str, direction: str, resumed: bool
) -> None:
    """Whatever is said of the door is true, and the next opening works."""
    harm = {
        "lost": lambda _: b"",
        "truncated": lambda data: data[: len(data) // 2],
        "flipped": lambda data: data[:-3] + bytes([data[-3] ^ 0x10 or 1]) + data[-2:],
    }[how]
    plug = quick.line.near if direction == "to lock" else quick.line.far
    async with quick.powered():
        for number in range(12):
            async with opened(quick, replace(IMPATIENT, ready_s=2.5)) as client:
                if resumed:
                    await client.prepare()
                    await client.close()
                damage = plug.carry = Damage(number, harm)
                command = CommandId(bytes([number]) * 16)
                verdict = await client.unlatch(command, 1)
                plug.carry = bytes
                if verdict.outcome is Outcome.UNKNOWN:
                    verdict = await resolved(client, command)
                moved = quick.machine.openings_for(command)
                assert (verdict.outcome is Outcome.CONFIRMED) == (moved == 1)
                again = CommandId(bytes([number, 99] * 8))
                assert await client.unlatch(again, 1) == OPENED
            if damage.seen <= number:
                break
        else:
            pytest.fail("never got through")
    assert number >= 3


async def test_a_lost_hello_costs_one_more_attach(quick: LineSite) -> None:
    quick.line.far.carry = Damage(0, lambda _: b"")
    async with quick.powered(), opened(quick) as client:
        assert await client.unlatch(ONE, 1) == OPENED
    heard = SerialFraming().receive(bytes(quick.line.far.heard))
    assert [frame[0] for frame in heard[:2]] == [FrameKind.HELLO] * 2
    assert heard[0] == heard[1]
    assert kinds(quick.line.near.heard)[:2] == [FrameKind.ATTACH] * 2


async def test_a_hello_that_comes_twice_is_heard_once(quick: LineSite) -> None:
    # every Attach comes twice: the first one may be gone before the lock has opened its end
    (attach,) = SerialFraming().cut(bytes([FrameKind.ATTACH]))
    quick.line.near.carry = lambda data: data * 2 if data == attach else data
    async with quick.powered(), opened(quick) as client:
        assert await client.unlatch(ONE, 1) == OPENED
    assert kinds(quick.line.far.heard)[:2] == [FrameKind.HELLO] * 2


async def test_words_of_an_earlier_connection_are_not_heard(quick: LineSite) -> None:
    async with quick.powered(), opened(quick) as client:
        quick.faults.answer_after_s = 0.35
        await client.prepare()
        asking = asyncio.create_task(client.unlatch(ONE, 1))
        await until(lambda: quick.machine.openings == 1)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        await client.close()
        quick.faults.answer_after_s = 0.0
        assert await client.result_of(ONE) == OPENED


async def test_a_flood_of_noise_starves_nobody(quick: LineSite) -> None:
    async def babble() -> None:
        while True:
            quick.line.inject(quick.line.near, os.urandom(200))
            await asyncio.sleep(0.002)

    async with quick.powered(), opened(quick, replace(TIMING, ready_s=8.0)) as client:
        babbling = asyncio.create_task(babble())
        verdicts = [await client.unlatch(CommandId(bytes([n]) * 16), 1) for n in range(8)]
        babbling.cancel()
        # some frames are hit; whatever was said is true
        for number, verdict in enumerate(verdicts):
            moved = quick.machine.openings_for(bytes([number]) * 16)
            if verdict.outcome is not Outcome.UNKNOWN:
                assert (verdict.outcome is Outcome.CONFIRMED) == (moved == 1)
        assert await client.unlatch(TWO, 1) == OPENED


# --- power and plugs ---------------------------------------------------------------------------
async def test_a_lock_that_started_anew_says_so_at_once(site: LineSite) -> None:
    async with opened(site, replace(TIMING, answer_s=30.0)) as client:
        async with site.powered():
            await client.prepare()
        async with site.powered():
            await asyncio.sleep(0.05)
            async with asyncio.timeout(3):
                assert await client.unlatch(ONE, 1) == SILENT
            expected = Verdict(Outcome.REFUSED, Reason.COMMAND_NEVER_SEEN)
            assert await client.result_of(ONE) == expected
            assert await client.unlatch(TWO, 1) == OPENED
    assert site.machine.openings_for(ONE) == 0


async def test_a_reading_grown_old_finds_that_out_before_a_command(site: LineSite) -> None:
    async with opened(site, replace(TIMING, clock_stale_s=0.05)) as client:
        async with site.powered():
            await client.prepare()
        async with site.powered():
            await asyncio.sleep(0.1)
            assert await client.unlatch(ONE, 1) == OPENED


@pytest.mark.parametrize("cut", PowerCut)
async def test_power_loss_is_never_called_refused_when_it_moved(
    quick: LineSite, cut: PowerCut
) -> None:
    async with opened(quick, replace(IMPATIENT, ready_s=2.5)) as client:
        async with quick.powered():
            await client.prepare()
            quick.faults.power_cut = cut
            assert await client.unlatch(ONE, 1) == SILENT
        async with quick.powered():
            verdict = await client.result_of(ONE)
            assert verdict is not None
            moved = quick.machine.openings_for(ONE)
            assert (verdict.outcome is Outcome.CONFIRMED) == (moved == 1)
            assert await client.unlatch(TWO, 1) == OPENED


@pytest.mark.parametrize("end", ["near", "far"])
async def test_unplugged_while_the_lock_moves_and_plugged_in_again(
    quick: LineSite, end: str
) -> None:
    plug: Plug = getattr(quick.line, end)
    quick.machine.motor_ms = 150
    async with quick.powered(), opened(quick, replace(TIMING, answer_s=1.0)) as client:
        await client.prepare()
        asking = asyncio.create_task(client.unlatch(ONE, 1))
        await until(lambda: quick.store.load().running is not None)
        quick.line.unplug(plug)
        async with asyncio.timeout(2):
            assert await asking == SILENT
        assert await client.unlatch(TWO, 1) == UNREACHABLE
        assert await client.result_of(ONE) is None
        quick.line.plug(plug)
        assert await client.result_of(ONE) == OPENED
        assert await client.unlatch(TWO, 1) == OPENED
    assert quick.machine.openings == 2


async def test_unplugging_is_noticed_at_once_and_costs_nothing_that_was_not_begun(
    quick: LineSite,
) -> None:
    async with quick.powered(), opened(quick) as client:
        await client.prepare()
        quick.line.unplug(quick.line.near)
        await asyncio.sleep(0.1)
        with pytest.raises(RadioError, match="cannot be opened"):
            await client.prepare()
        assert await client.unlatch(ONE, 1) == UNREACHABLE
    assert quick.machine.ledger == []


async def test_a_kept_link_comes_back_by_itself(quick: LineSite) -> None:
    async with quick.powered(), opened(quick, replace(TIMING, retry_at_most_s=0.2)) as client:
        warm = asyncio.create_task(client.keep_warm())
        await until(lambda: len(quick.states) == 1, 5)
        for times in (2, 3):
            quick.line.unplug(quick.line.near)
            await asyncio.sleep(0.8)
            quick.line.plug(quick.line.near)
            await until(lambda times=times: len(quick.states) == times, 5)
        warm.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await warm


async def test_a_device_that_comes_back_in_time_is_waited_for(quick: LineSite) -> None:
    quick.line.unplug(quick.line.near)
    async with quick.powered(), opened(quick) as client:
        asyncio.get_running_loop().call_later(0.2, quick.line.plug, quick.line.near)
        assert await client.unlatch(ONE, 1) == OPENED


async def test_many_plugs_leak_nothing(quick: LineSite) -> None:
    async with quick.powered(), opened(quick) as client:
        await client.prepare()
        before = open_files()
        for _ in range(5):
            quick.line.unplug(quick.line.near)
            quick.line.plug(quick.line.near)
            await client.prepare()
        await until(lambda: open_files() <= before)


async def flood(link: Link) -> None:
    for _ in range(200):
        await link.write(bytes([FrameKind.RECORD]) * 2000)


# --- devices -------------------------------------------------------------------------------------
async def test_a_device_that_takes_nothing_does_not_hold_up_the_daemon(
    quick: LineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports_of_line, "WRITE_S", 1.0)
    async with quick.powered(), opened(quick, replace(TIMING, ready_s=4.0)) as client:
        await client.prepare()
        quick.line.stall(quick.line.near)
        link = quick.central._link
        assert link is not None
        turns = 0

        async def turning() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.01)

        watch = asyncio.create_task(turning())
        with pytest.raises(LinkClosedError):
            await flood(link)
        watch.cancel()
        assert turns > 10
        quick.line.unplug(quick.line.near)
        quick.line.plug(quick.line.near)
        await asyncio.sleep(0.05)
        assert await client.unlatch(ONE, 1) == OPENED


async def test_one_daemon_per_line(quick: LineSite) -> None:
    other = SerialCentral(str(quick.line.near.path), SHORT)
    async with quick.powered(), opened(quick) as client:
        await client.prepare()
        with pytest.raises(RadioError, match="another program has it"):
            await other.dial(str(quick.line.near.path))
    await other.close()


@pytest.mark.parametrize("what", ["missing", "file", "directory"])
async def test_what_is_no_device_is_told(tmp_path: Path, what: str) -> None:
    path = tmp_path / "ttyUSB0"
    if what == "file":
        path.write_bytes(b"")
    elif what == "directory":
        path.mkdir()
    central = SerialCentral(str(path), replace(SHORT, dial_s=0.1))
    with pytest.raises(RadioError, match="cannot be opened"):
        await central.dial(str(path))
    await central.close()


async def test_a_slow_driver_that_opens_too_late_is_closed_again(
    quick: LineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ports_of_line._Device] = []
    real = ports_of_line._Device.open

    def slow(self: ports_of_line._Device) -> None:
        import time  # noqa: PLC0415 - a driver has no event loop

        time.sleep(0.3)
        real(self)
        made.append(self)

    monkeypatch.setattr(ports_of_line._Device, "open", slow)
    central = SerialCentral(str(quick.line.near.path), replace(SHORT, dial_s=0.1))
    with pytest.raises(RadioError):
        await central.dial(str(quick.line.near.path))
    await until(lambda: bool(made) and not made[0].is_open)
    await central.close()


async def test_cancelling_a_dial_leaves_no_link(quick: LineSite) -> None:
    for wait_s in (0.0, 0.01, 0.1):
        dialling = asyncio.create_task(quick.central.dial(str(quick.line.near.path)))
        await asyncio.sleep(wait_s)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        assert quick.central._link is None
    async with quick.powered(), opened(quick) as client:
        assert await client.unlatch(ONE, 1) == OPENED


# --- links -------------------------------------------------------------------------------------
async def pair(quick: LineSite) -> tuple[SerialPeripheral, Link, Link]:
    """A gateway's end that has heard Hello, and the lock's end."""
    far = SerialPeripheral(str(quick.line.far.path), SHORT)
    dialling = asyncio.create_task(quick.central.dial(str(quick.line.near.path)))
    theirs = await far.accept()
    assert await theirs.read() == ATTACH
    await theirs.write(HELLO)
    ours = await dialling
    assert await ours.read() == HELLO
    return far, ours, theirs


async def test_links_carry_whole_frames_both_ways(quick: LineSite) -> None:
    far, ours, theirs = await pair(quick)
    for size in (20, 253, 254, 255, 2048):
        for sender, receiver in ((ours, theirs), (theirs, ours)):
            frame = bytes([FrameKind.RECORD]) + os.urandom(size - 1)
            await sender.write(frame)
            assert await receiver.read() == frame
    await far.close()
    await quick.central.close()
    for link in (ours, theirs):
        with pytest.raises(LinkClosedError):
            await link.read()
        with pytest.raises(LinkClosedError):
            await link.write(b"\x05")
        await link.close()


async def test_a_new_attach_ends_the_connection_before(quick: LineSite) -> None:
    far, ours, theirs = await pair(quick)
    await ours.write(bytes([FrameKind.RESUME]))
    assert await theirs.read() == bytes([FrameKind.RESUME])
    dialling = asyncio.create_task(quick.central.dial(str(quick.line.near.path)))
    again = await far.accept()
    with pytest.raises(LinkClosedError):
        await theirs.read()
    with pytest.raises(LinkClosedError):
        await ours.read()
    await again.read()
    await again.write(HELLO)
    await dialling
    await far.close()
    await quick.central.close()


async def test_a_slow_reader_is_dropped(quick: LineSite) -> None:
    far, ours, theirs = await pair(quick)
    for number in range(3):
        await theirs.write(bytes([FrameKind.RECORD, number]) * 450)
    await until(lambda: getattr(ours, "closed", False))
    with pytest.raises(LinkClosedError):
        await ours.read()
    await far.close()
    await quick.central.close()


async def test_a_lock_without_a_connection_answers_with_the_constant_error(
    quick: LineSite,
) -> None:
    far = SerialPeripheral(str(quick.line.far.path), SHORT)
    accepting = asyncio.create_task(far.accept())
    await asyncio.sleep(0.05)
    framing = SerialFraming()
    for frame in (ERROR_FRAME, b"\x05record", b"\x08"):
        quick.line.inject(quick.line.far, framing.cut(frame)[0])
    await until(lambda: len(kinds(quick.line.far.heard)) == 2)
    await asyncio.sleep(0.02)
    assert framing.receive(bytes(quick.line.far.heard)) == [ERROR_FRAME] * 2
    accepting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await accepting
    await far.close()
