"""What happens away from the staircase: a thief's workshop with an old gateway, and the cloud."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmware_proto import edhoc
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.framing import GattFraming
from firmware_proto.phone_session import GatewaySession
from gatewayd.adapters import broker
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.virtual_radio import LOCK, PHONE, AirController, open_radio
from gatewayd.cloud.authority import DAY_S, GatewayKeys
from gatewayd.cloud.pull import Patience, Progress, Source
from gatewayd.cloud_app import BrokerFiles, Cloud, OperatorKeys
from gatewayd.conversation import Conversation
from gatewayd.core.model import GatewayId
from gatewayd.demo.world import GATEWAY, LOCK_ADDRESSES, STAIRS, STREET, World
from gatewayd.lock_connection import GatewayIdentity, LockIdentity
from gatewayd.locks import RemoteLock
from gatewayd.ports import LinkClosedError, RadioError
from gatewayd.ports.radio import Peripheral

WORKSHOP: Final = "F0:00:00:00:00:0E"


# --- a gateway that was replaced -----------------------------------------------------
@contextlib.asynccontextmanager
async def old_gateway(world: World, generation: int) -> AsyncIterator[tuple[str, RemoteLock]]:
    """A box with a genuine credential of an earlier generation: its address, and a lock it knows.

    It has everything but the present: its own key, and the operator's signature.
    """
    keys = GatewayKeys.create()
    credential = world.authority.gateway_credential(
        "stairwell-7-old",
        {STREET: generation, STAIRS: generation},
        keys,
        issued_at=world.now_s - 400 * DAY_S,
        expires=world.now_s + 30 * DAY_S,
    )
    identity = GatewayIdentity(keys.handshake, credential)
    controller = AirController(world.air, WORKSHOP)
    async with open_radio(controller, address=WORKSHOP, serves=PHONE, dials=LOCK) as radio:
        serving = asyncio.create_task(_serve(radio.peripheral, identity), name="old gateway")
        client = RemoteLock(
            radio.central, _lock_identity(world), identity, SystemClock(), SystemEntropy()
        )
        try:
            yield WORKSHOP, client
        finally:
            await client.close()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


async def accepted_by_lock(client: RemoteLock) -> bool:
    """Whether the lock on the stairs would take commands from this gateway."""
    try:
        await client.prepare()
    except RadioError:
        return False
    return True


async def _serve(peripheral: Peripheral, identity: GatewayIdentity) -> None:
    entropy = SystemEntropy()
    while True:
        link = await peripheral.accept()
        session = GatewaySession(
            GattFraming(link.mtu, None),
            ephemeral=entropy.private_key(),
            connection_id=entropy.token_bytes(1),
            static_key=identity.key,
            credential=identity.credential,
        )
        talk = Conversation(link, session)
        with contextlib.suppress(LinkClosedError, RemoteProtocolError, TimeoutError):
            await talk.next_event()
        await link.close()


def _lock_identity(world: World) -> LockIdentity:
    memory = world.locks[STAIRS].store.load()
    key = memory.key.public_key()
    return LockIdentity(
        LOCK_ADDRESSES[STAIRS], key, edhoc.ccs(STAIRS, key, memory.key_id), memory.key_id
    )


# --- the operator's cloud ----------------------------------------------------------------
async def network_returns(world: World, stack: AsyncExitStack) -> None:
    """Start the broker that was away all day."""
    await stack.enter_async_context(broker.serve(world.broker_port))


async def pull(world: World) -> Progress:
    """Pull the gateway's log, as soon as the gateway is back on the broker."""
    return await cloud(world).pull(source(world))


def verify(world: World) -> bool:
    """Whether everything that the cloud keeps adds up to what the gateway signed."""
    report = cloud(world).verify(source(world))
    return report is not None and report.checkpoint_holds and not report.alarms


def cloud(world: World) -> Cloud:
    """The operator's cloud, its store in a file."""
    if world.witness is None:
        world.witness = Ed25519PrivateKey.generate()
    keys = OperatorKeys(
        command=world.authority.command,
        time=world.authority.time,
        seal=world.authority.seal,
        witness=world.witness,
        witness_name="vestergade.example/witness",
    )
    url = f"mqtt://127.0.0.1:{world.broker_port}"
    return Cloud(
        keys=keys,
        broker=BrokerFiles(url=url),
        store=world.directory / "cloud.db",
        patience=Patience(attempt_s=1.0, attempts=20),  # the gateway is not back yet itself
    )


def source(world: World) -> Source:
    """The gateway whose log is pulled, and the key that signs it."""
    return Source(GatewayId(GATEWAY), world.keys.log.public_key().public_bytes_raw())
