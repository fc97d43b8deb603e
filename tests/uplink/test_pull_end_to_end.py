"""The whole way: a gateway's log, a broker, the operator's store."""

from __future__ import annotations

import asyncio

from gatewayd.adapters.sqlite_cloud import open_cloud
from gatewayd.core import checkpoint as notes
from gatewayd.core.model import ClockState, origin_of
from gatewayd.core.statuslist import MAX_LIST_BYTES, SIGN1_TAG
from gatewayd.core.topics import group_topic
from gatewayd.pulling import COSIGNED_NAME
from tests.support.uplink import (
    AUTHORITY,
    GATEWAY,
    LOG_KEY,
    NOW,
    WITNESS,
    Times,
    cloud_session,
    fill,
    filled_log,
    gateway_mqtt,
    make_uplink,
    pull,
    running,
    until,
)

ORIGIN = origin_of(GATEWAY)


def kept(path):
    with open_cloud(path) as store:
        return list(store.leaves(ORIGIN))


async def test_the_cloud_gets_every_entry_once_and_the_cursor_follows(broker, tmp_path):
    log = await filled_log(1500)
    uplink = make_uplink(log, gateway_mqtt(broker.address).connect)
    async with running(uplink):
        first = await pull(broker.address, tmp_path / "cloud.sqlite")
        assert (first.stored, first.size, first.log_size) == (1500, 1500, 1500)
        assert first.batches > 1
        assert first.root == await log.root(1500)
        await until(lambda: log._cursor == 1500)

        await fill(log, 7)
        second = await pull(broker.address, tmp_path / "cloud.sqlite")
        assert (second.stored, second.size) == (7, 1507)
        await until(lambda: log._cursor == 1507)

        third = await pull(broker.address, tmp_path / "cloud.sqlite")
        assert (third.stored, third.batches) == (0, 1)
    assert kept(tmp_path / "cloud.sqlite") == log._bodies


async def test_an_empty_log_is_pulled_too(broker, tmp_path):
    log = await filled_log(0)
    async with running(make_uplink(log, gateway_mqtt(broker.address).connect)):
        progress = await pull(broker.address, tmp_path / "cloud.sqlite")
    assert (progress.stored, progress.size, progress.batches) == (0, 0, 1)


async def test_both_sides_keep_the_cosigned_checkpoint(broker, tmp_path):
    log = await filled_log(5)
    async with running(make_uplink(log, gateway_mqtt(broker.address).connect)):
        await pull(broker.address, tmp_path / "cloud.sqlite")
        await until(lambda: COSIGNED_NAME in log._memory)
    note = log._memory[COSIGNED_NAME]
    assert notes.verify_cosignature(note, WITNESS) == NOW + 60
    verifier = notes.Verifier(ORIGIN, LOG_KEY.public_key().public_bytes_raw())
    assert notes.verify(note, verifier).size == 5
    with open_cloud(tmp_path / "cloud.sqlite") as store:
        assert store.held(ORIGIN).note == note


async def test_a_pull_brings_the_gateway_the_time(broker, tmp_path):
    log, times = await filled_log(1), Times(wanted=True)
    async with running(make_uplink(log, gateway_mqtt(broker.address).connect, times=times)):
        progress = await pull(broker.address, tmp_path / "cloud.sqlite")
        assert progress.times_answered >= 1
        await until(lambda: times.reading().state is ClockState.TRUSTED)
    assert abs(times.reading().now_s - (NOW + 60)) <= 5


async def test_status_is_retained_and_turns_when_the_gateway_goes(broker):
    log = await filled_log(1)
    uplink = make_uplink(log, gateway_mqtt(broker.address).connect)
    async with running(uplink), cloud_session(broker.address) as session, asyncio.timeout(5):
        topic, payload = await session.receive()
        assert topic.endswith("/status")
        assert b'"online":true' in payload
    async with cloud_session(broker.address) as session, asyncio.timeout(5):
        assert b'"online":false' in (await session.receive())[1]
    assert uplink.counts["sessions ended"] == 0


async def test_a_list_that_was_retained_reaches_the_gateway_when_it_comes(broker):
    heard, log, tag = [], await filled_log(1), SIGN1_TAG
    group = AUTHORITY.group

    async def take(data: bytes) -> bool:
        heard.append(data)
        return heard.count(data) == 1

    uplink = make_uplink(log, gateway_mqtt(broker.address).connect, take_list=take)
    async with cloud_session(broker.address) as session:
        await session.publish(group_topic(group, "list"), tag + b"first", retain=True)
    async with running(uplink), cloud_session(broker.address) as session:
        await until(lambda: heard == [tag + b"first"])
        second = tag.ljust(MAX_LIST_BYTES, b"x")
        await session.publish(group_topic(group, "list", "parcels"), second)
        await until(lambda: len(heard) == 2)
        await session.publish(group_topic(group, "list", "parcels"), second)
        await until(lambda: uplink.counts["ignored: replayed"])
    assert uplink.counts["taken"] == 2
    assert uplink.counts["sessions ended"] == 0
