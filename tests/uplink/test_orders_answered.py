"""Orders that are answered: the gateway against a broker, the operator against liars."""

from __future__ import annotations

import asyncio
import os

import pytest

from firmware_proto.codes import Outcome, Reason
from gatewayd.adapters.sealing import seal
from gatewayd.cloud.ask import ask
from gatewayd.cloud.pull import NoAnswerError
from gatewayd.core import answers, envelope
from gatewayd.core.answers import MAX_ANSWER_BYTES, Opened
from gatewayd.core.envelope import Kind, Statement
from gatewayd.core.helpdesk import Open
from gatewayd.core.model import DoorId, Verdict, origin_of
from gatewayd.obeying import MOST_AT_ONCE, Obedience
from gatewayd.status import Status, encode
from tests.support.hub import Hub
from tests.support.uplink import (
    AUTHORITY,
    GATEWAY,
    LOG_KEY,
    NOW,
    SOURCE,
    TOPICS,
    filled_log,
    make_uplink,
    running,
    unsealer,
    until,
)

ORIGIN = origin_of(GATEWAY)
OPENED = Opened(Verdict(Outcome.CONFIRMED, Reason.OK), 7, b"receipt")
UNSEAL = unsealer(AUTHORITY.seal)


def open_order(**body: int) -> tuple[Statement, bytes]:
    issued = body.get("issued", NOW)
    wanted = Open(DoorId("street"), issued).body()
    made = Statement(Kind.OPEN, GATEWAY, os.urandom(16), NOW + 60, wanted)
    return made, envelope.sign(made, AUTHORITY.command)


class Desk:
    """Opens when it is told to, or says nothing."""

    def __init__(self, opened: Opened | None = OPENED) -> None:
        self.opened = opened
        self.orders: list[bytes] = []
        self.go = asyncio.Event()

    async def obey(self, order: Statement) -> Opened | None:
        self.orders.append(order.id)
        await self.go.wait()
        return self.opened


# --- the gateway ------------------------------------------------------------------------------
async def test_an_opening_is_answered_beside_other_orders() -> None:
    hub, log, desk = Hub(), await filled_log(3), Desk()
    uplink = make_uplink(
        log, lambda: hub.connect(*TOPICS.for_gateway), obedience=Obedience(open=desk.obey)
    )
    async with running(uplink), hub.connect(*TOPICS.for_cloud) as cloud:
        await until(lambda: TOPICS.status in hub.retained)
        orders = [open_order() for _ in range(MOST_AT_ONCE + 3)]
        asking = asyncio.create_task(ask(cloud, SOURCE, *orders[0], UNSEAL, 5.0))
        await until(lambda: len(desk.orders) == 1)
        for _, data in orders[1:]:
            hub.deliver(TOPICS.down("open"), data)
            await asyncio.sleep(0.01)
        await until(lambda: uplink.counts["ignored: busy"] == 3)
        assert len(desk.orders) == MOST_AT_ONCE
        desk.go.set()
        assert Opened.of(await asking) == OPENED
        await until(lambda: uplink.counts["answered: open"] == MOST_AT_ONCE)
        hub.deliver(TOPICS.down("open"), orders[-1][1])
        await until(lambda: uplink.counts["answered: open"] == MOST_AT_ONCE + 1)


async def test_without_a_helpdesk_there_is_no_answer_and_nobody_says_more_than_he_knows() -> None:
    hub, log, desk = Hub(), await filled_log(1), Desk(None)
    desk.go.set()
    for helpdesk, counted in ((None, "ignored: unsupported"), (desk.obey, "taken")):
        uplink = make_uplink(
            log, lambda: hub.connect(*TOPICS.for_gateway), obedience=Obedience(open=helpdesk)
        )
        async with running(uplink), hub.connect(*TOPICS.for_cloud) as cloud:
            await until(lambda u=uplink: u.standing.is_set())
            with pytest.raises(NoAnswerError) as caught:
                await ask(cloud, SOURCE, *open_order(), UNSEAL, 0.5)
            assert caught.value.online is not None
            assert uplink.counts[counted] == 1
            hub.deliver(TOPICS.down("open"), open_order(issued=NOW - 1)[1])
            await until(lambda u=uplink: u.counts.total() > 1)
    assert len(desk.orders) == 1


# --- the operator -------------------------------------------------------------------------------
async def test_only_the_gateways_own_answer_to_this_order_counts() -> None:
    hub, (order, data) = Hub(), open_order()
    topic = TOPICS.answer(order.id)
    info = answers.seal_info(ORIGIN, order.id)
    to = AUTHORITY.seal.public_key()
    other, _ = open_order()

    def answered(request: bytes, kind: Kind = Kind.OPEN, body: object = None) -> bytes:
        told = OPENED.body() if body is None else body
        return answers.sign(kind, request, told, ORIGIN, LOG_KEY)  # type: ignore[arg-type]

    good = answered(order.id)
    lies = [
        b"", b"lie", os.urandom(400), bytes(MAX_ANSWER_BYTES + 1), good,
        seal(good, b"other info", to),
        seal(answered(other.id), info, to),
        seal(answered(order.id, Kind.PULL), info, to),
        seal(good[:-1] + bytes([good[-1] ^ 1]), info, to),
    ]  # fmt: skip
    async with hub.connect(*TOPICS.for_cloud) as cloud:
        asking = asyncio.create_task(ask(cloud, SOURCE, order, data, UNSEAL, 5.0))
        await until(lambda: hub.published)
        for lie in lies:
            hub.deliver(topic, lie)
        hub.deliver(TOPICS.status, b"no status")
        hub.deliver(TOPICS.answer(other.id), seal(good, info, to))
        await asyncio.sleep(0.05)
        assert not asking.done()
        hub.deliver(topic, seal(good, info, to))
        assert Opened.of(await asking) == OPENED


@pytest.mark.parametrize("online", [None, True, False])
async def test_no_answer_says_what_the_broker_says(online: bool | None) -> None:
    hub = Hub()
    async with hub.connect(*TOPICS.for_cloud) as cloud:
        if online is not None:
            hub.deliver(TOPICS.status, encode(Status(online=online)))
        with pytest.raises(NoAnswerError) as caught:
            await ask(cloud, SOURCE, *open_order(), UNSEAL, 0.1)
        assert caught.value.online is online
