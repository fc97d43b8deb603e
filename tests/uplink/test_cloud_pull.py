"""The cloud's side against lost messages, strangers at the broker and gateways gone wrong."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatewayd.adapters.sealing import seal
from gatewayd.adapters.sqlite_cloud import open_cloud
from gatewayd.cloud.pull import NoAnswerError, Patience, Puller
from gatewayd.cloud.store import OutrunError
from gatewayd.core import envelope
from gatewayd.core.envelope import Kind, TimeAnswer
from gatewayd.core.model import ClockState, origin_of
from gatewayd.core.pull import MAX_BATCH_BYTES, Alarm, LogAlarmError, Pull, seal_info
from tests.support.hub import Hub
from tests.support.uplink import (
    AUTHORITY,
    GATEWAY,
    NOW,
    SOURCE,
    TOPICS,
    Times,
    fact,
    filled_log,
    make_operator,
    make_uplink,
    pull_over,
    running,
    until,
)

ORIGIN = origin_of(GATEWAY)
HASTY = Patience(0.1, 6)


@asynccontextmanager
async def site(log, hub=None, **changes):
    """A gateway on a hub, and the cloud's session on it."""
    hub = hub or Hub()
    uplink = make_uplink(log, lambda: hub.connect(*TOPICS.for_gateway), **changes)
    async with running(uplink), hub.connect(*TOPICS.for_cloud) as session:
        await until(lambda: len(hub.sessions) == 2)
        yield hub, session


def kept(path):
    with open_cloud(path) as store:
        return list(store.leaves(ORIGIN))


def pulls(hub):
    """Every pull order that was sent: where from, and how much."""
    found = []
    for topic, payload in hub.published:
        if topic == TOPICS.down("pull"):
            statement = envelope.verify(
                payload, AUTHORITY.trust(), kind=Kind.PULL, addressees=[GATEWAY], floor_s=0
            )
            found.append(Pull.of(statement.body))
    return found


# --- messages that get lost -----------------------------------------------------------------
@pytest.mark.parametrize("lost", ["/down/pull", "/up/", "/down/ack"])
async def test_a_broker_that_loses_every_other_message_costs_time_and_nothing_else(tmp_path, lost):
    log, hub, counter = await filled_log(900), Hub(), iter(range(10_000))
    hub.lose = lambda topic, _: lost in topic and next(counter) % 2 == 0
    async with site(log, hub) as (_, session):
        progress = await pull_over(session, tmp_path / "c", patience=HASTY)
        assert progress.stored == 900
        await pull_over(session, tmp_path / "c", patience=HASTY)
        await pull_over(session, tmp_path / "c", patience=HASTY)
        await until(lambda: log._cursor == 900)
    assert kept(tmp_path / "c") == log._bodies


async def test_something_on_the_way_that_takes_no_large_message_gets_smaller_ones(tmp_path):
    log, hub = await filled_log(900), Hub()
    hub.lose = lambda topic, payload: "/up/" in topic and len(payload) > 20_000
    async with site(log, hub) as (_, session):
        assert (await pull_over(session, tmp_path / "c", patience=HASTY)).stored == 900
    asked = [order.max_bytes for order in pulls(hub)]
    assert asked[:3] == [MAX_BATCH_BYTES, MAX_BATCH_BYTES // 2, MAX_BATCH_BYTES // 4]
    assert set(asked[3:]) == {MAX_BATCH_BYTES // 4}  # learnt once
    assert kept(tmp_path / "c") == log._bodies


@pytest.mark.parametrize(
    ("retained", "online"),
    [(None, None), (b'{"online": true}', True), (b'{"online": false}', False), (b"\xff", False)],
)
async def test_a_gateway_that_does_not_answer_is_said_to_be_away_or_not(tmp_path, retained, online):
    hub = Hub()
    if retained is not None:
        hub.retained[TOPICS.status] = retained
    async with hub.connect(*TOPICS.for_cloud) as session:
        with pytest.raises(NoAnswerError) as caught:
            await pull_over(session, tmp_path / "c", patience=Patience(0.05, 2))
    assert caught.value.online is online
    assert kept(tmp_path / "c") == []


async def test_an_answer_that_comes_after_the_second_question_still_counts(tmp_path):
    log, hub = await filled_log(10), Hub()
    held_back = []
    hub.lose = lambda topic, payload: (
        "/up/" in topic and not held_back and not held_back.append((topic, payload))
    )
    async with site(log, hub) as (_, session):

        async def late():
            await until(lambda: len(pulls(hub)) == 2)
            hub.lose = lambda topic, _: "/up/" in topic
            session.offer(*held_back[0])

        async with asyncio.TaskGroup() as group:
            group.create_task(late())
            progress = await pull_over(session, tmp_path / "c", patience=Patience(0.2, 3))
    assert progress.stored == 10


# --- strangers --------------------------------------------------------------------------------
async def test_strangers_answers_are_counted_and_the_right_one_is_taken(tmp_path):
    log, hub = await filled_log(10), Hub()
    forged = []

    def interfere(topic, payload):
        if "/up/" not in topic or forged:
            return False
        request = bytes.fromhex(topic.rpartition("/")[2])
        info = seal_info(ORIGIN, request)
        forged.extend(
            [
                b"",
                os.urandom(500),
                payload[:-1],
                payload + b"\0",
                seal(b"no batch", info, AUTHORITY.seal.public_key()),
                bytes(300_000),
            ]
        )
        for each in forged:
            hub.deliver(topic, each)
        hub.deliver(TOPICS.answer(bytes(16)), payload)
        return False

    hub.lose = interfere
    async with site(log, hub) as (_, session):
        progress = await pull_over(session, tmp_path / "c")
    assert (progress.stored, progress.ignored) == (10, len(forged) + 1)


async def test_the_answers_of_an_earlier_pull_are_worth_nothing_later(tmp_path):
    log, hub = await filled_log(10), Hub()
    async with site(log, hub) as (_, session):
        await pull_over(session, tmp_path / "first")
    old = [payload for topic, payload in hub.published if "/up/" in topic]
    hub.published.clear()
    async with hub.connect(*TOPICS.for_cloud) as session:

        async def replay():
            await until(lambda: pulls(hub))
            for _, payload in enumerate(old):
                for topic, order in list(hub.published):
                    statement = envelope.verify(
                        order, AUTHORITY.trust(), kind=Kind.PULL, addressees=[GATEWAY], floor_s=0
                    )
                    assert topic == TOPICS.down("pull")
                    session.offer(TOPICS.answer(statement.id), payload)

        async with asyncio.TaskGroup() as group:
            group.create_task(replay())
            with pytest.raises(NoAnswerError):
                await pull_over(session, tmp_path / "second", patience=Patience(0.3, 1))
    assert kept(tmp_path / "second") == []


# --- gateways gone wrong ----------------------------------------------------------------------
async def alarmed(log, path):
    async with site(log) as (hub, session):
        with pytest.raises(LogAlarmError) as caught:
            await pull_over(session, path)
        assert not [topic for topic, _ in hub.published if topic == TOPICS.down("ack")]
    return caught.value.alarm


async def test_a_gateway_put_back_to_an_old_image_is_noticed_and_nothing_is_lost(tmp_path):
    log = await filled_log(30)
    async with site(log) as (_, session):
        await pull_over(session, tmp_path / "c")
    before = kept(tmp_path / "c")
    assert await alarmed(await filled_log(20), tmp_path / "c") is Alarm.ROLLED_BACK
    assert kept(tmp_path / "c") == before
    with open_cloud(tmp_path / "c") as store:
        ((time_s, name, note),) = store.alarms(ORIGIN)
        assert (time_s, name) == (NOW + 60, "ROLLED_BACK")
        assert b"\n20\n" in note


async def test_what_nobody_had_pulled_goes_with_an_old_image_unnoticed(tmp_path):
    """Nobody can: this is what the threat model says of it, and no more."""
    log = await filled_log(20)
    async with site(log) as (_, session):
        await pull_over(session, tmp_path / "c")
    for _ in range(10):
        await log.append(fact("cellar"))
    image = await filled_log(20)
    for _ in range(5):
        await image.append(fact())
    async with site(image) as (_, session):
        assert (await pull_over(session, tmp_path / "c")).stored == 5
    with open_cloud(tmp_path / "c") as store:
        assert store.alarms(ORIGIN) == []
    assert kept(tmp_path / "c")[:20] == log._bodies[:20]
    assert not set(kept(tmp_path / "c")) & set(log._bodies[20:])


async def test_a_gateway_with_another_past_is_noticed_and_nothing_is_overwritten(tmp_path):
    log = await filled_log(30)
    async with site(log) as (_, session):
        await pull_over(session, tmp_path / "c")
    before = kept(tmp_path / "c")
    other = await filled_log(0)
    other.randomness(1)  # every salt differs
    for _ in range(40):
        await other.append(fact())
    assert await alarmed(other, tmp_path / "c") is Alarm.FORKED
    assert kept(tmp_path / "c") == before


async def test_another_key_than_the_credentials_is_nobody_we_know(tmp_path):
    stranger = Ed25519PrivateKey.from_private_bytes(b"stranger".ljust(32))
    async with site(await filled_log(5), log_key=stranger) as (_, session):
        with pytest.raises(NoAnswerError):
            await pull_over(session, tmp_path / "c", patience=Patience(0.1, 2))


# --- two clouds at once -----------------------------------------------------------------------
async def test_two_pullers_at_once_store_every_entry_once(tmp_path):
    log = await filled_log(1500)
    async with (
        site(log) as (hub, one),
        hub.connect(*TOPICS.for_cloud) as other,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(pull_over(each, tmp_path / "c")) for each in (one, other)]
    assert sum(task.result().stored for task in tasks) == 1500
    assert kept(tmp_path / "c") == log._bodies


async def test_a_puller_that_was_outrun_reads_again_and_goes_on(tmp_path):
    log = await filled_log(5)

    class Outrun:
        def __init__(self, store):
            self.store, self.times = store, 2

        def held(self, origin):
            return self.store.held(origin)

        def keep(self, origin, verified, note):
            self.times -= 1
            if self.times >= 0:
                raise OutrunError("somebody else was quicker")
            return self.store.keep(origin, verified, note)

    async with site(log) as (_, session):
        with open_cloud(tmp_path / "c") as store:
            progress = await Puller(session, SOURCE, make_operator()).pull(Outrun(store))
    assert (progress.stored, progress.batches) == (5, 1)


# --- time ---------------------------------------------------------------------------------------
async def test_questions_about_time_are_answered_until_stopped():
    log, times = await filled_log(1), Times(wanted=True)
    async with site(log, times=times) as (hub, session):
        puller = Puller(session, SOURCE, make_operator())
        task = asyncio.create_task(puller.answer_time())
        session.offer(TOPICS.time, b"too short")
        session.offer(TOPICS.time, b"sixteen bytes ok")
        await until(lambda: puller.progress.times_answered)
        answers = [data for topic, data in hub.published if topic == TOPICS.down("time")]
        statement = envelope.verify(
            answers[-1], AUTHORITY.trust(), kind=Kind.TIME, addressees=[GATEWAY], floor_s=0
        )
        assert TimeAnswer.of(statement.body).time_s == NOW + 60
        task.cancel()
        await asyncio.wait({task})
    assert puller.progress.ignored == 1
    assert times.reading().state in set(ClockState)


async def test_a_cloud_without_the_time_key_answers_no_questions(tmp_path):
    log, times = await filled_log(3), Times(wanted=True)
    async with site(log, times=times) as (hub, session):
        progress = await pull_over(session, tmp_path / "c", time=None)
    assert (progress.stored, progress.times_answered) == (3, 0)
    assert TOPICS.down("time") not in [topic for topic, _ in hub.published]
    assert replace(make_operator(), time=None).time is None
