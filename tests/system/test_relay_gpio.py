"""The relay as shipped, on a real GPIO chip of a real kernel: the real gpiod, the real keeper."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from firmware_proto.codes import DoorState
from gatewayd.adapters.relay import relay as relay_module
from gatewayd.adapters.relay.line import Contact, RelaySettings, holder_of
from gatewayd.adapters.relay.relay import BEGUN, BUSY, SILENT, UNREACHABLE, Relay
from gatewayd.core.model import CommandId
from gatewayd.ports import RadioError
from tests.support.household import until
from tests.system.gpio_sim import CONTACT, LABEL, STRIKE, SimChip, pulses

pytestmark = pytest.mark.system

SETTINGS = RelaySettings(LABEL, "STRIKE")
LATE_S = 0.25
"""How late a machine with one processor, which this process also uses, may be."""
EARLY_S = 0.1
"""How late the witness may look, who means to do it a thousand times a second."""
BOUNCES = 40


def command(number: int) -> CommandId:
    return CommandId(number.to_bytes(16))


ONE, TWO = command(1), command(2)


@pytest.fixture
def chip() -> Iterator[SimChip]:
    made = SimChip()
    yield made
    made.remove()


@contextlib.asynccontextmanager
async def kept(settings: RelaySettings = SETTINGS, **more) -> AsyncIterator[Relay]:
    """A relay as the daemon runs it."""
    relay = Relay(settings, **more)
    keeping = asyncio.create_task(relay.keep())
    try:
        yield relay
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        await relay.close()


def pid_of(relay: Relay) -> int:
    assert relay._keeper is not None
    return relay._keeper._process.pid


# --- pulses -------------------------------------------------------------------------------------
async def test_pulses_are_as_long_as_asked_for(chip: SimChip) -> None:
    wanted = [50, 200, 500, 1000, 50, 200, 500, 50, 200, 50]
    async with kept() as relay:
        await relay.prepare()
        with chip.watched() as seen:
            answered = []
            for number, milliseconds in enumerate(wanted):
                began_s = time.monotonic()
                assert await relay.unlatch(command(number), milliseconds) == BEGUN
                answered.append(time.monotonic() - began_s)
                await until(lambda number=number: len(pulses(seen)) == number + 1, 5)
    late = [length - asked / 1000 for length, asked in zip(pulses(seen), wanted, strict=True)]
    print(
        f"pulse: {min(late) * 1000:+.1f} to {max(late) * 1000:+.1f} ms beside what was asked for "
        f"(median {sorted(late)[len(late) // 2] * 1000:+.1f}); confirmed after "
        f"{sorted(answered)[len(answered) // 2] * 1000:.1f} ms (median)"
    )
    assert min(late) > -EARLY_S
    assert max(late) < LATE_S


@pytest.mark.parametrize("by", ["label", "name", "path"])
@pytest.mark.parametrize("line", [STRIKE, "STRIKE", str(STRIKE)])
async def test_chips_and_lines_by_every_name(chip: SimChip, by: str, line: int | str) -> None:
    wanted = {"label": LABEL, "name": chip.path.name, "path": str(chip.path)}[by]
    async with kept(RelaySettings(wanted, line)) as relay:
        assert await relay.unlatch(ONE, 400) == BEGUN
        assert chip.level() == 1
        chip.wait(0, 0.4 + LATE_S)


async def test_one_pulse_per_command_and_one_at_a_time(chip: SimChip) -> None:
    async with kept() as relay:
        with chip.watched() as seen:
            first = asyncio.gather(*(relay.unlatch(ONE, 300) for _ in range(5)))
            assert await first == [BEGUN] * 5
            assert await relay.unlatch(TWO, 300) == BUSY
            chip.wait(0, 0.3 + LATE_S)
            assert await relay.unlatch(ONE, 300) == BEGUN
            assert await relay.unlatch(TWO, 300) == BUSY  # as it was told before
            await asyncio.sleep(0.1)
    assert len(pulses(seen)) == 1


async def test_active_low(chip: SimChip) -> None:
    chip.pull(STRIKE, 1)  # as the resistor of a board that is active low
    async with kept(replace(SETTINGS, active_low=True)) as relay:
        await relay.prepare()
        with chip.watched() as seen:
            assert await relay.unlatch(ONE, 400) == BEGUN
            assert chip.level() == 0
            chip.wait(1, 0.4 + LATE_S)
    assert len(pulses(seen, active=0)) == 1
    assert chip.level() == 1


async def test_no_pulse_is_longer_than_the_limit_of_the_process_that_holds_the_line(
    chip: SimChip,
) -> None:
    async with kept(replace(SETTINGS, limit_ms=150)) as relay:
        await relay.prepare()
        keeper = relay._keeper
        assert keeper is not None
        with chip.watched() as seen:
            # as a daemon with a fault might ask: its own limit does not count here
            assert await keeper.pulse(ONE, 86_400_000) == BEGUN
            chip.wait(0, 0.15 + LATE_S)
            await asyncio.sleep(0.02)
    (length,) = pulses(seen)
    assert length < 0.15 + LATE_S


# --- whose line it is ---------------------------------------------------------------------------
async def test_a_line_belongs_to_one(chip: SimChip) -> None:
    async with kept() as first:
        await first.prepare()
        second = Relay(SETTINGS)
        with pytest.raises(RadioError, match=f"STRIKE of {LABEL}: .*busy, gatewayd has it"):
            await second.prepare()
        assert await second.unlatch(ONE, 50) == UNREACHABLE
        assert chip.level() == 0
        assert await first.unlatch(TWO, 50) == BEGUN
    assert await second.unlatch(TWO, 50) == BEGUN
    await second.close()


async def test_who_holds_a_line_can_be_asked_without_taking_it(chip: SimChip) -> None:
    assert holder_of(LABEL, "STRIKE") == ""
    async with kept() as relay:
        await relay.prepare()
        assert holder_of(LABEL, STRIKE) == "gatewayd"
        assert holder_of(LABEL, CONTACT) == ""
    assert holder_of(LABEL, STRIKE) == ""
    with pytest.raises(OSError, match="has no line GPIO17"):
        holder_of(LABEL, "GPIO17")


async def test_nobody_else_can_move_a_line_that_is_kept(chip: SimChip) -> None:
    import gpiod  # noqa: PLC0415 - as any program of this machine might
    from gpiod.line import Direction, Value  # noqa: PLC0415

    async with kept() as relay:
        await relay.prepare()
        with pytest.raises(OSError, match="busy"):
            gpiod.request_lines(
                str(chip.path),
                {STRIKE: gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.ACTIVE)},
            )
        assert chip.level() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (RelaySettings("nothing", STRIKE), f"no GPIO chip called nothing.*{LABEL}"),
        (RelaySettings("/dev/gpiochip77", STRIKE), "/dev/gpiochip77: No such file"),
        (RelaySettings("/dev/null", STRIKE), "/dev/null: .*"),
        (RelaySettings(LABEL, 8), f"{LABEL} has no line 8, of its 8"),
        (RelaySettings(LABEL, "GPIO17"), f"{LABEL} has no line GPIO17, of its 8"),
        (RelaySettings(LABEL, STRIKE, contact=Contact("DOOR")), "no line DOOR"),
        (RelaySettings(LABEL, STRIKE, contact=Contact(STRIKE)), "busy, gatewayd has it"),
    ],
)
async def test_what_cannot_be_had_is_said(
    chip: SimChip, settings: RelaySettings, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    relay = Relay(settings)
    with pytest.raises(RadioError, match=message) as caught:
        await relay.prepare()
    print(f"{settings.chip} {settings.line}: {caught.value}")
    assert str(caught.value) in caplog.text
    assert await relay.unlatch(ONE, 50) == UNREACHABLE
    assert chip.level() == 0
    await relay.close()


async def test_two_chips_of_one_label_are_nobodys(chip: SimChip) -> None:
    second = SimChip()
    try:
        relay = Relay(SETTINGS)
        with pytest.raises(RadioError, match=f"two GPIO chips are called {LABEL}"):
            await relay.prepare()
        async with kept(replace(SETTINGS, chip=str(second.path))) as by_path:
            assert await by_path.unlatch(ONE, 1000) == BEGUN
            assert (chip.level(), second.level()) == (0, 1)
    finally:
        second.remove()


# --- chips that come and go -----------------------------------------------------------------------
async def test_a_chip_unplugged_while_its_line_is_kept_and_plugged_in_again(
    chip: SimChip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "RETRY_S", 0.5)
    reached: list[bool] = []
    async with kept(on_reached=reached.append) as relay:
        assert await relay.unlatch(ONE, 50) == BEGUN
        chip.wait(0, 0.05 + LATE_S)
        chip.unplug()
        # found out before a command, so nobody has to guess whether the door opened
        with pytest.raises(RadioError, match="no GPIO chip called"):
            await relay.prepare()
        assert await relay.unlatch(TWO, 50) == UNREACHABLE
        assert reached[-1] is False
        chip.plug()
        began_s = time.monotonic()
        await until(lambda: reached[-1], 5)
        print(f"plugged in again: the line was kept after {time.monotonic() - began_s:.2f} s")
        assert await relay.unlatch(command(3), 1000) == BEGUN
        assert chip.level() == 1


async def test_a_chip_that_goes_is_noticed_without_anybody_asking(
    chip: SimChip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "RETRY_S", 0.5)
    reached: list[bool] = []
    async with kept(on_reached=reached.append) as relay:
        await relay.prepare()
        chip.unplug()
        began_s = time.monotonic()
        await until(lambda: reached == [True, False], 10)
        print(f"unplugged: noticed after {time.monotonic() - began_s:.1f} s")


async def test_a_chip_unplugged_in_the_middle_of_a_pulse(chip: SimChip) -> None:
    async with kept() as relay:
        assert await relay.unlatch(ONE, 300) == BEGUN
        chip.unplug()
        await asyncio.sleep(0.5)
        assert await relay.unlatch(TWO, 50) in {SILENT, UNREACHABLE}
        chip.plug()
        assert chip.level() == 0
        await until(lambda: relay._keeper is not None, 10)
        assert await relay.unlatch(command(3), 50) == BEGUN


# --- safe, whatever happens ---------------------------------------------------------------------
async def test_inactive_before_anything_else(chip: SimChip) -> None:
    chip.pull(STRIKE, 1)  # as a line that a crash of everything left driven, on a Raspberry Pi
    assert chip.level() == 1
    async with kept() as relay:
        await relay.prepare()
        assert chip.level() == 0


async def test_stopping_ends_the_pulse(chip: SimChip) -> None:
    async with kept() as relay:
        assert await relay.unlatch(ONE, 20_000) == BEGUN
        assert chip.level() == 1
    assert chip.level() == 0


def child(milliseconds: int) -> subprocess.Popen[str]:
    daemon = subprocess.Popen(
        [sys.executable, "-m", "tests.system.relay_child", LABEL, str(milliseconds)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "CONFIRMED\n"
    daemon.stdout.close()
    return daemon


@pytest.mark.parametrize("stopped", [False, True])
def test_a_daemon_that_hangs_or_stands_still_does_not_lengthen_a_pulse(
    chip: SimChip, stopped: bool
) -> None:
    with chip.watched() as seen:
        daemon = child(800)
        if stopped:
            os.kill(daemon.pid, signal.SIGSTOP)
        chip.wait(0, 0.8 + LATE_S)
        time.sleep(0.02)
        daemon.kill()
        daemon.wait()
    (length,) = pulses(seen)
    print(f"daemon {'stopped' if stopped else 'hung'}: {(length - 0.8) * 1000:+.1f} ms")
    assert 0.8 - EARLY_S < length < 0.8 + LATE_S


def test_a_daemon_that_is_killed_ends_its_pulse(chip: SimChip) -> None:
    daemon = child(30_000)
    assert chip.level() == 1
    daemon.kill()
    took_s = chip.wait(0, LATE_S)
    daemon.wait()
    print(f"kill -9 of the daemon: inactive after {took_s * 1000:.1f} ms")


@pytest.mark.parametrize("remains", [False, True])
async def test_the_keeper_is_killed(chip: SimChip, remains: bool) -> None:
    """`remains`: the line stays driven without its owner, as on Raspberry Pi OS."""
    async with kept() as relay:
        assert await relay.unlatch(ONE, 30_000) == BEGUN
        chip.pull(STRIKE, int(remains))
        os.kill(pid_of(relay), signal.SIGKILL)
        took_s = await asyncio.to_thread(chip.wait, 0, 3.0)
        print(f"kill -9 of the keeper (line {remains=}): inactive after {took_s * 1000:.0f} ms")
        assert await relay.unlatch(TWO, 50) == BEGUN


async def test_a_keeper_that_stands_still_in_a_pulse_is_ended(chip: SimChip) -> None:
    async with kept() as relay:
        assert await relay.unlatch(ONE, 500) == BEGUN
        os.kill(pid_of(relay), signal.SIGSTOP)
        chip.pull(STRIKE, 1)
        took_s = await asyncio.to_thread(chip.wait, 0, 8.0)
        print(f"keeper stopped in a pulse of 0.5 s: inactive after {took_s:.1f} s")
        assert await relay.unlatch(TWO, 50) == BEGUN


# --- the contact ----------------------------------------------------------------------------------
@pytest.mark.parametrize("low", [True, False])
async def test_the_contact_of_the_door(chip: SimChip, low: bool) -> None:
    heard: list[DoorState] = []
    settings = replace(SETTINGS, contact=Contact("CONTACT", low=low))
    async with kept(settings, on_door=heard.append) as relay:
        # its resistor alone: nothing closes the circuit, so the door is open
        await until(lambda: heard == [DoorState.OPEN], 5)
        delays = []
        for closed in (True, False, True):
            chip.pull(CONTACT, int(low is not closed))
            began_s = time.monotonic()
            wanted = DoorState.CLOSED if closed else DoorState.OPEN
            await until(lambda wanted=wanted: relay.door_state is wanted, 2)
            delays.append(time.monotonic() - began_s)
        assert await relay.unlatch(ONE, 50) == BEGUN
        print(f"contact to daemon in {max(delays) * 1000:.0f} ms at worst (debounced 50 ms)")
        assert max(delays) < 0.05 + LATE_S
    assert heard == [
        DoorState.OPEN,
        DoorState.CLOSED,
        DoorState.OPEN,
        DoorState.CLOSED,
        DoorState.UNKNOWN,
    ]


async def test_a_contact_that_bounces_is_told_once(chip: SimChip) -> None:
    heard: list[DoorState] = []
    settings = replace(SETTINGS, contact=Contact("CONTACT"))
    async with kept(settings, on_door=heard.append):
        await until(lambda: heard == [DoorState.OPEN], 5)
        for bounce in range(BOUNCES):
            chip.pull(CONTACT, bounce % 2)
            await asyncio.sleep(0.001 * (bounce % 5))
        chip.pull(CONTACT, 0)
        await until(lambda: heard[-1] is DoorState.CLOSED, 2)
        await asyncio.sleep(0.2)
        assert heard == [DoorState.OPEN, DoorState.CLOSED]


async def test_a_contact_that_never_rests_lengthens_no_pulse(chip: SimChip) -> None:
    settings = replace(SETTINGS, contact=Contact("CONTACT"))
    async with kept(settings) as relay:
        await relay.prepare()

        async def chatter() -> None:
            level = 0
            while True:
                level ^= 1
                chip.pull(CONTACT, level)
                await asyncio.sleep(0.06)  # longer than what is debounced away

        chattering = asyncio.create_task(chatter())
        with chip.watched() as seen:
            assert await relay.unlatch(ONE, 500) == BEGUN
            await until(lambda: len(pulses(seen)) == 1, 3)
        chattering.cancel()
    assert pulses(seen)[0] < 0.5 + LATE_S
