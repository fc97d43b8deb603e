"""One door: who opens it, who joins, what is repeated, and that nothing opens unrecorded."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_proto.codes import Action, KeyClass, Outcome, Presence, Reason
from gatewayd.core.model import INTERRUPTED, DoorId, EntryKind, Verdict
from gatewayd.core.policy import ClassSettings, DoorSettings
from gatewayd.door import ALREADY_OPEN, NEVER_ASKED, Ask, RequestConflictError, past_answer
from gatewayd.emulators.lock_faults import PowerCut
from gatewayd.opening import NOT_LOGGED
from gatewayd.refusals import MOST_A_MINUTE
from tests.support.gateway import STREET, DoorLog, Site, gateway
from tests.support.household import IMPATIENT, NOW, until

OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
UNREACHABLE = Verdict(Outcome.REFUSED, Reason.LOCK_UNREACHABLE)
SILENT = Verdict(Outcome.UNKNOWN, Reason.LOCK_SILENT)
INTENT, OUTCOME, REFUSAL, JOINED = (
    EntryKind.INTENT,
    EntryKind.OUTCOME,
    EntryKind.REFUSAL,
    EntryKind.JOINED,
)


def asking(site: Site, number: int = 1, **changes: object) -> Ask:
    """A fresh holder's tap."""
    token = site.building.token(site.building.wallet())
    ask = Ask(token, number.to_bytes(16, "big"), Action.OPEN, Presence.TAP)
    return replace(ask, **changes)


async def test_it_opens_and_says_which_entry_recorded_it(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        answer = await site.gateway.door.open(asking(site))
        assert answer.verdict == OPENED
        assert site.kinds() == [INTENT, OUTCOME]
        assert answer.record.seq == 1
        assert site.log.entries[1].about == 0
        assert site.openings == 1


async def test_the_same_request_again_has_the_same_answer(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        ask = asking(site)
        first = await site.gateway.door.open(ask)
        again = await site.gateway.door.open(ask)
        assert (again.verdict, again.record.seq) == (first.verdict, first.record.seq)
        assert (site.openings, site.kinds()) == (1, [INTENT, OUTCOME])
        with pytest.raises(RequestConflictError):
            await site.gateway.door.open(replace(ask, presence=Presence.ARRIVAL))


async def test_the_same_request_while_it_runs_shares_the_answer(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        ask = asking(site)
        both = await asyncio.gather(*(site.gateway.door.open(ask) for _ in range(2)))
        assert both[0] == both[1]
        assert (site.openings, site.kinds()) == (1, [INTENT, OUTCOME])


async def test_another_holder_joins_and_keeps_his_own_answer(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        asks = [asking(site, number) for number in range(3)]
        answers = await asyncio.gather(*(site.gateway.door.open(ask) for ask in asks))
        assert [answer.verdict for answer in answers] == [OPENED] * 3
        assert (site.openings, site.kinds()) == (1, [INTENT, OUTCOME, JOINED, JOINED])
        assert len({answer.record.seq for answer in answers}) == 3
        again = await site.gateway.door.open(asks[2])
        assert (again.verdict, again.record.seq) == (OPENED, answers[2].record.seq)


async def test_within_the_latch_time_the_door_is_open_already(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        await site.gateway.door.open(asking(site, 1))
        answer = await site.gateway.door.open(asking(site, 2))
        assert answer.verdict == ALREADY_OPEN
        assert (site.openings, site.kinds()) == (1, [INTENT, OUTCOME, JOINED])
        await site.latch_home()
        assert (await site.gateway.door.open(asking(site, 3))).verdict == OPENED
        assert site.openings == 2


async def test_who_is_not_allowed_neither_joins_nor_passes_through_an_open_door(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, serving=False, doors=("street", "cellar")) as site:
        token = site.building.token(site.building.wallet(doors=("cellar",)))
        running = asyncio.create_task(site.gateway.door.open(asking(site, 1)))
        await until(lambda: INTENT in site.kinds())
        refused = Verdict(Outcome.REFUSED, Reason.WRONG_DOOR)
        assert (await site.gateway.door.open(asking(site, 2, token=token))).verdict == refused
        assert (await running).verdict == OPENED
        assert (await site.gateway.door.open(asking(site, 3, token=token))).verdict == refused
        assert site.gateway.door.prepare(token).reason is Reason.WRONG_DOOR


async def test_it_only_opens(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False, actions=Action.OPEN | Action.BOLT) as site:
        answer = await site.gateway.door.open(asking(site, action=Action.BOLT))
        assert answer.verdict == Verdict(Outcome.REFUSED, Reason.ACTION_NOT_GRANTED)
        assert site.building.locks[STREET].machine.ledger == []


async def test_the_rate_counts_requests_of_one_holder(tmp_path: Path) -> None:
    limited = DoorSettings({KeyClass.RESIDENT: ClassSettings(rate=2)})
    async with gateway(tmp_path, serving=False, settings=limited) as site:
        ask = asking(site)
        verdicts = [
            (await site.gateway.door.open(replace(ask, request_id=bytes([n]) * 16))).verdict
            for n in range(3)
        ]
        assert verdicts == [OPENED, ALREADY_OPEN, Verdict(Outcome.REFUSED, Reason.RATE_LIMITED)]
        assert (await site.gateway.door.open(asking(site, 9))).verdict == ALREADY_OPEN
        site.building.clock.skip_s += 61
        assert (await site.gateway.door.open(replace(ask, request_id=b"x" * 16))).verdict == OPENED


# --- nothing opens unrecorded -------------------------------------------------------------
async def test_a_log_that_fails_keeps_the_door_shut(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        site.log.failing = True
        asks = [asking(site, number) for number in range(2)]
        answers = await asyncio.gather(*(site.gateway.door.open(ask) for ask in asks))
        assert [answer.verdict for answer in answers] == [NOT_LOGGED] * 2
        assert [answer.record for answer in answers] == [None] * 2
        assert (site.openings, site.kinds()) == (0, [])
        site.log.failing = False
        assert await site.gateway.around.log.recover()
        assert (await site.gateway.door.open(asks[0])).verdict == OPENED


async def test_a_log_that_cannot_be_read_keeps_the_door_shut(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        site.log.unreadable = True
        assert (await site.gateway.door.open(asking(site))).verdict == NOT_LOGGED
        assert (site.openings, site.kinds()) == (0, [])


async def test_a_log_that_hangs_keeps_the_door_shut_until_it_has_written(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False, doors=("street", "cellar")) as site:
        site.log.gate.clear()
        running = asyncio.create_task(site.gateway.door.open(asking(site)))
        await asyncio.sleep(0.3)
        assert site.building.locks[STREET].machine.ledger == []
        assert not running.done()
        site.log.gate.set()
        assert (await running).verdict == OPENED


async def test_a_refusal_is_a_refusal_also_where_it_cannot_be_recorded(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False, doors=("street", "cellar")) as site:
        token = site.building.token(site.building.wallet(doors=("cellar",)))
        site.log.failing = True
        answer = await site.gateway.door.open(asking(site, token=token))
        assert answer.verdict.reason is Reason.WRONG_DOOR


async def test_who_cannot_be_recorded_does_not_share_an_open_door(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        await site.gateway.door.open(asking(site, 1))
        site.log.failing = True
        assert (await site.gateway.door.open(asking(site, 2))).verdict == NOT_LOGGED


async def test_an_outcome_that_cannot_be_recorded_is_told_without_receipt(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        machine = site.building.locks[STREET].machine
        machine.on_turning = lambda _: setattr(site.log, "failing", True)
        ask = asking(site)
        answer = await site.gateway.door.open(ask)
        assert (answer.verdict, answer.record) == (OPENED, None)
        machine.on_turning = None
        site.log.failing = False
        assert (await site.gateway.door.open(ask)).verdict == INTERRUPTED
        assert (site.openings, len(await site.log.unsettled())) == (1, 1)


# --- locks ------------------------------------------------------------------------------------
async def test_a_lock_out_of_reach_refuses_for_certain(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False, timing=IMPATIENT) as site:
        await site.power_off()
        answer = await site.gateway.door.open(asking(site))
        assert answer.verdict == UNREACHABLE
        assert site.kinds() == [INTENT, OUTCOME]
        site.power_on()
        assert (await site.gateway.door.open(asking(site, 2))).verdict == OPENED


async def test_preparing_dials_once_for_everybody(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        ask = asking(site)
        for _ in range(3):
            assert site.gateway.door.prepare(ask.token).allowed
        await until(site.gateway.door._dialling.task.done)
        assert (await site.gateway.door.open(ask)).verdict == OPENED
        assert site.air.dials == [site.building.locks[STREET].address]


async def test_silence_is_unknown_is_not_retried_and_is_resolved_by_asking(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False, timing=IMPATIENT) as site:
        lock, door, ask = site.building.locks[STREET], site.gateway.door, asking(site)
        await site.gateway.locks[DoorId(STREET)].prepare()
        lock.faults.mute = True
        assert (await door.open(ask)).verdict == SILENT
        assert (await door.open(ask)).verdict == SILENT
        (command,) = await site.log.unresolved()
        assert not await door.resolve(command)
        lock.faults.mute = False
        await site.power_off()
        site.power_on()
        assert await door.resolve(command)
        assert site.openings == 1
        assert await site.log.unresolved() == []
        assert site.kinds() == [INTENT, OUTCOME, EntryKind.RESOLVED]
        resolved = await door.open(ask)
        assert (resolved.verdict, resolved.record.seq) == (OPENED, 2)


async def test_a_lock_that_will_never_know_is_not_asked_for_ever(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False, timing=IMPATIENT) as site:
        lock, door = site.building.locks[STREET], site.gateway.door
        lock.machine.motor_ms = 200
        lock.faults.power_cut = PowerCut.MID_TURN
        assert (await door.open(asking(site))).verdict.outcome is Outcome.UNKNOWN
        await site.power_off()
        site.power_on()
        (command,) = await site.log.unresolved()
        assert await door.resolve(command)
        assert await site.log.unresolved() == []
        assert site.log.entries[-1].kind is EntryKind.RESOLVED


async def test_one_doors_trouble_does_not_delay_another(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False, doors=("street", "cellar")) as site:
        site.building.locks["cellar"].faults.answer_after_s = 1.0
        slow = asyncio.create_task(site.gateway.doors[DoorId("cellar")].open(asking(site, 1)))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(0.8):
            assert (await site.gateway.door.open(asking(site, 2))).verdict == OPENED
        assert not slow.done()
        site.building.locks["cellar"].faults.answer_after_s = 0.0
        assert (await slow).verdict.outcome in {Outcome.CONFIRMED, Outcome.REFUSED}


# --- going away -----------------------------------------------------------------------------------
async def test_an_asker_who_goes_away_changes_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        ask = asking(site)
        asker = asyncio.create_task(site.gateway.door.open(ask))
        await until(lambda: INTENT in site.kinds())
        asker.cancel()
        await site.gateway.door.settled()
        assert (site.openings, site.kinds()) == (1, [INTENT, OUTCOME])
        assert (await site.gateway.door.open(ask)).verdict == OPENED


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_stopping_at_any_moment_of_an_opening(tmp_path: Path, turns: int) -> None:
    """Cancelled after so many turns of the loop; whatever the log says then is true."""
    log = DoorLog()
    async with gateway(tmp_path, serving=False, log=log) as site:
        ask = asking(site)
        asker = asyncio.create_task(site.gateway.door.open(ask))
        for _ in range(turns):
            await asyncio.sleep(0.001 if turns > 30 else 0)
        await site.gateway.door.stop()
        if asker.done() or site.gateway.door.running(b"") is None:
            await asyncio.wait({asker}, timeout=1)
        await site.gateway.door.settled()
        asker.cancel()
        await asyncio.wait({asker})
        unsettled = await log.unsettled()
        assert site.openings <= site.kinds().count(INTENT)
        assert len(unsettled) == site.kinds().count(INTENT) - site.kinds().count(OUTCOME)
        if not asker.cancelled():
            verdict = asker.result().verdict
            assert verdict in {INTERRUPTED, OPENED}
            assert verdict == INTERRUPTED or OUTCOME in site.kinds()


async def test_nobody_waits_for_an_opening_that_was_stopped(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        site.building.locks[STREET].machine.motor_ms = 2000
        asker = asyncio.create_task(site.gateway.door.open(asking(site)))
        joiner = asyncio.create_task(site.gateway.door.open(asking(site, 2)))
        await until(lambda: INTENT in site.kinds())
        await site.gateway.door.stop()
        async with asyncio.timeout(1):
            await site.gateway.door.settled()
            assert (await asker).verdict == INTERRUPTED
            assert (await joiner).verdict == INTERRUPTED


def test_what_the_log_does_not_know_was_never_asked() -> None:
    assert past_answer(None).verdict == NEVER_ASKED


# --- what a second link of the same holder hears ---------------------------------------------
async def test_who_joined_and_asks_again_hears_the_same_and_moves_nothing(tmp_path: Path) -> None:
    """He asks again between the end of the opening and the entry that says that he shared it."""
    async with gateway(tmp_path, serving=False) as site:
        site.building.locks[STREET].machine.blocked = True
        site.building.locks[STREET].machine.motor_ms = 200
        door, joiner = site.gateway.door, asking(site, 2)
        first = asyncio.create_task(door.open(asking(site, 1)))
        await until(lambda: site.kinds() == [INTENT])
        joined = asyncio.create_task(door.open(joiner))
        await asyncio.sleep(0)
        async with door._gate:  # somebody else asks the log, while the opening ends
            await until(lambda: site.kinds() == [INTENT, OUTCOME])
            again = asyncio.create_task(door.open(joiner))
            await asyncio.sleep(0.01)
        answers = await asyncio.gather(first, joined, again)
        assert {answer.verdict for answer in answers} == {Verdict(Outcome.REFUSED, Reason.JAMMED)}
        assert answers[1] == answers[2]
        assert site.kinds() == [INTENT, OUTCOME, JOINED]


async def test_a_joiner_may_ask_what_became_of_it_while_it_runs(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        site.building.locks[STREET].machine.motor_ms = 100
        door, joiner = site.gateway.door, asking(site, 2)
        first = asyncio.create_task(door.open(asking(site, 1)))
        joined = asyncio.create_task(door.open(joiner))
        await until(lambda: site.kinds() == [INTENT])
        asked = site.gateway.phones._holders._result_of(joiner.token, joiner.request_id)
        assert (await asked).verdict == OPENED
        assert {answer.verdict for answer in await asyncio.gather(first, joined)} == {OPENED}


async def test_a_holder_cannot_fill_the_log_with_refusals(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False) as site:
        counting = asyncio.create_task(site.gateway.around.refusals.count())
        late = site.building.token(site.building.wallet(expires=NOW - 60))
        other = site.building.token(site.building.wallet(expires=NOW - 60))
        for number in range(MOST_A_MINUTE + 5):
            answer = await site.gateway.door.open(asking(site, number, token=late))
            assert answer.verdict == Verdict(Outcome.REFUSED, Reason.EXPIRED)
        assert site.kinds() == [REFUSAL] * MOST_A_MINUTE
        await site.gateway.door.open(asking(site, 1, token=other))
        assert site.kinds() == [REFUSAL] * (MOST_A_MINUTE + 1), "others are written as ever"
        site.building.clock.skip_s += 61
        await until(lambda: len(site.kinds()) == MOST_A_MINUTE + 2, 4.0)
        last = site.log.entries[-1]
        assert (last.kind, last.verdict.reason, last.about) == (REFUSAL, Reason.RATE_LIMITED, 5)
        await site.gateway.door.open(asking(site, 99, token=late))
        assert site.log.entries[-1].verdict.reason is Reason.EXPIRED
        counting.cancel()
