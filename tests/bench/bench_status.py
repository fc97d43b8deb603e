"""What a gateway's status costs on the way to the broker, in bytes a day.

A house of four doors is lived in for a day of its own clock, with real openings
over the fake air, and its status is asked for as the uplink asks for it. What
one status and one ping cost is counted on a real MQTT session, between the
gateway's socket and the broker's. TLS and TCP come on top.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gatewayd.adapters.broker import Address, serve
from gatewayd.health import Around
from gatewayd.status import Status, encode
from gatewayd.sync import Pace
from tests.bench.number import Bar, Number
from tests.support.brokers import HOST, free_port
from tests.support.gateway import CELLAR, GATEWAY_ADDRESS, STREET, gateway
from tests.support.uplink import filled_log, gateway_mqtt, make_uplink, running, until

DOORS = (STREET, CELLAR, "yard", "gate")
OPENINGS_AN_HOUR = 4
HOURS = 24
DAY_S = 86_400
PING_BYTES = 2 + 2
"""PINGREQ and PINGRESP: MQTT 3.1.1 sections 3.12 and 3.13."""
KEEPALIVE_S = 30
MOST_BYTES = 100_000


def run() -> list[Number]:
    """Changes in a day, and what they cost."""
    return asyncio.run(_measure())


async def _measure() -> list[Number]:
    with tempfile.TemporaryDirectory() as directory:
        told = await live_a_day(Path(directory))
    start, status = await cost(told[-1])
    pings = DAY_S // KEEPALIVE_S * PING_BYTES
    how = (
        f"{len(DOORS)} doors, {OPENINGS_AN_HOUR * HOURS} real openings in a day of the house's own "
        f"clock, the last status of {len(told[-1])} bytes counted on a real session with the broker"
    )
    return [
        Number("status of a gateway: changes a day", len(told), "", how),
        Number("status of a gateway: one, with its topic and PUBACK", status, "B", how),
        Number(
            "status traffic a gateway and day",
            start + len(told) * status + pings,
            "B",
            f"{how}; one connect of {start} bytes and {pings} bytes of pings included, TLS and TCP"
            " not",
            Bar("<=", MOST_BYTES),
        ),
    ]


async def live_a_day(directory: Path) -> list[bytes]:
    """Every status that was another one than before."""
    chance = random.Random(1)
    async with gateway(directory, doors=DOORS, latch_ms=20) as site:
        locks = [lock.address for lock in site.building.locks.values()]
        health = site.gateway.health(
            directory,
            radio=Around(
                health=lambda: {"radio": "advertising"},
                strengths=lambda: {each: round(chance.gauss(-70, 6)) for each in locks},
            ),
        )
        told = [encode(health.status())]
        for _ in range(HOURS):
            await health.look()
            for _ in range(OPENINGS_AN_HOUR):
                site.building.clock.skip_s += 3600 / OPENINGS_AN_HOUR
                await site.phone().open_door(chance.choice(DOORS), address=GATEWAY_ADDRESS)
                now = encode(health.status())
                if now != told[-1]:
                    told.append(now)
    return told


async def cost(status: bytes) -> tuple[int, int]:
    """Bytes in both directions: of the start of a session, and of one more status in it."""
    port, state = free_port(), [encode(Status(online=True))]
    async with serve(port), counted(Address(HOST, port)) as (address, counter):
        uplink = make_uplink(
            await filled_log(0),
            gateway_mqtt(address).connect,
            status=lambda: state[0],
            pace=Pace(hint_s=0.1, settle_s=0.01),
        )
        async with running(uplink):
            await until(lambda: counter.bytes > len(state[0]))
            await asyncio.sleep(1)
            start, state[0] = counter.bytes, status
            await until(lambda: counter.bytes > start + len(status))
            await asyncio.sleep(1)
            return start, counter.bytes - start


@dataclass
class Counter:
    bytes: int = 0


@asynccontextmanager
async def counted(broker: Address) -> AsyncIterator[tuple[Address, Counter]]:
    """An address that leads to the broker, and what went through."""
    counter, talks = Counter(), set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            counter.bytes += len(data)
            writer.write(data)
        writer.close()

    async def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside, outside = await asyncio.open_connection(broker.host, broker.port)
        talks.update(
            asyncio.create_task(each) for each in (carry(reader, outside), carry(inside, writer))
        )

    server = await asyncio.start_server(came, HOST, 0)
    try:
        yield Address(HOST, server.sockets[0].getsockname()[1]), counter
    finally:
        server.close()
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
