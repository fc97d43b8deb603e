"""From a configured door to what moves it: each kind opens, and is let go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from firmware_proto.codes import LOCK_SERVICE_UUID, DoorState, Outcome, Reason
from gatewayd.actuators import Workshop
from gatewayd.adapters.relay import relay as relay_module
from gatewayd.conditions import Conditions
from gatewayd.config.model import Contact, Door, LockFiles, Relay
from gatewayd.core.model import CommandId, DoorId, Verdict
from gatewayd.locks import RemoteLock
from gatewayd.vitals import UNWATCHED
from tests.adapters.test_serial_line import SHORT, LineSite
from tests.support.cable import cable
from tests.support.gpio import CONTACT, KEEPER, FakeChip
from tests.support.household import DOOR, LOCK_ADDRESS, LockSite, Operator, until
from tests.support.links import FakeAir

OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
ONE = CommandId(b"1" * 16)
KEY = Path("street.pub.pem")


@contextlib.asynccontextmanager
async def workshop(site: LockSite) -> AsyncIterator[Workshop]:
    secrets = SimpleNamespace(lock_keys={DoorId(DOOR): site.identity.public_key})
    async with AsyncExitStack() as stack:
        yield Workshop(
            site.air.central(LOCK_SERVICE_UUID),
            site.operator.gateway(),
            secrets,  # the locks' keys are all of it that is looked at
            site.clock,
            site.dice,
            stack,
            Conditions([DoorId(DOOR)], site.clock),
        )


@pytest.fixture
def site(tmp_path: Path) -> LockSite:
    return LockSite(tmp_path, FakeAir(), Operator())


def renamed(site: LockSite) -> None:
    """A lock's credential as the configuration makes it: the id of its key is derived."""
    from firmware_proto.cose import key_id  # noqa: PLC0415 - a test's own

    memory = site.store.load()
    site.store.save(replace(memory, key_id=key_id(memory.key.public_key())))


@pytest.mark.parametrize("warm", [False, True])
async def test_a_lock_over_radio(site: LockSite, warm: bool) -> None:
    renamed(site)
    lock = LockFiles(address=LOCK_ADDRESS, key=KEY, warm=warm)
    async with site.power(), workshop(site) as shop:
        made = shop.actuator(Door(id=DOOR, lock=lock))
        assert shop.conditions.report()[DOOR] == {"troubles": []}
        assert await made.lock.unlatch(ONE, 1) == OPENED
        assert shop.conditions.report()[DOOR]["reached"]
        assert shop.conditions.report()[DOOR]["model"] == "gatewayd emulated lock"
        assert made.budget is not None
        assert (made.keep == made.lock.keep_warm) is warm
        await made.lock.close()


@pytest.mark.parametrize("half_duplex", [False, True])
async def test_a_lock_on_a_wire(tmp_path: Path, half_duplex: bool) -> None:
    async with cable(tmp_path) as line:
        site = LineSite(tmp_path, line, replace(SHORT, half_duplex=half_duplex))
        renamed(site)
        lock = LockFiles(serial=str(line.near.path), key=KEY, half_duplex=half_duplex)
        async with site.powered():
            async with workshop(site) as shop:
                made = shop.actuator(Door(id=DOOR, lock=lock))
                assert made.budget is None
                keeping = asyncio.create_task(made.keep(UNWATCHED))
                assert isinstance(made.lock, RemoteLock)
                assert await made.lock.unlatch(ONE, 1) == OPENED
                keeping.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await keeping
                await made.lock.close()
                assert "model" in shop.conditions.report()[DOOR]
            # the device is free again
            await (await site.central.dial(str(line.near.path))).close()
            await site.central.close()
    assert site.machine.openings == 1


async def test_a_relay(
    site: LockSite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(relay_module.Relay.__init__.__kwdefaults__, "keeper", KEEPER)
    chip = FakeChip(tmp_path / "dev")
    wiring = Relay(chip=str(chip.path), line="STRIKE", contact=Contact(line=CONTACT))
    async with workshop(site) as shop:
        made = shop.actuator(Door(id=DOOR, latch_ms=500, relay=wiring))
        assert isinstance(made.lock, relay_module.Relay)
        await made.lock.prepare()
        await until(lambda: made.lock.door_state is DoorState.CLOSED)
        assert made.budget is None
        assert await made.lock.unlatch(ONE, 10_000) == OPENED
        await until(lambda: len(chip.pulses()) == 1)
        await made.lock.close()
    assert 0.5 <= chip.pulses()[0] < 1.0
    assert "door street: its contact says closed" in caplog.text


async def test_a_door_without_anything_was_not_checked(site: LockSite) -> None:
    async with workshop(site) as shop:
        with pytest.raises(AssertionError):
            shop.actuator(Door(id=DOOR))
