"""A gateway that an installer has just mounted, and locks fresh from their boxes, on one air."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from firmware_proto.claiming import Label
from firmware_proto.cose import key_id
from gatewayd import lock_app
from gatewayd.adapters.virtual_radio import INSTANT, VirtualAir, serve_hci
from gatewayd.cloud.authority import Authority, GatewayKeys, IssuerKey, new_key
from gatewayd.core import provisioned_time
from gatewayd.emulators.lock_faults import PowerLostError
from gatewayd.emulators.lock_machine import Machine
from gatewayd.emulators.lock_memory import LockMemory
from gatewayd.emulators.lock_store import LockStore
from gatewayd.keyfiles import create_files, private_pem, public_pem
from tests.support.site import NOW, YEAR

DOORS = ("street", "cellar")
GENERATION = 3


@dataclass
class BoxedLock:
    """One lock with its label; `hands` reach it while it has power."""

    store: LockStore
    hci: str
    machine: Machine = field(default_factory=lambda: Machine(motor_ms=20))
    hands: lock_app.Hands = field(default_factory=lock_app.Hands)
    blinked: list[int] = field(default_factory=list)
    pressing: bool = True
    served: int = 0

    @property
    def label(self) -> Label:
        memory = self.memory
        assert memory.claim_secret is not None
        return Label(memory.key.public_key(), memory.claim_secret)

    @property
    def memory(self) -> LockMemory:
        return self.store.load()

    def _serving(self, _address: str, _memory: LockMemory) -> None:
        self.served += 1
        if self.pressing:
            self.hands.press()

    def _touching(self, hands: lock_app.Hands) -> None:
        self.hands = hands

    @contextlib.asynccontextmanager
    async def power(self) -> AsyncIterator[BoxedLock]:
        """On its battery until the block ends; a fault that takes the power gives it back."""

        async def run() -> None:
            sees = lock_app.Bystander(
                self._serving, lambda _: None, self._touching, self.blinked.append
            )
            while True:
                with contextlib.suppress(PowerLostError):
                    await lock_app.emulate(
                        lock_app.Choice(self.hci), self.store, self.machine, sees
                    )

        task = asyncio.create_task(run(), name="boxed lock")
        try:
            async with asyncio.timeout(10):
                while not self.served:  # noqa: ASYNC110 - a test looks from outside
                    await asyncio.sleep(0.01)
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@dataclass
class Fitting:
    """Everything on site."""

    directory: Path
    authority: Authority
    keys: GatewayKeys
    air: VirtualAir = field(default_factory=lambda: VirtualAir(INSTANT))

    @property
    def config(self) -> Path:
        return self.directory / "gatewayd.toml"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @contextlib.asynccontextmanager
    async def radios(self, *locks: str) -> AsyncIterator[list[BoxedLock]]:
        """The gateway's controller waits; so does that of each lock, which is new."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(
                serve_hci(self.air, self.directory / "gateway.hci", address="00:00:00:00:00:01")
            )
            yield await stack.enter_async_context(boxed_locks(self.directory, self.air, *locks))


@contextlib.asynccontextmanager
async def boxed_locks(
    directory: Path, air: VirtualAir, *names: str
) -> AsyncIterator[list[BoxedLock]]:
    """Locks that belong to nobody, each with a controller that waits."""
    async with contextlib.AsyncExitStack() as stack:
        boxed = []
        for number, name in enumerate(names, 2):
            hci = directory / f"{name}.hci"
            address = f"00:00:00:00:00:{number:02X}"
            await stack.enter_async_context(serve_hci(air, hci, address=address))
            boxed.append(BoxedLock(_box(directory, name), f"unix:{hci}"))
        yield boxed


def _box(directory: Path, name: str) -> LockStore:
    store = LockStore(directory / f"{name}.json")
    key = new_key()
    secret = name.encode().ljust(16, b"\x00")
    store.create(LockMemory(key, key_id(key.public_key()), "", None, claim_secret=secret))
    return store


def make_fitting(directory: Path, doors: tuple[str, ...] = DOORS) -> Fitting:
    authority = Authority.create("vestergade-7", IssuerKey.create("housing"))
    keys = GatewayKeys.create()
    credential = authority.gateway_credential(
        "stairwell-7", dict.fromkeys(doors, GENERATION), keys, issued_at=NOW, expires=NOW + YEAR
    )
    text = f'[gateway]\nid = "stairwell-7"\n[radio]\nhci = "unix:{directory}/gateway.hci"\n'
    text += '[trust]\ntime = "time.cose"\n'
    text += "".join(f'[[door]]\nid = "{door}"\nlatch_ms = 500\n' for door in doors)
    create_files(
        {
            directory / "gateway.pem": private_pem(keys.handshake),
            directory / "log.pem": private_pem(keys.log),
            directory / "receipt.pem": private_pem(keys.receipt),
            directory / "gateway.cwt": credential,
            directory / "root.pub.pem": public_pem(authority.root.public_key()),
            directory / "trust.cose": authority.bundle(),
            directory / "time.cose": provisioned_time.sign(
                "stairwell-7", NOW, bytes(16), authority.time
            ),
            directory / "gatewayd.toml": text.encode(),
        }
    )
    return Fitting(directory, authority, keys)
