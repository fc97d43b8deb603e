"""Doors of a gateway whose log takes nothing: who gets in, what is kept, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from firmware_proto.codes import Action, KeyClass, Outcome, Presence, Reason
from gatewayd.adapters.reserve import open_reserve
from gatewayd.adapters.sqlite import open_log
from gatewayd.core import reserve as slots
from gatewayd.core.audit import Leaf
from gatewayd.core.model import (
    INTERRUPTED,
    Asked,
    Command,
    CommandId,
    DoorId,
    EntryKind,
    Fact,
    Verdict,
)
from gatewayd.core.policy import ClassSettings, DoorSettings
from gatewayd.door import Ask
from gatewayd.noticed_memory import NoticedMemory
from gatewayd.ports import StorageError
from gatewayd.recorder import Recorder
from gatewayd.status import StorageStatus
from tests.support.gateway import STREET, DoorLog, gateway
from tests.support.household import until

OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
FULL = Verdict(Outcome.REFUSED, Reason.LOG_FULL)
KINDS = EntryKind
PATIENCE_S = 0.2


class FullLog(DoorLog):
    """Full while it fails; its reading can be made to fail, too."""

    async def _ready_to_write(self) -> None:
        await self.gate.wait()
        if self.failing:
            raise StorageError("no space left", reason=Reason.LOG_FULL)


class BrokenReserve:
    async def read(self):
        return []

    async def write(self, slot, data):
        raise StorageError("the reserve, too", reason=Reason.LOG_IO_ERROR)

    async def clear(self):
        raise AssertionError


def of_class(site, key_class: KeyClass, number: int = 1) -> Ask:
    token = site.building.token(site.building.wallet(key_class=key_class))
    return Ask(token, bytes([number]) * 16, Action.OPEN, Presence.TAP)


@pytest.fixture(autouse=True)
def _patient_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks that hang have tests of their own; this one is shared with whatever else is tested."""
    monkeypatch.setattr("gatewayd.adapters.reserve.PATIENCE_S", 20.0)


@asynccontextmanager
async def site_with_reserve(tmp_path: Path, log=None, **more):
    async with (
        open_reserve(tmp_path / "reserve") as reserve,
        gateway(tmp_path, serving=False, log=log or FullLog(), reserve=reserve, **more) as site,
    ):
        yield site


@pytest.mark.parametrize("key_class", KeyClass)
async def test_on_a_full_disk_residents_and_the_fire_brigade_get_in(
    tmp_path: Path, key_class: KeyClass
) -> None:
    opens = key_class in {KeyClass.RESIDENT, KeyClass.EMERGENCY}
    async with site_with_reserve(tmp_path) as site:
        recorder, door = site.gateway.around.log, site.gateway.door
        site.log.failing = True
        ask = of_class(site, key_class)
        answer = await door.open(ask)
        assert (answer.verdict, answer.record) == (OPENED if opens else FULL, None)
        assert site.openings == opens
        assert str(recorder) == "log full"
        # asked again, the same answer and no second opening
        assert (await door.open(ask)).verdict == answer.verdict
        assert site.openings == opens
        assert site.kinds() == []
        assert not await recorder.recover()
        site.log.failing = False
        assert await recorder.recover()
        written = [KINDS.INTENT, KINDS.OUTCOME, KINDS.GAP] if opens else [KINDS.GAP]
        assert site.kinds() == written
        gap = site.log.entries[-1]
        assert (gap.about == 0) == opens
        assert gap.verdict.reason is Reason.LOG_FULL
        if opens:
            assert [entry.about for entry in site.log.entries[:2]] == [0, 0]
            assert (await door.open(ask)).verdict == OPENED, "the log knows it now"
            assert site.kinds() == written
        assert (recorder.trouble, str(recorder)) == (Reason.OK, "")
        await site.latch_home()
        site.building.clock.skip_s += 60
        again = await door.open(of_class(site, key_class, 2))
        assert again.verdict == OPENED
        assert again.record is not None


async def test_each_door_says_for_each_class_in_which_trouble_it_opens(tmp_path: Path) -> None:
    own = DoorSettings(
        {
            KeyClass.GUEST: ClassSettings(log_unavailable=frozenset({Reason.LOG_FULL})),
            KeyClass.RESIDENT: ClassSettings(log_unavailable=frozenset({Reason.LOG_SLOW})),
        }
    )
    async with site_with_reserve(tmp_path, settings=own) as site:
        site.log.failing = True
        assert (await site.gateway.door.open(of_class(site, KeyClass.RESIDENT))).verdict == FULL
        assert (await site.gateway.door.open(of_class(site, KeyClass.GUEST))).verdict == OPENED


async def test_a_restart_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    log = FullLog()
    async with site_with_reserve(tmp_path, log) as site:
        log.failing = True
        ask = of_class(site, KeyClass.EMERGENCY)
        assert (await site.gateway.door.open(ask)).verdict == OPENED
        timekeeper = site.gateway.timekeeper
    async with open_reserve(tmp_path / "reserve") as reserve:
        second = Recorder(log, log, timekeeper, bytes(32), reserve)
        await second.begin()
        assert second.trouble is Reason.LOG_FULL
        known = [await second.past_request(key) for key in second._recent._held]
        assert [past.verdict for past in known] == [OPENED]
        log.failing = False
        assert await second.recover()
        assert await second.recover(), "well is well"
        third = Recorder(log, log, timekeeper, bytes(32), reserve)
        await third.begin()
        assert third.trouble is Reason.OK
    assert [entry.kind for entry in log.entries] == [KINDS.INTENT, KINDS.OUTCOME, KINDS.GAP]
    assert await log.unsettled() == []


async def test_what_was_taken_over_does_not_stay_in_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries can be erased from the log; the power went before the reserve was emptied."""
    log, path = FullLog(), tmp_path / "reserve"

    async def no_power() -> None:
        raise StorageError("no power", reason=Reason.LOG_IO_ERROR)

    async with site_with_reserve(tmp_path, log) as site:
        recorder = site.gateway.around.log
        log.failing = True
        await site.gateway.door.open(of_class(site, KeyClass.EMERGENCY))
        log.failing = False
        with monkeypatch.context() as cut:
            cut.setattr(recorder.reserve_file, "clear", no_power)
            assert await recorder.recover()
        timekeeper = site.gateway.timekeeper
    assert any(path.read_bytes())
    async with open_reserve(path) as reserve:
        await Recorder(log, log, timekeeper, bytes(32), reserve).begin()
    assert not any(path.read_bytes())
    assert len(log.entries) == 3


async def test_an_emergency_opens_where_no_disk_takes_anything_and_a_gap_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path, serving=False, log=FullLog(), reserve=BrokenReserve()) as site:
        recorder = site.gateway.around.log
        site.log.failing = True
        assert (await site.gateway.door.open(of_class(site, KeyClass.RESIDENT))).verdict == Verdict(
            Outcome.REFUSED, Reason.LOG_IO_ERROR
        )
        assert site.openings == 0
        ask = of_class(site, KeyClass.EMERGENCY, 2)
        answer = await site.gateway.door.open(ask)
        assert (answer.verdict, answer.record, site.openings) == (OPENED, None, 1)
        assert (await site.gateway.door.open(ask)).verdict in {OPENED, INTERRUPTED}
        assert site.openings == 1
        assert "an emergency opens unrecorded" in caplog.text
        told = site.gateway.health(tmp_path).status().storage
        assert told == StorageStatus(log="log_full", log_troubles=1, missing=3, unrecorded=1)
        site.log.failing = False
        recorder.reserve_file = None
        assert await recorder.recover()
        (gap,) = site.log.entries
        assert (gap.kind, gap.about, gap.verdict.outcome) == (KINDS.GAP, 3, Outcome.UNKNOWN)
        assert recorder.missing == 0
        assert recorder.counts["missed"] == 3


async def test_who_joins_without_a_reserve_of_his_own_shares_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, serving=False, log=FullLog(), latch_ms=30_000) as site:
        await site.gateway.door.open(of_class(site, KeyClass.RESIDENT))
        site.log.failing = True
        for number, key_class in ((2, KeyClass.RESIDENT), (3, KeyClass.GUEST)):
            assert (await site.gateway.door.open(of_class(site, key_class, number))).verdict == FULL
        emergency = await site.gateway.door.open(of_class(site, KeyClass.EMERGENCY, 4))
        assert emergency.verdict == Verdict(Outcome.CONFIRMED, Reason.ALREADY_OPEN)
        assert site.gateway.around.log.counts["unrecorded"] == 1


async def test_an_emergency_that_joined_a_guest_is_not_refused_with_him(tmp_path: Path) -> None:
    async with site_with_reserve(tmp_path) as site:
        site.log.gate.clear()
        site.log.failing = True
        guest = asyncio.create_task(site.gateway.door.open(of_class(site, KeyClass.GUEST)))
        await asyncio.sleep(0.02)
        both = [
            asyncio.create_task(site.gateway.door.open(of_class(site, key_class, number)))
            for number, key_class in ((2, KeyClass.EMERGENCY), (3, KeyClass.RESIDENT))
        ]
        await asyncio.sleep(0.02)
        site.log.gate.set()
        assert (await guest).verdict == FULL
        assert [(await each).verdict for each in both] == [OPENED] * 2
        assert site.openings == 1
        site.log.failing = False
        assert await site.gateway.around.log.recover()
        assert site.kinds() == [KINDS.INTENT, KINDS.OUTCOME, KINDS.JOINED, KINDS.GAP]


async def test_a_reserve_that_is_used_up_is_kept_for_emergencies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "SLOTS", 6)
    monkeypatch.setattr(slots, "EMERGENCY_SLOTS", 4)
    async with site_with_reserve(tmp_path, latch_ms=500) as site:
        recorder, door = site.gateway.around.log, site.gateway.door
        site.log.failing = True
        verdicts = []
        for number, key_class in enumerate(
            [KeyClass.RESIDENT, KeyClass.RESIDENT, *[KeyClass.EMERGENCY] * 3], 1
        ):
            verdicts.append((await door.open(of_class(site, key_class, number))).verdict)
            site.building.clock.skip_s += 60
            await site.latch_home()
        assert verdicts == [OPENED, FULL, OPENED, OPENED, OPENED]
        again = Recorder(site.log, site.log, recorder.timekeeper, bytes(32), recorder.reserve_file)
        await again.begin()
        assert again._missing >= 2, "a restart still knows of the one that is written nowhere"
        site.log.failing = False
        assert await again.recover()
        assert [entry.kind for entry in site.log.entries].count(KINDS.INTENT) == 3
        assert site.log.entries[-1].about >= 2


async def test_holders_who_try_on_take_nothing_from_emergencies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "SLOTS", 8)
    monkeypatch.setattr(slots, "EMERGENCY_SLOTS", 6)
    async with site_with_reserve(tmp_path, latch_ms=500) as site:
        recorder, door = site.gateway.around.log, site.gateway.door
        site.log.failing = True
        for number in range(1, 21):
            verdict = (await door.open(of_class(site, KeyClass.RESIDENT, number))).verdict
            assert verdict == (OPENED if number == 1 else FULL)
            site.building.clock.skip_s += 60
            await site.latch_home()
        assert len(recorder._owed) <= 1, "what is never written needs no end"
        emergency = of_class(site, KeyClass.EMERGENCY, 21)
        assert (await door.open(emergency)).verdict == OPENED
        assert recorder.counts["unrecorded"] == 0
        again = Recorder(site.log, site.log, recorder.timekeeper, bytes(32), recorder.reserve_file)
        await again.begin()
        assert again._missing == 19
        site.log.failing = False
        assert await again.recover()
        assert [entry.kind for entry in site.log.entries].count(KINDS.INTENT) == 2
        assert site.log.entries[-1].about == 19
        once_more = Recorder(
            site.log, site.log, recorder.timekeeper, bytes(32), recorder.reserve_file
        )
        await once_more.begin()
        assert once_more.missing == 0


async def test_writes_that_fail_at_once_use_up_no_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "SLOTS", 6)
    monkeypatch.setattr(slots, "EMERGENCY_SLOTS", 2)
    async with site_with_reserve(tmp_path, latch_ms=500) as site:
        recorder, door = site.gateway.around.log, site.gateway.door
        site.log.failing = True
        well, recorder.reserve_file = recorder.reserve_file, BrokenReserve()
        for number in range(1, 9):
            verdict = (await door.open(of_class(site, KeyClass.RESIDENT, number))).verdict
            assert verdict.outcome is Outcome.REFUSED
        recorder.reserve_file = well
        assert (await door.open(of_class(site, KeyClass.RESIDENT, 9))).verdict == OPENED


async def test_a_log_that_hangs_holds_up_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The real file, its one thread stuck as in a write that does not come back."""
    caplog.set_level(logging.INFO)
    async with open_log(tmp_path / "log.db") as log, site_with_reserve(tmp_path, log) as site:
        recorder, door = site.gateway.around.log, site.gateway.door
        keeping = asyncio.create_task(recorder.keep(retry_s=0.05))
        log.patience_s = PATIENCE_S
        disk = threading.Event()
        log._thread.submit(disk.wait)
        ask = of_class(site, KeyClass.RESIDENT)
        async with asyncio.timeout(5):
            answer = await door.open(ask)
        assert (answer.verdict, answer.record) == (OPENED, None)
        assert recorder.trouble is Reason.LOG_SLOW
        guest = await door.open(of_class(site, KeyClass.GUEST, 2))
        assert guest.verdict == Verdict(Outcome.REFUSED, Reason.LOG_SLOW)
        with pytest.raises(StorageError, match="hangs"):
            await log.size()
        assert (await door.open(ask)).verdict == OPENED
        assert site.openings == 1
        disk.set()
        await until(lambda: recorder.trouble is Reason.OK)
        assert "the log is well again" in caplog.text
        kinds = [Leaf.decode(leaf).kind for leaf in await log.leaves(0, 10**6)]
        # the record that was given up came through after all, and is there once
        assert kinds.count(KINDS.INTENT) == kinds.count(KINDS.OUTCOME) == 1
        assert kinds[-1] is KINDS.GAP
        assert await log.unsettled() == []
        keeping.cancel()
        await asyncio.wait({keeping})


async def test_a_record_that_comes_too_late_for_a_refusal_is_settled_as_one(tmp_path: Path) -> None:
    async with open_log(tmp_path / "log.db") as log:  # noqa: SIM117 - as the other tests
        async with gateway(tmp_path, serving=False, log=log) as site:
            recorder = site.gateway.around.log
            log.patience_s = PATIENCE_S
            # the request is looked up while the disk is well, its record meets the hang
            disk, found = threading.Event(), log.past_request

            async def then_hang(key):
                past = await found(key)
                log._thread.submit(disk.wait)
                return past

            log.past_request = then_hang
            answer = await site.gateway.door.open(of_class(site, KeyClass.GUEST))
            assert answer.verdict == Verdict(Outcome.REFUSED, Reason.LOG_SLOW)
            assert not await recorder.recover(), "it still hangs"
            disk.set()
            await until(recorder._hanging.done)
            assert await recorder.recover()
            leaves = [Leaf.decode(leaf) for leaf in await log.leaves(0, 10**6)]
            assert [leaf.kind for leaf in leaves] == [KINDS.INTENT, KINDS.OUTCOME, KINDS.GAP]
            assert leaves[1].verdict == answer.verdict
            assert leaves[2].about == 0
            assert site.openings == 0


async def test_a_request_that_the_log_cannot_tell_of_is_not_denied(tmp_path: Path) -> None:
    async with site_with_reserve(tmp_path) as site:
        recorder = site.gateway.around.log
        ask = of_class(site, KeyClass.RESIDENT)
        assert (await site.gateway.door.open(ask)).verdict == OPENED
        site.log.unreadable = True
        assert (await site.gateway.door.open(ask)).verdict == OPENED, "this run remembers"
        assert site.openings == 1
        with pytest.raises(StorageError):
            await recorder.past_request(b"of an earlier run")


async def test_the_last_requests_are_remembered_and_all_that_the_reserve_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatewayd.recorder.MOST", 3)
    async with site_with_reserve(tmp_path) as site:
        recorder, time = site.gateway.around.log, site.gateway.timekeeper.reading()

        async def ask(write, number: int) -> None:
            id_ = CommandId(bytes([number]) * 16)
            fact = Fact(time, KINDS.INTENT, DoorId(STREET), OPENED)
            asked = Asked(bytes([number]) * 32, bytes(32), id_)
            await write(fact, command=Command(id_, DoorId(STREET)), asked=asked)

        async def known() -> list[int]:
            found = []
            for number in range(20):
                with suppress(StorageError):
                    past = await recorder.past_request(bytes([number]) * 32)
                    found += [number] if past else []
            return found

        for number in range(5):
            await ask(recorder.append, number)
        site.log.failing = site.log.unreadable = True
        with pytest.raises(StorageError):
            await ask(recorder.append, 5)
        assert await known() == [2, 3, 4]
        for number in range(6, 10):
            await ask(recorder.reserve, number)
        assert await known() == [2, 3, 4, 6, 7, 8, 9]
        site.log.failing = site.log.unreadable = False
        assert await recorder.recover()
        await ask(recorder.append, 10)
        assert len(recorder._recent._held) == 3
        assert await known() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10], "the log knows all of them"


async def test_a_reserve_that_cannot_be_read_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Unreadable(BrokenReserve):
        async def read(self):
            raise StorageError("unreadable")

    async with gateway(tmp_path, serving=False, reserve=Unreadable()) as site:
        assert site.gateway.around.log.reserve_file is None
        assert "the reserve cannot be read" in caplog.text
        assert STREET in site.building.locks


async def test_whatever_else_is_not_kept_on_that_disk_is_trouble_too_until_it_is(
    tmp_path: Path,
) -> None:
    async with site_with_reserve(tmp_path) as site:
        recorder = site.gateway.around.log
        memory = NoticedMemory(site.log)
        await memory.store("time", b"1")
        memory.failed = recorder.noticed_elsewhere
        site.log.failing = True
        with pytest.raises(StorageError):
            await memory.store("time", b"2")
        assert recorder.trouble is Reason.LOG_FULL
        guest = await site.gateway.door.open(of_class(site, KeyClass.GUEST))
        assert guest.verdict == FULL
        assert not await recorder.recover()
        site.log.failing = False
        assert await recorder.recover()
        await memory.store("time", b"2")
        assert await memory.load("time") == b"2"
        assert recorder.trouble is Reason.OK
        memory.memory = Unreadable()
        with pytest.raises(StorageError):
            await memory.load("time")
        assert recorder.trouble is Reason.LOG_IO_ERROR


class Unreadable:
    async def load(self, name):
        raise StorageError(f"{name} cannot be read", reason=Reason.LOG_IO_ERROR)

    async def store(self, name, value):
        raise AssertionError
