"""A gateway with three locks dies, and a caretaker replaces it as docs/replace.md says."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from gatewayd import gate
from gatewayd.core.invitation import claim_in
from tests.bench.number import Bar, Number
from tests.support import commands
from tests.support.fitting import BoxedLock, boxed_locks
from tests.system import systemd_install as page
from tests.system.installer import (
    HOME,
    OPERATOR,
    PATH_HEADING,
    Blank,
    left,
    open_blank,
    shell,
    steps,
)
from tests.system.place import ADAPTER
from tests.system.systemd_house import BLUETOOTH, CONFIGURATION, DAEMON, STATE
from tests.system.systemd_prepare import package
from tests.system.systemd_unit import run
from tests.system.times import Stopwatch

if not Path("/run/systemd/system").is_dir():
    pytest.skip("needs: vm.py test --systemd", allow_module_level=True)

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="module")]
LONGEST_S = 550.0
REPLACE = OPERATOR.with_name("replace.md")
CHANGED, DEAD = "Replacing and moving", "A gateway is dead"
DOORS = ("street", "cellar", "garage")
OTHERS = "00:AA:01:00:00:02"
"""The new box has an adapter of its own."""
MOST_COMMANDS = 3
REPORT = Path("/var/tmp/handover.json")  # noqa: S108 - where the README puts it
FILES = (CONFIGURATION.parent, STATE)
HEALTH = Path("/run/gatewayd") / gate.FILE
BOOT = Path(f"/run/systemd/system/{DAEMON.name}.d")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
HEARD_S, OPEN_S = 60.0, 100.0


@dataclass
class House:
    """locks: by door. card: a copy of the dead gateway's. stack: of locks that have power."""

    blank: Blank
    locks: dict[str, BoxedLock]
    card: Path
    stack: AsyncExitStack

    @property
    def home(self) -> Path:
        return self.blank.operator.home

    async def operates(self, typed: str) -> str:
        """The operator, while locks and phones live."""
        print(f"operator$ {typed}")
        said = await asyncio.to_thread(shell, typed, self.home)
        print(said)
        return said

    async def invited(self) -> str:
        """The first gateway's claim, for all doors."""
        typed = page.blocks("Per gateway: enrolment", OPERATOR)[1]
        doors = " ".join(f"--door {door}" for door in DOORS)
        assert "--door street" in typed
        await self.operates(typed.replace("--door street", doors))
        return claim_in((self.home / "claim.txt").read_text())

    def moved(self) -> int:
        return sum(lock.machine.openings for lock in self.locks.values())

    def visits(self) -> list[tuple[object, ...]]:
        """What only somebody at a lock can change: whose it is, and whose keys it believes."""
        found = [lock.memory for lock in self.locks.values()]
        return [(each.door, each.epoch, each.serial, each.gateways_key) for each in found]

    # --- the power -----------------------------------------------------------------
    async def powered(self, address: str) -> None:
        """A box with this adapter gets power, and what its card starts with it is started."""
        place = self.blank.place
        await run("systemctl", "kill", "--signal=KILL", DAEMON.name, check=False)
        await run("systemctl", "stop", DAEMON.name)
        await place.unplug()
        await BLUETOOTH.do("stop")
        place.address = address
        await place.plug()
        another_boot()
        await run("systemctl", "daemon-reload")
        await run("systemctl", "start", BLUETOOTH.name, "multi-user.target")
        place.path = await place.bus.wait_for_adapter(address)

    async def dies(self) -> None:
        """With its card; what is in the box then is a fresh one."""
        await run("systemctl", "kill", "--signal=KILL", DAEMON.name)
        await run("systemctl", "stop", DAEMON.name)
        for each in FILES:  # both are called gatewayd
            kept = self.card / each.parent.name
            kept.mkdir(parents=True)
            await run("cp", "--archive", str(each), str(kept))
        await run("dpkg", "--purge", "gatewayd")
        assert left() == []

    async def comes_back(self) -> None:
        """The old box, with the card that it had; the program is in every box."""
        await run("systemctl", "stop", DAEMON.name)
        await run("rm", "-r", *map(str, FILES))
        for each in FILES:
            await run("mv", str(self.card / each.parent.name / each.name), str(each))
        await run("chown", "--recursive", "gatewayd:gatewayd", str(STATE))
        await self.powered(ADAPTER)

    async def says(self, words: str, since: int) -> None:
        """The daemon, after so many lines of its journal."""
        async with asyncio.timeout(HEARD_S):
            while not any(words in line for line in (await DAEMON.journal())[since:]):
                await asyncio.sleep(0.5)

    async def knows_of_the_time(self) -> str:
        """What the daemon says of its clock, once it says how it is."""
        async with asyncio.timeout(HEARD_S):
            while not HEALTH.exists():
                await asyncio.sleep(0.5)
        told: str = json.loads(HEALTH.read_text())["status"]["clock"]
        return told

    # --- people --------------------------------------------------------------------
    async def phone(self, name: str) -> None:
        """A new one, with a key for all doors."""
        typed = page.commands("Often: keys for phones", OPERATOR)
        assert "--door street --holder r-4711 --wallet phone" in typed
        doors = " ".join(f"--door {door}" for door in DOORS)
        await self.operates(
            typed.replace("--door street", doors).replace("--wallet phone", f"--wallet {name}")
        )

    async def asks(self, name: str, door: str) -> dict[str, object]:
        """Somebody's phone looks for whoever serves the door; nobody told it of any gateway."""
        ran = await commands.completed(
            *("phone", "open", door, "--json", "--hci", self.blank.phone),
            *("--wallet", self.home / name),
        )
        assert ran.out, ran
        found: dict[str, object] = ran.json
        return found

    async def opens(self, name: str, door: str, gateway: str) -> int:
        """Somebody tries until it is open, as people do; how often that was."""
        machine = self.locks[door].machine
        before, tries = machine.openings, 0
        async with asyncio.timeout(OPEN_S):
            while True:
                tries += 1
                report = await self.asks(name, door)
                print(f"{name} at {door}: {report}")
                if report["outcome"] == "confirmed":
                    break
                assert machine.openings == before, report
        assert (report["gateway"], machine.openings) == (gateway, before + 1)
        return tries


def another_boot() -> None:
    """What the daemon knows a boot by; no clock of ours has a battery."""
    BOOT.mkdir(parents=True, exist_ok=True)
    named = BOOT / "boot_id"
    named.write_bytes(Path("/proc/sys/kernel/random/uuid").read_bytes())
    (BOOT / "boot.conf").write_text(f"[Service]\nBindReadOnlyPaths={named}:{BOOT_ID}\n")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    home = tmp_path_factory.mktemp("operator")
    async with open_blank(home) as blank, boxed_locks(home, blank.place.air, *DOORS[1:]) as more:
        locks = dict(zip(DOORS, [blank.lock, *more], strict=True))
        async with AsyncExitStack() as stack:
            yield House(blank, locks, home / "card", stack)


async def test_a_caretaker_replaces_a_dead_gateway(house: House, stopwatch: Stopwatch):
    await a_gateway_with_three_locks(house)
    await the_caretaker_replaces_it(house, stopwatch)
    await the_old_box_is_refused(house)
    await the_operator_closes_its_log(house)


async def a_gateway_with_three_locks(house: House) -> None:
    """As its installer leaves it, and the operator confirms it."""
    blank = house.blank
    claim = await house.invited()
    _, _, enrol, claim_lock, bind, _, start = steps(PATH_HEADING)
    await blank.does(f"dpkg --install {package().name}")
    await blank.does(enrol, claim)
    for door, lock in house.locks.items():
        if lock is not blank.lock:
            lock.pressing = False
            await house.stack.enter_async_context(lock.power())
        blank.lock = lock
        await blank.does(claim_lock.replace("street", door))
        await blank.does(bind.replace("street", door))
    await blank.does(start)
    report, confirm = page.blocks(CHANGED, REPLACE)
    await blank.does(report.removeprefix("sudo ").strip(), code=1)  # nobody tried the doors
    shutil.copy(REPORT, house.home)
    said = await house.operates(confirm)
    assert said.count("moved by the lock at") == len(DOORS)
    await house.says("other bindings", 0)  # it starts anew with them
    await house.phone("anna")
    await house.opens("anna", DOORS[0], "stairwell-7")
    shutil.copytree(house.home / "anna", house.home / "bo")  # one who stays away a while
    await house.operates(pull())


async def the_caretaker_replaces_it(house: House, stopwatch: Stopwatch) -> None:
    """Three commands where there is a network; at the door it needs power."""
    blank = house.blank
    await house.dies()
    visited = house.visits()
    invite, caretakers, _ = page.blocks(DEAD, REPLACE)
    await house.operates(invite)
    shutil.copy(house.home / "claim.txt", HOME)
    blank.typed.clear()

    began_s, heard = time.monotonic(), len(await DAEMON.journal())
    said = [await blank.does(typed.removeprefix("sudo ")) for typed in caretakers.splitlines()]
    assert "what moves them is known; next: sudo systemctl start gatewayd" in said[1]
    await house.says("connected to the broker", heard)
    typed_s = time.monotonic() - began_s

    await blank.operator.leave()  # at the door there is nobody, and no network
    await run("systemctl", "stop", "mosquitto")
    heard = len(await DAEMON.journal())
    began_s = time.monotonic()
    await house.powered(OTHERS)
    tries = [await house.opens("anna", "street", "stairwell-8")]
    first_s = time.monotonic() - began_s
    tries += [await house.opens("anna", door, "stairwell-8") for door in DOORS[1:]]
    all_s = time.monotonic() - began_s
    assert not any("connected to the broker" in line for line in (await DAEMON.journal())[heard:])
    assert await house.knows_of_the_time() == "unknown"
    assert house.visits() == visited

    count = len(blank.typed)
    print(f"empty card -> ready to be carried: {count} commands, {typed_s:.0f} s")
    print(f"power at the door -> first door {first_s:.0f} s, all {all_s:.0f} s, tries {tries}")
    how = f"{count} commands where there is a network, package included"
    stopwatch.note(Number("dead gateway, empty card -> box to be carried", typed_s, "s", how))
    how = "docs/replace.md; at the door none"
    stopwatch.note(Number("commands for it", count, "", how, Bar("<=", MOST_COMMANDS)))
    how = "three doors, no network, by phones that were told nothing"
    stopwatch.note(Number("power at the door -> all doors opened", all_s, "s", how))
    assert count <= MOST_COMMANDS


async def the_old_box_is_refused(house: House) -> None:
    """By a phone that met the new one, and by the lock for one that did not."""
    await house.comes_back()
    moved = house.moved()
    report = await house.asks("anna", "street")
    assert (report["outcome"], report["reason"]) == ("refused", "old_generation")
    report = await house.asks("bo", "street")  # the lock refuses it
    assert (report["outcome"], report["gateway"]) == ("refused", "stairwell-7")
    assert house.moved() == moved


async def the_operator_closes_its_log(house: House) -> None:
    """And the box, when it reaches the broker."""
    heard = len(await DAEMON.journal())
    await run("systemctl", "start", "mosquitto")
    *_, closing = page.blocks(DEAD, REPLACE)
    said = await house.operates(closing)
    assert "entries of its log are kept; a gap after them is declared" in said
    assert "is the gap that was declared" in said
    await run("systemctl", "restart", DAEMON.name)  # it would try the broker again some time
    await house.says("the operator has retired this gateway", heard)


def pull() -> str:
    """As the operator does now and then, of a gateway that enrolled."""
    typed = page.commands("Now and then: the log", OPERATOR)
    assert "gateway/gateway.cwt" in typed
    return typed.replace("gateway/gateway.cwt", "stairwell-7")
