"""Orders that are answered upstream: who carries them out, and how the answer leaves.

What takes seconds runs beside the session's other work. An answer is signed by the
log key and sealed to the operator; where nothing was decided, none is given.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmware_proto import cbor
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import answers
from gatewayd.core.answers import Opened
from gatewayd.core.envelope import Kind, Statement
from gatewayd.core.erasure import Erased
from gatewayd.core.helpdesk import Open
from gatewayd.core.topics import GatewayTopics
from gatewayd.mailbox import OrderHandler
from gatewayd.ports.upstream import Upstream

MOST_AT_ONCE: Final = 8
"""Of the orders that take seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obedience:
    """Who carries what out. None: nobody, and the order is refused as UNSUPPORTED."""

    open: Callable[[Statement], Awaitable[Opened | None]] | None = None
    """As `helpdesk.Helpdesk.obey`."""
    erase: Callable[[Statement], Awaitable[Erased]] | None = None
    """As `handlers.Desk.erase`."""
    diagnose: Callable[[], Awaitable[bytes | None]] | None = None
    """As `inquiry.Inquiry.answer`."""


@dataclass(slots=True, kw_only=True)
class Obeying:
    """For one gateway; `handlers` anew for each session."""

    obedience: Obedience
    topics: GatewayTopics
    origin: str
    log_key: Ed25519PrivateKey = field(repr=False)
    seal: Callable[[bytes, bytes, ec.EllipticCurvePublicKey], bytes]
    seal_key: Callable[[], ec.EllipticCurvePublicKey]
    counts: Counter[str]
    _busy: int = 0

    def handlers(self, upstream: Upstream, group: asyncio.TaskGroup) -> dict[Kind, OrderHandler]:
        """What only the uplink can answer."""
        found: dict[Kind, OrderHandler] = {}
        if self.obedience.open is not None:
            found[Kind.OPEN] = partial(self._open, upstream, group, self.obedience.open)
        if self.obedience.erase is not None:
            found[Kind.ERASE] = partial(self._erase, upstream, self.obedience.erase)
        if self.obedience.diagnose is not None:
            found[Kind.DIAGNOSE] = partial(self._diagnose, upstream, group, self.obedience.diagnose)
        return found

    async def _open(
        self,
        upstream: Upstream,
        group: asyncio.TaskGroup,
        obey: Callable[[Statement], Awaitable[Opened | None]],
        order: Statement,
    ) -> None:
        Open.of(order)

        async def opened() -> cbor.Encodable | None:
            answer = await obey(order)
            return None if answer is None else answer.body()

        self._beside(upstream, group, order, opened)

    async def _erase(
        self,
        upstream: Upstream,
        erase: Callable[[Statement], Awaitable[Erased]],
        order: Statement,
    ) -> None:
        await self._answer(upstream, order, (await erase(order)).body())

    async def _diagnose(
        self,
        upstream: Upstream,
        group: asyncio.TaskGroup,
        diagnose: Callable[[], Awaitable[bytes | None]],
        order: Statement,
    ) -> None:
        if order.body is not None:
            raise RemoteProtocolError(Fault.MALFORMED, "a question with a body")
        self._beside(upstream, group, order, diagnose)

    def _beside(
        self,
        upstream: Upstream,
        group: asyncio.TaskGroup,
        order: Statement,
        work: Callable[[], Awaitable[cbor.Encodable | None]],
    ) -> None:
        if self._busy >= MOST_AT_ONCE:
            raise RemoteProtocolError(Fault.BUSY, "too many orders at once")

        async def done() -> None:
            try:
                body = await work()
                if body is not None:
                    await self._answer(upstream, order, body)
            finally:
                self._busy -= 1

        group.create_task(done(), name=f"order {order.kind.name.lower()}")
        self._busy += 1

    async def _answer(self, upstream: Upstream, order: Statement, body: cbor.Encodable) -> None:
        sealed = self.seal(
            answers.sign(order.kind, order.id, body, self.origin, self.log_key),
            answers.seal_info(self.origin, order.id),
            self.seal_key(),
        )
        await upstream.publish(self.topics.answer(order.id), sealed)
        self.counts[f"answered: {order.kind.name.lower()}"] += 1
