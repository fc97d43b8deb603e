"""What the status is made of: the real log's file, the real disk, locks that were dialled."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd import health
from gatewayd.adapters.machine import upkeep
from gatewayd.adapters.sqlite import open_log
from gatewayd.core.model import ClockState, TimeReading
from gatewayd.health import Around
from gatewayd.status import ListStatus, OperatorStatus, StorageStatus, decode, encode
from gatewayd.vitals import UNWATCHED
from tests.daemon.test_lists import URI, load, signed
from tests.daemon.test_mailbox import OPERATOR, Desk, chain, mailbox, retire, says
from tests.support.gateway import CELLAR, GATEWAY_ADDRESS, STREET, LoopTime, gateway
from tests.support.household import NOW, until
from tests.support.memory_log import MemoryLog
from tests.support.uplink import fact

DAY_S = 86_400


class Readings:
    """A timekeeper that knows what the test says."""

    def __init__(self, now_s: int, state: ClockState = ClockState.TRUSTED) -> None:
        self.now = TimeReading(state, now_s, 1.0, now_s)

    def reading(self) -> TimeReading:
        return self.now


async def test_a_look_at_a_real_log_and_disk(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site, open_log(tmp_path / "log.db") as log:
        await log.append(fact(now_s=NOW))
        looked = site.gateway.health(tmp_path, log=log, timekeeper=Readings(NOW + 3 * DAY_S + 5))
        assert looked.status().storage == StorageStatus()
        await looked.look()
        told = looked.status()
        assert told.storage is not None
        assert (told.storage.kept, told.storage.read_only) == (True, False)
        assert 0 < told.storage.free_percent <= 100
        assert told.storage.free_mb.bit_count() == 1
        assert told.kernel == os.uname().release
        assert (told.unpulled_days, told.clock) == (3, "trusted")
        await log.acknowledge(1)
        await looked.look()
        assert looked.status().unpulled_days == 0
        assert decode(encode(looked.status())) == looked.status()


@pytest.mark.parametrize("known", [ClockState.HOLDOVER, ClockState.UNKNOWN])
async def test_how_long_an_entry_waits_is_not_told_from_a_clock_that_does_not_know(
    tmp_path: Path, known: ClockState
) -> None:
    async with gateway(tmp_path) as site:
        await site.log.append(fact(now_s=NOW))
        looked = site.gateway.health(tmp_path, timekeeper=Readings(NOW + 2 * DAY_S, known))
        await looked.look()
        assert looked.status().unpulled_days == (None if known is ClockState.UNKNOWN else 2)


async def test_a_log_that_keeps_nothing_is_told(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site, open_log(tmp_path / "log.db") as log:
        looked = site.gateway.health(tmp_path, log=log)
        with closing(sqlite3.connect(tmp_path / "log.db")) as thief:
            thief.execute(
                "CREATE TRIGGER full BEFORE INSERT ON memory"
                " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        await looked.look()
        assert looked.status().storage.kept is False


async def test_a_disk_that_is_gone_is_not_guessed_at(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        looked = site.gateway.health(tmp_path / "gone")
        await looked.look()
        assert looked.status().storage == StorageStatus(kept=True)


async def test_a_gateway_without_a_broker_does_not_wait_for_one(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        looked = site.gateway.health(tmp_path, has_broker=False)
        await looked.look()
        assert looked.status().unpulled_days is None


async def test_strength_is_told_when_it_has_come_far_and_never_more_often_than_looked(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, doors=(STREET, CELLAR)) as site:
        received: dict[str, int] = {}
        looked = site.gateway.health(tmp_path, radio=Around(strengths=lambda: received))
        address = site.building.locks[STREET].address
        told = []
        for dbm in (None, -61, -64, -69, -71, -62):
            if dbm is not None:
                received[address] = dbm
            assert looked.status().locks[STREET].rssi_dbm == (told[-1] if told else None)
            await looked.look()
            told.append(looked.status().locks[STREET].rssi_dbm)
        assert told == [None, -65, -65, -65, -65, -65]
        received[address] = -82
        await looked.look()
        assert looked.status().locks[STREET].rssi_dbm == -85
        assert looked.status().locks[CELLAR].rssi_dbm is None


async def test_what_grows_when_somebody_comes_is_told_coarsely(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        counts = {"stranger: expired": 600, "stranger: replayed": 500, "our fault": 3, "left": 9}
        radio = Around(health=lambda: {"radio": "advertising", "radio_losses": 5})
        told = site.gateway.health(tmp_path, counts=counts, radio=radio).status()
        assert (told.strangers, told.faults, told.radio_losses) == (1024, 2, 4)
        assert told.radio == "advertising"


async def test_an_opening_changes_nothing_that_is_published(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        looked = site.gateway.health(tmp_path)
        await looked.look()
        await site.phone().open_door(STREET, address=GATEWAY_ADDRESS)
        await until(lambda: looked.status().locks[STREET].model)
        known = encode(looked.status())
        for _ in range(3):
            await site.latch_home()
            await site.phone().open_door(STREET, address=GATEWAY_ADDRESS)
            assert encode(looked.status()) == known


async def test_what_the_operator_said_is_told_as_far_as_it_arrived(tmp_path: Path) -> None:
    box, lists = await mailbox(MemoryLog(), Desk()), await load(MemoryLog())
    async with gateway(tmp_path) as site:
        looked = site.gateway.health(tmp_path, mailbox=box, lists=lists)
        told = decode(encode(looked.status()))
        assert (told.trust_serial, told.operator, told.lists) == (1, OperatorStatus(), ())
        await box.deliver(chain(OPERATOR.trust(2)))
        await box.deliver(says(2**63 - 1))
        await box.deliver(retire(4))
        await lists.deliver(signed())
        told = decode(encode(looked.status()))
        assert told.trust_serial == 2  # of the bundle that counts now, not of the installed one
        assert told.operator == OperatorStatus(
            states={"settings stairwell-7": 2**63 - 1}, orders=4, orders_missing=((1, 3),)
        )
        assert told.lists == (ListStatus(issuer="housing", uri=URI, issued_at=NOW - 60),)


async def test_it_is_looked_at_every_hour_whatever_happens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path, serving=False) as site:
        looks = 0

        def strengths() -> dict[str, int]:
            nonlocal looks
            looks += 1
            if looks == 1:
                raise ValueError("a bug")
            return {}

        looked = site.gateway.health(tmp_path, radio=Around(strengths=strengths))
        time = LoopTime()
        keeping = asyncio.create_task(looked.keep(UNWATCHED))
        await until(lambda: looks == 1)
        await time.skip(health.LOOK_EVERY_S + 1)
        await until(lambda: looks == 2)
        keeping.cancel()
        await asyncio.wait({keeping})
        assert "this machine's health could not be looked at" in caplog.text


# --- what the kernel's files say ------------------------------------------------------------
def plant(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_wear_as_an_emmc_tells_it(tmp_path: Path) -> None:
    disk = tmp_path / "sys/devices/mmc0/block/mmcblk0"
    plant(disk, "mmcblk0p2/stat", " 10 0 80 5 20 0 4000 7 0 30 40 0 0 0 0 0 0\n")
    plant(disk, "device/life_time", "0x01 0x03\n")
    here = tmp_path.stat().st_dev
    link = tmp_path / f"sys/dev/block/{os.major(here)}:{os.minor(here)}"
    link.parent.mkdir(parents=True)
    link.symlink_to(disk / "mmcblk0p2")
    assert upkeep.wear(tmp_path / "not/yet/there", tmp_path) == upkeep.Wear(4000 * 512, 30)
    plant(tmp_path, "proc/self/io", "wchar: 9\nwrite_bytes: 8192\ncancelled_write_bytes: 1\n")
    assert upkeep.wear(tmp_path, tmp_path).own_bytes == 8192


@pytest.mark.parametrize(
    ("stat", "life", "wear"),
    [
        ("", "", (None, None)),
        ("1 2 3", "0x00 0x00", (None, None)),
        ("1 1 1 1 1 1 " + "9" * 5000, "0x0c", (None, None)),
        ("1 1 1 1 1 1 -1", "worn", (None, None)),
        ("0 0 0 0 0 0 2", "0x0B 0x01", (1024, 110)),
        ("0 0 0 0 0 0 2", "\N{DEVANAGARI DIGIT ONE}" * 4, (1024, None)),
    ],
)
def test_wear_as_odd_kernels_tell_it(
    tmp_path: Path, stat: str, life: str, wear: tuple[int | None, int | None]
) -> None:
    plant(tmp_path, "stat", stat)
    plant(tmp_path, "device/life_time", life)
    assert upkeep.wear_of(tmp_path) == upkeep.Wear(*wear)


@pytest.mark.parametrize(
    ("cmdline", "slot"),
    [("root=/dev/mmcblk0p2 rauc.slot=B quiet\n", "B"), ("rauc.slots=A", ""), ("", "")],
)
def test_the_slot_is_what_rauc_says(tmp_path: Path, cmdline: str, slot: str) -> None:
    plant(tmp_path, "proc/cmdline", cmdline)
    assert upkeep.slot(tmp_path) == slot
