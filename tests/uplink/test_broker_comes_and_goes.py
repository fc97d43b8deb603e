"""The whole uplink while the broker is away, hangs, refuses, kicks or never acknowledges."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.brokers import make_broker
from tests.support.rogue_broker import rogue_broker
from tests.support.uplink import (
    fill,
    filled_log,
    gateway_mqtt,
    make_uplink,
    pull,
    running,
    until,
)


async def hung(client):
    await client.silence()


async def refusing(client):
    await client.packet()
    await client.send(bytes.fromhex("20020005"))


async def kicking(client):
    await client.accept()


async def deaf(client):
    """Accepts everything, acknowledges no publish."""
    await client.accept()
    await client.serve(acknowledge=False)


async def test_the_log_waits_for_a_broker_and_is_pulled_when_it_comes(tmp_path):
    broker, log = make_broker(tmp_path), await filled_log(50)
    uplink = make_uplink(log, gateway_mqtt(broker.address).connect)
    async with running(uplink):
        await until(lambda: uplink.counts["sessions ended"] >= 2)
        await fill(log, 10)
        try:
            await broker.start()
            assert (await pull(broker.address, tmp_path / "c")).stored == 60
            await broker.stop()
            await fill(log, 5)
            ended = uplink.counts["sessions ended"]
            await until(lambda: uplink.counts["sessions ended"] > ended)
            await broker.start()
            assert (await pull(broker.address, tmp_path / "c")).stored == 5
            await until(lambda: log._cursor == 65)
        finally:
            await broker.stop()


@pytest.mark.parametrize("script", [hung, refusing, kicking, deaf])
async def test_a_bad_broker_is_tried_again_and_left_at_once(script):
    log = await filled_log(50)
    async with rogue_broker(script) as rogue:
        connect = gateway_mqtt(rogue.address, deadline_s=0.2).connect
        async with running(make_uplink(log, connect)) as uplink:
            await until(lambda: uplink.counts["sessions ended"] >= 2)
            before = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - before < 1.5
        assert len(rogue.connections) >= 2
    assert log._cursor == 0


async def test_the_door_s_log_is_never_held_up_by_a_bad_broker():
    """Appends stay quick while the uplink is in every stage of trouble."""
    log, loop, slowest = await filled_log(1), asyncio.get_running_loop(), 0.0
    async with rogue_broker(deaf) as rogue:
        connect = gateway_mqtt(rogue.address, deadline_s=0.1).connect
        async with running(make_uplink(log, connect)):
            for _ in range(200):
                started = loop.time()
                await fill(log, 1)
                await asyncio.sleep(0.002)
                slowest = max(slowest, loop.time() - started)
    assert slowest < 0.25
