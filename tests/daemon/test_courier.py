"""Phones that carry: what they bring is judged by who signed it, and bounded whoever they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.codes import MAX_PIECE_BYTES, Fault, Item, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.messages import FaultMessage, Message, encode
from firmware_proto.phone_messages import Chunk, Collect, Deliver, Result
from gatewayd.cloud.authority import DAY_S, IssuerKey
from gatewayd.core import envelope
from gatewayd.core.carrying import OF_A_CONNECTION, PIECE_COSTS
from gatewayd.core.claims import StatusReference
from gatewayd.core.envelope import Kind, Statement, TimeAnswer
from gatewayd.core.model import ClockState
from gatewayd.core.timekeeping import FRESH_S, TimeRefusal, TimeRefusedError
from gatewayd.courier import Bag, Courier
from gatewayd.emulators.visit import Visit
from gatewayd.ports import LinkClosedError, StorageError
from gatewayd.timekeeper import ASK_S, SignedTime, Timekeeper
from tests.daemon.test_lists import URI, signed
from tests.daemon.test_phones import opening, said, visiting
from tests.daemon.test_timekeeper import HandClock
from tests.support.gateway import GATEWAY, GROUP, STREET, Site, gateway
from tests.support.household import NOW, Dice
from tests.support.memory_log import MemoryLog

ONE = b"1" * 16


def pieces(data: bytes, request: bytes = ONE, size: int = MAX_PIECE_BYTES) -> list[Deliver]:
    return [
        Deliver(request, offset, len(data), data[offset : offset + size])
        for offset in range(0, len(data), size)
    ]


async def brought(there: Visit, data: bytes, request: bytes = ONE) -> tuple[Outcome, Reason]:
    """All pieces; what became of the whole."""
    *before, last = pieces(data, request)
    for piece in before:
        assert said(await there.ask(piece)) == (Outcome.CONFIRMED, Reason.OK)
    return said(await there.ask(last))


def time_statement(site: Site, nonce: bytes, **changes: Any) -> bytes:
    answer = TimeAnswer(nonce, changes.pop("time_s", NOW + 5))
    plain = Statement(Kind.TIME, GATEWAY, os.urandom(16), NOW + 600, answer.body())
    key = changes.pop("key", site.building.authority.time)
    return envelope.sign(replace(plain, **changes), key)


# --- lists ----------------------------------------------------------------------------------
async def test_a_phone_brings_a_list_and_a_key_is_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        issuer = site.building.issuer
        lost = site.building.wallet(status=StatusReference(5, URI))
        # many keys, so that it takes many pieces
        long = bytes(os.urandom(9000))
        data = signed(issuer, statuses=b"\x20" + long)
        assert len(pieces(data)) > 5
        async with visiting(site) as there:
            assert await brought(there, data) == (Outcome.CONFIRMED, Reason.OK)
            again = await brought(there, data)
            assert again == (Outcome.CONFIRMED, Reason.NOTHING_NEW)
            older = signed(issuer, issued_at=NOW - 100)
            assert await brought(there, older) == (Outcome.CONFIRMED, Reason.NOTHING_NEW)
            assert said(await there.ask(opening())) == (Outcome.CONFIRMED, Reason.OK)
        report = await site.phone(lost).open_door(STREET)
        assert (report.outcome, report.reason) == (Outcome.REFUSED, Reason.REVOKED)
        assert site.gateway.phones._courier.counts["delivered: ok"] == 1


async def test_whoever_is_revoked_may_still_carry(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        lost = site.building.wallet(status=StatusReference(0, URI))
        async with visiting(site, lost) as there:
            data = signed(site.building.issuer, (0,))
            assert await brought(there, data) == (Outcome.CONFIRMED, Reason.OK)
            newer = signed(site.building.issuer, (0,), issued_at=NOW - 1)
            assert await brought(there, newer) == (Outcome.CONFIRMED, Reason.OK)
            assert said(await there.ask(opening())) == (Outcome.REFUSED, Reason.REVOKED)


async def test_what_nobody_signed_is_not_believed(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        good = signed(site.building.issuer)
        for wrong in (
            signed(IssuerKey.create("housing")),
            b"\xd2" + os.urandom(50),
            os.urandom(5000),
            good[:-1],
            good + b"\0",
            signed(site.building.issuer, expires=NOW - 1),
        ):
            async with visiting(site) as there:
                assert await brought(there, wrong) == (Outcome.REFUSED, Reason.NOT_BELIEVED)
                assert await brought(there, good) in {
                    (Outcome.CONFIRMED, Reason.OK),
                    (Outcome.CONFIRMED, Reason.NOTHING_NEW),
                }


async def test_a_full_disk_is_told_and_the_list_is_heeded(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site, visiting(site) as there:
        site.log.failing = True
        data = signed(site.building.issuer, (5,))
        assert await brought(there, data) == (Outcome.REFUSED, Reason.LOG_UNAVAILABLE)
        assert not site.gateway.around.lists.held["housing", URI].vouches_for(5)
        site.log.failing = False
        assert await brought(there, data) == (Outcome.CONFIRMED, Reason.NOTHING_NEW)


# --- pieces -----------------------------------------------------------------------------------
async def test_pieces_that_do_not_follow_cost_the_delivery_and_not_the_link(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path) as site, visiting(site) as there:
        data = signed(site.building.issuer)
        first, second, *_ = pieces(data, size=50)
        assert await there.ask(second) == FaultMessage(ONE, Fault.UNEXPECTED)
        assert said(await there.ask(first)) == (Outcome.CONFIRMED, Reason.OK)
        assert await there.ask(first) == FaultMessage(ONE, Fault.UNEXPECTED)
        assert await there.ask(second) == FaultMessage(ONE, Fault.UNEXPECTED)
        assert await brought(there, data) == (Outcome.CONFIRMED, Reason.OK)


async def test_half_a_delivery_dies_with_its_connection(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        wallet = site.building.wallet()
        first, *rest = pieces(signed(site.building.issuer), size=50)
        async with visiting(site, wallet) as there:
            await there.ask(first)
        async with visiting(site, wallet) as there:
            assert await there.ask(rest[0]) == FaultMessage(ONE, Fault.UNEXPECTED)


async def test_a_hostile_courier_is_limited_and_others_are_not(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        hostile = site.building.wallet()
        per_piece = PIECE_COSTS + 1
        fits = OF_A_CONNECTION // per_piece
        for _ in range(2):
            async with visiting(site, hostile) as there:
                for number in range(fits):
                    answer = await there.ask(Deliver(number.to_bytes(16, "big"), 0, 1, b"x"))
                    assert said(answer) == (Outcome.REFUSED, Reason.NOT_BELIEVED)
                answer = await there.ask(Deliver(ONE, 0, 1, b"x"))
                assert said(answer) == (Outcome.REFUSED, Reason.RATE_LIMITED)
        async with visiting(site, hostile) as there:
            for _ in range(4):
                answer = await there.ask(Deliver(ONE, 0, 1, b"x"))
            assert said(answer) == (Outcome.REFUSED, Reason.RATE_LIMITED)
            assert said(await there.ask(opening())) == (Outcome.CONFIRMED, Reason.OK)
        async with visiting(site) as there:
            data = signed(site.building.issuer)
            assert await brought(there, data) == (Outcome.CONFIRMED, Reason.OK)


async def test_a_stranger_carries_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        stranger = site.building.wallet(issuer=IssuerKey.create("stranger"))
        async with visiting(site, stranger) as there:
            assert await there.ask(pieces(signed(site.building.issuer))[0]) is None
        assert site.gateway.around.lists.held == {}


# --- time -------------------------------------------------------------------------------------
async def test_a_phone_with_a_network_brings_the_time(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        site.building.clock.skip_s += ASK_S  # so that time is wanted, and its bound has grown
        async with visiting(site) as there:
            asked = await there.collect(Collect(ONE, Item.TIME_QUESTION, 0))
            assert isinstance(asked, Chunk)
            nonce = asked.data
            assert (len(nonce), asked.offset, asked.total) == (16, 0, 16)
            for wrong in (
                time_statement(site, nonce, key=site.building.authority.command),
                time_statement(site, nonce, addressee="another"),
                time_statement(site, nonce, expires=NOW - 100),
                time_statement(site, nonce, kind=Kind.PULL),
                time_statement(site, os.urandom(16)),
                time_statement(site, nonce, time_s=NOW - 100),
            ):
                assert await brought(there, wrong) == (Outcome.REFUSED, Reason.NOT_BELIEVED)
            good = time_statement(
                site, nonce, time_s=NOW + 7 * DAY_S, expires=NOW + 8 * DAY_S, addressee=GROUP
            )
            assert await brought(there, good) == (Outcome.CONFIRMED, Reason.OK)
            reading = site.gateway.timekeeper.reading()
            assert reading.state is ClockState.TRUSTED
            assert reading.now_s >= NOW + 7 * DAY_S
            assert reading.bound_s < 10
            known = site.gateway.timekeeper.known
            assert await brought(there, good) == (Outcome.CONFIRMED, Reason.NOTHING_NEW)
            again = await there.collect(Collect(ONE, Item.TIME_QUESTION, 0))
            assert said(again) == (Outcome.CONFIRMED, Reason.NOTHING_NEW)
        async with visiting(site) as there:
            assert await brought(there, good) == (Outcome.CONFIRMED, Reason.NOTHING_NEW)
            other = time_statement(site, nonce, time_s=NOW + 8 * DAY_S, expires=NOW + 9 * DAY_S)
            assert await brought(there, other) == (Outcome.REFUSED, Reason.NOT_BELIEVED)
        assert site.gateway.timekeeper.known == known


async def test_an_answer_that_was_kept_back_is_no_time(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site, visiting(site) as there:
        asked = await there.collect(Collect(ONE, Item.TIME_QUESTION, 0))
        assert isinstance(asked, Chunk)
        before = site.gateway.timekeeper.known
        site.building.clock.skip_s += FRESH_S + 1
        late = time_statement(site, asked.data)
        assert await brought(there, late) == (Outcome.REFUSED, Reason.NOT_BELIEVED)
        assert site.gateway.timekeeper.known == before


async def test_no_phone_can_spoil_the_question_of_another_or_of_the_uplink() -> None:
    clock = HandClock()
    times = SignedTime(await Timekeeper.load(clock, MemoryLog(), battery_clock=False), Dice())
    courier = Courier(_nothing, lambda: times.question(FRESH_S), lambda: clock.boottime_s)
    of_uplink = times.question()
    assert of_uplink is not None
    assert isinstance(courier.collect(Collect(ONE, Item.TIME_QUESTION, 0)), Result)
    await times.answered(of_uplink, NOW)
    clock.forward(ASK_S + 1)
    of_phone = courier.collect(Collect(ONE, Item.TIME_QUESTION, 0))
    assert isinstance(of_phone, Chunk)
    clock.forward(1.5)
    assert isinstance(courier.collect(Collect(ONE, Item.TIME_QUESTION, 0)), Result)
    of_uplink = times.question()  # goes before the phone's
    assert of_uplink is not None
    with pytest.raises(TimeRefusedError):
        await times.answered(of_phone.data, NOW + 30_000)
    await times.answered(of_uplink, NOW + 30_000)


async def test_an_offset_beyond_the_end(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site, visiting(site) as there:
        asked = await there.collect(Collect(ONE, Item.TIME_QUESTION, 16))
        assert asked == FaultMessage(ONE, Fault.UNEXPECTED)


# --- whatever comes -----------------------------------------------------------------------------
async def _nothing(_data: bytes) -> None:
    """Takes everything, keeps nothing."""


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (lambda: None, (Outcome.CONFIRMED, Reason.OK)),
        (lambda: _raise(RemoteProtocolError(Fault.REPLAYED, "")), (1, Reason.NOTHING_NEW)),
        (lambda: _raise(RemoteProtocolError(Fault.BUSY, "")), (2, Reason.BUSY)),
        (lambda: _raise(RemoteProtocolError(Fault.TOO_LARGE, "")), (2, Reason.NOT_BELIEVED)),
        (lambda: _raise(TimeRefusedError(TimeRefusal.TOO_LATE)), (2, Reason.NOT_BELIEVED)),
        (lambda: _raise(StorageError("full")), (2, Reason.LOG_UNAVAILABLE)),
    ],
)
async def test_every_end_has_its_answer(outcome: Callable[[], None], verdict: Any) -> None:
    async def take(_data: bytes) -> None:
        outcome()

    bag = Bag(Courier(take, lambda: None, lambda: 0.0), b"holder")
    assert said(await bag.answer(Deliver(ONE, 0, 1, b"x"))) == verdict


def _raise(error: Exception) -> None:
    raise error


MESSAGES = st.builds(
    Deliver,
    st.sampled_from([ONE, b"2" * 16]),
    st.integers(0, 9),
    st.integers(1, 9),
    st.binary(min_size=1, max_size=9),
) | st.builds(Collect, st.just(ONE), st.sampled_from(Item), st.integers(0, 65_535))


@given(st.lists(MESSAGES, max_size=30))
@settings(max_examples=50, deadline=None)
async def test_every_message_has_one_answer_that_can_be_sent(messages: list[Message]) -> None:
    whole: list[bytes] = []

    async def take(data: bytes) -> None:
        whole.append(data)

    bag = Bag(Courier(take, lambda: bytes(16), lambda: 0.0), b"holder")
    for message in messages:
        assert isinstance(message, Deliver | Collect)
        answer = await bag.answer(message)
        assert answer.request == message.request  # type: ignore[union-attr] # each has one
        assert encode(answer)
    assert all(0 < len(data) <= 9 for data in whole)


async def test_a_gateway_that_stops_answers_who_waits(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site, visiting(site) as there:
        assert await brought(there, signed(site.building.issuer))
        await site.gateway.phones.drain()
        with pytest.raises(LinkClosedError):
            await there.ask(pieces(b"x")[0])
