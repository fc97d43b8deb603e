"""A door with a relay: nothing moves that is not on disk before, and no verdict says too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from firmware_proto.codes import Action, Outcome, Presence, Reason
from gatewayd.adapters.relay.line import RelaySettings
from gatewayd.adapters.relay.relay import FORGOTTEN, Relay
from gatewayd.core.model import DoorId, EntryKind, Verdict
from gatewayd.core.policy import DoorSettings
from gatewayd.door import Ask, Door
from gatewayd.opening import NOT_LOGGED
from gatewayd.recorder import Recorder
from gatewayd.rights import DoorIdentity
from tests.support.gateway import LATCH_MS, STREET, Site, gateway
from tests.support.gpio import KEEPER, LABEL, FakeChip
from tests.support.household import until

OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)


@dataclass
class RelayDoor:
    site: Site
    chip: FakeChip
    relay: Relay
    door: Door
    asks: int = 0

    def ask(self) -> Ask:
        self.asks += 1
        token = self.site.building.token(self.site.building.wallet())
        return Ask(token, self.asks.to_bytes(16), Action.OPEN, Presence.TAP)

    def moved(self) -> bool:
        return any(level for _, level in self.chip.history())


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[RelayDoor]:
    chip = FakeChip(tmp_path / "dev")
    relay = Relay(RelaySettings(LABEL, "STRIKE", devices=str(chip.devices)), keeper=KEEPER)
    async with gateway(tmp_path, serving=False) as site:
        identity = DoorIdentity(DoorId(STREET), LATCH_MS, ZoneInfo("UTC"), DoorSettings())
        yield RelayDoor(site, chip, relay, Door(identity, relay, site.gateway.around))
        await relay.close()


async def test_opens(here: RelayDoor) -> None:
    answer = await here.door.open(here.ask())
    assert answer.verdict == OPENED
    assert answer.record is not None
    assert here.site.kinds() == [EntryKind.INTENT, EntryKind.OUTCOME]
    await until(lambda: len(here.chip.pulses()) == 1)


async def test_a_log_that_fails_pulls_no_relay(here: RelayDoor) -> None:
    here.site.log.failing = True
    assert (await here.door.open(here.ask())).verdict == NOT_LOGGED
    assert not here.moved()
    here.site.log.failing = False
    assert await here.site.gateway.around.log.recover()
    assert (await here.door.open(here.ask())).verdict == OPENED


async def test_a_relay_waits_for_the_disk(here: RelayDoor) -> None:
    await here.relay.prepare()
    here.site.log.gate.clear()
    opening = asyncio.create_task(here.door.open(here.ask()))
    await asyncio.sleep(0.2)
    assert not here.moved()
    here.site.log.gate.set()
    assert (await opening).verdict == OPENED


async def test_a_line_that_cannot_be_had_is_refused_and_on_record(here: RelayDoor) -> None:
    here.chip.trouble("dead")
    refused = Verdict(Outcome.REFUSED, Reason.LOCK_UNREACHABLE)
    assert (await here.door.open(here.ask())).verdict == refused
    assert [entry.verdict for entry in here.site.log.entries][-1] == refused
    assert not here.moved()


async def test_an_outcome_that_is_not_on_disk_is_unknown_ever_after(here: RelayDoor) -> None:
    """The holder was told that it opened; the log, which was not, says that nobody knows."""
    await here.relay.prepare()
    asking = here.ask()
    here.chip.trouble("hung")
    opening = asyncio.create_task(here.door.open(asking))
    await until(lambda: here.site.kinds() == [EntryKind.INTENT])
    here.site.log.failing = True
    here.chip.mend("hung")
    answer = await opening
    assert answer.verdict == OPENED
    assert answer.record is None
    here.site.log.failing = False
    (command,) = await here.site.log.unsettled()
    # the next run: the relay's process is another one, and so is what asks it
    await here.relay.close()
    after = Relay(RelaySettings(LABEL, "STRIKE", devices=str(here.chip.devices)), keeper=KEEPER)
    assert await after.result_of(command.id) == FORGOTTEN
    log, before = here.site.log, here.site.gateway.around
    around = replace(before, log=Recorder(log, log, before.timekeeper, bytes(32)))
    daemon = here.site.gateway.daemon()
    daemon.log = around.log
    await daemon._begin()
    again = Door(here.door.identity, after, around)
    replayed = await again.open(asking)
    assert replayed.verdict == FORGOTTEN
    assert await again.resolve(command)
    assert await here.site.log.unresolved() == []
    assert len(here.chip.pulses()) == 1
    await after.close()
