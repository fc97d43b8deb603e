"""Which broker, how to reach it and whom to believe there, before anybody connects."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gatewayd import addresses
from gatewayd.adapters.broker_guard import Limits

INBOX_MESSAGES: Final = 64
"""Messages held unread, unless the settings say otherwise.

More are dropped and counted, because whoever asked asks again.
"""

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which ssl has no name for


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: whom to believe (None: whom the system believes), and who we are."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    leaf: bytes | None = None
    """The broker's own certificate (DER), believed for itself and at any time: no others then."""

    def context(self) -> ssl.SSLContext:
        """Read at each connect, so that a renewed certificate needs no restart. OSError."""
        context = ssl.create_default_context(cafile=self.ca, cadata=self.leaf)
        if self.leaf is not None:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass(frozen=True, slots=True)
class Will:
    """Retained when the session ends, by us or, where we cannot, by the broker."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """How to reach the broker. ValueError for plain TCP to another machine."""

    host: str
    port: int
    client_id: str
    tls: Tls | None = None
    will: Will | None = None
    subscriptions: tuple[str, ...] = ()
    quality: int = 1
    """QoS of the subscriptions. With 0 a broker has no queue that could be too short."""
    inbox: int = INBOX_MESSAGES
    limits: Limits = field(default_factory=Limits)
    deadline_s: float = 20.0
    """For each of: connecting, subscribing, the PUBACK of one publish."""
    keepalive_s: int = 30

    def __post_init__(self) -> None:
        if self.tls is None:
            _check_plain(self.host)


def _check_plain(host: str) -> None:
    if not addresses.is_loopback(host):
        raise ValueError(f"{host} is another machine: plain TCP is only for loopback")


def broker_at(
    url: str, *, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> tuple[str, int, Tls | None]:
    """Host, port and TLS of `mqtts://host:port`, or of `mqtt://` on this machine. ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("a broker is mqtts://host:port, or mqtt://127.0.0.1:port on this machine")
    if parts.scheme == "mqtt":
        _check_plain(parts.hostname)
        return parts.hostname, parts.port or _PORTS["mqtt"], None
    return parts.hostname, parts.port or _PORTS["mqtts"], Tls(ca, certificate, key)
