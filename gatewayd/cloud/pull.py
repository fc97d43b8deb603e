"""The operator's side of a pull: ask, verify, keep, cosign, acknowledge, until nothing is left.

Killed at any point, it goes on where the store ends: what was kept is not asked
for again, and what was kept but not acknowledged is acknowledged next time,
because every pull ends in an acknowledgement, also one that brings nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmware_proto import cbor
from firmware_proto.codes import ID_BYTES
from firmware_proto.errors import RemoteProtocolError
from gatewayd import status
from gatewayd.cloud.store import CloudStore, OutrunError
from gatewayd.core import checkpoint as notes
from gatewayd.core import envelope
from gatewayd.core.checkpoint import Verifier
from gatewayd.core.envelope import Kind, Statement, TimeAnswer
from gatewayd.core.model import GatewayId, origin_of
from gatewayd.core.pull import (
    MAX_BATCH_BYTES,
    MAX_SEALED_BYTES,
    MIN_BATCH_BYTES,
    Ack,
    Batch,
    LogAlarmError,
    Pull,
    Verified,
    seal_info,
    verify_batch,
)
from gatewayd.core.topics import KEPT, GatewayTopics
from gatewayd.ports import PortError
from gatewayd.ports.upstream import Upstream

ORDER_LIFETIME_S: Final = 600
"""Longer than any queue on the way should be; a pull that comes late does no harm."""


class UnsealError(Exception):
    """What `Operator.unseal` raises for a text that is not sealed to the operator."""


class NoAnswerError(PortError):
    """The gateway did not answer; `online` is what its retained status says, None without one."""

    def __init__(self, online: bool | None) -> None:
        super().__init__("the gateway does not answer")
        self.online = online


@dataclass(frozen=True, slots=True)
class Source:
    """A gateway, and the raw Ed25519 key that signs its log: both out of its credential."""

    gateway: GatewayId
    log_key: bytes

    @property
    def log(self) -> Verifier:
        """The name and key of its log."""
        return Verifier(origin_of(self.gateway), self.log_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """The operator's keys, as far as pulling needs them, and what comes from outside."""

    command: ec.EllipticCurvePrivateKey = field(repr=False)
    time: ec.EllipticCurvePrivateKey | None = field(repr=False, default=None)
    """None: questions about time stay unanswered."""
    witness: Ed25519PrivateKey = field(repr=False)
    witness_name: str
    unseal: Callable[[bytes, bytes], bytes] = field(repr=False)
    """(sealed, info) -> plaintext; UnsealError."""
    now_s: Callable[[], int]
    """Unix seconds, as the operator vouches for them."""
    token_bytes: Callable[[int], bytes]
    """That many unguessable bytes."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for one answer, and how often to ask, each time for half as much."""

    attempt_s: float = 8.0
    attempts: int = 4


PATIENCE: Final = Patience()


@dataclass(slots=True)
class Progress:
    """How far a pull is; the same object throughout."""

    gateway: GatewayId
    origin: str
    size: int = 0
    """Entries kept and proven."""
    log_size: int = 0
    """Entries that the gateway has."""
    stored: int = 0
    """Entries that this pull added."""
    batches: int = 0
    unreadable: list[int] = field(default_factory=list)
    """Numbers of entries that a newer gateway wrote; kept, not understood."""
    erased: int = 0
    """Entries of which only the hash came."""
    times_answered: int = 0
    ignored: int = 0
    """Messages that nobody we know had signed, or that answered nothing of ours."""
    online: bool | None = None
    root: bytes = b""


class Puller:
    """Pulls the log of one gateway over a connected session.

    `upstream` is subscribed to `GatewayTopics.for_cloud` of the gateway.
    """

    def __init__(self, upstream: Upstream, source: Source, operator: Operator) -> None:
        self._upstream = upstream
        self._operator = operator
        self._topics = GatewayTopics(source.gateway)
        self._log = source.log
        self._max_bytes = MAX_BATCH_BYTES
        self.progress = Progress(source.gateway, self._log.name)

    async def pull(
        self,
        store: CloudStore,
        *,
        patience: Patience = PATIENCE,
        report: Callable[[Progress], None] = lambda _: None,
    ) -> Progress:
        """Pull until the store has all that the gateway had when it last answered.

        LogAlarmError when the gateway proves to misbehave (the evidence is
        kept), NoAnswerError, UpstreamError, StorageError.
        """
        progress = self.progress
        while True:
            held = store.held(self._log.name).range
            batch = await self._ask(held.size, patience)
            try:
                verified = verify_batch(batch, held, self._log)
                note = self._cosign(batch)
                progress.stored += store.keep(self._log.name, verified, note)
            except OutrunError:
                continue
            except LogAlarmError as error:
                store.alarm(self._log.name, error, self._operator.now_s())
                raise
            self._note_progress(batch, verified)
            report(progress)
            await self._order(Kind.ACK, Ack(verified.held.size, note).body())
            if verified.held.size >= batch.log_size:
                # Retained: a gateway whose card was restored from a copy finds it at once.
                await self._upstream.publish(self._topics.down(KEPT), note, retain=True)
                return progress

    async def answer_time(self) -> None:
        """Answer questions about time until cancelled. UpstreamError."""
        while True:
            await self._consider(*await self._upstream.receive(), pending={})

    def _note_progress(self, batch: Batch, verified: Verified) -> None:
        progress = self.progress
        progress.batches += 1
        progress.size, progress.log_size = verified.held.size, batch.log_size
        progress.root = verified.checkpoint.root
        progress.unreadable += verified.unreadable
        progress.erased += len(verified.erased)

    def _cosign(self, batch: Batch) -> bytes:
        operator = self._operator
        return notes.cosign(
            batch.checkpoint, operator.witness_name, operator.witness, operator.now_s()
        )

    async def _ask(self, size: int, patience: Patience) -> Batch:
        """Ask until there is an answer; one that comes late still counts."""
        pending: dict[str, bytes] = {}
        for _ in range(patience.attempts):
            request = await self._order(Kind.PULL, Pull(size, self._max_bytes).body())
            pending[self._topics.answer(request)] = request
            try:
                async with asyncio.timeout(patience.attempt_s):
                    return await self._next_batch(pending)
            except TimeoutError:
                # maybe lost, maybe too large for something on the way
                self._max_bytes = max(MIN_BATCH_BYTES, self._max_bytes // 2)
        raise NoAnswerError(self.progress.online)

    async def _next_batch(self, pending: dict[str, bytes]) -> Batch:
        while True:
            batch = await self._consider(*await self._upstream.receive(), pending=pending)
            if batch is not None:
                return batch

    async def _consider(
        self, topic: str, payload: bytes, *, pending: dict[str, bytes]
    ) -> Batch | None:
        """One message: an answer of ours, a question about time, a status, or nothing."""
        if topic == self._topics.status:
            self.progress.online = _says_online(payload)
        elif topic == self._topics.time and len(payload) == ID_BYTES and self._operator.time:
            answer = TimeAnswer(payload, self._operator.now_s())
            await self._order(Kind.TIME, answer.body())
            self.progress.times_answered += 1
        elif topic in pending and len(payload) <= MAX_SEALED_BYTES:
            request = pending[topic]
            try:
                opened = self._operator.unseal(payload, seal_info(self._log.name, request))
                return Batch.open(opened, self._log, request)
            except (UnsealError, RemoteProtocolError):
                self.progress.ignored += 1
        else:
            self.progress.ignored += 1
        return None

    async def _order(self, kind: Kind, body: list[cbor.Value]) -> bytes:
        """Sign and send; returns the id of the order."""
        operator = self._operator
        statement = Statement(
            kind=kind,
            addressee=self.progress.gateway,
            id=operator.token_bytes(ID_BYTES),
            expires=operator.now_s() + ORDER_LIFETIME_S,
            body=body,
        )
        key = operator.time if kind is Kind.TIME and operator.time else operator.command
        topic = self._topics.down(kind.name.lower())
        await self._upstream.publish(topic, envelope.sign(statement, key))
        return statement.id


def _says_online(payload: bytes) -> bool:
    """A hint for the error message; anybody may have published it."""
    try:
        return status.decode(payload).online
    except RemoteProtocolError:
        return False
