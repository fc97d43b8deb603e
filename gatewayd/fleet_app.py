"""Composition root of `gatewayd cloud fleet`: the broker's statuses, a file and a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.adapters.broker_guard import Limits
from gatewayd.adapters.broker_settings import MqttSettings
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.adapters.sqlite_cloud import open_cloud
from gatewayd.adapters.sqlite_fleet import SqliteFleet, open_fleet
from gatewayd.cloud.fleet import MAX_GATEWAYS, Fleet
from gatewayd.cloud_app import BrokerFiles
from gatewayd.core import topics
from gatewayd.core.backoff import Backoff
from gatewayd.core.model import GatewayId
from gatewayd.ports import UpstreamError
from gatewayd.ports.upstream import Upstream
from gatewayd.status import MAX_STATUS_BYTES

_CLOCK: Final = SystemClock()
KEEP_EVERY_S: Final = 60.0
LIMITS: Final = Limits(
    packet_bytes=2 * MAX_STATUS_BYTES,
    packets_per_minute=10 * MAX_GATEWAYS,
    bytes_per_minute=2**30,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookout:
    """One operator's view of his gateways. `store`: of pulled logs, if there is such a file.

    quiet_s: the broker has said all that it holds when it has been silent for so long.
    """

    broker: BrokerFiles
    file: Path
    store: Path
    quiet_s: float = 2.0

    async def look(self) -> tuple[Fleet, int]:
        """Once: all that the broker holds, and the time. UpstreamError, StorageError."""
        with open_fleet(self.file) as file:
            fleet = Fleet(file.load())
            async with self._mqtt().connect() as session:
                await self._hear_all(fleet, session)
            self._stand(fleet, file)
        return fleet, _now_s()

    async def watch(
        self, changed: Callable[[Fleet, int], None], away: Callable[[str], None]
    ) -> None:
        """Until cancelled: `changed` after whatever was heard, `away` when the broker is gone.

        StorageError.
        """
        mqtt, backoff, entropy = self._mqtt(), Backoff(), SystemEntropy()
        with open_fleet(self.file) as file:
            fleet = Fleet(file.load())
            while True:
                try:
                    async with mqtt.connect() as session:
                        backoff = backoff.connected(_boottime_s())
                        fleet.heard.clear()
                        await self._hear_all(fleet, session)
                        while True:
                            self._stand(fleet, file)
                            changed(fleet, _now_s())
                            await self._hear_on(fleet, session, changed)
                except UpstreamError as error:
                    away(str(error))
                backoff, wait_s = backoff.failed(_boottime_s(), entropy.fraction())
                await asyncio.sleep(wait_s)

    def _stand(self, fleet: Fleet, file: SqliteFleet) -> None:
        fleet.standing(_now_s())
        file.keep(fleet.reports)
        if self.store.exists():
            with open_cloud(self.store) as store:
                fleet.erasings = store.erasings()

    async def _hear_all(self, fleet: Fleet, session: Upstream) -> None:
        while True:
            try:
                async with asyncio.timeout(self.quiet_s):
                    topic, payload = await session.receive()
            except TimeoutError:
                return
            _hear(fleet, topic, payload)

    async def _hear_on(
        self, fleet: Fleet, session: Upstream, changed: Callable[[Fleet, int], None]
    ) -> None:
        """For KEEP_EVERY_S; what comes together is told together."""
        ends_s = _boottime_s() + KEEP_EVERY_S
        while (left_s := ends_s - _boottime_s()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    topic, payload = await session.receive()
            except TimeoutError:
                return
            _hear(fleet, topic, payload)
            await self._hear_all(fleet, session)
            changed(fleet, _now_s())

    def _mqtt(self) -> Mqtt:
        host, port, tls = self.broker.where()
        return Mqtt(
            MqttSettings(
                host=host,
                port=port,
                tls=tls,
                client_id=f"fleet-{SystemEntropy().token_bytes(4).hex()}",
                subscriptions=(topics.EVERY_STATUS,),
                quality=0,
                inbox=MAX_GATEWAYS,
                limits=LIMITS,
            )
        )


def forget(file: Path, gateway: GatewayId) -> bool:
    """A gateway that is gone for good; whether it was known. StorageError."""
    with open_fleet(file) as kept:
        reports = kept.load()
        known = reports.pop(gateway, None) is not None
        kept.keep(reports)
    return known


def _hear(fleet: Fleet, topic: str, payload: bytes) -> None:
    gateway = topics.status_of(topic)
    if gateway is not None:
        fleet.hear(GatewayId(gateway), payload, _now_s())


def _now_s() -> int:
    return int(_CLOCK.instant().wall_s)


def _boottime_s() -> float:
    return _CLOCK.instant().boottime_s
