"""A relay: one pulse per command, never longer than its limit, whatever becomes of the daemon.

No GPIO here: keepers run as they are shipped, as processes, on a fake that
speaks gpiod's API, which is held against the real gpiod first.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

import gpiod
import gpiod.line
import pytest

from firmware_proto.codes import DoorState, Outcome, Reason
from gatewayd.adapters.relay import keeper as keeper_module
from gatewayd.adapters.relay import relay as relay_module
from gatewayd.adapters.relay.keeper import Keeper, settings_from
from gatewayd.adapters.relay.line import Contact, RelayLine, RelaySettings
from gatewayd.adapters.relay.relay import (
    BEGUN,
    BUSY,
    FAULTY,
    FORGOTTEN,
    SILENT,
    UNREACHABLE,
    Relay,
)
from gatewayd.core.model import CommandId, Verdict
from gatewayd.ports import RadioError
from gatewayd.ports.lock import Lock
from tests.support.gpio import CONTACT, FAKE, KEEPER, LABEL, STRIKE, FakeChip
from tests.support.household import until

ROOT = Path(__file__).parents[2]
ONE = CommandId(b"1" * 16)
TWO = CommandId(b"2" * 16)
SLACK_S = 0.4
"""How late a busy test machine may wake a process; a Pi is no busier than that."""


@pytest.fixture
def chip(tmp_path: Path) -> FakeChip:
    return FakeChip(tmp_path / "dev")


@pytest.fixture
def settings(chip: FakeChip) -> RelaySettings:
    return RelaySettings(LABEL, "STRIKE", devices=str(chip.devices))


@contextlib.asynccontextmanager
async def relay_of(settings: RelaySettings, **more) -> AsyncIterator[Relay]:
    relay = Relay(settings, keeper=KEEPER, **more)
    try:
        yield relay
    finally:
        await relay.close()


@pytest.fixture
async def relay(settings: RelaySettings) -> AsyncIterator[Relay]:
    async with relay_of(settings) as made:
        yield made


def pid_of(relay: Relay) -> int:
    assert relay._keeper is not None
    return relay._keeper._process.pid


# --- the fake is like the real one ------------------------------------------------------------
def loaded(name: str) -> ModuleType:
    """A module of the fake, beside the real ones."""
    spec = importlib.util.spec_from_file_location(f"fake_{name}", FAKE / f"gpiod/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fake() -> Iterator[ModuleType]:
    yield loaded("__init__")
    for name in ("fake___init__", "fake_line"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("cls", "method"),
    [
        ("Chip", "__init__"),
        ("Chip", "get_info"),
        ("Chip", "get_line_info"),
        ("Chip", "line_offset_from_id"),
        ("Chip", "request_lines"),
        ("Chip", "close"),
        ("LineRequest", "set_value"),
        ("LineRequest", "get_value"),
        ("LineRequest", "read_edge_events"),
        ("LineRequest", "release"),
    ],
)
def test_the_fake_is_called_as_gpiod_is(fake: ModuleType, cls: str, method: str) -> None:
    real = inspect.signature(getattr(getattr(gpiod, cls), method)).parameters
    ours = inspect.signature(getattr(getattr(fake, cls), method)).parameters
    assert list(real)[: len(ours)] == list(ours)
    rest = list(real.values())[len(ours) :]
    assert all(each.default is not inspect.Parameter.empty for each in rest)


def test_the_fake_has_the_words_of_gpiod(fake: ModuleType) -> None:
    real_settings = inspect.signature(gpiod.LineSettings).parameters
    assert set(inspect.signature(fake.LineSettings).parameters) <= set(real_settings)
    for name in ("name", "label", "num_lines"):
        assert hasattr(gpiod.ChipInfo, name) or name in gpiod.ChipInfo.__dataclass_fields__
    assert isinstance(gpiod.LineRequest.fd, property)
    line = loaded("line")
    for enum in ("Value", "Direction", "Bias", "Edge"):
        assert {each.name for each in getattr(line, enum)} <= {
            each.name for each in getattr(gpiod.line, enum)
        }


# --- the port ------------------------------------------------------------------------------------
def test_it_is_a_lock(settings: RelaySettings) -> None:
    port: Lock = Relay(settings)
    assert port is not None


async def test_a_pulse(chip: FakeChip, relay: Relay) -> None:
    await relay.prepare()
    assert chip.strike == 0
    assert await relay.unlatch(ONE, 150) == BEGUN
    assert chip.strike == 1
    await until(lambda: chip.strike == 0)
    (length,) = chip.pulses()
    assert 0.15 <= length < 0.15 + SLACK_S
    assert await relay.result_of(ONE) == BEGUN
    assert relay.door_state is DoorState.UNKNOWN


async def test_one_pulse_per_command(chip: FakeChip, relay: Relay) -> None:
    assert await relay.unlatch(ONE, 50) == BEGUN
    assert await relay.unlatch(ONE, 50) == BEGUN
    await until(lambda: len(chip.pulses()) == 1)
    assert await relay.unlatch(ONE, 50) == BEGUN
    assert await relay.unlatch(TWO, 50) == BEGUN
    await until(lambda: len(chip.pulses()) == 2)


async def test_one_pulse_at_a_time(chip: FakeChip, relay: Relay) -> None:
    verdicts = await asyncio.gather(relay.unlatch(ONE, 200), relay.unlatch(TWO, 200))
    assert verdicts == [BEGUN, BUSY]
    await until(lambda: chip.strike == 0)
    assert len(chip.pulses()) == 1


async def test_no_pulse_is_longer_than_the_limit(chip: FakeChip, settings: RelaySettings) -> None:
    async with relay_of(replace(settings, limit_ms=80)) as relay:
        assert await relay.unlatch(ONE, 10**12) == BEGUN
        await until(lambda: len(chip.pulses()) == 1)
    assert chip.pulses()[0] < 0.08 + SLACK_S


async def test_what_it_does_not_remember_it_does_not_know(relay: Relay) -> None:
    assert await relay.result_of(ONE) == FORGOTTEN
    assert FORGOTTEN.outcome is Outcome.UNKNOWN
    for number in range(300):
        relay._remember(CommandId(number.to_bytes(16)), BEGUN)
    assert await relay.result_of(CommandId((0).to_bytes(16))) == FORGOTTEN
    assert await relay.result_of(CommandId((299).to_bytes(16))) == BEGUN


async def test_active_low(chip: FakeChip, settings: RelaySettings) -> None:
    async with relay_of(replace(settings, active_low=True)) as relay:
        await relay.prepare()
        assert chip.strike == 1
        assert await relay.unlatch(ONE, 60) == BEGUN
        assert chip.strike == 0
        await until(lambda: chip.strike == 1)
    assert chip.strike == 1
    assert len(chip.pulses(active=0)) == 1


# --- which line ------------------------------------------------------------------------------
@pytest.mark.parametrize("by", ["path", "name", "label"])
@pytest.mark.parametrize("line", [STRIKE, "STRIKE"])
async def test_chips_and_lines_by_every_name(
    chip: FakeChip, settings: RelaySettings, by: str, line: int | str
) -> None:
    FakeChip(chip.devices, 1, "another")
    (chip.devices / "gpiochip4").symlink_to(chip.path)  # a number of earlier kernels
    wanted = {"path": str(chip.path), "name": "gpiochip0", "label": LABEL}[by]
    async with relay_of(replace(settings, chip=wanted, line=line)) as relay:
        assert await relay.unlatch(ONE, 20) == BEGUN
    assert chip.history()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chip": "nothing"}, "no GPIO chip called nothing.*pinctrl-test"),
        ({"chip": "/dev/nothing"}, "No such file"),
        ({"chip": "twice"}, "two GPIO chips are called twice"),
        ({"line": "NOTHING"}, "pinctrl-test has no line NOTHING, of its 8"),
        ({"line": 8}, "pinctrl-test has no line 8, of its 8"),
    ],
)
async def test_a_line_that_is_not_there(
    chip: FakeChip, settings: RelaySettings, change: dict, message: str
) -> None:
    for number in (1, 2):
        FakeChip(chip.devices, number, "twice")
    async with relay_of(replace(settings, **change)) as relay:
        with pytest.raises(RadioError, match=message):
            await relay.prepare()
        assert await relay.unlatch(ONE, 20) == UNREACHABLE
        assert await relay.result_of(ONE) == FORGOTTEN


async def test_a_line_that_somebody_else_holds(settings: RelaySettings, relay: Relay) -> None:
    await relay.prepare()
    async with relay_of(settings) as second:
        with pytest.raises(RadioError, match=r"STRIKE of pinctrl-test: .*busy, gatewayd has it"):
            await second.prepare()
        await relay.close()
        assert await second.unlatch(ONE, 20) == BEGUN


@pytest.mark.parametrize("command", [("/nonexistent/python",), (sys.executable, "-c", "pass")])
async def test_a_keeper_that_does_not_come_up(settings: RelaySettings, command) -> None:
    relay = Relay(settings, keeper=command)
    with pytest.raises(RadioError, match="keep"):
        await relay.prepare()
    assert await relay.unlatch(ONE, 20) == UNREACHABLE
    await relay.close()


async def test_a_keeper_that_says_nothing(
    settings: RelaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "START_S", 0.1)
    monkeypatch.setattr(relay_module, "STOP_S", 0.1)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    relay = Relay(settings, keeper=(sys.executable, "-c", deaf))
    with pytest.raises(RadioError, match="silent"):
        await relay.prepare()
    preparing = asyncio.create_task(relay.prepare())
    await asyncio.sleep(0.02)
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing


# --- safe, whatever happens -------------------------------------------------------------------
async def test_inactive_from_the_start(chip: FakeChip, relay: Relay) -> None:
    chip.level(STRIKE, 1)  # what a crash of everything left, on a Raspberry Pi
    await relay.prepare()
    assert chip.strike == 0


async def test_closing_ends_the_pulse(chip: FakeChip, relay: Relay) -> None:
    assert await relay.unlatch(ONE, 20_000) == BEGUN
    await relay.close()
    assert chip.strike == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_keeper_that_is_told_to_stop(
    chip: FakeChip, relay: Relay, number: signal.Signals
) -> None:
    assert await relay.unlatch(ONE, 300) == BEGUN
    os.kill(pid_of(relay), number)
    await until(lambda: chip.strike == 0)
    (length,) = chip.pulses()
    assert (length < 0.3) == (number is signal.SIGTERM)  # ^C is the daemon's to handle


def child(chip: FakeChip, milliseconds: int, then: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.relay_child", chip.devices, str(milliseconds), then],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "CONFIRMED\n"
    process.stdout.close()
    return process


def wait_inactive(chip: FakeChip, within_s: float) -> float:
    deadline_s = time.monotonic() + within_s
    while chip.strike:
        assert time.monotonic() < deadline_s, "still active"
        time.sleep(0.01)
    return chip.pulses()[0]


@pytest.mark.parametrize("how", ["hang", "stop"])
def test_a_daemon_that_hangs_or_stands_still_does_not_lengthen_a_pulse(
    chip: FakeChip, how: str
) -> None:
    daemon = child(chip, 700, how)
    if how == "stop":
        os.kill(daemon.pid, signal.SIGSTOP)
    length = wait_inactive(chip, 5)
    assert 0.7 <= length < 0.7 + SLACK_S
    daemon.kill()
    daemon.wait()


def test_a_daemon_that_is_killed_ends_its_pulse(chip: FakeChip) -> None:
    daemon = child(chip, 20_000, "live")
    daemon.kill()
    daemon.wait()
    assert wait_inactive(chip, 5) < 5


async def test_a_keeper_that_is_killed_is_followed_by_one_that_makes_the_line_inactive(
    chip: FakeChip, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "RETRY_S", 0.05)
    keeping = asyncio.create_task(relay.keep())
    await until(lambda: relay._keeper is not None, 5)
    assert await relay.unlatch(ONE, 20_000) == BEGUN
    os.kill(pid_of(relay), signal.SIGKILL)
    await until(lambda: chip.strike == 0, 5)
    assert await relay.unlatch(TWO, 20) == BEGUN
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


async def test_a_line_that_cannot_be_had_is_tried_again(
    chip: FakeChip, settings: RelaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "RETRY_S", 0.05)
    chip.trouble("dead")
    async with relay_of(settings) as relay:
        keeping = asyncio.create_task(relay.keep())
        await asyncio.sleep(0.5)
        chip.mend("dead")
        await until(lambda: relay._keeper is not None, 5)
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping


async def test_a_keeper_that_stands_still_is_unknown_and_replaced(
    chip: FakeChip, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "ANSWER_S", 0.2)
    monkeypatch.setattr(relay_module, "STOP_S", 0.2)
    await relay.prepare()
    os.kill(pid_of(relay), signal.SIGSTOP)
    assert await relay.unlatch(ONE, 20) == SILENT
    monkeypatch.setattr(relay_module, "ANSWER_S", 5.0)
    assert await relay.unlatch(TWO, 20) == BEGUN
    assert await relay.result_of(ONE) == SILENT
    await until(lambda: chip.strike == 0)


async def test_a_killed_keeper_is_unknown_where_it_was_asked(relay: Relay) -> None:
    await relay.prepare()
    os.kill(pid_of(relay), signal.SIGSTOP)
    asking = asyncio.create_task(relay.unlatch(ONE, 20))
    await asyncio.sleep(0.05)
    os.kill(pid_of(relay), signal.SIGKILL)
    assert await asking == SILENT


MAD = """
import pathlib, signal, sys
flag = pathlib.Path({flag!r})
if not flag.exists():
    flag.touch()
    {stubborn}
    print("ready", flush=True)
    for asked in sys.stdin:
        print({says}, flush=True)
    sys.exit()
"""
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


@pytest.mark.parametrize("stubborn", ["", DEAF], ids=["goes when told", "has to be killed"])
@pytest.mark.parametrize(
    "says", ["'x' * 200_000", "'on ' + asked.split()[1]"], ids=["a line without end", "on a look"]
)
async def test_a_keeper_that_says_what_no_keeper_says_is_replaced(  # noqa: PLR0913, PLR0917
    chip: FakeChip, settings: RelaySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, says: str, stubborn: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(relay_module, "STOP_S", 0.5)
    mad = MAD.format(flag=str(tmp_path / "was mad"), says=says, stubborn=stubborn)
    relay = Relay(settings, keeper=(*KEEPER[:2], mad + KEEPER[2]))
    try:
        async with asyncio.timeout(20):
            keeping = asyncio.create_task(relay.keep())  # owns the line, and looks
            await relay.prepare()
            chip.level(STRIKE, 1)  # what it may have left, on a Raspberry Pi
            await until(lambda: chip.strike == 0, 10)
            assert await relay.unlatch(ONE, 20) == BEGUN
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping
    finally:
        await relay.close()
    assert "says what no keeper says" in caplog.text


async def test_an_output_that_does_not_follow(chip: FakeChip, relay: Relay) -> None:
    await relay.prepare()
    chip.trouble("stuck")
    assert await relay.unlatch(ONE, 20) == FAULTY
    assert Verdict(Outcome.UNKNOWN, Reason.LOCK_FAULT) == FAULTY
    chip.mend("stuck")
    assert await relay.unlatch(TWO, 20) == BEGUN


async def test_a_chip_that_is_gone(chip: FakeChip, relay: Relay) -> None:
    await relay.prepare()
    chip.trouble("dead")
    assert await relay.unlatch(ONE, 20) == SILENT
    assert await relay.unlatch(TWO, 20) == UNREACHABLE


async def test_a_chip_that_is_gone_is_found_out_before_a_command(
    chip: FakeChip, relay: Relay
) -> None:
    await relay.prepare()
    chip.trouble("dead")
    with pytest.raises(RadioError, match="STRIKE of pinctrl-test: Input/output error"):
        await relay.prepare()
    assert await relay.unlatch(ONE, 20) == UNREACHABLE
    chip.mend("dead")
    await relay.prepare()
    assert await relay.unlatch(TWO, 20) == BEGUN


async def test_a_keeper_that_stands_still_is_replaced_before_a_command(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    await relay.prepare()
    stuck = pid_of(relay)
    monkeypatch.setattr(relay_module, "STOP_S", 0.1)
    os.kill(stuck, signal.SIGSTOP)
    await relay.prepare()
    assert pid_of(relay) != stuck
    assert await relay.unlatch(ONE, 20) == BEGUN


async def test_a_keeper_that_stands_still_in_a_pulse_is_ended(
    chip: FakeChip,
    relay: Relay,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(relay_module, "LATE_S", 0.1)
    monkeypatch.setattr(relay_module, "ANSWER_S", 0.3)
    keeping = asyncio.create_task(relay.keep())
    await relay.prepare()
    assert await relay.unlatch(ONE, 100) == BEGUN
    os.kill(pid_of(relay), signal.SIGSTOP)
    await until(lambda: chip.strike == 0, 5)
    assert "a relay's pulse has no end" in caplog.text
    monkeypatch.setattr(relay_module, "ANSWER_S", 5.0)
    assert await relay.unlatch(TWO, 20) == BEGUN
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


async def test_a_daemon_that_hung_itself_ends_no_keeper(
    chip: FakeChip, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "LATE_S", 0.05)
    assert await relay.unlatch(ONE, 50) == BEGUN
    before = pid_of(relay)
    time.sleep(0.6)  # noqa: ASYNC251 - the loop hangs: that is the point
    await asyncio.sleep(0.1)
    assert await relay.unlatch(TWO, 50) == BEGUN
    assert pid_of(relay) == before


async def test_a_keeper_that_died_in_a_pulse_is_followed_at_once(
    chip: FakeChip, relay: Relay
) -> None:
    keeping = asyncio.create_task(relay.keep())
    await relay.prepare()
    assert await relay.unlatch(ONE, 20_000) == BEGUN
    os.kill(pid_of(relay), signal.SIGKILL)
    began_s = time.monotonic()
    await until(lambda: chip.strike == 0, 5)  # the fake's lines stay driven, as a Pi's
    assert time.monotonic() - began_s < relay_module.RETRY_S / 2
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


async def test_what_is_wrong_is_told_once_and_when_it_is_over(
    chip: FakeChip, settings: RelaySettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    chip.trouble("dead")
    reached: list[bool] = []
    async with relay_of(settings, on_reached=reached.append) as relay:
        for number in range(3):
            assert await relay.unlatch(CommandId(bytes([number]) * 16), 20) == UNREACHABLE
        chip.mend("dead")
        await relay.prepare()
    told = [record.message for record in caplog.records if "relay" in record.name]
    where = "the relay on line STRIKE of pinctrl-test"
    assert told == [
        f"{where}: cannot keep it: line STRIKE of pinctrl-test: Input/output error",
        f"{where}: it can be had again",
    ]
    assert reached == [False, False, False, True]


async def test_cancelling_a_caller_begins_no_second_pulse(chip: FakeChip, relay: Relay) -> None:
    await relay.prepare()
    asking = asyncio.create_task(relay.unlatch(ONE, 50))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await relay.unlatch(ONE, 50) == SILENT
    assert await relay.unlatch(TWO, 50) in {BEGUN, BUSY}
    await until(lambda: chip.strike == 0)


# --- the contact ----------------------------------------------------------------------------
@pytest.mark.parametrize("low", [True, False])
async def test_the_contact_of_the_door(chip: FakeChip, settings: RelaySettings, low: bool) -> None:
    heard: list[DoorState] = []
    chip.level(CONTACT, int(not low))
    contact = Contact("CONTACT", low=low)
    async with relay_of(replace(settings, contact=contact), on_door=heard.append) as relay:
        await relay.prepare()
        await until(lambda: heard == [DoorState.CLOSED])
        chip.change(CONTACT, int(low))
        await until(lambda: relay.door_state is DoorState.OPEN)
        chip.change(CONTACT, int(low))  # it chattered, and is where it was
        assert await relay.unlatch(ONE, 20) == BEGUN
        chip.change(CONTACT, int(not low))
        await until(lambda: relay.door_state is DoorState.CLOSED)
    assert heard == [DoorState.CLOSED, DoorState.OPEN, DoorState.CLOSED, DoorState.UNKNOWN]


# --- the keeper by itself -----------------------------------------------------------------------
class Wire:
    """`RelayLine` in memory."""

    def __init__(self) -> None:
        self.levels: list[bool] = []
        self.fails = False
        self.changes: int | None = None
        self.closed: bool | None = None
        self.released = False

    def set(self, *, active: bool) -> None:
        if self.fails and active:
            raise OSError("no")
        self.levels.append(active)

    def is_active(self) -> bool:
        return self.levels[-1]

    def is_closed(self) -> bool | None:
        return self.closed

    def seen(self) -> None:
        raise AssertionError

    def release(self) -> None:
        self.released = True


def kept(wire: Wire, said: bytes, *, limit_ms: int = 1000) -> bytes:
    """What a keeper answers to `said`, with the end of input behind it."""
    line: RelayLine = wire
    ours, theirs = os.pipe(), os.pipe()
    os.write(ours[1], said)
    os.close(ours[1])
    try:
        Keeper(line, limit_ms, ours[0], theirs[1]).run()
    finally:
        os.close(theirs[1])
        answers = os.read(theirs[0], 65536)
        os.close(theirs[0])
        os.close(ours[0])
    return answers


def test_a_keeper_answers_and_leaves_the_line_inactive() -> None:
    wire = Wire()
    said = b"pulse aa 100\npulse aa 100\npulse bb 100\n"
    assert kept(wire, said) == b"ready\non aa\non aa\nbusy bb\n"
    assert wire.levels == [True, False]


def test_no_setting_and_no_command_makes_a_pulse_longer_than_a_strike_bears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert keeper_module.LONGEST_PULSE_MS == 30_000
    monkeypatch.setattr(keeper_module, "LONGEST_PULSE_MS", 60)
    wire = Wire()
    ours, theirs = os.pipe(), os.pipe()
    keeper = threading.Thread(target=Keeper(wire, 10**9, ours[0], theirs[1]).run)
    keeper.start()
    began_s = time.monotonic()
    os.write(ours[1], b"pulse aa 86400000\n")
    while wire.levels != [True, False]:
        assert time.monotonic() - began_s < 5
        time.sleep(0.005)
    os.close(ours[1])
    keeper.join(5)
    for descriptor in (ours[0], *theirs):
        os.close(descriptor)


def test_a_keeper_looks_after_its_line_when_it_is_asked() -> None:
    wire = Wire()
    assert kept(wire, b"look 1\npulse aa 100\nlook 2\n") == b"ready\nfine 1\non aa\nfine 2\n"
    assert wire.levels == [False, True, False]  # and never ends a pulse by looking


def test_a_keeper_looks_after_its_line_while_nothing_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper_module, "LOOK_S", 0.02)
    wire = Wire()
    ours, theirs = os.pipe(), os.pipe()
    keeper = threading.Thread(target=Keeper(wire, 100, ours[0], theirs[1]).run)
    keeper.start()
    deadline_s = time.monotonic() + 5
    while len(wire.levels) < 3:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    os.close(ours[1])
    keeper.join(5)
    assert set(wire.levels) == {False}
    for descriptor in (ours[0], *theirs):
        os.close(descriptor)


@pytest.mark.parametrize(
    "said",
    [
        b"look\n",
        b"open\n",
        b"pulse aa\n",
        b"pulse aa -1\n",
        b"pulse aa 1 2\n",
        b"\n",
        b"\xff\n",
        b"pulse a x\n",
    ],
)
def test_a_keeper_obeys_nothing_else(said: bytes) -> None:
    wire = Wire()
    with pytest.raises(ValueError, match="not a command"):
        kept(wire, said)
    assert wire.levels == [False]


@pytest.mark.parametrize(
    "said", [b"p" * 300, b"look " + b"1" * 300 + b"\n", b"pulse aa 100\npulse bb " + b"9" * 5000]
)
def test_a_keeper_ends_where_a_line_does_not(said: bytes) -> None:
    wire = Wire()
    with pytest.raises(ValueError, match="a command without an end"):
        kept(wire, said)
    assert wire.levels[-1] is False


def test_a_keeper_that_ends_says_why(chip: FakeChip, settings: RelaySettings) -> None:
    chip.level(STRIKE, 1)
    result = subprocess.run(
        [*KEEPER, json.dumps(asdict(settings))], input="p" * 300,
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (result.returncode, chip.strike) == (1, 0)
    assert (result.stdout, result.stderr) == ("ready\n", "relay: a command without an end\n")


def test_a_keeper_whose_line_fails_tries_to_make_it_inactive() -> None:
    wire = Wire()
    wire.fails = True
    with pytest.raises(OSError, match="no"):
        kept(wire, b"pulse aa 100\n")
    assert wire.levels == [False]


def test_a_daemon_that_does_not_listen_holds_up_no_keeper() -> None:
    wire = Wire()
    ours, theirs = os.pipe(), os.pipe()
    os.set_blocking(theirs[1], False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs[1], b"x" * 4096)
    keeper = threading.Thread(target=Keeper(wire, 100, ours[0], theirs[1]).run)
    keeper.start()
    os.write(ours[1], b"pulse aa 50\n")
    deadline_s = time.monotonic() + 5
    while wire.levels != [True, False]:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    os.close(ours[1])
    keeper.join(5)
    assert not keeper.is_alive()
    for descriptor in (ours[0], *theirs):
        os.close(descriptor)


def test_settings_reach_the_keeper_whole() -> None:
    text = '{"chip":"c","line":3,"active_low":true,"limit_ms":5,"contact":%s,"devices":"/d"}'
    expected = RelaySettings("c", 3, active_low=True, limit_ms=5, devices="/d")
    assert settings_from(text % "null") == expected
    contact = '{"line":"X","low":false}'
    assert settings_from(text % contact) == replace(expected, contact=Contact("X", low=False))


def test_the_shipped_keeper_starts_with_the_real_gpiod(settings: RelaySettings) -> None:
    """As far as it gets without a GPIO chip."""
    text = (
        '{"chip":"/nonexistent","line":3,"active_low":false,"limit_ms":5,"contact":null,'
        '"devices":"/dev"}'
    )
    result = subprocess.run(
        [*relay_module.KEEPER, text], capture_output=True, text=True, timeout=30, check=False
    )
    assert result.returncode == 1
    assert result.stdout.startswith("cannot ")
    assert "No such file" in result.stdout
