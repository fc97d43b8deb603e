"""Status lists at a gateway: what is in force, what is durable, and that doors heed it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_proto.codes import Fault, KeyClass, Outcome, Reason
from firmware_proto.cose import key_id
from firmware_proto.errors import RemoteProtocolError
from gatewayd.adapters.sqlite import open_log
from gatewayd.cloud.authority import DAY_S, Authority, IssuerKey
from gatewayd.core import statuslist
from gatewayd.core.claims import StatusReference
from gatewayd.core.policy import ClassSettings, DoorSettings
from gatewayd.core.statuslist import StatusList
from gatewayd.lists import OF_ONE_ISSUER, PLACES, StatusLists, memory_name
from gatewayd.ports import StorageError
from gatewayd.ports.storage import Memory
from gatewayd.status import ListStatus
from gatewayd.timekeeper import Timekeeper
from tests.daemon.test_timekeeper import HandClock, trusted
from tests.support.gateway import STREET, gateway
from tests.support.household import NOW
from tests.support.memory_log import MemoryLog

HOUSING, PARCELS = IssuerKey.create("housing"), IssuerKey.create("parcels")
AUTHORITY = Authority.create("vestergade-7", HOUSING, PARCELS)
URI = "https://lists.example/1"


def stated(
    issuer: IssuerKey = HOUSING, revoked: tuple[int, ...] = (), **changes: object
) -> StatusList:
    statuses = sum(1 << index for index in revoked).to_bytes(2, "little")
    signer = key_id(issuer.limits.key)
    plain = StatusList(issuer.limits.name, URI, NOW - 60, NOW + 60 * DAY_S, 1, statuses, signer)
    return replace(plain, **changes)


def signed(issuer: IssuerKey = HOUSING, revoked: tuple[int, ...] = (), **changes: object) -> bytes:
    return statuslist.sign(stated(issuer, revoked, **changes), issuer.key)


async def load(memory: Memory, timekeeper: Timekeeper | None = None, authority=AUTHORITY):
    timekeeper = timekeeper or await trusted(HandClock(), MemoryLog())
    return await StatusLists.load(authority.trust, memory, timekeeper)


async def fault_of(lists: StatusLists, data: bytes) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        await lists.deliver(data)
    return caught.value.fault


# --- what is held ------------------------------------------------------------------------
async def test_a_list_survives_a_restart_on_a_real_disk(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.db") as log:
        lists = await load(log)
        assert await lists.deliver(signed(revoked=(3,)))
        assert await lists.deliver(signed(PARCELS))
    async with open_log(tmp_path / "log.db") as log:
        lists = await load(log)
        assert set(lists.held.values()) == {stated(revoked=(3,)), stated(PARCELS)}
        assert not await lists.deliver(signed(revoked=(3,)))
        older = signed(issued_at=NOW - 61)
        assert await fault_of(lists, older) is Fault.REPLAYED


async def test_the_newest_list_is_held_whatever_the_order() -> None:
    lists = await load(MemoryLog())
    newer = signed(revoked=(1,), issued_at=NOW - 5)
    assert await lists.deliver(newer)
    assert await fault_of(lists, signed()) is Fault.REPLAYED
    assert not await lists.deliver(newer)
    assert lists.held == {("housing", URI): stated(revoked=(1,), issued_at=NOW - 5)}


async def test_a_burst_leaves_the_newest_on_the_disk() -> None:
    memory = MemoryLog()
    lists = await load(memory)
    memory.gate.clear()
    steps = [
        asyncio.create_task(lists.deliver(signed(issued_at=NOW - back))) for back in (50, 40, 30)
    ]
    await asyncio.sleep(0)
    memory.gate.set()
    assert await asyncio.gather(*steps) == [True] * 3
    assert (await load(memory)).held == lists.held
    assert lists.held["housing", URI].issued_at == NOW - 30


async def test_a_list_that_could_not_be_kept_is_in_force_and_can_be_kept_later() -> None:
    memory = MemoryLog()
    lists = await load(memory)
    memory.failing = True
    with pytest.raises(StorageError):
        await lists.deliver(signed(revoked=(3,)))
    assert not lists.held["housing", URI].vouches_for(3)
    assert (await load(memory)).held == {}
    memory.failing = False
    assert not await lists.deliver(signed(revoked=(3,)))
    assert (await load(memory)).held == lists.held


async def test_what_was_kept_counts_only_while_its_signer_is_named(caplog) -> None:
    memory = MemoryLog()
    await (await load(memory)).deliver(signed())
    without = Authority.create("vestergade-7", PARCELS)
    lists = await load(memory, authority=without)
    assert lists.held == {}
    assert "no longer believed" in caplog.text
    assert await fault_of(lists, signed()) is Fault.AUTHENTICATION_FAILED
    assert (await load(memory)).held == {("housing", URI): stated()}


async def test_a_damaged_value_costs_one_list_and_nothing_more() -> None:
    memory = MemoryLog()
    lists = await load(memory)
    await lists.deliver(signed())
    await lists.deliver(signed(PARCELS))
    await memory.store(memory_name(0), b"damaged")
    assert list((await load(memory)).held) == [("parcels", URI)]


async def test_of_two_lists_of_one_name_the_newer_one_counts() -> None:
    memory = MemoryLog()
    newer, older = signed(issued_at=NOW - 1), signed(issued_at=NOW - 2)
    for first, second in ((newer, older), (older, newer)):
        await memory.store(memory_name(0), first)
        await memory.store(memory_name(1), second)
        lists = await load(memory)
        assert [each.issued_at for each in lists.held.values()] == [NOW - 1]


async def test_one_issuer_fills_his_own_places_only() -> None:
    clock, memory = HandClock(), MemoryLog()
    timekeeper = await trusted(clock, MemoryLog())
    lists = await load(memory, timekeeper)
    for number in range(OF_ONE_ISSUER):
        assert await lists.deliver(signed(uri=f"u{number}", expires=NOW + 100 + number))
    assert await fault_of(lists, signed(uri="more")) is Fault.BUSY
    assert await lists.deliver(signed(PARCELS))
    assert await lists.deliver(signed(uri="u3", issued_at=NOW - 1))  # its own place
    clock.forward(102)
    assert await fault_of(lists, signed(uri="more", expires=NOW + 101)) is Fault.CLOCK_EXPIRED
    assert await lists.deliver(signed(uri="more"))
    assert ("housing", "u0") not in lists.held
    assert len(lists.held) == OF_ONE_ISSUER + 1
    assert (await load(memory)).held == lists.held


async def test_a_dropped_issuer_gives_his_places_up() -> None:
    memory = MemoryLog()
    many = [IssuerKey.create(f"issuer-{number}") for number in range(PLACES // OF_ONE_ISSUER)]
    named = [*many]
    trust = lambda: Authority.create("g", *named).trust()  # noqa: E731
    lists = await StatusLists.load(trust, memory, await trusted(HandClock(), MemoryLog()))
    for issuer in many:
        for number in range(OF_ONE_ISSUER):
            assert await lists.deliver(signed(issuer, uri=f"u{number}"))
    named.append(HOUSING)
    assert await fault_of(lists, signed()) is Fault.BUSY
    named.remove(many[0])
    assert await lists.deliver(signed())
    assert len(lists.held) == PLACES


async def test_the_report_names_lists_and_nobody() -> None:
    lists = await load(MemoryLog())
    await lists.deliver(signed(revoked=(1, 2)))
    assert lists.report() == (ListStatus(issuer="housing", uri=URI, issued_at=NOW - 60),)


# --- doors ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("key_class", "without"),
    [
        (KeyClass.RESIDENT, Reason.OK),
        (KeyClass.SERVICE, Reason.STALE_LIST),
        (KeyClass.GUEST, Reason.STALE_LIST),
        (KeyClass.EMERGENCY, Reason.OK),
    ],
)
async def test_a_phone_is_refused_once_its_key_is_on_the_list(
    tmp_path: Path, key_class: KeyClass, without: Reason
) -> None:
    async with gateway(tmp_path) as site:
        issuer = site.building.issuer
        wallet = site.building.wallet(status=StatusReference(5, URI), key_class=key_class)
        phone = site.phone(wallet)
        lists = site.gateway.around.lists

        first = await phone.open_door(STREET)
        assert first.reason is without
        await site.latch_home()
        await lists.deliver(signed(issuer, (4, 6)))
        second = await phone.open_door(STREET)
        assert second.outcome is Outcome.CONFIRMED
        opened = site.openings
        await site.latch_home()
        await lists.deliver(signed(issuer, (5,), issued_at=NOW - 10))
        third = await phone.open_door(STREET)
        assert (third.outcome, third.reason) == (Outcome.REFUSED, Reason.REVOKED)
        assert site.openings == opened
        other = await site.phone(site.building.wallet()).open_door(STREET)
        assert other.outcome is Outcome.CONFIRMED


async def test_a_door_can_want_fresher_lists_than_others(tmp_path: Path) -> None:
    settings = DoorSettings({KeyClass.RESIDENT: ClassSettings(stale_list_s=30)})
    async with gateway(tmp_path, settings=settings) as site:
        phone = site.phone(site.building.wallet(status=StatusReference(5, URI)))
        lists = site.gateway.around.lists
        await lists.deliver(signed(site.building.issuer))
        assert (await phone.open_door(STREET)).reason is Reason.STALE_LIST
        await lists.deliver(signed(site.building.issuer, issued_at=NOW - 5))
        assert (await phone.open_door(STREET)).reason is Reason.OK
