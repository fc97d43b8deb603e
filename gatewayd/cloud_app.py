"""Composition root of `gatewayd cloud`: the operator's side with a real broker, file and clock."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatewayd.adapters.broker_guard import Limits
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.mqtt import Mqtt, MqttSettings, Tls, broker_at
from gatewayd.adapters.sealing import SealingError, unseal
from gatewayd.adapters.sqlite_cloud import open_cloud
from gatewayd.cloud.pull import Operator, Patience, Progress, Puller, UnsealError
from gatewayd.core import checkpoint as notes
from gatewayd.core.checkpoint import SignatureType, Verifier
from gatewayd.core.merkle import CompactRange, leaf_hash
from gatewayd.core.model import GatewayId
from gatewayd.core.pull import MAX_SEALED_BYTES, origin_of
from gatewayd.core.topics import GatewayTopics


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFiles:
    """Where the broker is. ValueError (when used) for plain TCP to another machine."""

    url: str
    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def where(self) -> tuple[str, int, Tls | None]:
        """Host, port and TLS."""
        return broker_at(self.url, ca=self.authorities, certificate=self.certificate, key=self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorKeys:
    """The private keys that pulling needs."""

    command: ec.EllipticCurvePrivateKey = field(repr=False)
    time: ec.EllipticCurvePrivateKey | None = field(repr=False, default=None)
    seal: ec.EllipticCurvePrivateKey = field(repr=False)
    witness: Ed25519PrivateKey = field(repr=False)
    witness_name: str


async def pull_log(
    gateway: GatewayId,
    log_key: bytes,
    keys: OperatorKeys,
    broker: BrokerFiles,
    store: Path,
    *,
    patience: Patience = Patience(),
    report: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Pull the log of one gateway into the file `store`; see `cloud.pull.Puller.pull`.

    `log_key` is the raw Ed25519 key out of the gateway's credential.
    """
    with open_cloud(store) as cloud:
        async with _puller(gateway, log_key, keys, broker) as puller:
            return await puller.pull(cloud, patience=patience, report=report)


async def answer_time(
    gateway: GatewayId, log_key: bytes, keys: OperatorKeys, broker: BrokerFiles
) -> None:
    """Answer the gateway's questions about time until cancelled."""
    async with _puller(gateway, log_key, keys, broker) as puller:
        await puller.answer_time()


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a store proves about one log."""

    entries: int
    root: bytes
    checkpoint_holds: bool
    """The entries have the root that the gateway signed and we cosigned."""
    cosigned_s: int | None
    alarms: list[tuple[int, str, bytes]]
    """Unix seconds, name and evidence of each."""


def verify_store(
    gateway: GatewayId, log_key: bytes, witness: Verifier, store: Path
) -> StoreReport | None:
    """Recompute everything from the stored entries; None when nothing is stored of this log."""
    origin = origin_of(gateway)
    with open_cloud(store) as cloud:
        held = cloud.held(origin)
        tree = CompactRange()
        for leaf in cloud.leaves(origin):
            tree, _ = tree.append(leaf_hash(leaf))
        if held.note is None:
            return None
        signed = notes.verify(held.note, Verifier(origin, log_key))
        return StoreReport(
            entries=tree.size,
            root=tree.root(),
            checkpoint_holds=(tree.size, tree.root()) == (signed.size, signed.root)
            and tree == held.range,
            cosigned_s=notes.verify_cosignature(held.note, witness),
            alarms=cloud.alarms(origin),
        )


def witness_verifier(keys: OperatorKeys) -> Verifier:
    """The public half of the cosigning key, by name."""
    raw = keys.witness.public_key().public_bytes_raw()
    return Verifier(keys.witness_name, raw, SignatureType.COSIGNATURE_V1)


@asynccontextmanager
async def _puller(
    gateway: GatewayId, log_key: bytes, keys: OperatorKeys, broker: BrokerFiles
) -> AsyncIterator[Puller]:
    host, port, tls = broker.where()
    entropy = SystemEntropy()
    settings = MqttSettings(
        host=host,
        port=port,
        tls=tls,
        client_id=f"cloud-{entropy.token_bytes(4).hex()}",
        subscriptions=GatewayTopics(gateway).for_cloud,
        limits=Limits(packet_bytes=2 * MAX_SEALED_BYTES, bytes_per_minute=2**30),
    )
    operator = Operator(
        command=keys.command,
        time=keys.time,
        witness=keys.witness,
        witness_name=keys.witness_name,
        unseal=_unsealer(keys.seal),
        now_s=lambda: int(time.time()),  # noqa: TID251 - the operator's own clock
        token_bytes=entropy.token_bytes,
    )
    async with Mqtt(settings).connect() as session:
        yield Puller(session, gateway, log_key, operator)


def _unsealer(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes, bytes], bytes]:
    def opened(sealed: bytes, info: bytes) -> bytes:
        try:
            return unseal(sealed, info, key)
        except SealingError as error:
            raise UnsealError from error

    return opened
