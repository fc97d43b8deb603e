"""Composition root of `gatewayd cloud roll-out`: the broker's statuses, and what is left there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from gatewayd import status
from gatewayd.adapters.broker_settings import MqttSettings
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.cloud.fleet import MAX_GATEWAYS, Alarm, Fleet
from gatewayd.cloud.outbox import Message
from gatewayd.cloud_app import BrokerFiles
from gatewayd.core import topics
from gatewayd.core.model import GatewayId
from gatewayd.fleet_app import LIMITS
from gatewayd.ports.upstream import Upstream

_CLOCK: Final = SystemClock()


@dataclass(slots=True)
class View:
    """All gateways that the broker knows, while a session lasts. `serials`: of their settings."""

    session: Upstream
    quiet_s: float
    fleet: Fleet = field(default_factory=Fleet)
    serials: dict[GatewayId, int] = field(default_factory=dict)

    async def hear_all(self) -> None:
        """Until the broker is silent. UpstreamError."""
        while True:
            try:
                async with asyncio.timeout(self.quiet_s):
                    topic, payload = await self.session.receive()
            except TimeoutError:
                return
            self._hear(topic, payload)

    async def wait(
        self, wanted: Mapping[GatewayId, int], watch_s: float, told: Callable[[int], None]
    ) -> None:
        """Until each says that it has its serial, or the time is over. `told`: how many have."""
        have = -1
        try:
            async with asyncio.timeout(watch_s):
                while True:
                    now_have = sum(self.serials.get(each, 0) >= at for each, at in wanted.items())
                    if now_have != have:
                        have = now_have
                        told(have)
                    if have == len(wanted):
                        return
                    self._hear(*await self.session.receive())
        except TimeoutError:
            return

    async def publish(self, messages: Sequence[Message], told: Callable[[int], None]) -> None:
        """Leave all of these at the broker. UpstreamError. `told`: how many are there."""
        for count, message in enumerate(messages, 1):
            await self.session.publish(message.topic, message.payload, retain=True)
            told(count)

    def alarms(self) -> list[Alarm]:
        """Those that stand now."""
        return self.fleet.alarms(_now_s())

    def _hear(self, topic: str, payload: bytes) -> None:
        name = topics.status_of(topic)
        if name is None:
            return
        gateway = GatewayId(name)
        self.fleet.hear(gateway, payload, _now_s())
        try:
            said = status.decode(payload)
        except RemoteProtocolError:
            return
        if said.online and gateway in self.fleet.reports:
            states = {} if said.operator is None else said.operator.states
            self.serials[gateway] = states.get(f"settings {gateway}", 0)


@asynccontextmanager
async def look(broker: BrokerFiles, quiet_s: float) -> AsyncIterator[View]:
    """A session that has heard all that the broker holds. UpstreamError."""
    host, port, tls = broker.where()
    settings = MqttSettings(
        host=host,
        port=port,
        tls=tls,
        client_id=f"rollout-{SystemEntropy().token_bytes(4).hex()}",
        subscriptions=(topics.EVERY_STATUS,),
        inbox=MAX_GATEWAYS,
        limits=LIMITS,
    )
    async with Mqtt(settings).connect() as session:
        view = View(session, quiet_s)
        await view.hear_all()
        yield view


def _now_s() -> int:
    return int(_CLOCK.instant().wall_s)
