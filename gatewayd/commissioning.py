"""A gateway and a lock that is to be its own, or nobody's again: over whatever radio.

Nothing is kept here; who calls keeps what it needs to go on after a power cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import claiming, edhoc
from firmware_proto.claiming import BUTTON_S, NOBODYS, Label, Purpose
from firmware_proto.codes import ID_BYTES, Reason
from firmware_proto.cose import key_id
from firmware_proto.framing import GattFraming
from firmware_proto.lock_messages import (
    Anchor,
    Claim,
    Done,
    FactoryReset,
    GetState,
    Identify,
    State,
)
from firmware_proto.messages import Message
from gatewayd.conversation import random_channel
from gatewayd.core.model import Verdict
from gatewayd.lock_connection import GatewayIdentity, LockConnection, LockIdentity, connect
from gatewayd.ports import LinkClosedError, RadioError
from gatewayd.ports.process import Entropy
from gatewayd.ports.radio import Central, Sighting

ANSWER_S: Final = 10.0
READY_S: Final = 30.0
"""To hang up on the last one, to dial, to shake hands."""
AGAIN_S: Final = 1.0
BLINK_MS: Final = 5_000

PublicKey = ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class OperatorKeys:
    """What a lock is to trust from its claim on. serial: of the anchor that named them, or 0."""

    root: PublicKey
    gateways: PublicKey
    command: PublicKey
    serial: int = 0


def identity(key: PublicKey, door: str, address: str) -> LockIdentity:
    """Whom we expect: a lock by its key, as that of a door or as nobody's."""
    return LockIdentity(address, key, edhoc.ccs(door, key, key_id(key)), key_id(key))


@dataclass(frozen=True, slots=True)
class Met:
    """A lock that has proved who it is, on a connection that never resumes."""

    connection: LockConnection
    state: State

    @property
    def epoch(self) -> int:
        """How often it changed hands, as its Hello said, which nobody authenticated."""
        return self.connection.hello.epoch

    @property
    def binding(self) -> bytes:
        """What only the two ends of this handshake know."""
        binding = self.connection.binding
        if binding is None:
            raise AssertionError("this connection was made by a handshake")
        return binding


@dataclass(frozen=True, slots=True)
class Commissioner:
    """Talks to locks on behalf of one gateway. `button` is called when one has to be pressed."""

    central: Central
    gateway: GatewayIdentity
    entropy: Entropy
    button: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def meet(self, lock: LockIdentity) -> AsyncIterator[Met]:
        """Dial, shake hands and ask how it is. RadioError when that does not come about."""
        connection: LockConnection | None = None
        try:
            try:
                async with asyncio.timeout(READY_S):
                    link = await self.central.dial(lock.address)
                    connection = await connect(
                        link,
                        lock,
                        self.gateway,
                        self.entropy,
                        framing=GattFraming(link.mtu, random_channel(self.entropy)),
                        remembered=None,
                        heard=lambda _: None,
                    )
                    connection.start()
                    state = await connection.ask(GetState(self._id()), ANSWER_S)
            except (LinkClosedError, TimeoutError) as error:
                raise RadioError(f"{lock.address} does not answer: {error}") from error
            if not isinstance(state, State):
                raise RadioError(f"{lock.address} does not tell its state")
            yield Met(connection, state)
        finally:
            if connection is not None:
                await asyncio.shield(connection.close())

    async def whose_label(self, label: Label, heard: Sequence[Sighting]) -> str | None:
        """Which of the locks that were heard has this label; the strongest are asked first."""
        for sighting in heard:
            lock = identity(label.key, NOBODYS, sighting.address)
            try:
                async with self.meet(lock) as met:
                    await self.blink(met)
            except RadioError:
                continue
            return sighting.address
        return None

    async def blink(self, met: Met) -> None:
        """Let people see which lock it is."""
        await self._ask(met, lambda request: Identify(request, BLINK_MS))

    async def claim(self, met: Met, label: Label, door: str, operator: OperatorKeys) -> Verdict:
        """Make it the lock of a door. RadioError when nobody knows whether it is."""
        proof = claiming.proof(label.secret, met.binding, Purpose.CLAIM)
        keys = (operator.root, operator.gateways, operator.command, operator.serial)
        return await self._ask(met, lambda request: Claim(request, door, proof, *keys))

    async def release(self, met: Met, label: Label) -> Verdict:
        """Make it nobody's, by its label. RadioError when nobody knows whether it is."""
        proof = claiming.proof(label.secret, met.binding, Purpose.RESET)
        return await self._ask(met, lambda request: FactoryReset(request, proof))

    async def release_by(self, met: Met, statement: bytes) -> Verdict:
        """Make it nobody's, as the operator says. RadioError when nobody knows whether it is."""
        return await self._ask(met, lambda request: FactoryReset(request, statement=statement))

    async def anchor(self, met: Met, statement: bytes) -> Verdict:
        """Give it other operator's keys. RadioError when nobody knows whether it has them."""
        return await self._ask(met, lambda request: Anchor(request, statement))

    async def _ask(self, met: Met, message: Callable[[bytes], Message]) -> Verdict:
        """Ask until the lock says something else than that its button is to be pressed."""
        ends_s = asyncio.get_running_loop().time() + BUTTON_S
        told = False
        while True:
            try:
                answer = await met.connection.ask(message(self._id()), ANSWER_S)
            except (LinkClosedError, TimeoutError) as error:
                raise RadioError(f"the lock does not answer: {error}") from error
            if not isinstance(answer, Done):
                raise RadioError("the lock does not understand what it is asked")
            late = asyncio.get_running_loop().time() >= ends_s
            if answer.reason is not Reason.BUTTON_NEEDED or late:
                return Verdict(answer.outcome, answer.reason)
            if not told:
                self.button()
                told = True
            await asyncio.sleep(AGAIN_S)

    def _id(self) -> bytes:
        return self.entropy.token_bytes(ID_BYTES)
