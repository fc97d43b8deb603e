"""The daemon between a lock that is bluezero and a phone that is bleak, on real bluetoothd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.system.house import LATCH_S
from tests.system.peers import Peers, open_peers
from tests.system.place import ADAPTER

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peers(tmp_path_factory) -> AsyncIterator[Peers]:
    from tests.system.bluetoothd import the_bluetoothd  # noqa: PLC0415 - in the machine only

    the_bluetoothd().make_sure()
    async with open_peers(the_bluetoothd(), tmp_path_factory.mktemp("peers")) as peers:
        yield peers


async def test_bleaks_phone_sees_the_gateway_and_no_lock(peers: Peers, stopwatch):
    stopwatch.lap_s()
    ran = await peers.phone("scan", "--time", "4", "--json")
    stopwatch.say("phone scan --time 4", stopwatch.lap_s())
    assert [each["address"] for each in ran.json] == [ADAPTER]


async def test_bleaks_phone_opens_bluezeros_lock(peers: Peers, stopwatch):
    anna = peers.wallet("anna")
    for number in range(3):
        before = peers.lock.openings
        report = await peers.opens(anna)
        stopwatch.say(f"opening {number}, as the phone tells it,", report["seconds"])
        assert (report["outcome"], report["reason"]) == ("confirmed", "ok")
        assert peers.lock.openings == before + 1
        assert report["receipt"]
        await asyncio.sleep(LATCH_S)


async def test_an_old_key_is_refused(peers: Peers):
    before = peers.lock.openings
    report = await peers.opens(peers.wallet("old", valid=(-7200, -3600)))
    assert (report["outcome"], report["reason"]) == ("refused", "expired")
    assert peers.lock.openings == before


async def test_the_lock_loses_power_and_is_resumed(peers: Peers, stopwatch):
    bo = peers.wallet("bo")
    before = peers.lock.openings
    await peers.lock.kill()
    assert (await peers.opens(bo))["outcome"] in {"refused", "unknown"}
    await peers.lock.start()
    stopwatch.lap_s()
    async with asyncio.timeout(30):
        while (report := await peers.opens(bo))["outcome"] != "confirmed":
            await asyncio.sleep(0.5)
    stopwatch.say("lock advertises again -> opened", stopwatch.lap_s())
    assert report["reason"] == "ok"
    assert peers.lock.openings >= before + 1
