"""Builds the staircase: an operator, a gateway on disk, an air, two locks and several phones.

Nothing here is faked above the radio waves: keys are issued as an operator
issues them, the daemon reads its files as an installer leaves them, phones and
locks are the emulators of `gatewayd.emulators` on radios of the virtual air.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmware_proto.codes import ID_BYTES, Action, KeyClass
from firmware_proto.cose import key_id
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.virtual_radio import (
    LOCK,
    PHONE,
    AirController,
    AirModel,
    RadioOptions,
    VirtualAir,
    open_radio,
    serve_hci,
)
from gatewayd.cloud.authority import DAY_S, Authority, GatewayKeys, IssuerKey, new_key
from gatewayd.core import provisioned_time
from gatewayd.core.claims import Claims
from gatewayd.emulators.lock import LockEmulator
from gatewayd.emulators.lock_faults import Faults, PowerLostError
from gatewayd.emulators.lock_machine import Machine
from gatewayd.emulators.lock_memory import LockMemory
from gatewayd.emulators.lock_store import LockStore
from gatewayd.emulators.phone import Phone
from gatewayd.emulators.wallet import Wallet
from gatewayd.keyfiles import create_files, private_pem, public_pem
from gatewayd.radio_app import radio_address

GATEWAY: Final = "stairwell-7"
GROUP: Final = "vestergade-7"
STREET, STAIRS = "street", "stairs"
GENERATION: Final = 2
LOCK_ADDRESSES: Final = {STREET: "F0:00:00:00:00:01", STAIRS: "F0:00:00:00:00:02"}
SLEEPING_MS: Final = (1000.0, 1000.0)
AWAKE_MS: Final = (100.0, 152.5)
AIR: Final = AirModel(connection_interval_s=0.03, supervision_timeout_s=1.0)


@dataclass(slots=True)
class EmulatedLock:
    """One lock on its door, and what may go wrong with it."""

    door: str
    store: LockStore
    machine: Machine = field(default_factory=lambda: Machine(motor_ms=150))
    faults: Faults = field(default_factory=Faults)
    controller: AirController | None = None
    powered: asyncio.Event = field(default_factory=asyncio.Event)

    def vanish(self) -> None:
        """Out of reach, as behind a steel door."""
        if self.controller is not None:
            self.controller.vanish()

    def appear(self) -> None:
        """Back in reach, and powered."""
        if self.controller is not None:
            self.controller.appear()
        self.powered.set()

    async def run(self, air: VirtualAir) -> None:
        """On the air until cancelled; after a power loss, again when `appear` is called."""
        controller = self.controller = AirController(air, LOCK_ADDRESSES[self.door])
        options = RadioOptions(
            name="lock",
            link_cap=1,
            advertising_interval_ms=SLEEPING_MS if self.door == STAIRS else AWAKE_MS,
        )
        while True:
            self.powered.clear()
            async with open_radio(
                controller, address=LOCK_ADDRESSES[self.door], serves=LOCK, options=options
            ) as radio:
                lock = LockEmulator(
                    self.store, self.machine, SystemClock(), SystemEntropy(), faults=self.faults
                )
                with contextlib.suppress(PowerLostError):
                    await lock.run(radio.peripheral)
                self.vanish()
                await self.powered.wait()


@dataclass(slots=True)
class World:
    """Everything on this machine that takes part. gateway: the address that phones dial."""

    directory: Path
    air: VirtualAir
    gateway: str
    authority: Authority
    issuer: IssuerKey
    keys: GatewayKeys
    config: Path
    now_s: int
    locks: dict[str, EmulatedLock]
    broker_port: int
    witness: Ed25519PrivateKey | None = None
    phones: int = 0

    @property
    def database(self) -> Path:
        """The gateway's log."""
        return self.directory / "state" / "log.db"

    @contextlib.asynccontextmanager
    async def phone(self, wallet: Wallet) -> AsyncIterator[Phone]:
        """A phone with a radio of its own."""
        self.phones += 1
        address = f"E0:00:00:00:00:{self.phones:02X}"
        controller = AirController(self.air, address)
        async with open_radio(controller, address=address, dials=PHONE) as radio:
            yield Phone(radio.central, wallet, SystemClock(), SystemEntropy())

    def wallet(
        self,
        name: str,
        *,
        doors: tuple[str, ...] = (STREET, STAIRS),
        key_class: KeyClass = KeyClass.RESIDENT,
        issuer: IssuerKey | None = None,
        valid: tuple[int, int] = (-3600, DAY_S),
    ) -> Wallet:
        """A fresh key with a token over `doors`, valid from and until so many seconds from now."""
        key = new_key()
        token = (issuer or self.issuer).issue(
            Claims(
                issuer="",
                subject=f"holder-{name}",
                audience=GROUP,
                cti=SystemEntropy().token_bytes(8),
                not_before=self.now_s + valid[0],
                expires=self.now_s + valid[1],
                issued_at=self.now_s + valid[0],
                key=key.public_key(),
                scope=tuple((door, Action.OPEN) for door in doors),
                key_class=key_class,
            )
        )
        path = self.directory / "wallets" / name
        return Wallet.create(path, key, token, self.authority.gateways.public_key())


@contextlib.asynccontextmanager
async def build(directory: Path, broker_port: int) -> AsyncIterator[World]:
    """The staircase, with the locks on the air and a controller waiting for the daemon."""
    air, socket = VirtualAir(AIR), directory / "gateway.hci"
    world = furnish(
        directory, broker_port, air, gateway=radio_address(GATEWAY), radio=f'hci = "unix:{socket}"'
    )
    async with serve_hci(air, socket, address="F0:00:00:00:00:FF"), inhabited(world):
        yield world


def furnish(
    directory: Path, broker_port: int, air: VirtualAir, *, gateway: str, radio: str
) -> World:
    """Keys, locks and files of the staircase. `radio`: what the configuration says of its radio."""
    now_s = int(SystemClock().instant().wall_s)
    issuer = IssuerKey.create("vestergade housing")
    authority = Authority.create(GROUP, issuer)
    keys = GatewayKeys.create()
    config = _install(directory, authority, keys, now_s, _configuration(broker_port, radio))
    locks = {door: _lock(directory, door, authority) for door in (STREET, STAIRS)}
    return World(
        directory, air, gateway, authority, issuer, keys, config, now_s, locks, broker_port
    )


@contextlib.asynccontextmanager
async def inhabited(world: World) -> AsyncIterator[None]:
    """The locks are on the air."""
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(lock.run(world.air), name=f"lock {door}")
            for door, lock in world.locks.items()
        ]
        try:
            yield
        finally:
            for task in running:
                task.cancel()


def _lock(directory: Path, door: str, authority: Authority) -> EmulatedLock:
    """A lock as its maker and the installer left it: claimed for its door."""
    key = new_key()
    store = LockStore(directory / f"lock-{door}.json")
    store.create(
        LockMemory(key, key_id(key.public_key()), door, authority.gateways.public_key(), GENERATION)
    )
    create_files({directory / f"lock-{door}.pub.pem": public_pem(key.public_key())})
    return EmulatedLock(door, store)


def _install(
    directory: Path, authority: Authority, keys: GatewayKeys, now_s: int, configuration: str
) -> Path:
    """The gateway's files, as `gatewayd keys` makes them, and its configuration."""
    credential = authority.gateway_credential(
        GATEWAY,
        {STREET: GENERATION, STAIRS: GENERATION},
        keys,
        issued_at=now_s,
        expires=now_s + 365 * DAY_S,
    )
    config = directory / "gatewayd.toml"
    create_files(
        {
            directory / "gateway.pem": private_pem(keys.handshake),
            directory / "log.pem": private_pem(keys.log),
            directory / "receipt.pem": private_pem(keys.receipt),
            directory / "gateway.cwt": credential,
            directory / "root.pub.pem": public_pem(authority.root.public_key()),
            directory / "trust.cose": authority.bundle(),
            directory / "time.cose": provisioned_time.sign(
                GATEWAY, now_s, SystemEntropy().token_bytes(ID_BYTES), authority.time
            ),
            config: configuration.encode(),
        }
    )
    return config


def _configuration(broker_port: int, radio: str) -> str:
    doors = "".join(
        f"""
[[door]]
id = "{door}"
zone = "Europe/Copenhagen"
latch_ms = 1000
lock = {{ address = "{LOCK_ADDRESSES[door]}", key = "lock-{door}.pub.pem", warm = {warm} }}
"""
        for door, warm in ((STREET, "true"), (STAIRS, "false"))
    )
    return f"""
[gateway]
id = "{GATEWAY}"

[trust]
time = "time.cose"

[radio]
{radio}

[uplink]
broker = "mqtt://127.0.0.1:{broker_port}"
{doors}"""
