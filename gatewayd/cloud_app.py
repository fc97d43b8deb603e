"""Composition root of `gatewayd cloud`: the operator's side with a real broker, file and clock."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmware_proto import cbor
from gatewayd.adapters.broker_guard import Limits
from gatewayd.adapters.broker_settings import MqttSettings, Tls, broker_at
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.adapters.sealing import SealingError, unseal
from gatewayd.adapters.sqlite_cloud import open_cloud
from gatewayd.cloud import ask as asking
from gatewayd.cloud.outbox import Message
from gatewayd.cloud.pull import PATIENCE, Operator, Patience, Progress, Puller, Source, UnsealError
from gatewayd.cloud.store import Closed, Erasing
from gatewayd.core import checkpoint as notes
from gatewayd.core.checkpoint import SignatureType, Verifier
from gatewayd.core.envelope import Statement
from gatewayd.core.merkle import CompactRange
from gatewayd.core.pull import MAX_SEALED_BYTES, hash_of
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

    @property
    def cosigner(self) -> Verifier:
        """The public half of the cosigning key, by name."""
        raw = self.witness.public_key().public_bytes_raw()
        return Verifier(self.witness_name, raw, SignatureType.COSIGNATURE_V1)


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a store proves about one log."""

    entries: int
    root: bytes
    checkpoint_holds: bool
    """The entries have the root that the gateway signed and we cosigned."""
    cosigned_s: int
    """When we cosigned, in Unix seconds."""
    alarms: list[tuple[int, str, bytes]]
    """Unix seconds, name and evidence of each."""
    closed: Closed | None
    """When the gateway was retired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """One operator's cloud: keys, broker and store."""

    keys: OperatorKeys
    broker: BrokerFiles
    store: Path
    patience: Patience = PATIENCE

    async def pull(
        self, source: Source, report: Callable[[Progress], None] = lambda _: None
    ) -> Progress:
        """Pull the log of one gateway into the store; see `cloud.pull.Puller.pull`."""
        with open_cloud(self.store) as store:
            async with self._puller(source) as puller:
                return await puller.pull(store, patience=self.patience, report=report)

    async def answer_time(self, source: Source) -> None:
        """Answer the gateway's questions about time until cancelled."""
        async with self._puller(source) as puller:
            await puller.answer_time()

    def verify(self, source: Source) -> StoreReport | None:
        """Recompute everything from the stored entries; None when nothing is stored of this log.

        RemoteProtocolError when the stored checkpoint is not signed as it should be.
        """
        log = source.log
        with open_cloud(self.store) as store:
            held = store.held(log.name)
            if held.note is None:
                return None
            tree = CompactRange()
            for leaf in store.leaves(log.name):
                tree, _ = tree.append(hash_of(leaf))
            signed = notes.verify(held.note, log)
            return StoreReport(
                entries=tree.size,
                root=tree.root(),
                checkpoint_holds=(tree.size, tree.root()) == (signed.size, signed.root)
                and tree == held.range,
                cosigned_s=notes.verify_cosignature(held.note, self.keys.cosigner),
                alarms=store.alarms(log.name),
                closed=store.closed(log.name),
            )

    @asynccontextmanager
    async def _puller(self, source: Source) -> AsyncIterator[Puller]:
        host, port, tls = self.broker.where()
        entropy = SystemEntropy()
        settings = MqttSettings(
            host=host,
            port=port,
            tls=tls,
            client_id=f"cloud-{entropy.token_bytes(4).hex()}",
            subscriptions=GatewayTopics(source.gateway).for_cloud,
            limits=Limits(packet_bytes=2 * MAX_SEALED_BYTES, bytes_per_minute=2**30),
        )
        operator = Operator(
            command=self.keys.command,
            time=self.keys.time,
            witness=self.keys.witness,
            witness_name=self.keys.witness_name,
            unseal=_unsealer(self.keys.seal),
            now_s=lambda: int(time.time()),  # noqa: TID251 - the operator's own clock
            token_bytes=entropy.token_bytes,
        )
        async with Mqtt(settings).connect() as session:
            yield Puller(session, source, operator)


async def ask(  # noqa: PLR0913, PLR0917 - see cloud.ask.ask
    broker: BrokerFiles,
    source: Source,
    order: Statement,
    signed: bytes,
    seal: ec.EllipticCurvePrivateKey,
    patience_s: float,
    retained: str | None = None,
) -> cbor.Value:
    """What a gateway answers to an order. NoAnswerError, UpstreamError."""
    host, port, tls = broker.where()
    settings = MqttSettings(
        host=host,
        port=port,
        tls=tls,
        client_id=f"cloud-{SystemEntropy().token_bytes(4).hex()}",
        subscriptions=GatewayTopics(source.gateway).for_cloud,
        limits=Limits(packet_bytes=2 * MAX_SEALED_BYTES, bytes_per_minute=2**30),
    )
    async with Mqtt(settings).connect() as session:
        unsealed = _unsealer(seal)
        return await asking.ask(session, source, order, signed, unsealed, patience_s, retained)


def erase(store: Path, erasing: Erasing) -> int | None:
    """Forget pulled entries; how many. None when not all of them were pulled. StorageError."""
    with open_cloud(store) as kept:
        if kept.held(erasing.origin).range.size <= erasing.wanted.last:
            return None
        return kept.erase(erasing)


def erased(store: Path, erasing: Erasing) -> None:
    """The gateway says that it has, too. StorageError."""
    with open_cloud(store) as kept:
        kept.erased(erasing.origin, erasing.name)


def kept(store: Path, source: Source) -> int:
    """How many entries of this log are kept in a store, made when missing. StorageError."""
    with open_cloud(store) as found:
        return found.held(source.log.name).range.size


def close(store: Path, source: Source, kept: int) -> None:
    """The gateway is retired: from here on the log has a gap that was declared. StorageError."""
    with open_cloud(store) as found:
        found.close(source.log.name, kept, int(time.time()))  # noqa: TID251 - our own clock


async def publish(broker: BrokerFiles, messages: Sequence[Message]) -> None:
    """Leave these at the broker, each acknowledged by it. UpstreamError."""
    host, port, tls = broker.where()
    client_id = f"cloud-{SystemEntropy().token_bytes(4).hex()}"
    async with Mqtt(
        MqttSettings(host=host, port=port, tls=tls, client_id=client_id)
    ).connect() as at:
        for message in messages:
            await at.publish(message.topic, message.payload, retain=True)


def _unsealer(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes, bytes], bytes]:
    def opened(sealed: bytes, info: bytes) -> bytes:
        try:
            return unseal(sealed, info, key)
        except SealingError as error:
            raise UnsealError from error

    return opened
