"""The operator's helpdesk opens a door: once, in time, where it may; and whoever attacks that."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.codes import Fault, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd.cloud.authority import new_key
from gatewayd.core import envelope, receipt
from gatewayd.core.answers import Opened
from gatewayd.core.envelope import Kind, Statement
from gatewayd.core.helpdesk import MAX_SEEN, MOST_A_MINUTE, Open
from gatewayd.core.model import DoorId, EntryKind, Verdict
from gatewayd.device_keys import DeviceKey, KeyDeviceError
from gatewayd.door import ALREADY_OPEN, NEVER_ASKED
from gatewayd.helpdesk import MEMORY_NAME, MOST_REFUSALS, Helpdesk
from gatewayd.ports import StorageError
from gatewayd.receipts import Receipts
from tests.support.gateway import CELLAR, GATEWAY, STREET, Building, DoorLog, Site, gateway
from tests.support.household import IMPATIENT, NOW, until

OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
ORDERED, INTENT, OUTCOME, JOINED = (
    EntryKind.ORDERED,
    EntryKind.INTENT,
    EntryKind.OUTCOME,
    EntryKind.JOINED,
)


def refused(reason: Reason) -> Verdict:
    return Verdict(Outcome.REFUSED, reason)


async def desk_of(site: Site, *enabled: str) -> Helpdesk:
    running = site.gateway
    receipts = Receipts(site.building.keys.receipt, f"gatewayd/{GATEWAY}")
    doors = tuple(map(DoorId, enabled or (STREET,)))
    return await Helpdesk.load(running.doors, doors, running.around, receipts, site.log)


def order(door: str = STREET, issued: int = NOW, lives: int = 60, **changes: object) -> Statement:
    body = Open(DoorId(door), issued).body()
    made = Statement(Kind.OPEN, GATEWAY, os.urandom(16), issued + lives, body, signer=b"k" * 8)
    return replace(made, **changes)


async def told(desk: Helpdesk, wanted: Statement) -> Verdict:
    opened = await desk.obey(wanted)
    assert opened is not None
    return opened.verdict


def abouts(site: Site, kind: EntryKind) -> list[int]:
    return [leaf.about for leaf in site.log.entries if leaf.kind is kind]


class StoppingLog(DoorLog):
    """One that takes entries up to `last`, and then hangs, as when the plug is pulled."""

    last: list[EntryKind] | None = None
    stopped = False

    async def append(self, *args, **how) -> int:
        if self.last is not None and [leaf.kind for leaf in self.entries] == self.last:
            self.stopped = True
            await asyncio.Event().wait()
        return await super().append(*args, **how)


class FailingLater(DoorLog):
    """One that remembers an order, and then takes nothing."""

    async def store(self, name: str, value: bytes) -> None:
        await super().store(name, value)
        self.failing = name == MEMORY_NAME


# --- as it should be -------------------------------------------------------------------------
async def test_it_is_recorded_by_name_before_the_lock_moves_and_certified(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        desk, wanted = await desk_of(site), order()
        opened = await desk.obey(wanted)
        assert opened is not None
        assert opened.verdict == OPENED
        assert site.kinds() == [ORDERED, INTENT, OUTCOME]
        assert site.openings == 1
        first = site.log.entries[0]
        assert first.commitment == wanted.name
        assert first.door == STREET
        assert site.log.entries[1].commitment != wanted.name
        certified = receipt.verify(opened.receipt, site.building.keys.receipt.public_key())
        assert (certified.seq, certified.token) == (2, wanted.name)
        assert (certified.outcome, certified.door) == (Outcome.CONFIRMED, STREET)


class AwayKey(DeviceKey):
    """In an element that somebody has pulled out."""

    def public_key(self) -> ec.EllipticCurvePublicKey:
        raise KeyDeviceError("it is not there")

    def exchange(self, *_: object) -> bytes:
        raise KeyDeviceError("it is not there")

    def sign(self, *_: object) -> bytes:
        raise KeyDeviceError("it is not there")


async def test_without_the_key_for_receipts_opened_is_opened(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        running, doors = site.gateway, (DoorId(STREET),)
        receipts = Receipts(AwayKey(), f"gatewayd/{GATEWAY}")
        desk = await Helpdesk.load(running.doors, doors, running.around, receipts, site.log)
        assert await desk.obey(order()) == (OPENED, 2, None)
        assert site.openings == 1


async def test_what_follows_says_by_which_order(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        await site.log.append(replace_fact(site))
        desk = await desk_of(site)
        assert await told(desk, order()) == OPENED
        assert await told(desk, order()) == ALREADY_OPEN
        assert site.kinds() == [EntryKind.STARTED, ORDERED, INTENT, OUTCOME, ORDERED, JOINED]
        assert abouts(site, INTENT) == [1]
        assert abouts(site, JOINED) == [4]
        assert site.openings == 1


def replace_fact(site: Site):
    from gatewayd.core.model import Fact  # noqa: PLC0415

    return Fact(site.gateway.timekeeper.reading(), EntryKind.STARTED, None, OPENED)


async def test_two_at_once_move_the_lock_once_and_have_an_answer_each(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        desk = await desk_of(site)
        both = await asyncio.gather(told(desk, order()), told(desk, order()))
        assert both == [OPENED, OPENED]
        assert site.openings == 1
        assert sorted(site.kinds()) == sorted([ORDERED, ORDERED, INTENT, OUTCOME, JOINED])


async def test_two_doors_at_once(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False, doors=(STREET, CELLAR)) as site:
        desk = await desk_of(site, STREET, CELLAR)
        both = await asyncio.gather(told(desk, order(STREET)), told(desk, order(CELLAR)))
        assert both == [OPENED, OPENED]
        assert site.openings == 2


async def test_a_lock_that_is_not_reached_is_refused_and_a_silent_one_unknown(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, serving=False, timing=IMPATIENT) as site:
        desk = await desk_of(site)
        assert await told(desk, order()) == OPENED  # the link stands
        await site.latch_home()
        site.building.locks[STREET].faults.mute = True
        assert await told(desk, order()) == Verdict(Outcome.UNKNOWN, Reason.LOCK_SILENT)
        await site.power_off()
        assert await told(desk, order()) == refused(Reason.LOCK_UNREACHABLE)


# --- again, late, early, elsewhere --------------------------------------------------------------
async def test_the_same_order_again_has_the_same_answer_and_opens_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        desk, wanted = await desk_of(site), order()
        first = await desk.obey(wanted)
        await site.latch_home()
        assert await desk.obey(wanted) == first
        assert site.kinds() == [ORDERED, INTENT, OUTCOME]
        # and after a restart, from the log
        again = await (await desk_of(site)).obey(wanted)
        assert first is not None
        assert again is not None
        assert (again.verdict, again.seq) == (first.verdict, first.seq)
        assert (site.openings, len(site.kinds())) == (1, 3)


async def test_twice_at_the_same_moment(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        desk, wanted = await desk_of(site), order()
        both = await asyncio.gather(desk.obey(wanted), desk.obey(wanted))
        assert both[0] == both[1]
        assert (site.openings, site.kinds()) == (1, [ORDERED, INTENT, OUTCOME])


@pytest.mark.parametrize(
    ("skipped", "verdict"),
    [(59, OPENED), (60, refused(Reason.EXPIRED)), (61, refused(Reason.EXPIRED))],
)
async def test_a_broker_that_holds_it_back(tmp_path: Path, skipped: int, verdict: Verdict) -> None:
    async with gateway(tmp_path, serving=False) as site:
        desk, wanted = await desk_of(site), order()
        site.building.clock.skip_s += skipped
        assert await told(desk, wanted) == verdict
        assert site.openings == (verdict == OPENED)


async def test_one_from_the_future_is_refused_for_good(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        desk, wanted = await desk_of(site), order(issued=NOW + 30)
        assert await told(desk, wanted) == refused(Reason.NOT_YET_VALID)
        site.building.clock.skip_s += 31
        assert await told(desk, wanted) == refused(Reason.NOT_YET_VALID)
        assert await told(await desk_of(site), wanted) == NEVER_ASKED  # restarted: refused, too
        assert site.openings == 0
        far = order(issued=NOW + 3600)
        assert await desk.obey(far) is None
        assert far.id not in desk._seen


@pytest.mark.parametrize("issued", [NOW, NOW - 100])
async def test_one_that_lives_longer_is_none(tmp_path: Path, issued: int) -> None:
    async with gateway(tmp_path, serving=False) as site:
        desk = await desk_of(site)
        for wrong in (order(lives=61), order(body=["street", issued - 1]), order(body=[])):
            with pytest.raises(RemoteProtocolError):
                await desk.obey(wrong)
        assert site.kinds() == []


async def test_where_it_is_not_enabled_or_there_is_no_such_door(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False, doors=(STREET, CELLAR)) as site:
        desk = await desk_of(site, STREET, "attic")
        closed = order(CELLAR)
        for wanted, reason in (
            (closed, Reason.ACTION_NOT_GRANTED),
            (order("attic"), Reason.UNKNOWN_DOOR),
            (order("roof"), Reason.UNKNOWN_DOOR),
        ):
            assert await told(desk, wanted) == refused(reason)
        assert site.openings == 0
        assert site.kinds() == [ORDERED] * 3  # which no order erases, as it does refusals
        assert {leaf.verdict.outcome for leaf in site.log.entries} == {Outcome.REFUSED}
        assert [leaf.door for leaf in site.log.entries] == [CELLAR, None, None]
        assert site.log.entries[0].commitment == closed.name
        # enabled since, and the daemon started anew: what was refused stays refused
        enabled = await desk_of(site, CELLAR)
        assert await told(enabled, closed) == NEVER_ASKED
        assert await told(enabled, order(CELLAR)) == OPENED


@pytest.mark.parametrize("days", [30, 3000])
async def test_no_other_clock_than_a_trusted_one(tmp_path: Path, days: int) -> None:
    async with gateway(tmp_path, serving=False) as site:
        desk = await desk_of(site)
        site.building.clock.skip_s += days * 86_400  # HOLDOVER, then UNKNOWN
        wanted = order(issued=NOW + days * 86_400)
        assert await told(desk, wanted) == refused(Reason.TIME_UNKNOWN)
        assert await told(desk, wanted) == refused(Reason.TIME_UNKNOWN)
        assert site.openings == 0
        assert await site.log.load(MEMORY_NAME) is None


# --- thieves and floods ---------------------------------------------------------------------------
async def test_who_has_no_command_key_and_who_asks_elsewhere(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        desk, authority = await desk_of(site), site.building.authority
        opened: list[Opened | None] = []

        async def obey(statement: Statement) -> None:
            opened.append(await desk.obey(statement))

        async def deliver(statement: Statement, key) -> Fault | None:
            try:
                await site.gateway.mailbox.deliver(envelope.sign(statement, key), {Kind.OPEN: obey})
            except RemoteProtocolError as error:
                return error.fault
            return None

        for key in (site.building.issuer.key, authority.time, authority.gateways, new_key()):
            assert await deliver(order(), key) is Fault.AUTHENTICATION_FAILED
        assert await deliver(order(addressee="stairwell-8"), authority.command) is Fault.UNEXPECTED
        for data in (order(number=1), order(kind=Kind.RETIRE, number=1)):
            assert await deliver(data, authority.command) in {Fault.MALFORMED, Fault.UNSUPPORTED}
        assert site.kinds() == []
        wanted = order()
        assert await deliver(wanted, authority.command) is None
        assert await deliver(wanted, authority.command) is None  # a broker's second time
        assert opened[0] == opened[1]
        assert (site.openings, site.kinds()) == (1, [ORDERED, INTENT, OUTCOME])
        # a courier's phone, which could not bring the answer back, opens nothing
        with pytest.raises(RemoteProtocolError) as caught:
            await site.gateway.mailbox.deliver(envelope.sign(order(), authority.command))
        assert caught.value.fault is Fault.UNSUPPORTED


async def test_more_than_a_helpdesk_needs_is_refused_and_does_not_fill_the_log(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, serving=False) as site:
        desk = await desk_of(site)
        verdicts = [await told(desk, order()) for _ in range(MOST_A_MINUTE + MOST_REFUSALS + 5)]
        assert verdicts[0] == OPENED
        assert set(verdicts[1:MOST_A_MINUTE]) == {ALREADY_OPEN}
        assert set(verdicts[MOST_A_MINUTE:]) == {refused(Reason.RATE_LIMITED)}
        refusals = [leaf for leaf in site.log.entries if leaf.verdict.outcome is Outcome.REFUSED]
        assert [leaf.kind for leaf in refusals] == [ORDERED] * MOST_REFUSALS
        site.building.clock.skip_s += 61
        assert await told(desk, order(issued=NOW + 61)) == OPENED


async def test_a_flood_is_not_even_considered_and_forgotten_within_minutes(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, serving=False) as site:
        desk = await desk_of(site)
        for _ in range(MAX_SEEN):
            assert await desk.obey(order("roof")) is not None
        assert await desk.obey(order()) is None
        assert len(desk._answers) <= MAX_SEEN
        site.building.clock.skip_s += 65
        assert await told(desk, order(issued=NOW + 65)) == OPENED


# --- things that fail ----------------------------------------------------------------------
async def test_a_log_that_fails_opens_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        desk, wanted = await desk_of(site), order()
        site.log.failing = True
        assert await desk.obey(wanted) is None  # could not be remembered: nothing is said
        assert site.openings == 0
        site.log.failing = False
        site.log.unreadable = True
        assert await told(desk, order()) == refused(Reason.LOG_UNAVAILABLE)
        site.log.unreadable = False
        assert await told(desk, order()) == refused(Reason.LOG_UNAVAILABLE)  # the recorder is ill
        assert await site.gateway.around.log.recover()
        assert await told(desk, order()) == OPENED


async def test_a_refusal_that_cannot_be_written_is_one_all_the_same(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False, log=FailingLater()) as site:
        desk = await desk_of(site)
        opened = await desk.obey(order("roof"))
        assert opened == Opened(refused(Reason.UNKNOWN_DOOR))


async def test_damaged_memory_is_no_start(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        await site.log.store(MEMORY_NAME, b"damaged")
        with pytest.raises(StorageError, match="damaged"):
            await desk_of(site)


async def test_whoever_goes_away_stops_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        desk, wanted = await desk_of(site), order()
        asking = asyncio.create_task(desk.obey(wanted))
        await until(lambda: ORDERED in site.kinds())
        asking.cancel()
        await asyncio.wait({asking})
        assert asking.cancelled()
        assert await told(desk, wanted) == OPENED
        assert (site.openings, site.kinds()) == (1, [ORDERED, INTENT, OUTCOME])


@pytest.mark.parametrize("upto", [[], [ORDERED], [ORDERED, INTENT]])
async def test_a_daemon_that_ends_midway_never_opens_for_it_again(
    tmp_path: Path, upto: Iterable[EntryKind]
) -> None:
    """Whatever was written is all that the next run has."""
    building, log, wanted = Building(tmp_path), StoppingLog(), order()
    log.last = list(upto)
    async with gateway(tmp_path, building=building, log=log, serving=False) as site:
        desk = await desk_of(site)
        asking = asyncio.create_task(desk.obey(wanted))
        await until(lambda: wanted.id in desk._seen and log.stopped)
        if INTENT in upto:
            await until(lambda: site.openings == 1)
        asking.cancel()
        desk._answers[wanted.id].cancel()
        await site.gateway.door.stop()
    log.last = None
    before = building.openings
    async with gateway(tmp_path, building=building, log=log, serving=False) as site:
        verdict = await told(await desk_of(site), wanted)
        assert verdict == (
            Verdict(Outcome.UNKNOWN, Reason.RESTARTED)
            if INTENT in upto
            else refused(Reason.NEVER_ASKED)
        )
        assert building.openings == before
