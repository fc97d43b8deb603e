"""The log towards the cloud: signed, handed over when it is pulled, acknowledged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatewayd.core import checkpoint as notes
from gatewayd.core.checkpoint import Checkpoint, SignatureType, Verifier
from gatewayd.core.pull import Ack, Batch, Pull, seal_info
from gatewayd.core.topics import GatewayTopics
from gatewayd.core.trust import Trust
from gatewayd.past import Past
from gatewayd.ports.storage import LogReader, Memory
from gatewayd.ports.upstream import Upstream

COSIGNED_NAME: Final = "cosigned checkpoint"
"""Under this name `ports.storage.Memory` keeps the largest checkpoint that the cloud cosigned."""


@dataclass(slots=True, kw_only=True)
class Pulling:
    """For one gateway; `verifier` is of its own log key, and has the name of its log."""

    log: LogReader
    memory: Memory
    past: Past
    verifier: Verifier
    log_key: Ed25519PrivateKey = field(repr=False)
    topics: GatewayTopics
    seal: Callable[[bytes, bytes, ec.EllipticCurvePublicKey], bytes]
    trust: Callable[[], Trust]
    counts: Counter[str]
    _signed_size: int = -1

    async def sign(self, size: int) -> bytes:
        """A checkpoint of this size; the largest is remembered before it leaves."""
        root = await self.log.root(size)
        note = notes.sign(Checkpoint(self.verifier.name, size, root), self.log_key)
        if size > self._signed_size:
            await self.memory.store(notes.MEMORY_NAME, note)
            self._signed_size = size
        return note

    async def answer(self, upstream: Upstream, request: bytes, order: Pull) -> None:
        """Hand over what this order asks for."""
        size = await self.log.size()
        start = order.from_size
        leaves = await self.log.leaves(start, order.leaf_bytes) if start < size else ()
        # A cloud that holds more than we have gets our smaller checkpoint: the log went back.
        end = min(start, size) + len(leaves)
        batch = Batch(
            request=request,
            from_size=start,
            log_size=size,
            leaves=tuple(leaves),
            checkpoint=await self.sign(end),
            consistency=tuple(await self.log.consistency(start, end)) if 0 < start <= end else (),
        )
        origin = self.verifier.name
        sealed = self.seal(
            batch.sign(origin, self.log_key), seal_info(origin, request), self.trust().seal_key
        )
        await upstream.publish(self.topics.answer(request), sealed)
        self.counts["pull"] += 1

    async def acknowledged(self, order: Ack) -> bool:
        """The cloud keeps this much. True: it speaks of another log, which is news."""
        checkpoint = order.verify(self.verifier, _witnesses(self.trust()))
        if not await self.past.has(checkpoint):
            return await self.past.alarm(order.note)
        before = await self.log.acknowledged()
        if await self.log.acknowledge(checkpoint.size) > before or before == checkpoint.size:
            await self.memory.store(COSIGNED_NAME, order.note)
        self.counts["ack"] += 1
        return False


def _witnesses(trust: Trust) -> tuple[Verifier, ...]:
    """One of them must have cosigned; without any the command key speaks for the cloud."""
    return tuple(
        Verifier(name, key, SignatureType.COSIGNATURE_V1) for name, key in trust.witnesses.items()
    )
