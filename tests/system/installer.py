"""An installer with a blank machine: what the README says, typed at a terminal.

Nothing of ours is installed when this begins, and every command at the gateway stands in the
README or in docs/install.md. The operator is beside it, and does what his pages say; lock and
phone are emulated, on the air of the kernel's adapter.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from firmware_proto.cose import key_id
from gatewayd.adapters.virtual_radio import serve_hci
from gatewayd.cloud.authority import new_key
from gatewayd.core.invitation import claim_in
from gatewayd.emulators.lock_memory import LockMemory
from gatewayd.emulators.lock_store import LockStore
from gatewayd.lock_app import new_secret
from tests.support import commands
from tests.support.fitting import BoxedLock
from tests.support.terminal import Terminal, terminal
from tests.system import image
from tests.system import systemd_install as page
from tests.system.guest import PATH
from tests.system.place import Place, open_place
from tests.system.systemd_house import BLUETOOTH, CONFIGURATION, DAEMON, STATE, keep_journals
from tests.system.systemd_prepare import package
from tests.system.systemd_unit import DROP_INS, run

README = image.CHECKOUT / "README.md"
OPERATOR = image.CHECKOUT / "docs/operator.md"
BROKER = image.CHECKOUT / "docs/broker.md"
PATH_HEADING, HANDOVER_HEADING = "At a door", "Handing over"
HOME = Path("/root")
MOSQUITTO = Path("/etc/mosquitto")
UNIT_OPENED = DROP_INS / f"{DAEMON.name}.d"
GATEWAYS = {"PATH": PATH, "HOME": str(HOME), "LANG": "C.UTF-8"}
OPERATORS = {**GATEWAYS, "PATH": f"{Path(sys.executable).parent}:{PATH}"}
LINKS_GONE_S = 5.0
"""After so long the kernel has ended what a killed bluetoothd has left."""


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

    @asynccontextmanager
    async def cut_off(self, typed: str) -> AsyncIterator[Terminal]:
        """At the end of the block the power goes, as far as processes can tell; then it is back."""
        async with self.types(typed) as screen:
            yield screen
        await run("systemctl", "kill", "--signal=KILL", BLUETOOTH.name)
        await asyncio.sleep(LINKS_GONE_S)
        await self.place.bus.wait_for_adapter(self.place.address)
        await run("systemctl", "start", "multi-user.target")  # what is enabled begins with it

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


@asynccontextmanager
async def open_blank(home: Path) -> AsyncIterator[Blank]:
    """The machine, and its operator's directory in `home`."""
    assert left() == []
    assert shutil.which("gatewayd", path=PATH) is None
    operator = Operator(home)
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


def left() -> list[Path]:
    """What there is of a gateway."""
    return [path for path in (CONFIGURATION.parent, STATE, UNIT_OPENED) if path.exists()]
