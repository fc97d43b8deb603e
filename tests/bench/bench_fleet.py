"""Five thousand gateways, one mosquitto, one `cloud fleet`: `make bench-fleet`, loopback only.

Every gateway is the daemon's own uplink with its own MQTT session, back-off and
status; all of them share one process, one event loop and one log in memory, which is
what this machine can hold. The broker is killed as by a power cut, is away for a
while and comes back without anything it knew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gatewayd.adapters.broker_settings import MqttSettings, Will
from gatewayd.adapters.mqtt import Mqtt, MqttSession
from gatewayd.core.model import GatewayId
from gatewayd.core.topics import GatewayTopics
from gatewayd.status import LockStatus, Status, StorageStatus, encode
from gatewayd.sync import Pace, run
from tests.bench.__main__ import tell, write
from tests.bench.number import Bar, Number, percentile, table
from tests.bench.process import memory
from tests.support.brokers import HOST, Mosquitto
from tests.support.commands import PROGRAM, end
from tests.support.uplink import AUTHORITY, filled_log, make_uplink

GATEWAYS = int(os.environ.get("GATEWAYS", "5000"))
SWITCHED_ON_S = 60.0
"""All are switched on within so long; the storm comes later."""
AWAY_S = 30.0
PATIENCE_S = 400.0
"""More than the longest wait of a back-off, which is 300 s."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Town:
    """Who is connected, and when each came."""

    connected: set[str] = field(default_factory=set)
    came_s: dict[str, float] = field(default_factory=dict)

    @asynccontextmanager
    async def connect(self, name: str, mqtt: Mqtt) -> AsyncIterator[MqttSession]:
        async with mqtt.connect() as session:
            self.connected.add(name)
            self.came_s[name] = time.monotonic()
            try:
                yield session
            finally:
                self.connected.discard(name)

    async def until(self, condition: Callable[[], object]) -> bool:
        """Whether it came about in PATIENCE_S."""
        ends_s = time.monotonic() + PATIENCE_S
        while not condition() and time.monotonic() < ends_s:  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.1)
        return bool(condition())


def status() -> bytes:
    """Of four doors."""
    lock = LockStatus(
        reached=True, model="Bolt 2", firmware="1.0", heard_days=0, battery_percent=70,
        battery_mv=2900, rssi_dbm=-65,
    )  # fmt: skip
    return encode(
        Status(
            online=True, version="0.1.0", kernel="6.12.25+rpt-rpi-v8", bluez="5.66",
            clock="trusted", trust_serial=3, unpulled_days=0, radio="advertising",
            storage=StorageStatus(free_percent=80, free_mb=16384, kept=True),
            locks=dict.fromkeys(("street", "cellar", "yard", "gate"), lock),
        )
    )  # fmt: skip


async def live(town: Town, number: int, port: int, log: object, told: bytes) -> None:
    """One gateway, for good."""
    name = GatewayId(f"gateway-{number}")
    topics = GatewayTopics(name, AUTHORITY.group)
    settings = MqttSettings(
        host=HOST,
        port=port,
        client_id=name,
        will=Will(topics.status, encode(Status(online=False))),
        subscriptions=topics.for_gateway,
    )
    mqtt = Mqtt(settings)
    uplink = make_uplink(
        log,
        lambda: town.connect(name, mqtt),
        gateway=name,
        status=lambda: told,
        jitter=random.random,
        pace=Pace(),
    )
    await asyncio.sleep(random.random() * SWITCHED_ON_S)
    await run(uplink, asyncio.Event())


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS


async def measure(directory: Path) -> list[Number]:
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise FileNotFoundError("mosquitto is not installed: apt install mosquitto")
    broker, town, log, told = Mosquitto(program, directory), Town(), await filled_log(1), status()
    await broker.start()
    port = broker.address.port
    lives = [asyncio.create_task(live(town, n, port, log, told)) for n in range(GATEWAYS)]
    fleet = Fleet(port, directory)
    try:
        await town.until(lambda: len(town.connected) == GATEWAYS)
        tell(f"{len(town.connected)} of {GATEWAYS} connected")
        numbers = [_number("connected at first", len(town.connected), "", Bar(">=", GATEWAYS))]
        numbers += await fleet.look()
        watching = await fleet.watch()
        numbers += await storm(town, broker)
        numbers += await fleet.look(" after the storm")
        numbers += [
            _number("cloud fleet --watch: processor time through it", cpu_s(watching.pid), "s"),
            _number("cloud fleet --watch: resident", memory(watching.pid).rss, "MB"),
            _number("all gateways in one process: resident", memory().rss, "MB"),
        ]
        await end(watching)
    finally:
        for each in lives:
            each.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        await broker.stop()
    return numbers


async def storm(town: Town, broker: Mosquitto) -> list[Number]:
    """The broker dies, is away, and comes back."""
    assert broker._process is not None
    before = [
        _number("mosquitto: processor time until then", cpu_s(broker._process.pid), "s"),
        _number("mosquitto: resident", memory(broker._process.pid).rss, "MB"),
    ]
    await broker.stop()
    tell(f"the broker is away for {AWAY_S:.0f} s")
    await asyncio.sleep(AWAY_S)
    town.came_s.clear()
    # without asking whether it answers: this loop is busy with those who come back
    broker._process = await asyncio.create_subprocess_exec(broker._program, "-c", broker._config)
    back_s = time.monotonic()
    await town.until(lambda: len(town.came_s) == GATEWAYS)
    took = [came_s - back_s for came_s in town.came_s.values()]
    a_second = Counter(int(each) for each in took)
    tell(f"{len(took)} of {GATEWAYS} are back")
    pid = broker._process.pid
    return [
        *before,
        _number("back after the broker", len(took), "", Bar(">=", GATEWAYS)),
        _number("back after the broker: half", percentile(took, 0.5), "s"),
        _number("back after the broker: 95 %", percentile(took, 0.95), "s"),
        _number("back after the broker: all", max(took), "s"),
        _number("connections in the busiest second", max(a_second.values()), ""),
        _number("mosquitto: processor time of the storm", cpu_s(pid), "s"),
        _number("mosquitto: resident after the storm", memory(pid).rss, "MB"),
    ]


@dataclass
class Fleet:
    """The command, as the operator runs it."""

    port: int
    directory: Path

    async def look(self, when: str = "") -> list[Number]:
        began_s = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *self._command("--json"), stdout=asyncio.subprocess.PIPE
        )
        out = asyncio.create_task(process.communicate())
        rss, spent_s = 0.0, 0.0
        while not out.done():
            try:
                rss, spent_s = max(rss, memory(process.pid).rss), cpu_s(process.pid)
            except (OSError, IndexError):
                break
            await asyncio.sleep(0.05)
        text, _ = await out
        found = json.loads(text)
        online = sum(each["online"] for each in found["gateways"])
        tell(f"cloud fleet{when}: {online} online, {len(found['alarms'])} alarms")
        return [
            _number(f"cloud fleet{when}: gateways shown", online, "", Bar(">=", GATEWAYS)),
            _number(f"cloud fleet{when}: takes", time.monotonic() - began_s, "s"),
            _number(f"cloud fleet{when}: processor time", spent_s, "s"),
            _number(f"cloud fleet{when}: resident at most", rss, "MB"),
        ]

    async def watch(self) -> asyncio.subprocess.Process:
        """From now on; its table is thrown away."""
        null = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *self._command("--watch", file="watch"), stdin=null, stdout=null, stderr=null
        )
        await asyncio.sleep(10)
        return process

    def _command(self, *more: str, file: str = "look") -> Sequence[str]:
        return (
            str(PROGRAM), "cloud", "fleet", "--broker", f"mqtt://{HOST}:{self.port}",
            "--file", str(self.directory / f"{file}.sqlite"), *more,
        )  # fmt: skip


def _number(name: str, value: float, unit: str, bar: Bar | None = None) -> Number:
    how = f"{GATEWAYS} gateways' own uplinks in one process, one mosquitto, loopback without TLS"
    return Number(name, value, unit, how, bar)


def main(arguments: Sequence[str]) -> int:
    """Measure; 0, or 1 when a bar is missed."""
    (out,) = arguments
    logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory() as directory:
        numbers = asyncio.run(measure(Path(directory)))
    write(Path(out), numbers)
    sys.stdout.write("\n".join(line for line in table(numbers) if not line.startswith(" ")) + "\n")
    return int(any(number.holds is False for number in numbers))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
