"""An operator, a door, a lock, a gateway and a resident, ready to meet on a FakeAir."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import credential
from firmware_proto.codes import LOCK_SERVICE_UUID, Action, KeyClass
from firmware_proto.credential import GatewayCredential
from firmware_proto.lock_messages import State
from gatewayd.core import keytoken
from gatewayd.core.claims import Claims
from gatewayd.core.model import CommandId, Instant, Verdict
from gatewayd.emulators.lock import LockEmulator, LockSettings, lock_credential
from gatewayd.emulators.lock_faults import Faults, PowerLostError
from gatewayd.emulators.lock_machine import Machine
from gatewayd.emulators.lock_memory import LockMemory
from gatewayd.emulators.lock_state import Limits
from gatewayd.emulators.lock_store import LockStore
from gatewayd.emulators.wallet import Wallet
from gatewayd.lock_connection import GatewayIdentity, LockIdentity
from gatewayd.lock_timing import LockTiming
from gatewayd.locks import RemoteLock
from tests.support.links import FakeAir

NOW = 1_790_000_000
DOOR = "street"
LOCK_ADDRESS = "F0:00:00:00:02:01"
GATEWAY_ADDRESS = "F0:00:00:00:00:01"

QUICK = LockSettings(handshake_s=5.0, handshakes=1000, limits=Limits(turn_ms=3000, ajar_ms=40))
TIMING = LockTiming(ready_s=5.0, state_s=3.0, answer_s=5.0, spacing_s=0.01)
IMPATIENT = LockTiming(ready_s=2.0, state_s=0.8, answer_s=0.8, spacing_s=0.01)
"""For tests of what happens when nobody answers; tests run on slow machines."""


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class LoopClock:
    """The event loop's time; `skip_s` may be raised by a test, `wall_s` set."""

    def __init__(self) -> None:
        self.skip_s = 0.0
        self.wall_s = float(NOW)

    def instant(self) -> Instant:
        return Instant("boot", asyncio.get_running_loop().time() + self.skip_s, self.wall_s)


class Dice:
    """Repeatable chance, except for keys."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def token_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def private_key(self) -> ec.EllipticCurvePrivateKey:
        return new_key()

    def fraction(self) -> float:
        return self._random.random()


@dataclass(slots=True)
class Operator:
    """Signs gateway credentials and, as an issuer, key tokens."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    issuer: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    receipts: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    def gateway(
        self,
        *,
        doors: dict[str, int] | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        signer: ec.EllipticCurvePrivateKey | None = None,
        expires: int = NOW + 1000,
        group: str = "vestergade-7",
    ) -> GatewayIdentity:
        key = key or new_key()
        claims = GatewayCredential(
            gateway="stairwell-7",
            doors=doors if doors is not None else {DOOR: 3},
            group=group,
            issued_at=NOW - 1000,
            expires=expires,
            key=key.public_key(),
            log_key=bytes(32),
            receipt_key=self.receipts.public_key(),
        )
        return GatewayIdentity(key, credential.issue(claims, signer or self.key, b"g1"))

    def token(self, key: ec.EllipticCurvePrivateKey, cti: bytes = b"12345678") -> bytes:
        return keytoken.issue(
            Claims(
                issuer="housing",
                subject="holder-1",
                audience="vestergade-7",
                cti=cti,
                not_before=NOW - 1000,
                expires=NOW + 1000,
                issued_at=NOW - 1000,
                key=key.public_key(),
                scope=((DOOR, Action.OPEN),),
                key_class=KeyClass.RESIDENT,
            ),
            self.issuer,
            b"i1",
        )

    def wallet(self, path: Path) -> Wallet:
        key = new_key()
        return Wallet.create(path, key, self.token(key), self.key.public_key())


class LockSite:
    """One lock on disk and on the air; `power` runs it, again and again if need be."""

    def __init__(self, directory: Path, air: FakeAir, operator: Operator) -> None:
        self.air = air
        self.operator = operator
        self.clock = LoopClock()
        self.dice = Dice()
        self.store = LockStore(directory / "lock.json")
        self.store.create(LockMemory(new_key(), b"\x17", DOOR, operator.key.public_key()))
        memory = self.store.load()
        self.identity = LockIdentity(
            LOCK_ADDRESS, memory.key.public_key(), lock_credential(memory), memory.key_id
        )
        self.machine = Machine(motor_ms=20)
        self.faults = Faults()
        self.lock: LockEmulator | None = None
        self.states: list[State] = []

    @contextlib.asynccontextmanager
    async def power(self, settings: LockSettings = QUICK) -> AsyncIterator[LockEmulator]:
        """Runs the lock until the block ends or its power goes."""
        lock = self.lock = LockEmulator(
            self.store, self.machine, self.clock, self.dice, faults=self.faults, settings=settings
        )
        peripheral = self.air.peripheral(LOCK_ADDRESS, LOCK_SERVICE_UUID)

        async def run() -> None:
            try:
                await lock.run(peripheral)
            except PowerLostError:
                self.air.vanish(LOCK_ADDRESS)

        task = asyncio.create_task(run(), name="lock under test")
        try:
            yield lock
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.air.vanish(LOCK_ADDRESS)

    def client(
        self, gateway: GatewayIdentity | None = None, timing: LockTiming = TIMING
    ) -> RemoteLock:
        return RemoteLock(
            self.air.central(LOCK_SERVICE_UUID),
            self.identity,
            gateway or self.operator.gateway(),
            self.clock,
            self.dice,
            timing=timing,
            on_state=self.states.append,
        )


async def resolved(client: RemoteLock, command: CommandId, within_s: float = 30.0) -> Verdict:
    """What became of a command, asked until the lock can say; the time is for a hang.

    A link that has just been lost may be found out by the first question.
    """
    async with asyncio.timeout(within_s):
        while (verdict := await client.result_of(command)) is None:  # noqa: ASYNC110 - as `until`
            await asyncio.sleep(0.002)
        return verdict


async def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait for something that other tasks bring about; the time is for a hang."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - a test looks from outside
            await asyncio.sleep(0.002)
