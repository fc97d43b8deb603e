"""A whole gateway, its locks and its holders, over any radio; quick to set up.

Above the two radio ports and the log everything is the real thing: doors,
phones, lock clients and timekeeping of the gateway, emulated locks on disk,
emulated phones with wallets.

    async with gateway(tmp_path) as site:
        report = await site.phone().open_door("street")
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from firmware_proto import credential
from firmware_proto.codes import LOCK_SERVICE_UUID, PHONE_SERVICE_UUID, Action, KeyClass
from firmware_proto.cose import key_id
from firmware_proto.framing import GattFraming
from firmware_proto.phone_session import PhoneSession
from firmware_proto.session import CredentialReceived
from gatewayd.adapters.systemd import Nobody
from gatewayd.budget import Budget
from gatewayd.cloud.authority import DAY_S, Authority, GatewayKeys, IssuerKey, new_key
from gatewayd.conditions import Conditions
from gatewayd.conversation import Conversation
from gatewayd.core import keytoken
from gatewayd.core.claims import Claims, StatusReference
from gatewayd.core.envelope import Kind, Statement, TimeAnswer
from gatewayd.core.keytoken import KeyToken
from gatewayd.core.model import DoorId, EntryKind, PastRequest
from gatewayd.core.policy import DoorSettings
from gatewayd.core.timekeeping import FRESH_S
from gatewayd.courier import Courier
from gatewayd.daemon import Daemon, Work
from gatewayd.door import Door
from gatewayd.emulators.lock import LockEmulator, LockSettings, lock_credential
from gatewayd.emulators.lock_faults import Faults, PowerLostError
from gatewayd.emulators.lock_machine import Machine
from gatewayd.emulators.lock_memory import LockMemory
from gatewayd.emulators.lock_state import Part, Position
from gatewayd.emulators.lock_store import LockStore
from gatewayd.emulators.phone import Patience, Phone
from gatewayd.emulators.visit import Visit
from gatewayd.emulators.wallet import Wallet
from gatewayd.health import Health
from gatewayd.holders import Holders
from gatewayd.lists import StatusLists
from gatewayd.lock_connection import GatewayIdentity, LockIdentity
from gatewayd.lock_timing import LockTiming
from gatewayd.locks import RemoteLock
from gatewayd.mailbox import Handlers, Mailbox
from gatewayd.phones import Phones
from gatewayd.ports import StorageError
from gatewayd.ports.process import Supervisor
from gatewayd.ports.radio import Central, Link, Peripheral
from gatewayd.ports.storage import AuditLog, Reserve
from gatewayd.receipts import Receipts
from gatewayd.recorder import Recorder
from gatewayd.refusals import Refusals
from gatewayd.rights import DoorIdentity
from gatewayd.surroundings import Surroundings
from gatewayd.timekeeper import SignedTime, Timekeeper
from gatewayd.trusted import Trusted
from tests.support.household import NOW, QUICK, TIMING, Dice, LoopClock, until
from tests.support.links import FakeAir
from tests.support.memory_log import MemoryLog

GATEWAY = "stairwell-7"
GROUP = "vestergade-7"
GATEWAY_ADDRESS = "F0:00:00:00:00:01"
STREET, CELLAR = "street", "cellar"
LATCH_MS = 300
GENERATION = 3


class LockOnDoor:
    """One emulated lock: on disk, with its machine, switched on and off at will."""

    def __init__(self, directory: Path, door: str, number: int, gateways_key: object) -> None:
        self.door = door
        self.address = f"F0:00:00:00:02:{number:02X}"
        self.store = LockStore(directory / f"lock-{door}.json")
        key = new_key()
        self.store.create(
            LockMemory(key, key_id(key.public_key()), door, gateways_key, GENERATION)  # type: ignore[arg-type] # an EC key
        )
        memory = self.store.load()
        self.identity = LockIdentity(
            self.address, key.public_key(), lock_credential(memory), memory.key_id
        )
        self.machine = Machine(motor_ms=20)
        self.faults = Faults()
        self.settings: LockSettings = QUICK
        self.lock: LockEmulator | None = None
        """While it runs."""

    async def run(self, peripheral: Peripheral) -> None:
        """Until cancelled, or until a fault takes its power."""
        self.lock = LockEmulator(
            self.store,
            self.machine,
            LoopClock(),
            Dice(),
            faults=self.faults,
            settings=self.settings,
        )
        with contextlib.suppress(PowerLostError):
            await self.lock.run(peripheral)


class Building:
    """The operator's and everybody's keys and disks; outlives any run of the gateway."""

    def __init__(
        self,
        directory: Path,
        doors: Iterable[str] = (STREET,),
        actions: Action = Action.OPEN,
    ) -> None:
        self.actions = actions
        self.directory = directory
        self.clock = LoopClock()
        self.issuer = IssuerKey.create("housing")
        self.authority = Authority.create(GROUP, self.issuer)
        self.keys = GatewayKeys.create()
        self.locks = {
            door: LockOnDoor(directory, door, number, self.authority.gateways.public_key())
            for number, door in enumerate(doors, 1)
        }
        self._wallets = 0

    @property
    def identity(self) -> GatewayIdentity:
        shown = self.authority.gateway_credential(
            GATEWAY,
            dict.fromkeys(self.locks, GENERATION),
            self.keys,
            issued_at=NOW - DAY_S,
            expires=NOW + 365 * DAY_S,
        )
        return GatewayIdentity(self.keys.handshake, shown)

    def wallet(  # noqa: PLR0913 - all of it has a default
        self,
        *,
        doors: Iterable[str] | None = None,
        issuer: IssuerKey | None = None,
        expires: int = NOW + DAY_S,
        audience: str = GROUP,
        key_class: KeyClass = KeyClass.RESIDENT,
        status: StatusReference | None = None,
    ) -> Wallet:
        """A fresh key with a fresh token."""
        self._wallets += 1
        key = new_key()
        token = (issuer or self.issuer).issue(
            Claims(
                issuer="",
                subject=f"holder-{self._wallets}",
                audience=audience,
                cti=self._wallets.to_bytes(8, "big"),
                not_before=NOW - DAY_S,
                expires=expires,
                issued_at=NOW - DAY_S,
                key=key.public_key(),
                scope=tuple((door, self.actions) for door in sorted(doors or self.locks)),
                key_class=key_class,
                status=status,
            )
        )
        path = self.directory / f"wallet-{self._wallets}"
        return Wallet.create(path, key, token, self.authority.gateways.public_key())

    def token(self, wallet: Wallet) -> KeyToken:
        """What the gateway makes of the wallet's token."""
        return keytoken.authenticate(wallet.token, self.authority.trust())

    @property
    def openings(self) -> int:
        """How often any latch was really drawn."""
        return sum(lock.machine.openings for lock in self.locks.values())


@dataclass(slots=True)
class Gateway:
    """One run of the gateway's shells."""

    building: Building
    log: AuditLog
    timekeeper: Timekeeper
    around: Surroundings
    locks: Mapping[DoorId, RemoteLock]
    doors: Mapping[DoorId, Door]
    phones: Phones
    tasks: asyncio.TaskGroup
    conditions: Conditions
    budgets: Mapping[DoorId, Budget]
    mailbox: Mailbox

    def daemon(self, supervisor: Supervisor | None = None, extra: tuple[Work, ...] = ()) -> Daemon:
        return Daemon(
            self.around.log,
            self.timekeeper,
            self.doors,
            self.locks,
            self.phones,
            self.around.refusals,
            supervisor or Nobody(),
            self.tasks,
            extra,
            troubles=self.conditions.__str__,
        )

    def health(self, state: Path, **changes: Any) -> Health:
        """How it is, as the composition root would ask."""
        given: dict[str, Any] = {
            "log": self.log,
            "recorder": self.around.log,
            "state": state,
            "entropy": Dice(),
            "timekeeper": self.timekeeper,
            "counts": self.phones.counts,
            "conditions": self.conditions,
            "mailbox": self.mailbox,
            "lists": self.around.lists,
            "lock_addresses": {door: self.building.locks[door].address for door in self.locks},
        }
        return Health(**{**given, **changes})

    @property
    def door(self) -> Door:
        """The first one."""
        return next(iter(self.doors.values()))


async def assemble(  # noqa: PLR0913 - what a composition root puts together
    building: Building,
    central: Central,
    tasks: asyncio.TaskGroup,
    log: AuditLog | MemoryLog,
    *,
    cap: int = 4,
    timing: LockTiming = TIMING,
    settings: DoorSettings | None = None,
    latch_ms: int = LATCH_MS,
    reserve: Reserve | None = None,
) -> Gateway:
    """Wire the shells as `gatewayd.app` does; nothing runs yet."""
    timekeeper = await Timekeeper.load(building.clock, log, battery_clock=False)  # type: ignore[arg-type] # every log of ours is a Memory
    await timekeeper.provision(NOW)
    entropy = Dice(5)
    trusted = Trusted(building.authority.trust())
    recorder = Recorder(log, log, timekeeper, bytes(32), reserve)  # type: ignore[arg-type] # likewise
    await recorder.begin()
    around = Surroundings(
        recorder,
        timekeeper,
        entropy,
        trusted,
        await StatusLists.load(lambda: trusted.now, log, timekeeper),  # type: ignore[arg-type] # likewise
        bytes(32),
        tasks,
        Refusals(recorder, timekeeper),
    )
    identity = building.identity
    ids = tuple(map(DoorId, building.locks))
    conditions = Conditions(ids, building.clock)
    budgets = {door: Budget(door, building.clock) for door in ids}
    locks = {
        door: RemoteLock(
            central,
            building.locks[door].identity,
            identity,
            building.clock,
            entropy,
            timing=timing,
            on_state=partial(conditions.heard, door),
            on_dialled=partial(conditions.dialled, door),
            budget=budgets[door],
        )
        for door in ids
    }
    doors = {
        door: Door(
            DoorIdentity(door, latch_ms, ZoneInfo("Europe/Copenhagen"), settings or DoorSettings()),
            lock,
            around,
            budgets[door],
        )
        for door, lock in locks.items()
    }
    receipts = Receipts(building.keys.receipt, "example.org/log")
    times = SignedTime(timekeeper, entropy)

    async def time(order: Statement) -> None:
        await times.answered(*TimeAnswer.of(order.body))

    mailbox = await Mailbox.load(
        GATEWAY,
        trusted,
        log,  # type: ignore[arg-type] # likewise
        lambda: timekeeper.reading().floor_s,
        Handlers(orders={Kind.TIME: time}, take_list=around.lists.deliver),
    )
    courier = Courier(
        mailbox.deliver,
        lambda: times.question(FRESH_S),
        lambda: building.clock.instant().boottime_s,
    )
    phones = Phones(identity, Holders(doors, receipts, around), around, courier, cap=cap)
    return Gateway(
        building, log, timekeeper, around, locks, doors, phones, tasks, conditions, budgets, mailbox
    )


@dataclass(slots=True)
class Site:
    """A building with its gateway on a FakeAir."""

    air: FakeAir
    building: Building
    log: DoorLog
    gateway: Gateway
    _power: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def phone(self, wallet: Wallet | None = None, patience: Patience | None = None) -> Phone:
        """A holder's phone, with the air's default patience of a short test."""
        return Phone(
            self.air.central(),
            wallet or self.building.wallet(),
            self.building.clock,
            Dice(id(wallet)),
            patience or Patience(attempts=1),
        )

    def power_on(self, *doors: str) -> None:
        """Put locks on the air, all of them when none is named."""
        for door in doors or self.building.locks:
            lock = self.building.locks[door]
            peripheral = self.air.peripheral(lock.address, LOCK_SERVICE_UUID, link_cap=1)
            self._power[door] = asyncio.create_task(lock.run(peripheral), name=f"lock {door}")

    async def power_off(self, *doors: str) -> None:
        for door in doors or tuple(self._power):
            task = self._power.pop(door)
            task.cancel()
            await asyncio.wait({task})
            self.air.vanish(self.building.locks[door].address)

    @property
    def openings(self) -> int:
        return self.building.openings

    async def latch_home(self, door: str = STREET) -> None:
        """Wait until the lock has let its latch go; it can open anew then."""
        machine = self.building.locks[door].machine
        await until(lambda: machine.positions[Part.LATCH] is Position.THROWN, 5.0)
        await asyncio.sleep(0.01)

    def kinds(self) -> list[EntryKind]:
        """The log, reduced to what each entry tells."""
        return [entry.kind for entry in self.log.entries]


@dataclass(slots=True)
class DoorLog(MemoryLog):
    """A MemoryLog whose reading can be made to fail, too."""

    unreadable: bool = False

    async def past_request(self, request_key: bytes) -> PastRequest | None:
        if self.unreadable:
            raise StorageError("told to fail")
        return await super(DoorLog, self).past_request(request_key)


async def barge_in(link: Link, wallet: Wallet) -> Visit:
    """A phone that talks to any gateway and shows any token, whatever it is good for."""
    session = PhoneSession(
        GattFraming(link.mtu, b"\x5a\xa5"),
        ephemeral=new_key(),
        connection_id=b"\x01",
        static_key=wallet.key,
        credential=wallet.token,
    )
    talk = Conversation(link, session)
    session.begin()
    event = await talk.next_event()
    assert isinstance(event, CredentialReceived)
    shown = credential.verify(event.credential or b"", wallet.gateways_key)
    session.trust(shown.key)
    return Visit(talk, shown)


class LoopTime:
    """The running loop's time, which a test may skip: deadlines of seconds pass at once."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._passes = loop.time
        self._skipped_s = 0.0
        loop.time = self._now  # type: ignore[method-assign] # no loop of asyncio's own can skip

    def _now(self) -> float:
        return self._passes() + self._skipped_s

    async def skip(self, seconds: float) -> None:
        """Everything that was due meanwhile happens now, more or less in order."""
        self._skipped_s += seconds
        for _ in range(20):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def gateway(  # noqa: PLR0913 - all of it has a default
    directory: Path,
    *,
    building: Building | None = None,
    doors: Iterable[str] = (STREET,),
    actions: Action = Action.OPEN,
    air: FakeAir | None = None,
    log: DoorLog | None = None,
    cap: int = 4,
    timing: LockTiming = TIMING,
    settings: DoorSettings | None = None,
    serving: bool = True,
    radio_cap: int | None = None,
    latch_ms: int = LATCH_MS,
    reserve: Reserve | None = None,
) -> AsyncIterator[Site]:
    """A gateway with its locks powered, serving phones at GATEWAY_ADDRESS until the block ends."""
    air, log = air or FakeAir(), log or DoorLog()
    building = building or Building(directory, doors, actions)
    peripheral = air.peripheral(GATEWAY_ADDRESS, PHONE_SERVICE_UUID, link_cap=radio_cap)
    failure: BaseException | None = None
    async with asyncio.TaskGroup() as tasks:
        running = await assemble(
            building,
            air.central(LOCK_SERVICE_UUID),
            tasks,
            log,
            cap=cap,
            timing=timing,
            settings=settings,
            latch_ms=latch_ms,
            reserve=reserve,
        )
        site = Site(air, building, log, running)
        site.power_on()
        serve = tasks.create_task(running.phones.serve(peripheral)) if serving else None
        try:
            yield site
        except BaseException as error:  # noqa: BLE001 - raised again, outside of the group
            failure = error
        if serve is not None:
            serve.cancel()
        for door in running.doors.values():
            async with asyncio.timeout(10):
                await door.settled()
        for lock in running.locks.values():
            await lock.close()
        await site.power_off()
    if failure is not None:
        raise failure
