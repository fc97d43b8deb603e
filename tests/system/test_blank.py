"""From a blank machine to a door that a phone opens, and back: the README, typed at a terminal.

Nothing of ours is installed when this begins, and every command at the gateway stands in the
README or in docs/install.md. The operator is beside it, and does what his pages say; lock and
phone are emulated, on the air of the kernel's adapter.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from firmware_proto.cose import key_id
from gatewayd.adapters.virtual_radio import serve_hci
from gatewayd.cloud.authority import new_key
from gatewayd.core.invitation import claim_in
from gatewayd.emulators.lock_memory import LockMemory
from gatewayd.emulators.lock_store import LockStore
from gatewayd.lock_app import new_secret
from tests.bench.number import Bar, Number
from tests.support import commands
from tests.support.fitting import BoxedLock
from tests.support.terminal import COLUMNS, Terminal, terminal
from tests.system import image
from tests.system import systemd_install as page
from tests.system.guest import PATH
from tests.system.place import Place, open_place
from tests.system.systemd_house import CONFIGURATION, DAEMON, STATE, keep_journals
from tests.system.systemd_prepare import package
from tests.system.systemd_unit import DROP_INS, run
from tests.system.times import Stopwatch

if not Path("/run/systemd/system").is_dir():
    pytest.skip("needs: vm.py test --systemd", allow_module_level=True)

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="module")]
LONGEST_S = 400.0

README = image.CHECKOUT / "README.md"
OPERATOR = image.CHECKOUT / "docs/operator.md"
BROKER = image.CHECKOUT / "docs/broker.md"
PATH_HEADING, HANDOVER_HEADING = "At a door", "Handing over"
MOST_COMMANDS = 7
HOME = Path("/root")
REPORT = Path("/var/tmp/handover.json")  # noqa: S108 - where the README puts it
MOSQUITTO = Path("/etc/mosquitto")
UNIT_OPENED = DROP_INS / f"{DAEMON.name}.d"
GATEWAYS = {"PATH": PATH, "HOME": str(HOME), "LANG": "C.UTF-8"}
OPERATORS = {**GATEWAYS, "PATH": f"{Path(sys.executable).parent}:{PATH}"}


def shell(typed: str, directory: Path) -> str:
    """What the operator types; his are the commands of the checkout."""
    done = subprocess.run(
        ["sh", "-eux", "-c", typed],
        cwd=directory, env=OPERATORS, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def steps(heading: str) -> list[str]:
    """What the installer types, command by command; here he is root already."""
    return [line.removeprefix("sudo ") for line in page.commands(heading, README).splitlines()]


@dataclass
class Operator:
    """His directory, and the program that answers gateways."""

    home: Path
    answering: asyncio.subprocess.Process | None = None

    def begin(self) -> None:
        """Keys, trust bundle and broker, once."""
        for typed in page.blocks("Once: keys of the operator", OPERATOR):
            shell(typed, self.home)
        bundle = "Once per door group: the trust bundle"
        (trust,) = page.blocks(bundle, OPERATOR, "toml")
        (self.home / "operator/trust.toml").write_text(trust)
        shell(page.commands(bundle, OPERATOR), self.home)
        shell(page.blocks("Per gateway: enrolment", OPERATOR)[0], self.home)
        with Path("/etc/hosts").open("a") as hosts:
            hosts.write("127.0.0.1 broker.example\n")
        for typed in page.blocks("The broker", BROKER):
            shell(typed, self.home)
        (settings,) = page.blocks("The broker", BROKER, "conf")
        (MOSQUITTO / "conf.d/gatewayd.conf").write_text(settings)
        for name, rules in zip(
            ("gateways", "enrolling"), page.blocks("The broker", BROKER, "acl"), strict=True
        ):
            (MOSQUITTO / f"gatewayd/{name}.acl").write_text(rules)
        # a machine on which these tests are made may have forbidden it
        shell("systemctl unmask mosquitto; systemctl restart mosquitto", self.home)
        shell(page.commands("Often: keys for phones", OPERATOR), self.home)

    def invite(self) -> str:
        """A new claim, as it stands in what he hands over."""
        shell(page.blocks("Per gateway: enrolment", OPERATOR)[1], self.home)
        return claim_in((self.home / "claim.txt").read_text())

    async def answer(self) -> None:
        """From now on."""
        (*_, typed) = page.blocks("Per gateway: enrolment", OPERATOR)
        self.answering = await asyncio.create_subprocess_exec(
            *("sh", "-c", f"exec {typed}"), cwd=self.home, env=OPERATORS,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self.answering.stdout is not None
        async with asyncio.timeout(30):
            assert b"answering" in await self.answering.stdout.readline()

    async def leave(self) -> None:
        """Nobody answers any more."""
        if self.answering is not None:
            await commands.end(self.answering)
            self.answering = None


@dataclass
class Blank:
    """A machine with nothing of ours, and who is around. typed: at the gateway, so far."""

    operator: Operator
    place: Place
    lock: BoxedLock
    phone: str
    typed: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def types(self, typed: str) -> AsyncIterator[Terminal]:
        """At the gateway."""
        self.typed.append(typed)
        began_s = time.monotonic()
        command = ["sh", "-c", f"exec {typed}"]
        async with terminal(command, environment=GATEWAYS, cwd=HOME) as screen:
            yield screen
        print(f"$ {typed}\n{screen.screen}({time.monotonic() - began_s:.1f} s)\n")

    async def does(self, typed: str, claim: str = "", code: int = 0) -> str:
        """One command to its end, with what a person does meanwhile; returns the screen."""
        async with self.types(typed) as screen:
            if "setup enrol" in typed and claim:
                await screen.shows("claim of the operator")
                screen.type(f"{claim}\r")
            elif "claim-lock" in typed:
                await self.reads_the_label(screen)
                await screen.shows("press its button now")
                self.lock.hands.press()
            elif "test-open" in typed:
                for number, leaf in enumerate(("open", "closed"), 1):
                    await screen.shows("then press Enter", times=number)
                    self.lock.hands.move_door(is_open=leaf == "open")
                    screen.type("\r")
            assert await screen.ended(150) == code, screen.screen
        return screen.screen

    async def reads_the_label(self, screen: Terminal) -> None:
        await screen.shows("label of the lock: ")
        screen.type(f"{self.lock.label.text()}\r")

    async def opens(self) -> dict[str, object]:
        """Somebody's phone, with the key that the operator issued; the lock turns."""
        before = self.lock.machine.openings
        async with asyncio.timeout(60):
            ran = await commands.completed(
                *("phone", "open", "street", "--json", "--hci", self.phone),
                *("--wallet", self.operator.home / "phone"),
                *("--address", self.place.dialled_address),
            )
        assert ran.code == 0, ran
        assert self.lock.machine.openings == before + 1
        found: dict[str, object] = ran.json
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def blank(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Blank]:
    assert not [path for path in (CONFIGURATION.parent, STATE, UNIT_OPENED) if path.exists()]
    assert shutil.which("gatewayd", path=PATH) is None
    operator = Operator(tmp_path_factory.mktemp("operator"))
    await asyncio.to_thread(operator.begin)
    shutil.copy(package(), HOME)
    async with open_place() as place, AsyncExitStack() as stack:
        sockets = [operator.home / f"{name}.hci" for name in ("lock", "phone")]
        for number, socket in enumerate(sockets, 1):
            address = f"00:AA:05:00:00:{number:02X}"
            await stack.enter_async_context(serve_hci(place.air, socket, address=address))
        store = LockStore(operator.home / "lock.json")
        key = new_key()
        store.create(LockMemory(key, key_id(key.public_key()), "", None, claim_secret=new_secret()))
        boxed = BoxedLock(store, f"unix:{sockets[0]}", pressing=False)
        lock = await stack.enter_async_context(boxed.power())
        await operator.answer()
        stack.push_async_callback(operator.leave)
        yield Blank(operator, place, lock, f"unix:{sockets[1]}")
        await keep_journals()


async def test_the_readme_leads_to_a_door_that_a_phone_opens(blank: Blank, stopwatch: Stopwatch):
    claim = blank.operator.invite()
    said = []
    began_s = time.monotonic()
    for typed in steps(PATH_HEADING):
        examines = typed == "gatewayd doctor"
        said.append(await blank.does(typed, claim, code=1 if examines else 0))
        if examines:  # the overlay is this machine's
            errors = [line for line in said[-1].splitlines() if line.startswith("error")]
            assert [line.split()[1] for line in errors] == ["configuration", "storage"]
    report = await blank.opens()
    took_s = time.monotonic() - began_s
    assert report["outcome"] == "confirmed"
    count = len(blank.typed)
    print(f"blank machine -> first door opened: {count} commands, {took_s:.0f} s")
    how = f"{count} commands at the gateway, package and phone included"
    stopwatch.note(Number("blank machine -> first door opened", took_s, "s", how))
    stopwatch.note(
        Number("commands for it", count, "", "README, At a door", Bar("<=", MOST_COMMANDS))
    )
    assert count <= MOST_COMMANDS
    # what each step said comes next is what came next
    for screen, following in zip(said, blank.typed[1:], strict=False):
        assert "next: " not in screen or f"next: sudo {following}" in screen
    # no line of the diagnosis is broken by the edge of the screen
    assert max(map(len, said[1].splitlines())) <= COLUMNS


async def test_the_broker_is_reached_without_another_word(blank: Blank):
    async with asyncio.timeout(60):
        while not any("connected to the broker" in line for line in await DAEMON.journal()):
            await asyncio.sleep(0.5)
    assert not [line for line in await DAEMON.journal() if "ermission denied" in line]


async def test_the_handover(blank: Blank):
    for typed in steps(HANDOVER_HEADING):
        few = " --dials 3" if typed.endswith("--walk") else ""  # each takes seconds in here
        await blank.does(f"{typed}{few}")
    handover = json.loads(await run("cat", str(REPORT)))
    (door,) = handover["doors"]
    assert (handover["complete"], door["walk"]["succeeded"]) == (True, 3)
    assert await run("runuser", "-u", "nobody", "--", "cat", str(REPORT))  # anybody may send it
    await blank.opens()


async def test_released_and_purged_it_leaves_nothing(blank: Blank):
    await blank.does("systemctl stop gatewayd")
    release = f"gatewayd setup release-lock street {blank.lock.label.text()}"
    async with blank.types(release) as screen:
        await screen.shows("press its button now")
        blank.lock.hands.press()
        assert await screen.ended() == 0, screen.screen
    await blank.does(page.commands(page.PURGE).strip())
    left = [path for path in (CONFIGURATION.parent, STATE, UNIT_OPENED) if path.exists()]
    assert left == []
    assert await run("systemctl", "is-active", "gatewayd", check=False) == "inactive\n"


async def test_again_and_every_step_is_cut_off_once(blank: Blank):
    claim = blank.operator.invite()
    await blank.operator.leave()
    install, examine, enrol, claim_lock, bind, test_open, start = steps(PATH_HEADING)
    await blank.does(install)
    async with blank.types(enrol) as screen:
        await screen.shows("claim of the operator")
        screen.type(f"{claim}\r")
        await screen.shows("asking at")
    await blank.operator.answer()
    assert "claim of the operator" not in await blank.does(enrol)  # it goes on with the first one
    async with blank.types(claim_lock) as screen:
        await blank.reads_the_label(screen)
        await screen.shows("press its button now")
    await blank.does(claim_lock)
    async with blank.types(bind) as screen:
        await asyncio.sleep(1.5)
    await blank.does(bind)
    async with blank.types(test_open) as screen:
        await screen.shows("then press Enter")
        screen.type("\r")
        await screen.shows("opening street")
    await blank.does(test_open)
    await blank.does(examine, code=1)
    await blank.does(start)
    await blank.opens()
    os.kill(await DAEMON.pid(), 9)
    await DAEMON.lives_anew(0, 40)
    await blank.opens()
    await blank.does(shlex.join(["apt-get", "purge", "--yes", "gatewayd"]))
