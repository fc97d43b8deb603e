"""The relay as shipped, on a real GPIO chip of a real kernel: the real gpiod, the real keeper."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.adapters.relay import relay as relay_module
from gatewayd.adapters.relay.line import Contact, RelaySettings
from gatewayd.adapters.relay.relay import BEGUN, BUSY, Relay
from gatewayd.core.model import CommandId
from gatewayd.ports import RadioError
from tests.system.mcp2221 import LABEL, Bridge, bridge

pytestmark = pytest.mark.system

LINE = 2
ONE = CommandId(b"1" * 16)
TWO = CommandId(b"2" * 16)
LATE_S = 2.0
"""How late a machine in software may be."""


@pytest.fixture(scope="module")
def plugged() -> Iterator[tuple[Bridge, Path]]:
    with bridge() as made:
        yield made


@pytest.fixture
def chip(plugged: tuple[Bridge, Path], monkeypatch: pytest.MonkeyPatch) -> Bridge:
    # Python takes its time to start on a processor in software
    monkeypatch.setattr(relay_module, "START_S", 60.0)
    monkeypatch.setattr(relay_module, "ANSWER_S", 10.0)
    monkeypatch.setattr(relay_module, "STOP_S", 10.0)
    plugged[0].history.clear()
    return plugged[0]


def pulses(chip: Bridge) -> list[float]:
    lengths, began = [], None
    for at, line, level in chip.history:
        if line == LINE and level and began is None:
            began = at
        elif line == LINE and not level and began is not None:
            lengths.append(at - began)
            began = None
    return lengths


def wait_inactive(chip: Bridge, within_s: float) -> None:
    deadline_s = time.monotonic() + within_s
    while chip.levels[LINE]:
        assert time.monotonic() < deadline_s, "still active"
        time.sleep(0.01)


@pytest.mark.parametrize("by", ["label", "path"])
async def test_a_pulse(chip: Bridge, plugged: tuple[Bridge, Path], by: str) -> None:
    relay = Relay(RelaySettings(LABEL if by == "label" else str(plugged[1]), LINE))
    await relay.prepare()
    assert (chip.inputs[LINE], chip.levels[LINE]) == (False, 0)
    assert await relay.unlatch(ONE, 500) == BEGUN
    assert chip.levels[LINE] == 1
    assert await relay.unlatch(TWO, 500) == BUSY
    await asyncio.to_thread(wait_inactive, chip, 0.5 + LATE_S)
    assert await relay.unlatch(ONE, 500) == BEGUN
    await relay.close()
    (length,) = pulses(chip)
    assert 0.5 <= length < 0.5 + LATE_S


async def test_active_low(chip: Bridge) -> None:
    relay = Relay(RelaySettings(LABEL, LINE, active_low=True))
    await relay.prepare()
    assert chip.levels[LINE] == 1
    assert await relay.unlatch(ONE, 200) == BEGUN
    assert chip.levels[LINE] == 0
    await relay.close()
    assert chip.levels[LINE] == 1
    # this driver, like that of a Raspberry Pi, leaves a line as it was
    plain = Relay(RelaySettings(LABEL, LINE))
    await plain.prepare()
    assert chip.levels[LINE] == 0
    await plain.close()


async def test_a_line_belongs_to_one(chip: Bridge) -> None:
    first, second = Relay(RelaySettings(LABEL, LINE)), Relay(RelaySettings(LABEL, LINE))
    await first.prepare()
    with pytest.raises(RadioError, match="busy"):
        await second.prepare()
    await first.close()
    await second.prepare()
    await second.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (RelaySettings("nothing", LINE), f"no GPIO chip called nothing.*{LABEL}"),
        (RelaySettings(LABEL, 4), "range"),
        (RelaySettings(LABEL, "GPIO17"), "cannot"),
        # no interrupts on this bridge: a contact cannot be watched, and that is said
        (RelaySettings(LABEL, LINE, contact=Contact(1)), "cannot"),
    ],
)
async def test_what_cannot_be_had_is_said(
    chip: Bridge, settings: RelaySettings, message: str
) -> None:
    relay = Relay(settings)
    with pytest.raises(RadioError, match=message):
        await relay.prepare()
    assert chip.levels[LINE] == 0
    await relay.close()


def child(milliseconds: int) -> subprocess.Popen[str]:
    daemon = subprocess.Popen(
        [sys.executable, "-m", "tests.system.relay_child", str(milliseconds)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "CONFIRMED\n"
    daemon.stdout.close()
    return daemon


def test_a_daemon_that_hangs_and_stands_still_does_not_lengthen_a_pulse(chip: Bridge) -> None:
    daemon = child(1500)
    os.kill(daemon.pid, signal.SIGSTOP)
    wait_inactive(chip, 1.5 + LATE_S)
    daemon.kill()
    daemon.wait()
    (length,) = pulses(chip)
    assert 1.5 <= length < 1.5 + LATE_S


def test_a_daemon_that_is_killed_ends_its_pulse(chip: Bridge) -> None:
    daemon = child(30_000)
    daemon.kill()
    daemon.wait()
    wait_inactive(chip, LATE_S)


async def test_the_keeper_killed_leaves_the_line_driven_until_the_next_one(chip: Bridge) -> None:
    """Why `strict_gpiod`, and a resistor, are asked for: docs/hardware.md."""
    relay = Relay(RelaySettings(LABEL, LINE))
    assert await relay.unlatch(ONE, 30_000) == BEGUN
    assert relay._keeper is not None
    os.kill(relay._keeper._process.pid, signal.SIGKILL)
    await relay._keeper.gone.wait()
    assert chip.levels[LINE] == 1
    await relay.prepare()
    assert chip.levels[LINE] == 0
    await relay.close()
