"""A house of many doors, for openings by the hundred: a latch is held for half a second at least.

Keys, locks, phones and the daemon's files as everywhere else; which radio all of
them are on is told by whoever builds it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from firmware_proto.codes import Action, KeyClass, Outcome, Reason
from firmware_proto.cose import key_id
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.cloud.authority import DAY_S, Authority, GatewayKeys, IssuerKey, new_key
from gatewayd.core import provisioned_time
from gatewayd.core.claims import Claims
from gatewayd.emulators.lock import LockEmulator
from gatewayd.emulators.lock_machine import Machine
from gatewayd.emulators.lock_memory import LockMemory
from gatewayd.emulators.lock_store import LockStore
from gatewayd.emulators.phone import Phone
from gatewayd.emulators.wallet import Wallet
from gatewayd.keyfiles import create_files, private_pem, public_pem
from gatewayd.ports.radio import Central, Peripheral

GATEWAY = "long-house"
GROUP = "long-street"
LATCH_MS = 500
PAUSE_S = LATCH_MS / 1000 + 0.1
MOTOR_MS = 10
PHONES = 4


def lock_address(number: int) -> str:
    return f"F0:00:00:00:02:{number:02X}"


def phone_address(number: int) -> str:
    return f"F0:00:00:00:01:{number:02X}"


@dataclass(frozen=True, slots=True)
class LongHouse:
    """config: of `gatewayd run`. doors: by name, their lock's address."""

    directory: Path
    config: Path
    doors: Mapping[str, str]
    authority: Authority
    issuer: IssuerKey

    def lock(self, door: str) -> LockEmulator:
        """The lock of one door, as its maker and the installer left it."""
        store = LockStore(self.directory / f"{door}.json")
        return LockEmulator(store, Machine(motor_ms=MOTOR_MS), SystemClock(), SystemEntropy())

    def phone(self, number: int, central: Central) -> Phone:
        """A resident's phone, whose key opens every door."""
        clock, key = SystemClock(), new_key()
        now_s = int(clock.instant().wall_s)
        token = self.issuer.issue(
            Claims(
                issuer="",
                subject=f"holder-{number}",
                audience=GROUP,
                cti=SystemEntropy().token_bytes(8),
                not_before=now_s - 3600,
                expires=now_s + DAY_S,
                issued_at=now_s - 3600,
                key=key.public_key(),
                scope=tuple((door, Action.OPEN) for door in self.doors),
                key_class=KeyClass.RESIDENT,
            )
        )
        wallet = Wallet.create(
            self.directory / f"wallet-{number}", key, token, self.authority.gateways.public_key()
        )
        return Phone(central, wallet, clock, SystemEntropy())


def build(directory: Path, radio: str, *, doors: int, warm: bool) -> LongHouse:
    """Everything on disk. `radio`: settings of that section. `warm`: links to locks are kept."""
    issuer = IssuerKey.create("long street housing")
    authority = Authority.create(GROUP, issuer)
    addresses = {f"door-{number}": lock_address(number) for number in range(1, doors + 1)}
    for door in addresses:
        _lock(directory, door, authority)
    return LongHouse(
        directory, _install(directory, authority, addresses, radio, warm=warm), addresses,
        authority, issuer,
    )  # fmt: skip


def _lock(directory: Path, door: str, authority: Authority) -> None:
    key = new_key()
    LockStore(directory / f"{door}.json").create(
        LockMemory(key, key_id(key.public_key()), door, authority.gateways.public_key())
    )
    create_files({directory / f"{door}.pub.pem": public_pem(key.public_key())})


def _install(
    directory: Path, authority: Authority, doors: Mapping[str, str], radio: str, *, warm: bool
) -> Path:
    keys, now_s = GatewayKeys.create(), int(SystemClock().instant().wall_s)
    config = directory / "gatewayd.toml"
    create_files(
        {
            directory / "gateway.pem": private_pem(keys.handshake),
            directory / "log.pem": private_pem(keys.log),
            directory / "receipt.pem": private_pem(keys.receipt),
            directory / "gateway.cwt": authority.gateway_credential(
                GATEWAY, dict.fromkeys(doors, 1), keys, issued_at=now_s, expires=now_s + DAY_S
            ),
            directory / "root.pub.pem": public_pem(authority.root.public_key()),
            directory / "trust.cose": authority.bundle(),
            directory / "time.cose": provisioned_time.sign(
                GATEWAY, now_s, SystemEntropy().token_bytes(16), authority.time
            ),
            config: _configuration(doors, radio, warm=warm).encode(),
        }
    )
    return config


def _configuration(doors: Mapping[str, str], radio: str, *, warm: bool) -> str:
    return (
        f'[gateway]\nid = "{GATEWAY}"\n[trust]\ntime = "time.cose"\n[radio]\n{radio}\n'
        + "".join(
            f"""
[[door]]
id = "{door}"
latch_ms = {LATCH_MS}
lock = {{ address = "{address}", key = "{door}.pub.pem", warm = {str(warm).lower()} }}
"""
            for door, address in doors.items()
        )
    )


@contextlib.asynccontextmanager
async def locks_run(house: LongHouse, peripherals: Mapping[str, Peripheral]) -> AsyncIterator[None]:
    """The locks serve, by door."""
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(house.lock(door).run(peripheral), name=f"lock of {door}")
            for door, peripheral in peripherals.items()
        ]
        try:
            yield
        finally:
            for each in running:
                each.cancel()


async def open_often(
    house: LongHouse,
    phones: Sequence[Phone],
    gateway: str,
    times: int,
    opened: Callable[[str], None] = lambda _: None,
) -> None:
    """So many openings by all phones at all doors in turn; `opened` is told each time.

    AssertionError when one of them is not an opening of its own.
    """
    doors = [_Door(door, opened) for door in house.doors]
    errands: asyncio.Queue[_Door] = asyncio.Queue()
    for number in range(times):
        errands.put_nowait(doors[number % len(doors)])
    async with asyncio.TaskGroup() as group:
        for phone in phones:
            group.create_task(_errands(phone, gateway, errands))


class _Door:
    """It rests while its latch is held: who opens it then is told that it is open."""

    def __init__(self, name: str, opened: Callable[[str], None]) -> None:
        self._name = name
        self._opened = opened
        self._turn = asyncio.Lock()
        self._rests_until_s = 0.0

    async def opened_by(self, phone: Phone, gateway: str) -> None:
        loop = asyncio.get_running_loop()
        async with self._turn:
            await asyncio.sleep(self._rests_until_s - loop.time())
            report = await phone.open_door(self._name, address=gateway)
            self._rests_until_s = loop.time() + PAUSE_S
            self._opened(self._name)
        if (report.outcome, report.reason) != (Outcome.CONFIRMED, Reason.OK):
            raise AssertionError(f"{self._name}: {report.outcome.name} {report.reason.name}")


async def _errands(phone: Phone, gateway: str, errands: asyncio.Queue[_Door]) -> None:
    while not errands.empty():
        await errands.get_nowait().opened_by(phone, gateway)
