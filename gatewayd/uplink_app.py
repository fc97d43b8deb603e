"""The composition root's uplink: loaded by gateways that have a broker, and by no other.

What MQTT needs is a fifteenth of the memory of a whole gateway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from gatewayd import __version__, past, status, sync
from gatewayd.adapters import sealing
from gatewayd.adapters.broker_settings import MqttSettings, Will, broker_at
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.base_app import Base
from gatewayd.config import Config
from gatewayd.config.model import Uplink
from gatewayd.core.model import ClockState, GatewayId, TimeReading
from gatewayd.core.term import Term
from gatewayd.core.topics import CERTIFICATE, RENEWED, GatewayTopics
from gatewayd.core.trust import Trust
from gatewayd.credential_renewal import CredentialRenewal, Terms
from gatewayd.daemon import Work
from gatewayd.hearing import Heard
from gatewayd.obeying import Obedience

if TYPE_CHECKING:
    from gatewayd.renewal import Renewal


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """What is told and done for the operator."""

    status: Callable[[], status.Status]
    obedience: Obedience
    show: Callable[[bytes], None]
    """To phones and locks a credential that was renewed."""
    terms: Terms
    """Will say until when what is held is valid."""
    counts: Counter[str]
    """Of what comes in."""


def uplink(heard: Heard, broker: Uplink, base: Base, voice: Voice) -> Work:
    """The daemon's task that talks to the broker."""
    config, secrets, mailbox, times = heard.config, heard.secrets, heard.mailbox, base.times
    gateway = GatewayId(config.gateway.id)
    topics = GatewayTopics(gateway, secrets.trust.group)
    now_s, trust = partial(_now_s, times.reading), lambda: mailbox.trusted.now
    renewal = _renewal(config, broker, trust, now_s)
    certificate = broker.certificate if renewal is None else renewal.path
    ours = CredentialRenewal(
        secrets.credential, secrets.credential_bytes, trust, base.memory, now_s, voice.show
    )
    voice.terms.credential = lambda: Term(ours.held.issued_at, ours.held.expires)
    renewals: dict[str, sync.Renewal] = {RENEWED: ours}
    if renewal is not None:
        renewals[CERTIFICATE] = renewal
        voice.terms.certificate = lambda: Term(renewal.held.since, renewal.held.until)
    elif certificate is not None:
        foreign = _term(certificate)
        voice.terms.certificate = lambda: foreign
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
        log=base.log,
        memory=base.memory,
        clock=base.clock,
        jitter=base.around.entropy.fraction,
        seal=sealing.seal,
        status=lambda: status.encode(
            structs.replace(voice.status(), other_log=wired.counts[past.ALARM] > 0)
        ),
        question=times.question,
        obedience=voice.obedience,
        counts=voice.counts,
        renewals=renewals,
        standing=base.online,
        announcement=_announcement(config, broker),
    )
    return Work("uplink", lambda pulse: sync.run(wired, base.grown, pulse))


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
