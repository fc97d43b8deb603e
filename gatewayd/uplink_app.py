"""The composition root's uplink: loaded by gateways that have a broker, and by no other.

What MQTT needs is a fifteenth of the memory of a whole gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gatewayd import __version__, status, sync
from gatewayd.adapters import sealing
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.mqtt import Mqtt, MqttSettings, Will, broker_at
from gatewayd.adapters.sqlite import SqliteLog
from gatewayd.config import Config, Secrets
from gatewayd.config.model import Uplink
from gatewayd.core.answers import Opened
from gatewayd.core.envelope import Statement
from gatewayd.core.model import ClockState, GatewayId, TimeReading
from gatewayd.core.topics import GatewayTopics
from gatewayd.daemon import Work
from gatewayd.mailbox import Mailbox
from gatewayd.ports import Memory
from gatewayd.timekeeper import SignedTime

if TYPE_CHECKING:
    from gatewayd.renewal import Renewal


def uplink(  # noqa: PLR0913, PLR0917 - what the uplink is wired to
    config: Config,
    broker: Uplink,
    secrets: Secrets,
    log: SqliteLog,
    memory: Memory,
    mailbox: Mailbox,
    times: SignedTime,
    grown: asyncio.Event,
    health: Callable[[], status.Status],
    standing: asyncio.Event,
    helpdesk: Callable[[Statement], Awaitable[Opened | None]] | None,
) -> Work:
    """The daemon's task that talks to the broker. `grown` is set when the log has grown.

    `standing` will be set while a session stands.
    """
    gateway = GatewayId(config.gateway.id)
    topics = GatewayTopics(gateway, secrets.trust.group)
    clock, entropy = SystemClock(), SystemEntropy()
    renewal = _renewal(config, broker, mailbox, times.reading)
    certificate = broker.certificate if renewal is None else renewal.path
    host, port, tls = broker_at(
        broker.broker, ca=broker.authorities, certificate=certificate, key=broker.key
    )
    settings = MqttSettings(
        host=host,
        port=port,
        client_id=f"gatewayd-{gateway}",
        tls=tls,
        will=Will(topics.status, status.encode(status.Status(online=False, version=__version__))),
        subscriptions=topics.for_gateway,
    )
    wired = sync.Uplink(
        gateway=gateway,
        mailbox=mailbox,
        log_key=secrets.log_key,
        connect=Mqtt(settings).connect,
        log=log,
        memory=memory,
        clock=clock,
        jitter=entropy.fraction,
        seal=sealing.seal,
        status=lambda: status.encode(health()),
        question=times.question,
        helpdesk=helpdesk,
        renewal=renewal,
        standing=standing,
        announcement=_announcement(config, broker),
    )
    return Work("uplink", lambda pulse: sync.run(wired, grown, pulse))


def _renewal(
    config: Config, broker: Uplink, mailbox: Mailbox, now: Callable[[], TimeReading]
) -> Renewal | None:
    if broker.certificate is None or broker.key is None:
        return None
    from gatewayd import renewal  # noqa: PLC0415 - X.509, which not every gateway needs

    def now_s() -> int:
        reading = now()
        return reading.floor_s if reading.state is ClockState.UNKNOWN else reading.now_s

    return renewal.load(
        gateway=config.gateway.id,
        trust=lambda: mailbox.trusted.now,
        certificate=broker.certificate,
        key=broker.key,
        state=config.gateway.state,
        now_s=now_s,
    )


def _announcement(config: Config, broker: Uplink) -> tuple[str, bytes] | None:
    if broker.home_assistant is None:
        return None
    from gatewayd import home_assistant  # noqa: PLC0415 - few gateways want it

    doors = [door.id for door in config.doors]
    return home_assistant.announcement(broker.home_assistant, GatewayId(config.gateway.id), doors)
