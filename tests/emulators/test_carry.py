"""The emulated courier against a real gateway, on links that break and services that lie."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from firmware_proto.codes import Outcome, Reason
from gatewayd.cloud.authority import IssuerKey
from gatewayd.core.model import ClockState
from gatewayd.emulators.carry import Carried, TimeService, deliver, prove_time
from gatewayd.emulators.phone import Patience
from gatewayd.timekeeper import ASK_S
from tests.daemon.test_courier import time_statement
from tests.daemon.test_lists import URI, signed
from tests.support.gateway import GATEWAY, GATEWAY_ADDRESS, STREET, Site, gateway
from tests.support.links import FakeAir


def said(carried: Carried) -> tuple[Outcome, Reason]:
    return carried.verdict.outcome, carried.verdict.reason


def service(site: Site, answers: Callable[[bytes], list[bytes]]) -> TimeService:
    @asynccontextmanager
    async def asked(
        name: str, nonce: bytes
    ) -> AsyncIterator[Callable[[], Awaitable[bytes | None]]]:
        assert name == GATEWAY
        left = iter(answers(nonce))

        async def answer() -> bytes | None:
            return next(left, None)

        yield answer

    return asked


@pytest.mark.parametrize("mtu", [23, 185, 517])
async def test_a_list_of_any_size_over_any_link(tmp_path: Path, mtu: int) -> None:
    async with gateway(tmp_path, air=FakeAir(mtu=mtu)) as site:
        phone = site.phone()
        data = signed(site.building.issuer, statuses=os.urandom(4000))
        carried = await deliver(phone, STREET, data)
        assert said(carried) == (Outcome.CONFIRMED, Reason.OK)
        assert carried.gateway == GATEWAY
        assert said(await deliver(phone, STREET, data)) == (Outcome.CONFIRMED, Reason.NOTHING_NEW)
        assert ("housing", URI) in site.gateway.around.lists.held
        assert said(await deliver(phone, STREET, b"")) == (Outcome.REFUSED, Reason.NOT_BELIEVED)


async def test_a_link_that_breaks_is_tried_again(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        phone = site.phone(patience=Patience(attempts=3))
        data = signed(site.building.issuer, statuses=os.urandom(4000))
        site.log.gate.clear()  # the last piece waits for the disk
        task = asyncio.create_task(deliver(phone, STREET, data))
        async with asyncio.timeout(5):
            while ("housing", URI) not in site.gateway.around.lists.held:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        site.air.vanish(GATEWAY_ADDRESS)
        site.air.appear(GATEWAY_ADDRESS)
        site.log.gate.set()
        assert said(await task)[0] is Outcome.CONFIRMED


async def test_time_from_a_service_among_lies(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        site.building.clock.skip_s += ASK_S
        phone = site.phone()

        def answers(nonce: bytes) -> list[bytes]:
            return [
                b"",
                b"nonsense",
                time_statement(site, os.urandom(16)),
                time_statement(site, nonce, time_s=1_790_030_000, expires=1_790_090_000),
            ]

        carried = await prove_time(phone, STREET, service(site, answers))
        assert said(carried) == (Outcome.CONFIRMED, Reason.OK)
        reading = site.gateway.timekeeper.reading()
        assert (reading.state, reading.now_s >= 1_790_030_000) == (ClockState.TRUSTED, True)
        again = await prove_time(phone, STREET, service(site, answers))
        assert said(again) == (Outcome.CONFIRMED, Reason.NOTHING_NEW)


async def test_a_service_that_says_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        carried = await prove_time(site.phone(), STREET, service(site, lambda _: []))
        assert said(carried) == (Outcome.UNKNOWN, Reason.LOCK_SILENT)


async def test_a_stranger_is_turned_away(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        phone = site.phone(site.building.wallet(audience="another"))
        assert said(await deliver(phone, STREET, b"x")) == (
            Outcome.REFUSED,
            Reason.WRONG_GATEWAY_DOOR,
        )
        stranger = site.phone(site.building.wallet(issuer=IssuerKey.create("stranger")))
        assert said(await deliver(stranger, STREET, b"x")) == (Outcome.REFUSED, Reason.STRANGER)
        assert said(await deliver(site.phone(), "attic", b"x")) == (
            Outcome.REFUSED,
            Reason.WRONG_GATEWAY_DOOR,
        )
