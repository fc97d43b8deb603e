"""The composition root's uplink: loaded by gateways that have a broker, and by no other.

What MQTT needs is a fifteenth of the memory of a whole gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gatewayd import __version__, sync
from gatewayd.adapters import sealing
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.mqtt import Mqtt, MqttSettings, Will, broker_at
from gatewayd.adapters.sqlite import SqliteLog
from gatewayd.conditions import Conditions
from gatewayd.config import Config, Secrets
from gatewayd.config.model import Uplink
from gatewayd.core.model import ClockState, GatewayId, TimeReading
from gatewayd.core.topics import GatewayTopics
from gatewayd.daemon import Work
from gatewayd.lists import StatusLists
from gatewayd.mailbox import Mailbox
from gatewayd.phones import Phones
from gatewayd.timekeeper import SignedTime, Timekeeper

if TYPE_CHECKING:
    from gatewayd.renewal import Renewal


def uplink(  # noqa: PLR0913, PLR0917 - what the uplink is wired to
    config: Config,
    broker: Uplink,
    secrets: Secrets,
    log: SqliteLog,
    mailbox: Mailbox,
    times: SignedTime,
    grown: asyncio.Event,
    health: Callable[[], bytes],
) -> Work:
    """The daemon's task that talks to the broker. `grown` is set when the log has grown."""
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
        will=Will(topics.status, sync.status(online=False)),
        subscriptions=topics.for_gateway,
    )
    wired = sync.Uplink(
        gateway=gateway,
        mailbox=mailbox,
        log_key=secrets.log_key,
        connect=Mqtt(settings).connect,
        log=log,
        memory=log,
        clock=clock,
        jitter=entropy.fraction,
        seal=sealing.seal,
        status=health,
        question=times.question,
        renewal=renewal,
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


def status(  # noqa: PLR0913, PLR0917 - all that there is to tell
    timekeeper: Timekeeper,
    phones: Phones,
    radio: Mapping[str, str | int | bool],
    conditions: Conditions,
    lists: StatusLists,
    said: Mapping[str, object],
    storage: Mapping[str, object],
) -> bytes:
    """Health without persons. `said`: what the operator said, as far as it arrived."""
    reading = timekeeper.reading()
    return sync.status(
        online=True,
        version=__version__,
        clock=reading.state.name.lower(),
        strangers=sum(
            count for name, count in phones.counts.items() if name.startswith("stranger")
        ),
        faults=phones.counts["our fault"],
        locks=conditions.report(),
        lists=lists.report(),
        operator=said,
        storage=storage,
        **radio,
    )
