"""Shell of the uplink: tells the operator's broker what there is, answers what the cloud asks.

Nothing here is needed to open a door, and no door waits for it. The log is the
outbox: what the broker loses is asked for again. Everything a broker delivers
goes to the mailbox, which judges it by its signature and not by its topic; what
does not fit is counted and forgotten.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.backoff import Backoff
from gatewayd.core.checkpoint import Verifier
from gatewayd.core.envelope import Kind, Statement
from gatewayd.core.model import GatewayId, origin_of
from gatewayd.core.pull import Ack, Pull
from gatewayd.core.timekeeping import FRESH_S, TimeRefusedError
from gatewayd.core.topics import KEPT, GatewayTopics
from gatewayd.core.trust import Trust
from gatewayd.groups import only
from gatewayd.mailbox import Mailbox, OrderHandler
from gatewayd.messages import Message, about
from gatewayd.obeying import Obedience, Obeying
from gatewayd.past import Past
from gatewayd.ports import PortError, StorageError, UpstreamError
from gatewayd.ports.process import Clock, Pulse
from gatewayd.ports.storage import LogReader, Memory
from gatewayd.ports.upstream import Upstream
from gatewayd.pulling import Pulling
from gatewayd.vitals import UNWATCHED

STEP_S: Final = 180.0
"""More than any step takes: connecting, an order carried out, a hint; the broker may be slow."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the gateway speaks unasked."""

    hint_entries: int = 100
    """A checkpoint at once after so many new entries, for a hint per opening tells the minute."""
    hint_s: float = 60.0
    """And after so many seconds, if there is anything new."""
    settle_s: float = 1.0
    """The log is looked at no more often than this, however busy the door."""


class Renewal(Protocol):
    """Of our certificate or credential; see `gatewayd.renewal`, `gatewayd.credential_renewal`."""

    def question(self) -> bytes | None:
        """What to ask the cloud for now, if anything."""
        ...

    async def answered(self, payload: bytes) -> bool:
        """Whether this is a newer one. RemoteProtocolError, StorageError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplink:
    """Everything the uplink needs; `gatewayd.uplink_app` chooses."""

    gateway: GatewayId
    mailbox: Mailbox
    log_key: Ed25519PrivateKey = field(repr=False)
    connect: Callable[[], AbstractAsyncContextManager[Upstream]]
    """A session, subscribed to `GatewayTopics.for_gateway`, with a will that is not online."""
    log: LogReader
    memory: Memory
    clock: Clock
    jitter: Callable[[], float]
    """A number in [0, 1), drawn anew for every call."""
    seal: Callable[[bytes, bytes, ec.EllipticCurvePublicKey], bytes]
    """(plaintext, info, recipient) -> sealed."""
    status: Callable[[], bytes]
    """What is retained as `status`; see `gatewayd.status`."""
    question: Callable[[], bytes | None]
    """A fresh nonce when signed time is wanted now, else None."""
    obedience: Obedience = field(default_factory=Obedience)
    """Who carries out the orders that are answered."""
    renewals: Mapping[str, Renewal] = field(default_factory=dict)
    """What renews itself, by the kind of its answer in topics."""
    pace: Pace = Pace()
    announcement: tuple[str, bytes] | None = None
    """Topic and payload of what is retained once a session, for other readers of the status."""
    standing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while a session with the broker stands."""
    counts: Counter[str] = field(default_factory=Counter)
    """What came in and what of it was ignored, by reason."""


async def run(uplink: Uplink, wake: asyncio.Event, pulse: Pulse = UNWATCHED) -> None:
    """Keep a session with the broker until cancelled; `wake` is set when the log has grown.

    Never raises but CancelledError: a fault up here must not close a door.
    """
    gateway_side = _GatewaySide(uplink, wake, pulse)
    await gateway_side.past.begin()
    backoff = Backoff()
    while True:
        pulse.beat(STEP_S)
        # A task of its own: a TaskGroup that fails while it is being cancelled
        # reports the failure instead, and then nobody would know of the other.
        session = asyncio.create_task(gateway_side.session(), name="uplink session")
        try:
            await asyncio.wait({session})
        finally:
            session.cancel()
            await asyncio.wait({session})
            error = None if session.cancelled() else session.exception()
        _report(error)
        uplink.counts["sessions ended"] += 1
        if gateway_side.up_since_s is not None:
            backoff = backoff.connected(gateway_side.up_since_s)
        backoff, wait_s = backoff.failed(uplink.clock.instant().boottime_s, uplink.jitter())
        pulse.beat(wait_s + STEP_S)
        await asyncio.sleep(wait_s)


def _report(error: BaseException | None) -> None:
    """Why it ended: the outside, or a fault of ours. What is no Exception goes on upwards."""
    if error is not None and not isinstance(error, Exception):
        raise error
    outside = None if error is None else only(error, PortError)
    if outside is not None:
        _log.info("uplink: %s", outside, extra=about(Message.BROKER_AWAY))
    else:
        _log.error("uplink: a fault of ours; trying again", exc_info=error)


class _GatewaySide:
    """Both halves of a session, and what outlives a session."""

    def __init__(self, uplink: Uplink, wake: asyncio.Event, pulse: Pulse) -> None:
        self._uplink = uplink
        self._wake = wake
        self._pulse = pulse
        self._listening = pulse.part("orders")
        self._topics = GatewayTopics(uplink.gateway)
        origin = origin_of(uplink.gateway)
        verifier = Verifier(origin, uplink.log_key.public_key().public_bytes_raw())
        self._believed = uplink.mailbox.trusted.now
        self._asked_s = float("-inf")
        self._urgent = False
        self.past = Past(verifier, uplink.log, uplink.memory, uplink.counts)
        self._pulling = Pulling(
            log=uplink.log,
            memory=uplink.memory,
            past=self.past,
            verifier=verifier,
            log_key=uplink.log_key,
            topics=self._topics,
            seal=uplink.seal,
            trust=lambda: self._trust,
            counts=uplink.counts,
        )
        self._obeying = Obeying(
            obedience=uplink.obedience,
            topics=self._topics,
            origin=origin,
            log_key=uplink.log_key,
            seal=uplink.seal,
            seal_key=lambda: self._trust.seal_key,
            counts=uplink.counts,
        )
        self.up_since_s: float | None = None
        """Since when the last session stood; None when it never did."""

    async def session(self) -> None:
        """One session from connecting to its end, which is always an exception."""
        self.up_since_s = None
        async with self._uplink.connect() as upstream:
            self.up_since_s = self._uplink.clock.instant().boottime_s
            self._believed = self._trust
            _log.info("connected to the broker")
            self._uplink.standing.set()
            try:
                await self._converse(upstream)
            finally:
                self._uplink.standing.clear()

    async def _converse(self, upstream: Upstream) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(upstream, group), name="uplink orders")
                group.create_task(self._tell(upstream), name="uplink hints")
        finally:
            self._listening.waits()

    @property
    def _trust(self) -> Trust:
        return self._uplink.mailbox.trusted.now

    def _check_trust(self) -> None:
        """A new session brings again what is retained, and of which some was not believed yet."""
        if self._trust is not self._believed:
            raise UpstreamError("the trust bundle changed: connecting anew")

    # --- unasked -------------------------------------------------------------------
    async def _tell(self, upstream: Upstream) -> None:
        pace = self._uplink.pace
        told, told_size, told_s = b"", 0, float("-inf")
        if self._uplink.announcement is not None:
            await upstream.publish(*self._uplink.announcement, retain=True)
        while True:
            self._pulse.beat(pace.hint_s + STEP_S)
            self._check_trust()
            now_s = self._uplink.clock.instant().boottime_s
            regular = self._urgent or now_s - told_s >= pace.hint_s
            self._urgent = False
            try:
                told_size = await self._hint(upstream, told_size, regular=regular)
            except StorageError as error:  # the status is what tells the operator of it
                self._uplink.counts["log not readable"] += 1
                _log.warning("uplink: %s", error)
            if regular:
                told_s = now_s
                now_is = self._uplink.status()
                if now_is != told:
                    await upstream.publish(self._topics.status, now_is, retain=True)
                    told = now_is
                if now_s - self._asked_s > FRESH_S:  # else an answer may be on its way
                    await self._ask_time(upstream)
                for kind, renewal in self._uplink.renewals.items():
                    request = renewal.question()
                    if request is not None:
                        await upstream.publish(self._topics.renewal(kind), request)
            await self._next_look(told_s + pace.hint_s - now_s)

    async def _hint(self, upstream: Upstream, told_size: int, *, regular: bool) -> int:
        """Say how large the log is, when it is time to. Returns what was said last."""
        size = await self._uplink.log.size()
        if size - told_size < self._uplink.pace.hint_entries and not (regular and size > told_size):
            return told_size
        await upstream.publish(self._topics.checkpoint, await self._pulling.sign(size))
        return size

    def _tell_soon(self, new: bool) -> None:
        if new:
            self._urgent = True
            self._wake.set()

    async def _next_look(self, regular_s: float) -> None:
        await asyncio.sleep(self._uplink.pace.settle_s)
        try:
            async with asyncio.timeout(max(0.0, regular_s)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _ask_time(self, upstream: Upstream) -> None:
        nonce = self._uplink.question()
        if nonce is not None:
            self._asked_s = self._uplink.clock.instant().boottime_s
            await upstream.publish(self._topics.time, nonce)

    # --- asked ---------------------------------------------------------------------
    async def _listen(self, upstream: Upstream, group: asyncio.TaskGroup) -> None:
        orders: dict[Kind, OrderHandler] = {
            Kind.PULL: partial(self._pull, upstream),
            Kind.ACK: self._acknowledge,
            **self._obeying.handlers(upstream, group),
        }
        renewals = {self._topics.down(kind): each for kind, each in self._uplink.renewals.items()}
        while True:
            self._listening.waits()
            topic, payload = await upstream.receive()
            self._listening.beat(STEP_S)
            counts = self._uplink.counts
            try:
                renewal = renewals.get(topic)
                if topic == self._topics.down(KEPT):
                    self._tell_soon(await self.past.compare(payload))
                elif renewal is not None:
                    await renewal.answered(payload)
                else:
                    await self._uplink.mailbox.deliver(payload, orders)
            except RemoteProtocolError as error:
                counts[f"ignored: {error.fault.name.lower()}"] += 1
                _log.debug("uplink: %s: %s", topic, error)
            except TimeRefusedError as error:
                counts[f"ignored: {error.refusal.name.lower()}"] += 1
            except StorageError as error:  # the cloud asks again
                counts["log not readable"] += 1
                _log.warning("uplink: %s", error)
            else:
                counts["taken"] += 1
            self._check_trust()

    async def _pull(self, upstream: Upstream, statement: Statement) -> None:
        order = Pull.of(statement.body)
        await self._ask_time(upstream)  # the cloud is there now
        await self._pulling.answer(upstream, statement.id, order)

    async def _acknowledge(self, statement: Statement) -> None:
        self._tell_soon(await self._pulling.acknowledged(Ack.of(statement.body)))
