"""Everything the operator says arrives here, whoever carried it: a broker or a phone.

`deliver` takes the bytes of one envelope, a trust chain, a state or an order, or
of a status list, which its issuer signs, and nothing about where they come from
counts. What it took in is durable when
it returns. What a state or an order does is not known here: the composition
root gives a handler for each kind.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.cose import key_id
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import envelope, state
from gatewayd.core.envelope import ANSWERED_AGAIN, NUMBERED, Kind, Statement
from gatewayd.core.orders import DamagedOrdersError, Orders
from gatewayd.core.register import (
    DamagedRegisterError,
    Held,
    Register,
    Slot,
    decode_names,
    encode_names,
)
from gatewayd.core.state import MAX_STATE_BYTES, STATE_TYPE, StateKind
from gatewayd.core.statuslist import SIGN1_TAG
from gatewayd.core.trust import Role
from gatewayd.core.trust_chain import unpack
from gatewayd.ports import StorageError
from gatewayd.ports.storage import Memory
from gatewayd.status import OperatorStatus
from gatewayd.trusted import Trusted

REGISTER_NAME: Final = "register"
ORDERS_NAME: Final = "orders"
MAX_ENVELOPE_BYTES: Final = MAX_STATE_BYTES + 4 * 1024
"""A chain with its framing is the largest."""
REPEATABLE_REMEMBERED: Final = 256
"""Ids of orders that are harmless when repeated: only so that nobody is kept busy."""

_log: Final = logging.getLogger(__name__)


class StateHandler(Protocol):
    """What one kind of state does."""

    def check(self, subject: str, body: bytes) -> None:
        """RemoteProtocolError when `body` is no good one; then nothing is stored. No effect."""
        ...

    async def take(self, subject: str, body: bytes) -> None:
        """`body` holds from now on; it passed `check`, perhaps in an earlier run.

        Called for everything that holds when the gateway starts, and for every
        change; what is called twice with the same body does nothing the second time.
        """
        ...


OrderHandler = Callable[[Statement], Awaitable[None]]
"""Carries out one order, checked but for its body; RemoteProtocolError for a bad one.

Of the numbered kinds it may be called again for an order that was cut short.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What each kind does. A kind without a handler is refused as UNSUPPORTED, not stored."""

    states: Mapping[StateKind, StateHandler] = field(default_factory=dict)
    orders: Mapping[Kind, OrderHandler] = field(default_factory=dict)
    take_list: Callable[[bytes], Awaitable[bool]] | None = None
    """As `lists.StatusLists.deliver`."""


class Mailbox:
    """Of one gateway. Use `load`, then `start`."""

    def __init__(  # noqa: PLR0913, PLR0917 - what is held, and what it is held with
        self,
        register: Register,
        orders: Orders,
        trusted: Trusted,
        memory: Memory,
        floor_s: Callable[[], int],
        handlers: Handlers,
    ) -> None:
        self.trusted = trusted
        self.unconfirmed: tuple[str, ...] = ()
        """Doors that run as they were bound on site, until the operator states his."""
        self._register = register
        self._orders = orders
        self._memory = memory
        self._floor_s = floor_s
        self._handlers = handlers
        self._repeatable: OrderedDict[bytes, None] = OrderedDict()
        self._told: dict[tuple[StateKind, str], Held] = {}
        self._turn = asyncio.Lock()

    @classmethod
    async def load(
        cls,
        gateway: str,
        trusted: Trusted,
        memory: Memory,
        floor_s: Callable[[], int],
        handlers: Handlers,
    ) -> Mailbox:
        """With what is stored. StorageError when that is damaged."""
        addressees = (gateway, trusted.now.group, envelope.EVERYBODY)
        try:
            names = await memory.load(REGISTER_NAME)
            held: dict[Slot, Held] = {}
            for name in () if names is None else decode_names(names):
                slot, said = Held.decode(await memory.load(name) or b"")
                held[slot] = said
            orders = await memory.load(ORDERS_NAME)
            known = Orders() if orders is None else Orders.decode(orders)
        except (DamagedRegisterError, DamagedOrdersError) as error:
            raise StorageError(f"what the operator said is damaged: {error}") from error
        return cls(Register(addressees, held), known, trusted, memory, floor_s, handlers)

    async def start(self) -> None:
        """Tell the handlers what holds."""
        async with self._turn:
            await self._tell()

    def holds(self, kind: StateKind, subject: str = "") -> bytes | None:
        """The body that holds now."""
        winner = self._register.winner(kind, subject, self._named())
        return None if winner is None else winner.body

    async def deliver(
        self, data: bytes, carrier: Mapping[Kind, OrderHandler] | None = None
    ) -> None:
        """One envelope from anybody. `carrier`: orders that only this way of arriving can answer.

        Raises:
            RemoteProtocolError: it is not taken in; REPLAYED when it holds nothing new.
            TimeRefusedError: a signed time that answers no question of ours.
            StorageError: it could not be kept; whoever sent it may try again.
        """
        if len(data) > MAX_ENVELOPE_BYTES:
            raise RemoteProtocolError(Fault.TOO_LARGE, "larger than any envelope")
        if data.startswith(SIGN1_TAG) and self._handlers.take_list:  # nothing else is tagged
            if not await self._handlers.take_list(data):
                raise RemoteProtocolError(Fault.REPLAYED, "a list that is held already")
            return
        answer = None
        async with self._turn:
            bundles = unpack(data)
            if bundles is not None:
                await self._extend(bundles)
            elif _type(data) == STATE_TYPE:
                await self._hold(data)
            else:
                answer = await self._obey(data, carrier or {})
        if answer is not None:  # may take long, and changes nothing here
            await answer

    # --- the three kinds of envelope ----------------------------------------------------
    async def _extend(self, bundles: tuple[bytes, ...]) -> None:
        if not await self.trusted.extend(bundles):
            raise RemoteProtocolError(Fault.REPLAYED, "a chain that is held already")
        await self._tell()

    async def _hold(self, data: bytes) -> None:
        said, signer = state.verify(data, self.trusted.now)
        slot, register = self._register.with_state(
            said, signer=signer, introduced=self.trusted.introduced(signer), named=self._named()
        )
        handler = self._handlers.states.get(said.kind)
        if handler is None:
            raise RemoteProtocolError(Fault.UNSUPPORTED, f"{said.kind.name} has no use here")
        handler.check(said.subject, said.body)
        # The body first: a name that is listed always has one.
        await self._memory.store(slot.name, register.held[slot].encode(slot))
        if register.held.keys() != self._register.held.keys():
            await self._memory.store(REGISTER_NAME, encode_names(register.held.keys()))
        self._register = register
        await self._tell()

    async def _obey(
        self, data: bytes, carrier: Mapping[Kind, OrderHandler]
    ) -> Awaitable[None] | None:
        """Carry out a numbered order; any other is for the caller to await."""
        order, signer = envelope.opened(data, self.trusted.now)
        floor_s = self._floor_s()
        envelope.check(order, self._register.addressees, floor_s)
        handler = carrier.get(order.kind) or self._handlers.orders.get(order.kind)
        if handler is None:
            raise RemoteProtocolError(Fault.UNSUPPORTED, f"{order.kind.name} has no use here")
        if order.kind in NUMBERED:
            introduced = self.trusted.introduced(signer)
            orders = self._orders.carried_out(order, introduced, floor_s)
            await handler(order)
            # Last: an order that was cut short is carried out again, never forgotten.
            await self._memory.store(ORDERS_NAME, orders.encode())
            self._orders = orders
            return None
        if order.kind in ANSWERED_AGAIN:
            return handler(order)
        if order.id in self._repeatable:
            raise RemoteProtocolError(Fault.REPLAYED, "it was carried out")
        self._repeatable[order.id] = None
        if len(self._repeatable) > REPEATABLE_REMEMBERED:
            self._repeatable.popitem(last=False)
        return handler(order)

    # --- what holds ----------------------------------------------------------------------
    async def _tell(self) -> None:
        """Tell each handler what holds now and did not before."""
        for kind, handler in self._handlers.states.items():
            for subject in self._register.subjects(kind):
                winner = self._register.winner(kind, subject, self._named())
                if winner is not None and self._told.get((kind, subject)) != winner:
                    await handler.take(subject, winner.body)
                    self._told[kind, subject] = winner  # else it is told again, next time

    def _named(self) -> frozenset[bytes]:
        return frozenset(map(key_id, self.trusted.now.keys(Role.COMMAND)))

    def report(self) -> OperatorStatus:
        """What is held, and what may have been kept from us."""
        return OperatorStatus(
            states={
                " ".join(filter(None, (slot.kind.name.lower(), slot.addressee, slot.subject))): (
                    held.serial
                )
                for slot, held in self._register.held.items()
            },
            orders=max((count.highest for count in self._orders.counts.values()), default=0),
            orders_missing=self._orders.holes,
            unconfirmed=self.unconfirmed,
        )


def _type(data: bytes) -> cbor.Value:
    return cose.Sign1.parse(data).protected.get(cose.HEADER_TYP)
