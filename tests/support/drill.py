"""A building for the drills: an operator, a broker, one air, locks from their boxes, cards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from firmware_proto.codes import Outcome
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.virtual_radio import (
    INSTANT,
    LOCK,
    PHONE,
    AirController,
    VirtualAir,
    open_radio,
    serve_hci,
)
from gatewayd.config import on_site
from gatewayd.demo.child import Child
from gatewayd.emulators.lock import lock_credential
from gatewayd.emulators.lock_machine import Part, Position
from gatewayd.emulators.phone import Phone, Report
from gatewayd.emulators.wallet import Wallet
from gatewayd.keyfiles import read_p256_private
from gatewayd.lock_connection import GatewayIdentity, LockIdentity
from gatewayd.locks import RemoteLock
from gatewayd.radio_app import radio_address
from tests.support import commands
from tests.support.brokers import Broker
from tests.support.commands import Ran
from tests.support.fitting import BoxedLock, boxed_locks
from tests.support.operator_side import operator_in

GROUP = "vestergade-7"


@dataclass
class Card:
    """What makes a box a gateway: its files and its state; `child` is the daemon on it."""

    name: str
    directory: Path
    radio: str
    child: Child = field(init=False)

    def __post_init__(self) -> None:
        self.child = Child(self.config)

    @property
    def config(self) -> Path:
        return self.directory / "gatewayd.toml"

    @property
    def address(self) -> str:
        return radio_address(self.name)

    @property
    def identity(self) -> GatewayIdentity:
        """As it enrolled."""
        key = read_p256_private(self.directory / "gateway.pem", "key")
        return GatewayIdentity(key, (self.directory / "gateway.cwt").read_bytes())

    def on_this_air(self) -> None:
        """What an installer edits, and the one thing that is not as at a door: the radio."""
        text = self.config.read_text()
        assert 'kind = "bluez"' in text
        text = text.replace('kind = "bluez"', f'hci = "{self.radio}"')
        first, *doors = text.split("[[door]]")
        quick = "\nlatch_ms = 500\n"
        doors = [each if "latch_ms" in each else each.rstrip() + quick for each in doors]
        self.config.write_text("[[door]]".join([first, *doors]))

    async def starts(self) -> None:
        """As systemd would; a daemon that ran before is dead by then."""
        await self.child.kill()
        self.child = Child(self.config)
        await self.child.start()


@dataclass
class Drill:
    """Everybody who takes part."""

    directory: Path
    air: VirtualAir
    broker: Broker
    locks: dict[str, BoxedLock]
    stack: contextlib.AsyncExitStack
    cards: dict[str, Card] = field(default_factory=dict)
    phones: int = 0

    @property
    def operator(self) -> Path:
        return self.directory / "operator"

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.broker.address.port}"

    @property
    def moved(self) -> int:
        """How often any lock has opened."""
        return sum(lock.machine.openings for lock in self.locks.values())

    # --- what people type ------------------------------------------------------------
    async def types(self, *words: str | Path, code: int = 0) -> Ran:
        """A command of the operator or of the installer; it is to end so."""
        ran = await asyncio.to_thread(commands.run, *words)
        assert ran.code == code, (words, ran)
        return ran

    async def cloud(self, *words: str | Path, broker: bool = True, code: int = 0) -> Ran:
        """A command of the operator, in whose directory he is."""
        store = self.operator / "invitations.sqlite"
        named = "--enrolled" if words[0] in {"pull", "verify", "send"} else "--store"
        more: list[str | Path] = ["--keys", self.operator, named, store]
        pulled = self.operator / "cloud.sqlite"
        if words[0] in {"pull", "verify"}:
            more += ["--store", pulled]
        if words[0] == "send":
            more += ["--pulled", pulled]
        if broker:
            more += ["--broker", self.url]
        return await self.types("cloud", *words, *more, code=code)

    async def site(self, card: Card, *words: str | Path, code: int = 0) -> Ran:
        """A step of the installer at a box."""
        return await self.types("setup", *words, "-c", card.config, code=code)

    async def invited(self, name: str, *words: str, broker: bool = False) -> str:
        """The claim of a new invitation."""
        ran = await self.cloud("invite", name, *words, "--json", broker=broker)
        claim: str = ran.json["claim"]
        return claim

    # --- cards -----------------------------------------------------------------------
    async def card(self, name: str) -> Card:
        """An empty one, in a box with a radio."""
        directory = self.directory / name
        directory.mkdir()
        hci = directory / "hci"
        await self.stack.enter_async_context(
            serve_hci(self.air, hci, address=f"00:00:00:00:01:{len(self.cards):02X}")
        )
        card = self.cards[name] = Card(name, directory, f"unix:{hci}")
        self.stack.push_async_callback(
            lambda: card.child.kill()  # noqa: PLW0108 - the one that runs then
        )
        return card

    async def enrol(self, card: Card, claim: str, code: int = 0) -> Ran:
        """Without a network, by files, as that takes the least time."""
        request, answer = card.directory / "request", card.directory / "answer"
        into = ("--into", card.directory)
        await self.types("setup", "enrol", claim, *into, "--request", request)
        answer.unlink(missing_ok=True)
        words = ("--request", request, "--answer", answer)
        await self.cloud("enrol", *words, broker=False, code=code)
        return self._enrolled(
            card, await self.types("setup", "enrol", *into, "--answer", answer, code=code)
        )

    async def enrol_at_the_broker(self, card: Card, claim: str) -> Ran:
        """With the operator answering there."""
        words = ("--keys", self.operator, "--store", self.operator / "invitations.sqlite")
        async with commands.running(
            "cloud", "enrol", *words, "--broker", self.url, PYTHONUNBUFFERED="1"
        ) as answering:
            assert answering.stdout is not None
            async with asyncio.timeout(30):
                while b"answering" not in await answering.stdout.readline():
                    pass
            await asyncio.sleep(0.5)
            return self._enrolled(
                card, await self.types("setup", "enrol", claim, "--into", card.directory)
            )

    @staticmethod
    def _enrolled(card: Card, ran: Ran) -> Ran:
        if ran.code == 0:
            card.on_this_air()
        return ran

    # --- people ------------------------------------------------------------------------
    async def phone_of(self, name: str, *doors: str, more: Sequence[str | Path] = ()) -> Path:
        """A resident's phone with a key for these doors."""
        wallet = self.directory / f"phone-{name}"
        named = [word for door in doors for word in ("--door", door)]
        await self.types(
            "keys", "issue", "--issuer", "housing", "--signer", self.operator / "housing.pem",
            "--group", GROUP, *named, "--holder", name, "--wallet", wallet,
            "--gateways", self.operator / "gateways.pub.pem", *more,
        )  # fmt: skip
        return wallet

    @contextlib.asynccontextmanager
    async def holding(self, wallet: Path) -> AsyncIterator[Phone]:
        self.phones += 1
        address = f"E0:00:00:00:00:{self.phones:02X}"
        controller = AirController(self.air, address)
        async with open_radio(controller, address=address, dials=PHONE) as radio:
            yield Phone(radio.central, Wallet.load(wallet), SystemClock(), SystemEntropy())

    async def asks(self, wallet: Path, door: str, at: Card) -> Report:
        """To open a door, of this gateway and no other."""
        async with self.holding(wallet) as phone:
            return await phone.open_door(door, address=at.address)

    async def opens(self, wallet: Path, door: str, at: Card) -> None:
        """It opens, and the lock has moved."""
        machine = self.locks[door].machine
        async with asyncio.timeout(10):  # as nobody opens twice within one latch time
            while machine.positions[Part.LATCH] is not Position.THROWN:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.05)
        before = machine.openings
        report = await self.asks(wallet, door, at)
        assert (report.outcome, report.gateway) == (Outcome.CONFIRMED, at.name), report
        assert machine.openings == before + 1

    async def meets_lock(self, door: str, card: Card) -> None:
        """As whoever has this card's first credential and key. RadioError when the lock refuses."""
        memory = self.locks[door].memory
        claimed = on_site.load(card.directory / "state")[0].lock_of(door)
        assert claimed is not None
        self.phones += 1
        address = f"E0:00:00:00:00:{self.phones:02X}"
        known = LockIdentity(
            claimed.address, memory.key.public_key(), lock_credential(memory), memory.key_id
        )
        controller = AirController(self.air, address)
        async with open_radio(controller, address=address, dials=LOCK) as radio:
            client = RemoteLock(radio.central, known, card.identity, SystemClock(), SystemEntropy())
            try:
                await client.prepare()
            finally:
                await client.close()


@contextlib.asynccontextmanager
async def drill(directory: Path, broker: Broker, *locks: str) -> AsyncIterator[Drill]:
    """An operator with his keys, and locks that belong to nobody, on their batteries."""
    air = VirtualAir(INSTANT)
    async with contextlib.AsyncExitStack() as stack:
        boxed = await stack.enter_async_context(boxed_locks(directory, air, *locks))
        for each in boxed:
            await stack.enter_async_context(each.power())
        operator_in(directory / "operator")
        yield Drill(directory, air, broker, dict(zip(locks, boxed, strict=True)), stack)
