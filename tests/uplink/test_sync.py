"""The gateway's side against everything that a broker can deliver, and every way it can fail."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd import mailbox, past, pulling
from gatewayd.cloud.authority import Authority
from gatewayd.core import checkpoint as notes
from gatewayd.core import envelope
from gatewayd.core.checkpoint import Checkpoint
from gatewayd.core.envelope import Kind, Statement, TimeAnswer
from gatewayd.core.model import ClockState, Instant, origin_of
from gatewayd.core.pull import Ack, Batch, Pull, seal_info
from gatewayd.core.topics import KEPT, everybody_topic, group_topic
from gatewayd.mailbox import MAX_ENVELOPE_BYTES
from gatewayd.ports import UpstreamError
from gatewayd.status import Status, encode
from gatewayd.sync import Pace
from tests.support.hub import Hub
from tests.support.memory_log import MemoryLog
from tests.support.uplink import (
    AUTHORITY,
    FAST,
    GATEWAY,
    LOG_KEY,
    NOW,
    SOURCE,
    TOPICS,
    WITNESS,
    WITNESS_KEY,
    Times,
    fill,
    filled_log,
    make_uplink,
    running,
    unsealer,
    until,
)

ORIGIN = origin_of(GATEWAY)


def order(kind, body, *, key=None, **changes):
    values = {
        "kind": kind,
        "addressee": GATEWAY,
        "id": os.urandom(16),
        "expires": NOW + 600,
        "body": body,
    }
    statement = Statement(**{**values, **changes})
    signer = AUTHORITY.time if kind is Kind.TIME else AUTHORITY.command
    return statement, envelope.sign(statement, key or signer)


def pull_order(start=0, max_bytes=4096, **changes):
    return order(Kind.PULL, Pull(start, max_bytes).body(), **changes)


async def ack_order(log, size, **changes):
    note = notes.sign(Checkpoint(ORIGIN, size, await log.root(size)), LOG_KEY)
    note = notes.cosign(note, WITNESS.name, WITNESS_KEY, NOW)
    return order(Kind.ACK, Ack(size, note).body(), **changes)


@asynccontextmanager
async def gateway(hub, log, **changes):
    """A connected uplink whose greeting has been said."""
    uplink = make_uplink(log, lambda: hub.connect(*TOPICS.for_gateway), **changes)
    async with running(uplink):
        await until(lambda: hub.sessions and TOPICS.status in hub.retained)
        yield uplink


def answers(hub):
    return [topic for topic, _ in hub.published if "/up/" in topic and topic != TOPICS.time]


def opened(hub, statement):
    topic = TOPICS.answer(statement.id)
    (payload,) = [payload for each, payload in hub.published if each == topic]
    sealed = unsealer(AUTHORITY.seal)(payload, seal_info(ORIGIN, statement.id))
    return Batch.open(sealed, SOURCE.log, statement.id)


# --- orders -----------------------------------------------------------------------------
async def test_a_pull_is_answered_with_a_proven_batch_for_the_operator_only():
    hub, log = Hub(), await filled_log(40)
    async with gateway(hub, log):
        statement, data = pull_order(3, 1024)
        hub.deliver(TOPICS.down("pull"), data)
        await until(lambda: answers(hub))
    batch = opened(hub, statement)
    end = 3 + len(batch.leaves)
    assert 3 < end < 40
    assert batch.leaves == tuple(log._bodies[3:end])
    checkpoint = notes.verify(batch.checkpoint, SOURCE.log)
    assert (checkpoint.size, checkpoint.root) == (end, await log.root(end))
    assert batch.consistency == tuple(await log.consistency(3, end))
    assert batch.log_size == 40


async def test_a_cloud_that_holds_more_than_there_is_gets_the_smaller_checkpoint():
    hub, log = Hub(), await filled_log(5)
    async with gateway(hub, log):
        statement, data = pull_order(9)
        hub.deliver(TOPICS.down("pull"), data)
        await until(lambda: answers(hub))
    batch = opened(hub, statement)
    assert (batch.leaves, batch.consistency) == ((), ())
    assert notes.verify(batch.checkpoint, SOURCE.log).size == 5


async def test_the_same_order_twice_is_answered_once():
    hub, log = Hub(), await filled_log(5)
    async with gateway(hub, log) as uplink:
        _, data = pull_order()
        for _ in range(3):
            hub.deliver(TOPICS.down("pull"), data)
        await until(lambda: uplink.counts["ignored: replayed"] == 2)
        assert len(answers(hub)) == 1


async def test_the_memory_for_orders_is_bounded(monkeypatch):
    monkeypatch.setattr(mailbox, "REPEATABLE_REMEMBERED", 3)
    hub, log = Hub(), await filled_log(1)
    async with gateway(hub, log) as uplink:
        first = pull_order()[1]
        for data in (first, *(pull_order()[1] for _ in range(3)), first):
            hub.deliver(TOPICS.down("pull"), data)
        await until(lambda: uplink.counts["pull"] == 5)


async def test_an_acknowledgement_moves_the_cursor_forward_only_and_survives():
    hub, log = Hub(), await filled_log(10)
    async with gateway(hub, log) as uplink:
        for size in (4, 9, 2):
            hub.deliver(TOPICS.down("ack"), (await ack_order(log, size))[1])
        await until(lambda: uplink.counts["ack"] == 3)
    assert await log.acknowledged() == 9
    kept = await log.load(pulling.COSIGNED_NAME)
    assert notes.verify(kept, SOURCE.log).size == 9


async def test_an_acknowledgement_of_what_we_never_signed_moves_nothing():
    hub, log = Hub(), await filled_log(10)
    other = await filled_log(12)
    other._bodies[0], other._nodes[0, 0] = b"", bytes(32)
    unsigned = Checkpoint(ORIGIN, 9, await log.root(9)).encode()
    async with gateway(hub, log) as uplink:
        for data in (
            (await ack_order(other, 12))[1],
            (await ack_order(other, 1))[1],
            order(Kind.ACK, Ack(9, f"{unsigned}\n— x AAAAAAA=\n".encode()).body())[1],
            order(Kind.ACK, [9])[1],
        ):
            hub.deliver(TOPICS.down("ack"), data)
        await until(lambda: uplink.counts["alarm: other log"] == 2)
        await until(lambda: sum(uplink.counts.values()) >= 4)
    assert await log.acknowledged() == 0
    assert await log.load(pulling.COSIGNED_NAME) is None


@pytest.mark.parametrize("shorter", [True, False])
async def test_what_the_cloud_keeps_shows_a_card_that_was_restored_and_it_is_told_at_once(shorter):
    hub, log = Hub(), await filled_log(5)
    size, topic = 9 if shorter else 5, TOPICS.down(KEPT)
    once = Checkpoint(ORIGIN, size, bytes(32))
    evidence = notes.sign(once, LOG_KEY)
    ours = notes.sign(Checkpoint(ORIGIN, 3, await log.root(3)), LOG_KEY)
    harmless = [
        ours,
        notes.sign(once, WITNESS_KEY),
        notes.sign(replace(once, origin="another"), LOG_KEY),
        evidence + b"x",
        b"\xff" * 20_000,
        *(evidence[:end] for end in range(0, len(evidence), 10)),
    ]
    counts, pace = Counter(), Pace(hint_s=60.0, settle_s=0.01)

    def told():
        return encode(Status(online=True, other_log=counts[past.ALARM] > 0))

    async with gateway(hub, log, counts=counts, status=told, pace=pace):
        for payload in harmless:
            hub.deliver(topic, payload)
        await until(lambda: sum(counts.values()) >= len(harmless))
        assert counts[past.ALARM] == 0
        assert await log.load(past.MEMORY_NAME) is None
        for _ in range(2):
            hub.deliver(topic, evidence)
        await until(lambda: counts[past.ALARM] == 2)
        await until(lambda: b"other_log" in hub.retained[TOPICS.status])  # and no minute later
    assert await log.load(past.MEMORY_NAME) == evidence
    assert await log.acknowledged() == 0
    async with gateway(hub, log) as again:  # the broker has forgotten it, the card has not
        assert again.counts[past.ALARM] == 1


async def test_without_a_witness_the_command_key_speaks_for_the_cloud():
    hub, log = Hub(), await filled_log(3)
    note = notes.sign(Checkpoint(ORIGIN, 3, await log.root(3)), LOG_KEY)
    data = order(Kind.ACK, Ack(3, note).body())[1]
    async with gateway(hub, log) as uplink:
        hub.deliver(TOPICS.down("ack"), data)
        await until(lambda: uplink.counts["ignored: authentication_failed"])
    async with gateway(hub, log, witnesses=()) as uplink:
        hub.deliver(TOPICS.down("ack"), data)
        await until(lambda: uplink.counts["ack"])
    assert await log.acknowledged() == 3


async def test_a_signed_time_for_our_nonce_is_believed_once_and_no_other():
    hub, log, times = Hub(), await filled_log(1), Times(wanted=True)
    async with gateway(hub, log, times=times) as uplink:
        await until(lambda: any(topic == TOPICS.time for topic, _ in hub.published))
        (nonce,) = [payload for topic, payload in hub.published if topic == TOPICS.time]
        for body in (TimeAnswer(bytes(16), NOW + 5).body(), [nonce], [nonce, True]):
            hub.deliver(TOPICS.down("time"), order(Kind.TIME, body)[1])
        data = order(Kind.TIME, TimeAnswer(nonce, NOW + 9).body())
        hub.deliver(TOPICS.down("time"), data[1])
        await until(lambda: uplink.counts["taken"] == 1)
        assert times.reading().state is ClockState.TRUSTED
        again = order(Kind.TIME, TimeAnswer(nonce, NOW + 999).body())[1]
        hub.deliver(TOPICS.down("time"), again)
        await until(lambda: uplink.counts["ignored: not_asked"] == 2)
    assert abs(times.reading().now_s - (NOW + 9)) <= 2


async def test_questions_about_time_are_not_repeated_while_an_answer_may_come():
    hub, log, times = Hub(), await filled_log(1), Times(wanted=True)
    async with gateway(hub, log, times=times, pace=Pace(hint_s=0.02, settle_s=0.0)):
        await asyncio.sleep(0.3)
        asked = [topic for topic, _ in hub.published if topic == TOPICS.time]
        assert len(asked) == 1
        hub.deliver(TOPICS.down("pull"), pull_order()[1])
        await until(lambda: answers(hub))
        # but a pull says that the cloud is there now
        assert [topic for topic, _ in hub.published].count(TOPICS.time) == 2


# --- bad input --------------------------------------------------------------------------
OTHER = Authority.create("other")
BAD = {
    "garbage": (b"\xff" * 40, "malformed"),
    "empty": (b"", "malformed"),
    "another operator": (pull_order(key=OTHER.command)[1], "authentication_failed"),
    "the wrong key of ours": (pull_order(key=AUTHORITY.time)[1], "authentication_failed"),
    "for another gateway": (pull_order(addressee="stairwell-8")[1], "unexpected"),
    "an order that the floor has passed": (pull_order(expires=NOW)[1], "clock_expired"),
    "a kind that has no use here": (order(Kind.RETIRE, [1], number=1)[1], "unsupported"),
    "another body": (order(Kind.PULL, [0])[1], "malformed"),
    "a negative size": (order(Kind.PULL, [-1, 5])[1], "malformed"),
    "too large": (b"\x00" * (MAX_ENVELOPE_BYTES + 1), "too_large"),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_not_a_good_order_is_counted_and_forgotten(name):
    data, why = BAD[name]
    hub, log = Hub(), await filled_log(2)
    async with gateway(hub, log) as uplink:
        hub.deliver(TOPICS.down("pull"), data)
        await until(lambda: uplink.counts[f"ignored: {why}"] == 1)
        hub.deliver(TOPICS.down("pull"), pull_order()[1])
        await until(lambda: answers(hub))
        assert uplink.counts["sessions ended"] == 0


async def test_orders_for_the_group_and_for_everybody_are_for_us():
    hub, log = Hub(), await filled_log(2)
    async with gateway(hub, log) as uplink:
        for addressee in ("vestergade-7", envelope.EVERYBODY):
            hub.deliver(TOPICS.down("pull"), pull_order(addressee=addressee)[1])
        await until(lambda: uplink.counts["pull"] == 2)


async def test_the_topic_says_nothing():
    hub, log = Hub(), await filled_log(2)
    topics = (
        TOPICS.down("unheard-of"),
        group_topic("vestergade-7", "x"),
        everybody_topic("x", "y"),
    )
    async with gateway(hub, log) as uplink:
        for topic in topics:
            hub.deliver(topic, pull_order()[1])
        await until(lambda: uplink.counts["pull"] == 3)
        hub.deliver(group_topic("another", "pull"), pull_order()[1])
        hub.deliver(TOPICS.down("time"), order(Kind.PULL, [0, 1], key=AUTHORITY.time)[1])
        await until(lambda: uplink.counts["ignored: authentication_failed"] == 1)
        assert len(answers(hub)) == 3


@given(st.lists(st.binary(max_size=300), max_size=8))
@settings(max_examples=15, deadline=None)
def test_no_bytes_end_a_session(payloads):
    async def scenario():
        hub, log = Hub(), await filled_log(1)
        async with gateway(hub, log) as uplink:
            for payload in payloads:
                for kind in ("pull", "ack", "time"):
                    hub.deliver(TOPICS.down(kind), payload)
            hub.deliver(TOPICS.down("pull"), pull_order()[1])
            await until(lambda: uplink.counts["pull"] == 1)
            assert uplink.counts["sessions ended"] == 0

    asyncio.run(scenario())


def test_a_good_order_cut_or_changed_anywhere_does_nothing():
    async def scenario():
        hub, log = Hub(), await filled_log(1)
        data = pull_order()[1]
        wrong = [data[:cut] for cut in range(len(data))] + [data + b"\0"]
        wrong += [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in range(len(data))]
        async with gateway(hub, log) as uplink:
            for each in wrong:
                hub.deliver(TOPICS.down("pull"), each)
            await until(lambda: sum(uplink.counts.values()) == len(wrong))
            assert not answers(hub)

    asyncio.run(scenario())


async def test_a_log_that_fails_is_asked_again_by_the_cloud():
    hub, log = Hub(), await filled_log(2)
    async with gateway(hub, log) as uplink:
        log.failing = True
        hub.deliver(TOPICS.down("ack"), (await ack_order(log, 1))[1])
        await until(lambda: uplink.counts["log not readable"] == 1)
        assert uplink.counts["sessions ended"] == 0
        log.failing = False
        hub.deliver(TOPICS.down("ack"), (await ack_order(log, 1))[1])
        await until(lambda: uplink.counts["ack"] == 1)


async def test_a_gateway_whose_disk_takes_nothing_still_says_how_it_is():
    hub, log = Hub(), await filled_log(2)
    log.failing = True
    uplink = make_uplink(log, lambda: hub.connect(*TOPICS.for_gateway))
    async with running(uplink):
        await until(lambda: TOPICS.status in hub.retained)
        await until(lambda: uplink.counts["log not readable"])
        assert hints(hub) == []
        assert uplink.counts["sessions ended"] == 0
        log.failing = False
        await until(lambda: hints(hub) == [2])


# --- unasked ----------------------------------------------------------------------------
def hints(hub):
    return [
        notes.verify(payload, SOURCE.log).size
        for topic, payload in hub.published
        if topic == TOPICS.checkpoint
    ]


async def test_a_busy_door_is_told_of_at_once_and_a_quiet_one_after_a_while():
    hub, log, wake = Hub(), await filled_log(0), asyncio.Event()
    uplink = make_uplink(
        log,
        lambda: hub.connect(*TOPICS.for_gateway),
        pace=Pace(hint_entries=100, hint_s=0.5, settle_s=0.01),
    )
    async with running(uplink, wake):
        await until(lambda: TOPICS.status in hub.retained)
        assert hints(hub) == []
        await fill(log, 99)
        wake.set()
        await asyncio.sleep(0.1)
        assert hints(hub) == []
        await fill(log, 1)
        wake.set()
        await until(lambda: hints(hub) == [100], 0.35)
        await fill(log, 1)
        wake.set()
        await until(lambda: hints(hub) == [100, 101])
        await asyncio.sleep(0.6)
        assert hints(hub) == [100, 101]
    assert notes.verify(await log.load(notes.MEMORY_NAME), SOURCE.log).size == 101


async def test_the_status_is_published_when_it_changes():
    hub, log, state = Hub(), await filled_log(0), [b"one"]
    async with gateway(hub, log, status=lambda: state[0]):
        await asyncio.sleep(0.5)
        state[0] = b"two"
        await until(lambda: hub.retained[TOPICS.status] == b"two")
    told = [payload for topic, payload in hub.published if topic == TOPICS.status]
    assert told == [b"one", b"two"]


# --- the session --------------------------------------------------------------------------
class Aging:
    """A clock on which each reading is told by the test."""

    def __init__(self):
        self.now_s = 0.0

    def instant(self):
        return Instant("boot", self.now_s, 0.0)


async def test_back_off_grows_although_each_connect_succeeds_and_shrinks_only_after_a_minute():
    """A broker that accepts and kicks gets the same back-off as one that refuses."""
    clock, hub, connects = Aging(), Hub(), []
    lives_s = [1.0] * 9 + [61.0, 1.0]
    loop = asyncio.get_running_loop()

    @asynccontextmanager
    async def kicked():
        connects.append(loop.time())
        async with hub.connect() as session:
            if len(connects) <= len(lives_s):
                hub.kick()  # at once, and yet on the clock it lived for as long as said
            yield session
            raise AssertionError

    class Living(MemoryLog):
        async def size(self):
            clock.now_s += lives_s[min(len(connects), len(lives_s)) - 1]
            return 0

    uplink = make_uplink(Living(), kicked, clock=clock, jitter=lambda: 0.001)
    async with running(uplink):
        await until(lambda: len(connects) == len(lives_s) + 1)
    gaps = [later - earlier for earlier, later in pairwise(connects)]
    for failures, gap in enumerate(gaps[:9]):
        assert gap >= 0.001 * min(300, 2**failures)
    assert gaps[8] > 0.25
    assert gaps[9] < 0.1, "a session of 61 s did not reset the back-off"


async def test_every_end_of_a_session_is_survived_and_the_next_one_works():
    hub, log = Hub(), await filled_log(3)
    async with gateway(hub, log, jitter=lambda: 0.0) as uplink:
        for round_number in range(1, 4):
            hub.kick()
            await until(lambda n=round_number: uplink.counts["sessions ended"] == n)
            await until(lambda: hub.sessions)
        hub.deliver(TOPICS.down("pull"), pull_order()[1])
        await until(lambda: answers(hub))


async def test_a_fault_of_our_own_does_not_end_the_task():
    hub, log = Hub(), await filled_log(3)
    faults = [ValueError("a bug")]

    def status():
        if faults:
            raise faults.pop()
        return b"fine"

    async with gateway(hub, log, status=status, jitter=lambda: 0.0) as uplink:
        await until(lambda: hub.retained.get(TOPICS.status) == b"fine")
        assert uplink.counts["sessions ended"] == 1


async def test_it_stops_while_it_waits_to_reconnect():
    @asynccontextmanager
    async def absent():
        raise UpstreamError("nobody there")
        yield

    uplink = make_uplink(await filled_log(1), absent, jitter=lambda: 1.0)
    async with running(uplink):
        await until(lambda: uplink.counts["sessions ended"])


async def test_it_stops_while_the_log_does_not_answer():
    hub, log = Hub(), await filled_log(1)
    async with gateway(hub, log, counts=Counter()):
        log.gate.clear()
        hub.deliver(TOPICS.down("ack"), (await ack_order(log, 1))[1])
        await asyncio.sleep(0.05)


async def test_it_stops_although_the_session_fails_while_it_is_cancelled():
    class Failing:
        async def publish(self, topic, payload, *, retain=False):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise UpstreamError("not acknowledged") from None

        async def receive(self):
            await asyncio.sleep(60)

    @asynccontextmanager
    async def connect():
        connected.set()
        yield Failing()

    connected = asyncio.Event()
    async with running(make_uplink(await filled_log(1), connect)):
        await connected.wait()
        await asyncio.sleep(0.05)


def test_the_uplink_does_not_print_its_key():
    uplink = make_uplink(MemoryLog(), Hub().connect)
    assert "PrivateKey" not in repr(replace(uplink, counts=Counter()))
    assert FAST.hint_entries == 100
