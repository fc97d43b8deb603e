"""Composition root of enrolment, both sides: real files, a real broker, a real clock."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.credential import GatewayCredential
from firmware_proto.errors import RemoteProtocolError
from gatewayd import enrolment, extras
from gatewayd.adapters import sealing
from gatewayd.adapters.broker_settings import MqttSettings, Tls, broker_at
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.adapters.sealing import SealingError
from gatewayd.adapters.sqlite_invitations import open_invitations
from gatewayd.cloud.enrolling import Answered, Enroller, Registrar
from gatewayd.cloud.holdings import Holding, granted
from gatewayd.cloud.invitations import Invitation
from gatewayd.core import certificates
from gatewayd.core.certificates import Authority, Certificate
from gatewayd.core.enrolment import unauthentic
from gatewayd.core.enrolment_progress import Progress
from gatewayd.core.invitation import SECRET_BYTES, Claim, claim_id, fingerprint
from gatewayd.core.topics import FOR_ENROLMENT, EnrolTopics
from gatewayd.core.trust import verify_bundle
from gatewayd.enrolment import Enrolment
from gatewayd.ports import UpstreamError

INSTALLED: Final = Path("/etc/gatewayd")
_LOCALTIME: Final = Path("/etc/localtime")
_PROBE_S: Final = 20.0
_NOBODY: Final = (
    "the broker's certificate is not signed by the key that the claim names",
    "another one answers at its address, or the operator changed it: ask for another claim",
)


def now_s() -> int:
    """The operator's own clock."""
    return int(time.time())  # noqa: TID251 - an edge


# --- the gateway --------------------------------------------------------------------
def enrolment_in(directory: Path) -> Enrolment:
    """The enrolment of the gateway whose files are there."""
    return Enrolment(directory, _unseal, extras.KeyDevices(), _zone())


def _zone() -> str:
    """The time zone that this machine was given, localtime(5); nothing when it was given none."""
    try:
        _, _, name = str(_LOCALTIME.readlink()).partition("/zoneinfo/")
        ZoneInfo(name)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        return ""
    return name


async def ask(begun: Progress, accept: Callable[[bytes], Progress]) -> Progress:
    """Over the claim's broker, until cancelled or answered. UpstreamError."""
    claim = Claim.parse(begun.claim)
    host, port, tls = broker_at(claim.broker)
    if tls is not None and claim.anchor is not None:
        tls = Tls(leaf=await _leaf(host, port, claim.anchor))
    settings = MqttSettings(
        host=host,
        port=port,
        tls=tls,
        client_id=f"enrol-{SystemEntropy().token_bytes(4).hex()}",
        subscriptions=(EnrolTopics(claim.id).answer,),
    )
    async with Mqtt(settings).connect() as session:
        return await enrolment.ask(session, begun, accept)


async def _leaf(host: str, port: int, anchor: ec.EllipticCurvePublicKey) -> bytes:
    """The certificate that the broker shows, if the claim's key signed it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # judged below, and by name in the session itself
    try:
        async with asyncio.timeout(_PROBE_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError) as error:
        said = getattr(error, "strerror", None) or "no answer"
        raise UpstreamError(f"cannot connect to {host} port {port}: {said}") from error
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
    finally:
        writer.transport.abort()
    try:
        genuine = certificates.signed_by(shown, anchor)
    except RemoteProtocolError as error:
        raise UpstreamError(*_NOBODY) from error
    if not genuine:
        raise UpstreamError(*_NOBODY)
    return shown


def _unseal(sealed: bytes, info: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    try:
        return sealing.unseal(sealed, info, key)
    except SealingError as error:
        raise unauthentic("it does not open with our key") from error


# --- the operator --------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Network:
    """The brokers that a gateway enrols at and keeps its session with, and who signed for them."""

    enrols: str
    uplink: str
    authorities: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A gateway that is to be. doors: each with the least generation, 0 where we count."""

    gateway: str
    doors: Mapping[str, int]
    replaces: str | None = None
    network: Network | None = None
    """None: as for the gateway before, or whoever was invited last."""
    lifetime_s: int


class NoNetworkError(Exception):
    """Nobody has said yet where gateways enrol."""


def _last(made: Sequence[Invitation], gateway: str | None) -> Invitation | None:
    """The last invitation of this gateway, or of any."""
    named = [each for each in made if each.enrols]
    return next((each for each in reversed(named) if each.gateway == gateway), None) or next(
        reversed(named), None
    )


def _network(last: Invitation | None) -> Network:
    if last is None:
        raise NoNetworkError
    return Network(last.enrols, last.broker, last.authorities)


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """Where an operator invites and enrols."""

    store: Path
    root: ec.EllipticCurvePublicKey
    bundle: bytes

    @property
    def group(self) -> str:
        """The door group of the bundle. RemoteProtocolError when the root did not sign it."""
        return verify_bundle(self.bundle, self.root).group

    def invite(self, wanted: Wanted) -> Claim:
        """A new claim, kept before it is shown. StorageError, OthersDoorError.

        ValueError for what no claim can say.
        """
        with open_invitations(self.store) as store:
            last = _last(store.all(), wanted.replaces)
            network = wanted.network or _network(last)
            doors = dict(wanted.doors)
            for each in store.holdings(wanted.replaces) if wanted.replaces else ():
                doors.setdefault(each.door, 0)
            if not doors:
                raise ValueError(f"{wanted.replaces} has no doors, as far as is known here")
            held = {each.door: each for each in store.holdings()}
            for door, least in doors.items():
                granted(held.get(door), wanted.gateway, wanted.replaces, least)
            anchor = network.authorities[0] if network.authorities else None
            claim = Claim(
                gateway=wanted.gateway,
                group=self.group,
                doors=tuple(sorted(doors)),
                broker=network.enrols,
                anchor=None if anchor is None else Certificate.parse(anchor).key,
                root=fingerprint(self.root),
                expires=now_s() + wanted.lifetime_s,
                secret=SystemEntropy().token_bytes(SECRET_BYTES),
            )
            Claim.parse(claim.text())  # ValueError for what nobody could read
            public = claim.key.public_key()
            store.add(
                Invitation(
                    id=claim_id(public),
                    key=public.public_bytes_raw(),
                    gateway=wanted.gateway,
                    doors=doors,
                    broker=network.uplink,
                    authorities=network.authorities,
                    expires=claim.expires,
                    enrols=network.enrols,
                    replaces=wanted.replaces,
                )
            )
        return claim

    def invitations(self) -> list[Invitation]:
        """All of them, oldest first. StorageError."""
        with open_invitations(self.store) as store:
            return store.all()

    def holdings(self) -> list[Holding]:
        """Which gateway serves which door. StorageError."""
        with open_invitations(self.store) as store:
            return store.holdings()


def credential_of(store: Path, gateway: str) -> bytes | None:
    """The newest that this gateway was given; None for one that never enrolled. StorageError."""
    with open_invitations(store) as found:
        return found.credential(gateway)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """An office with the private keys that enrolling needs."""

    office: Office
    gateways: ec.EllipticCurvePrivateKey = field(repr=False)
    time: ec.EllipticCurvePrivateKey = field(repr=False)
    authority: Authority
    certificate_s: int
    credential_s: int
    orders: Path
    """Where the operator keeps the numbered orders that he gave."""

    @contextmanager
    def enroller(self) -> Iterator[Enroller]:
        """Over the office's store. StorageError."""
        registrar = Registrar(
            root=self.office.root,
            bundle=self.office.bundle,
            group=self.office.group,
            gateways=self.gateways,
            time=self.time,
            authority=self.authority,
            certificate_s=self.certificate_s,
            credential_s=self.credential_s,
            retired=self._retired,
            now_s=now_s,
            token_bytes=SystemEntropy().token_bytes,
            seal=sealing.seal,
        )
        with open_invitations(self.office.store) as store:
            yield Enroller(registrar, store)

    def _retired(self, credential: GatewayCredential) -> bool:
        """Whether an order means this very box: by its log's key, whoever may sign orders now."""
        sent = (self.orders / credential.gateway).glob("*-retire.cose")
        return any(credential.log_key in path.read_bytes() for path in sent)

    async def serve(
        self, where: tuple[str, int, Tls | None], report: Callable[[Answered], bool]
    ) -> None:
        """Answer at the broker until `report` says that it was enough. UpstreamError."""
        host, port, tls = where
        settings = MqttSettings(
            host=host,
            port=port,
            tls=tls,
            client_id=f"enroller-{SystemEntropy().token_bytes(4).hex()}",
            subscriptions=FOR_ENROLMENT,
        )
        with self.enroller() as enroller:
            async with Mqtt(settings).connect() as session:
                await enroller.serve(session, report)
