"""The operator as whoever signs: trust bundles, gateway credentials, key tokens.

An `Authority` holds all of an operator's private keys at once, as the demo, the
tests and a small operator do. A large one keeps them apart, and calls
the functions below with one key each, as `gatewayd keys` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from firmware_proto import credential
from firmware_proto.cose import key_id
from firmware_proto.credential import GatewayCredential
from gatewayd.core import keytoken
from gatewayd.core.claims import Claims
from gatewayd.core.trust import ALL_ACTIONS, ALL_CLASSES, Issuer, Trust, sign_bundle

DAY_S: Final = 86_400


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True, slots=True)
class GatewayKeys:
    """The three private keys of one gateway: one key, one purpose."""

    handshake: ec.EllipticCurvePrivateKey = field(repr=False)
    log: ed25519.Ed25519PrivateKey = field(repr=False)
    receipt: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls) -> Self:
        """Fresh ones."""
        return cls(new_key(), ed25519.Ed25519PrivateKey.generate(), new_key())


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """An issuer's private key, and what the operator allows it to grant."""

    limits: Issuer
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, name: str, *, max_lifetime_s: int = 400 * DAY_S) -> Self:
        """A fresh one that may grant everything; narrow it with `dataclasses.replace`."""
        key = new_key()
        limits = Issuer(name, key.public_key(), None, ALL_ACTIONS, ALL_CLASSES, max_lifetime_s)
        return cls(limits, key)

    def issue(self, claims: Claims) -> bytes:
        """A key token over `claims`, in this issuer's name whatever they say.

        ValueError when no gateway could parse it. What the issuer may not
        grant is signed all the same: refusing it is the gateways' part.
        """
        named = replace(claims, issuer=self.limits.name)
        return keytoken.issue(named, self.key, key_id(self.key.public_key()))


@dataclass(frozen=True, slots=True)
class Authority:
    """All of one operator's private keys."""

    group: str
    root: ec.EllipticCurvePrivateKey = field(repr=False)
    gateways: ec.EllipticCurvePrivateKey = field(repr=False)
    command: ec.EllipticCurvePrivateKey = field(repr=False)
    time: ec.EllipticCurvePrivateKey = field(repr=False)
    seal: ec.EllipticCurvePrivateKey = field(repr=False)
    issuers: tuple[IssuerKey, ...] = ()

    @classmethod
    def create(cls, group: str, *issuers: IssuerKey) -> Self:
        """Fresh keys for everything but the issuers, who bring their own."""
        return cls(group, new_key(), new_key(), new_key(), new_key(), new_key(), issuers)

    def trust(self, serial: int = 1) -> Trust:
        """What gateways are to believe."""
        return Trust(
            serial=serial,
            group=self.group,
            issuers={key_id(each.limits.key): each.limits for each in self.issuers},
            gateways_key=self.gateways.public_key(),
            command_key=self.command.public_key(),
            time_key=self.time.public_key(),
            seal_key=self.seal.public_key(),
            roots=(self.root.public_key(),),
        )

    def bundle(self, serial: int = 1) -> bytes:
        """The same, signed by the root."""
        return sign_bundle(self.trust(serial), self.root)

    def gateway_credential(
        self,
        gateway: str,
        doors: Mapping[str, int],
        keys: GatewayKeys,
        *,
        issued_at: int,
        expires: int,
    ) -> bytes:
        """A credential for `gateway` and its doors, each with its generation; Unix seconds."""
        stated = GatewayCredential(
            gateway=gateway,
            doors=doors,
            group=self.group,
            issued_at=issued_at,
            expires=expires,
            key=keys.handshake.public_key(),
            log_key=keys.log.public_key().public_bytes_raw(),
            receipt_key=keys.receipt.public_key(),
        )
        return issue_gateway_credential(stated, self.gateways)


def issue_gateway_credential(
    stated: GatewayCredential, gateways: ec.EllipticCurvePrivateKey
) -> bytes:
    """Sign a credential. LocalProtocolError for what no phone or lock would accept."""
    return credential.issue(stated, gateways, key_id(gateways.public_key()))
