"""A gateway's uplink and the operator's cloud, on a real broker or on any `Upstream`."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmware_proto.codes import Outcome, Reason
from gatewayd.adapters.broker import Address
from gatewayd.adapters.broker_guard import Limits
from gatewayd.adapters.broker_settings import MqttSettings, Will
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.adapters.sealing import SealingError, seal, unseal
from gatewayd.adapters.sqlite_cloud import open_cloud
from gatewayd.cloud.authority import Authority
from gatewayd.cloud.pull import Operator, Patience, Progress, Puller, Source, UnsealError
from gatewayd.core.checkpoint import SignatureType, Verifier
from gatewayd.core.envelope import EVERYBODY, Kind, Statement, TimeAnswer
from gatewayd.core.model import (
    ClockState,
    EntryKind,
    Fact,
    GatewayId,
    Instant,
    TimeReading,
    Verdict,
)
from gatewayd.core.orders import Orders
from gatewayd.core.pull import MAX_SEALED_BYTES, MIN_BATCH_BYTES
from gatewayd.core.register import Register
from gatewayd.core.timekeeping import Timekeeping
from gatewayd.core.topics import GatewayTopics
from gatewayd.mailbox import Handlers, Mailbox
from gatewayd.ports.upstream import Upstream
from gatewayd.status import Status, encode
from gatewayd.sync import Pace, Uplink, run
from gatewayd.trusted import Trusted
from tests.support.memory_log import MemoryLog

GATEWAY = GatewayId("stairwell-7")
TOPICS = GatewayTopics(GATEWAY, "vestergade-7")
AUTHORITY = Authority(  # the same in every process
    "vestergade-7", *(ec.derive_private_key(number, ec.SECP256R1()) for number in range(1001, 1006))
)
LOG_KEY = Ed25519PrivateKey.from_private_bytes(b"log key".ljust(32))
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(b"witness key".ljust(32))
WITNESS = Verifier(
    "cloud.example/witness",
    WITNESS_KEY.public_key().public_bytes_raw(),
    SignatureType.COSIGNATURE_V1,
)
SOURCE = Source(GATEWAY, LOG_KEY.public_key().public_bytes_raw())
FAST = Pace(hint_s=0.2, settle_s=0.01)
NOW = 1_790_000_000
QUICK = Patience(1.0, 5)


class MachineClock:
    """The clocks of this machine, as one boot."""

    def instant(self) -> Instant:
        return Instant("boot", time.monotonic(), time.time())


def fact(door: str = "street", now_s: int = NOW) -> Fact:
    reading = TimeReading(ClockState.HOLDOVER, now_s, 60.0, now_s)
    return Fact(reading, EntryKind.INTENT, door, Verdict(Outcome.CONFIRMED, Reason.OK))  # type: ignore[arg-type]


async def filled_log(entries: int) -> MemoryLog:
    log = MemoryLog()
    await fill(log, entries)
    return log


async def fill(log: Any, entries: int) -> None:
    for _ in range(entries):
        await log.append(fact())


def gateway_mqtt(address: Address, *, client_id: str = GATEWAY, deadline_s: float = 5.0) -> Mqtt:
    return Mqtt(
        MqttSettings(
            host=address.host,
            port=address.port,
            client_id=client_id,
            will=Will(TOPICS.status, encode(Status(online=False))),
            subscriptions=TOPICS.for_gateway,
            deadline_s=deadline_s,
        )
    )


@asynccontextmanager
async def cloud_session(address: Address, client_id: str = "cloud") -> AsyncIterator[Upstream]:
    settings = MqttSettings(
        host=address.host,
        port=address.port,
        client_id=client_id,
        subscriptions=TOPICS.for_cloud,
        limits=Limits(packet_bytes=2 * MAX_SEALED_BYTES, bytes_per_minute=2**30),
        deadline_s=5.0,
    )
    async with Mqtt(settings).connect() as session:
        yield session


@dataclass
class Times:
    """The daemon's timekeeping, as small as it can be."""

    wanted: bool = False
    known: Timekeeping = field(default_factory=Timekeeping)

    def question(self) -> bytes | None:
        if not self.wanted:
            return None
        nonce = os.urandom(16)
        self.known = self.known.asked(nonce, MachineClock().instant())
        return nonce

    async def answered(self, nonce: bytes, time_s: int) -> None:
        self.known = self.known.answered(nonce, time_s, MachineClock().instant())

    def reading(self) -> TimeReading:
        return self.known.reading(MachineClock().instant())


def make_mailbox(
    memory: Any,
    times: Times,
    *,
    witnesses: tuple[Verifier, ...] = (WITNESS,),
    take_list: Callable[[bytes], Awaitable[bool]] | None = None,
) -> Mailbox:
    """Nothing is held; orders about time are carried out."""

    async def time(order: Statement) -> None:
        await times.answered(*TimeAnswer.of(order.body))

    trust = replace(AUTHORITY.trust(), witnesses={each.name: each.key for each in witnesses})
    register = Register((GATEWAY, trust.group, EVERYBODY))
    handlers = Handlers(orders={Kind.TIME: time}, take_list=take_list)
    return Mailbox(register, Orders(), Trusted(trust), memory, lambda: NOW, handlers)


def make_uplink(  # noqa: PLR0913 - all but two have a default
    log: Any,
    connect: Callable[[], AbstractAsyncContextManager[Upstream]],
    *,
    times: Times | None = None,
    pace: Pace = FAST,
    witnesses: tuple[Verifier, ...] = (WITNESS,),
    take_list: Callable[[bytes], Awaitable[bool]] | None = None,
    **changes: Any,
) -> Uplink:
    times = times or Times()
    mailbox = make_mailbox(log, times, witnesses=witnesses, take_list=take_list)
    settings: dict[str, Any] = {
        "gateway": GATEWAY,
        "mailbox": mailbox,
        "log_key": LOG_KEY,
        "connect": connect,
        "log": log,
        "memory": log,
        "clock": MachineClock(),
        "jitter": lambda: 0.05,
        "seal": seal,
        "status": lambda: encode(Status(online=True, version="test")),
        "question": times.question,
        "pace": pace,
        "counts": Counter(),
    }
    return Uplink(**{**settings, **changes})


@asynccontextmanager
async def running(uplink: Uplink, wake: asyncio.Event | None = None) -> AsyncIterator[Uplink]:
    """`sync.run` as a task; whatever it raises but cancellation fails the test."""
    task = asyncio.create_task(run(uplink, wake or asyncio.Event()), name="uplink")
    try:
        yield uplink
    finally:
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done, "the uplink did not stop"
        assert task.cancelled()


def make_operator(**changes: Any) -> Operator:
    settings: dict[str, Any] = {
        "command": AUTHORITY.command,
        "time": AUTHORITY.time,
        "witness": WITNESS_KEY,
        "witness_name": WITNESS.name,
        "unseal": unsealer(AUTHORITY.seal),
        "now_s": lambda: NOW + 60,
        "token_bytes": os.urandom,
    }
    return Operator(**{**settings, **changes})


def unsealer(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes, bytes], bytes]:
    def opened(sealed: bytes, info: bytes) -> bytes:
        try:
            return unseal(sealed, info, key)
        except SealingError as error:
            raise UnsealError from error

    return opened


async def pull_over(
    upstream: Upstream, path: Path, *, patience: Patience = QUICK, **changes: Any
) -> Progress:
    puller = Puller(upstream, SOURCE, make_operator(**changes))
    with open_cloud(path) as store:
        return await puller.pull(store, patience=patience)


def small_puller(upstream: Upstream, source: Source, operator: Operator) -> Puller:
    """One that asks for little at a time, so that there is a middle to be killed in."""
    puller = Puller(upstream, source, operator)
    puller._max_bytes = MIN_BATCH_BYTES
    return puller


async def pull(address: Address, path: Path, **changes: Any) -> Progress:
    async with cloud_session(address) as session:
        return await pull_over(session, path, **changes)


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - anything may be waited for
            await asyncio.sleep(0.01)
