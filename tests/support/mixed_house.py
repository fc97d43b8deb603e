"""One gateway with a door of every kind: a lock on the air, a lock on a wire, a relay.

    async with mixed_house(directory, air, radio, relay) as house:
        await house.daemon.start()
        report = await (await house.phone("anna")).open_door(YARD, address=...)

The daemon is a child process with the files that an installer leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from firmware_proto.codes import ID_BYTES, Action, KeyClass
from firmware_proto.cose import key_id
from gatewayd import logbook
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.virtual_radio import (
    LOCK,
    PHONE,
    AirController,
    RadioOptions,
    VirtualAir,
    open_radio,
)
from gatewayd.cloud.authority import DAY_S, Authority, GatewayKeys, IssuerKey, new_key
from gatewayd.core import provisioned_time
from gatewayd.core.audit import Leaf
from gatewayd.core.claims import Claims
from gatewayd.demo.child import Child
from gatewayd.emulators.lock import LockEmulator, LockSettings
from gatewayd.emulators.lock_machine import Machine
from gatewayd.emulators.lock_memory import LockMemory
from gatewayd.emulators.lock_store import LockStore
from gatewayd.emulators.phone import Phone
from gatewayd.emulators.wallet import Wallet
from gatewayd.keyfiles import create_files, private_pem, public_pem
from tests.support.cable import Cable, cable
from tests.support.household import until
from tests.support.wired_lock import LINE, SerialPeripheral

GATEWAY: Final = "stairwell-7"
GROUP: Final = "vestergade-7"
STREET, GATE, YARD = "street", "gate", "yard"
DOORS: Final = (STREET, GATE, YARD)
GENERATION: Final = 2
LATCH_MS: Final = 1000
STREET_LOCK: Final = "F0:00:00:00:00:01"
OPTIONS: Final = RadioOptions(name="lock", link_cap=1, advertising_interval_ms=(100.0, 152.5))


@dataclass
class MixedHouse:
    """machines: of the two locks. line: the cable to the gate."""

    directory: Path
    air: VirtualAir
    authority: Authority
    issuer: IssuerKey
    daemon: Child
    line: Cable
    now_s: int
    machines: dict[str, Machine]
    _open: AsyncExitStack
    _phones: dict[str, Phone] = field(default_factory=dict)

    async def phone(self, name: str, wallet: Wallet | None = None) -> Phone:
        """Somebody who may open every door; `wallet` for a second phone with the same key."""
        if name not in self._phones:
            number = len(self._phones) + 1
            address = f"E0:00:00:00:00:{number:02X}"
            controller = AirController(self.air, f"00:AA:03:00:00:{number:02X}")
            radio = await self._open.enter_async_context(
                open_radio(controller, address=address, dials=PHONE)
            )
            self._phones[name] = Phone(
                radio.central, wallet or self._wallet(name), SystemClock(), SystemEntropy()
            )
        return self._phones[name]

    def _wallet(self, name: str) -> Wallet:
        key = new_key()
        token = self.issuer.issue(
            Claims(
                issuer="",
                subject=f"holder-{name}",
                audience=GROUP,
                cti=SystemEntropy().token_bytes(8),
                not_before=self.now_s - 3600,
                expires=self.now_s + DAY_S,
                issued_at=self.now_s - 3600,
                key=key.public_key(),
                scope=tuple((door, Action.OPEN) for door in sorted(DOORS)),
                key_class=KeyClass.RESIDENT,
            )
        )
        path = self.directory / "wallets" / name
        return Wallet.create(path, key, token, self.authority.gateways.public_key())

    def log(self, door: str) -> list[Leaf]:
        """What the gateway's log says of a door."""
        with logbook.open_logbook(self.directory / "state" / "log.db") as file:
            found = logbook.entries(file, door=door)
            return [entry.leaf for entry in found if entry.leaf is not None]


def _configuration(serial: Path, radio: str, relay: str) -> str:
    # a device is a file below /dev; the cable's are symbolic links elsewhere
    lines = f"/dev/..{serial}"
    movers = {
        STREET: f'lock = {{ address = "{STREET_LOCK}", key = "street.pub.pem", warm = true }}',
        GATE: f'lock = {{ serial = "{lines}", key = "gate.pub.pem" }}',
        YARD: f"relay = {relay}",
    }
    doors = "".join(
        f'\n[[door]]\nid = "{door}"\nlatch_ms = {LATCH_MS}\n{movers[door]}\n' for door in DOORS
    )
    return (
        f'[gateway]\nid = "{GATEWAY}"\n\n[trust]\ntime = "time.cose"\n\n[radio]\n{radio}\n{doors}'
    )


def _install(directory: Path, house: Authority, now_s: int, configuration: str) -> Path:
    keys = GatewayKeys.create()
    shown = house.gateway_credential(
        GATEWAY,
        dict.fromkeys(DOORS, GENERATION),
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
            directory / "gateway.cwt": shown,
            directory / "root.pub.pem": public_pem(house.root.public_key()),
            directory / "trust.cose": house.bundle(),
            directory / "time.cose": provisioned_time.sign(
                GATEWAY, now_s, SystemEntropy().token_bytes(ID_BYTES), house.time
            ),
            config: configuration.encode(),
        }
    )
    return config


def _lock(directory: Path, door: str, authority: Authority) -> LockStore:
    key = new_key()
    store = LockStore(directory / f"lock-{door}.json")
    store.create(
        LockMemory(key, key_id(key.public_key()), door, authority.gateways.public_key(), GENERATION)
    )
    create_files({directory / f"{door}.pub.pem": public_pem(key.public_key())})
    return store


@asynccontextmanager
async def mixed_house(
    directory: Path, air: VirtualAir, radio: str, relay: str, program: Sequence[str]
) -> AsyncIterator[MixedHouse]:
    """The locks live; the daemon waits to be started. `relay` as the configuration has it."""
    now_s = int(SystemClock().instant().wall_s)
    issuer = IssuerKey.create("vestergade housing")
    authority = Authority.create(GROUP, issuer)
    machines = {door: Machine(motor_ms=100) for door in (STREET, GATE)}
    stores = {door: _lock(directory, door, authority) for door in machines}
    clock, chance = SystemClock(), SystemEntropy()
    async with cable(directory) as line, AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        config = _install(directory, authority, now_s, _configuration(line.near.path, radio, relay))
        on_air = await stack.enter_async_context(
            open_radio(
                AirController(air, STREET_LOCK), address=STREET_LOCK, serves=LOCK, options=OPTIONS
            )
        )
        plug = SerialPeripheral(str(line.far.path))
        stack.push_async_callback(plug.close)
        street = LockEmulator(stores[STREET], machines[STREET], clock, chance)
        gate = LockEmulator(
            stores[GATE], machines[GATE], clock, chance, settings=LockSettings(wire=LINE)
        )
        running = [
            tasks.create_task(street.run(on_air.peripheral), name="street"),
            tasks.create_task(gate.run(plug), name="gate"),
        ]
        await until(lambda: plug._port is not None, 5)
        daemon = Child(config, program=program)
        try:
            yield MixedHouse(
                directory, air, authority, issuer, daemon, line, now_s, machines, stack
            )
        finally:
            await daemon.kill()
            for task in running:
                task.cancel()
