"""An operator who invites and a device that enrols, without files or a broker."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatewayd.cloud.authority import Authority, GatewayKeys, new_key
from gatewayd.core import certificates, provisioned_time
from gatewayd.core.certificates import Use
from gatewayd.core.enrolment import Grant, Request
from gatewayd.core.invitation import Claim, fingerprint

NOW = 1_790_000_000
DAY_S = 86_400
GATEWAY = "stairwell-7"
GROUP = "vestergade-7"
OPERATOR = Authority.create(GROUP)
CA = certificates.Authority.create(
    "test operator", new_key(), now_s=NOW, lifetime_s=3650 * DAY_S, serial=bytes(16)
)


def make_claim(**changes: Any) -> Claim:
    settings: dict[str, Any] = {
        "gateway": GATEWAY,
        "group": GROUP,
        "doors": ("cellar", "street"),
        "broker": "mqtts://broker.example:8884",
        "anchor": CA.key.public_key(),
        "root": fingerprint(OPERATOR.root.public_key()),
        "expires": NOW + 7 * DAY_S,
        "secret": bytes(range(16)),
    }
    return Claim(**{**settings, **changes})


@dataclass
class Device:
    """A box that has made its keys."""

    keys: GatewayKeys = field(default_factory=GatewayKeys.create)
    tls: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    answer: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    def request(self, claim: Claim, **changes: Any) -> Request:
        log: Ed25519PrivateKey = self.keys.log
        settings: dict[str, Any] = {
            "claim": claim.id,
            "certificate_request": certificates.request(claim.gateway, self.tls),
            "key": self.keys.handshake.public_key(),
            "log_key": log.public_key().public_bytes_raw(),
            "receipt_key": self.keys.receipt.public_key(),
            "answer_key": self.answer.public_key(),
        }
        return Request(**{**settings, **changes})

    def grant(self, claim: Claim, **changes: Any) -> Grant:
        """What this operator would grant it."""
        leaf = CA.issue(
            claim.gateway,
            self.tls.public_key(),
            use=Use.CLIENT,
            now_s=NOW,
            lifetime_s=90 * DAY_S,
            serial=os.urandom(16),
        )
        doors = dict.fromkeys(claim.doors, 1)
        settings: dict[str, Any] = {
            "credential": OPERATOR.gateway_credential(
                claim.gateway, doors, self.keys, issued_at=NOW, expires=NOW + DAY_S
            ),
            "certificate": leaf.der,
            "authority": CA.certificate.der,
            "broker": "mqtts://broker.example:8883",
            "authorities": (CA.certificate.der,),
            "time": provisioned_time.sign(claim.gateway, NOW, bytes(16), OPERATOR.time),
        }
        return Grant(**{**settings, **changes})
