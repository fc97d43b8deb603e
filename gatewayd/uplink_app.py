"""The composition root's uplink: loaded by gateways that have a broker, and by no other.

What MQTT needs is a fifteenth of the memory of a whole gateway.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from gatewayd import __version__, past, status, sync
from gatewayd.adapters import sealing
from gatewayd.adapters.broker_settings import MqttSettings, Will, broker_at
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.adapters.sqlite import SqliteLog
from gatewayd.config import Config, Secrets
from gatewayd.config.model import Uplink
from gatewayd.core.model import ClockState, GatewayId, TimeReading
from gatewayd.core.term import Term
from gatewayd.core.topics import CERTIFICATE, RENEWED, GatewayTopics
from gatewayd.core.trust import Trust
from gatewayd.credential_renewal import CredentialRenewal, Terms
from gatewayd.daemon import Work
from gatewayd.mailbox import Mailbox
from gatewayd.obeying import Obedience
from gatewayd.ports.storage import Memory
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
    obedience: Obedience,
    counts: Counter[str],
    show: Callable[[bytes], None],
    terms: Terms,
) -> Work:
    """The daemon's task that talks to the broker. `grown` is set when the log has grown.

    `standing` will be set while a session stands. `show`: to phones and locks a credential that
    was renewed. `terms` will say until when what is held is valid.
    """
    gateway = GatewayId(config.gateway.id)
    topics = GatewayTopics(gateway, secrets.trust.group)
    clock, entropy = SystemClock(), SystemEntropy()
    now_s, trust = partial(_now_s, times.reading), lambda: mailbox.trusted.now
    renewal = _renewal(config, broker, trust, now_s)
    certificate = broker.certificate if renewal is None else renewal.path
    ours = CredentialRenewal(
        secrets.credential, secrets.credential_bytes, trust, memory, now_s, show
    )
    terms.credential = lambda: Term(ours.held.issued_at, ours.held.expires)
    renewals: dict[str, sync.Renewal] = {RENEWED: ours}
    if renewal is not None:
        renewals[CERTIFICATE] = renewal
        terms.certificate = lambda: Term(renewal.held.since, renewal.held.until)
    elif certificate is not None:
        foreign = _term(certificate)
        terms.certificate = lambda: foreign
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
        status=lambda: status.encode(
            structs.replace(health(), other_log=wired.counts[past.ALARM] > 0)
        ),
        question=times.question,
        obedience=obedience,
        counts=counts,
        renewals=renewals,
        standing=standing,
        announcement=_announcement(config, broker),
    )
    return Work("uplink", lambda pulse: sync.run(wired, grown, pulse))


def _renewal(
    config: Config, broker: Uplink, trust: Callable[[], Trust], now_s: Callable[[], int]
) -> Renewal | None:
    if broker.certificate is None or broker.key is None:
        return None
    from gatewayd import renewal  # noqa: PLC0415 - X.509, which not every gateway needs

    return renewal.load(
        gateway=config.gateway.id,
        trust=trust,
        certificate=broker.certificate,
        key=broker.key,
        state=config.gateway.state,
        now_s=now_s,
    )


def _term(certificate: Path) -> Term | None:
    """Of one that we cannot renew."""
    from gatewayd import renewal  # noqa: PLC0415 - likewise

    return renewal.term(certificate)


def _now_s(now: Callable[[], TimeReading]) -> int:
    reading = now()
    return reading.floor_s if reading.state is ClockState.UNKNOWN else reading.now_s


def _announcement(config: Config, broker: Uplink) -> tuple[str, bytes] | None:
    if broker.home_assistant is None:
        return None
    from gatewayd import home_assistant  # noqa: PLC0415 - few gateways want it

    doors = [door.id for door in config.doors]
    return home_assistant.announcement(broker.home_assistant, GatewayId(config.gateway.id), doors)
