"""The operator's side of enrolment: answers requests, whichever way they came.

What is answered is decided by the store, in one transaction, before anything
is sent; so a request that comes again is answered with the same, and another
one for a used claim never.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from firmware_proto import credential
from firmware_proto.codes import ID_BYTES
from firmware_proto.credential import GatewayCredential
from firmware_proto.errors import RemoteProtocolError
from gatewayd.cloud.authority import DAY_S, issue_gateway_credential
from gatewayd.cloud.holdings import OthersDoorError, bindings, generations
from gatewayd.cloud.invitations import ClaimUsedError, Invitation, InvitationStore
from gatewayd.core import certificates, enrolment, provisioned_time
from gatewayd.core.certificates import Authority, Certificate, Use
from gatewayd.core.enrolment import Grant, Refusal, Request
from gatewayd.core.renewal import Issued
from gatewayd.core.topics import CERTIFICATE, EnrolTopics, renewing
from gatewayd.core.trust import verify_bundle, verify_credential
from gatewayd.ports.upstream import Upstream

CREDENTIAL_S: Final = 1095 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrar:
    """The operator's keys, as far as enrolling needs them, and what comes from outside."""

    root: ec.EllipticCurvePublicKey
    bundle: bytes
    group: str
    gateways: ec.EllipticCurvePrivateKey = field(repr=False)
    time: ec.EllipticCurvePrivateKey = field(repr=False)
    authority: Authority
    certificate_s: int
    """How long a certificate lives."""
    credential_s: int = CREDENTIAL_S
    """How long a gateway credential lives."""
    retired: Callable[[GatewayCredential], bool] = lambda _: False
    """Whether an order was given to retire it."""
    now_s: Callable[[], int]
    token_bytes: Callable[[int], bytes]
    seal: Callable[[bytes, bytes, ec.EllipticCurvePublicKey], bytes] = field(repr=False)
    """(plaintext, info, recipient) -> sealed."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request and what became of it."""

    gateway: str
    payload: bytes
    topic: str
    refusal: Refusal | None = None
    renewed: str = ""
    """What was renewed: CERTIFICATE or RENEWED."""
    replaced: str | None = None
    """The gateway whose doors this one has now."""


class _OtherKeysError(Exception):
    pass


class Enroller:
    """Answers for one operator."""

    def __init__(self, registrar: Registrar, store: InvitationStore) -> None:
        self._registrar = registrar
        self._store = store
        self.counts: Counter[str] = Counter()
        """What came in and was ignored, by reason."""

    async def serve(self, upstream: Upstream, report: Callable[[Answered], bool]) -> None:
        """Answer what comes in over `upstream` until `report` says that it was enough."""
        while True:
            answered = self.consider(*await upstream.receive())
            if answered is not None:
                await upstream.publish(answered.topic, answered.payload)
                if report(answered):
                    return

    def consider(self, topic: str, payload: bytes) -> Answered | None:
        """One message; what is nothing to us is counted."""
        renewal = renewing(topic)
        try:
            if renewal is None:
                return self.answer(payload)
            topics, kind = renewal
            renew = self._renew if kind == CERTIFICATE else self._renew_credential
            return Answered(
                topics.gateway, renew(topics.gateway, payload), topics.down(kind), renewed=kind
            )
        except RemoteProtocolError as error:
            self.counts[error.fault.name.lower()] += 1
            return None

    def answer(self, data: bytes) -> Answered:
        """The sealed answer to a request. RemoteProtocolError when it deserves none."""
        claim = enrolment.claim_of(data)
        invitation = self._store.find(claim)
        if invitation is None:
            raise enrolment.unauthentic("nobody was invited with this claim")
        request = Request.verify(data, Ed25519PublicKey.from_public_bytes(invitation.key))
        result = self._decide(invitation, request)
        registrar = self._registrar
        answer = enrolment.sign_answer(
            request.digest,
            result,
            root=registrar.root,
            bundle=registrar.bundle,
            gateways=registrar.gateways,
        )
        sealed = registrar.seal(answer, enrolment.seal_info(claim), request.answer_key)
        refusal = result if isinstance(result, Refusal) else None
        replaced = invitation.replaces if refusal is None else None
        topic = EnrolTopics(claim).answer
        return Answered(invitation.gateway, sealed, topic, refusal, replaced=replaced)

    def _decide(self, invitation: Invitation, request: Request) -> Grant | Refusal:
        now_s = self._registrar.now_s()
        if (refusal := self._over(invitation, now_s)) is not None:
            return refusal

        def sign(doors: Mapping[str, int], before: bytes | None) -> bytes:
            if before is not None and credential.unverified(before).key != request.key:
                raise _OtherKeysError
            return self._credential(invitation.gateway, doors, request, now_s)

        try:
            kept = self._store.use(invitation.id, request.digest, sign, now_s)
        except ClaimUsedError:
            return Refusal.USED
        except _OtherKeysError:
            return Refusal.OTHER_KEYS
        except OthersDoorError:
            return Refusal.SUPERSEDED
        registrar = self._registrar
        return Grant(
            credential=kept,
            certificate=self._certificate(invitation.gateway, request.tls_key).der,
            authority=registrar.authority.certificate.der,
            broker=invitation.broker,
            authorities=invitation.authorities,
            time=provisioned_time.sign(
                invitation.gateway, now_s, registrar.token_bytes(ID_BYTES), registrar.time
            ),
            bindings=bindings(self._store.holdings(invitation.gateway)),
        )

    def _over(self, invitation: Invitation, now_s: int) -> Refusal | None:
        """Whether the claim is good for nothing by now, also for who has used it."""
        overtaken = self._store.overtaken(invitation.id)
        if invitation.used_s is None:
            return Refusal.EXPIRED if overtaken or now_s >= invitation.expires else None
        if overtaken:
            return Refusal.USED
        replaced = self._store.successor(invitation.gateway) is not None
        return Refusal.SUPERSEDED if replaced else None

    def _credential(
        self, gateway: str, doors: Mapping[str, int], request: Request, now_s: int
    ) -> bytes:
        stated = GatewayCredential(
            gateway=gateway,
            doors=doors,
            group=self._registrar.group,
            issued_at=now_s,
            expires=now_s + self._registrar.credential_s,
            key=request.key,
            log_key=request.log_key,
            receipt_key=request.receipt_key,
        )
        return issue_gateway_credential(stated, self._registrar.gateways)

    def _certificate(self, gateway: str, key: ec.EllipticCurvePublicKey) -> Certificate:
        """The one that this key has of today's authority, unless it is time for the next."""
        registrar, now_s = self._registrar, self._registrar.now_s()
        held = self._held(gateway)
        ours = registrar.authority.certificate.key
        if held and held.key == key and held.signed_by(ours) and not held.due(now_s):
            return held
        made = registrar.authority.issue(
            gateway,
            key,
            use=Use.CLIENT,
            now_s=now_s,
            lifetime_s=registrar.certificate_s,
            serial=registrar.token_bytes(16),
        )
        self._store.keep_certificate(gateway, made.der)
        return made

    def _held(self, gateway: str) -> Certificate | None:
        der = self._store.certificate(gateway)
        return None if der is None else Certificate.parse(der)

    def _renew(self, gateway: str, request: bytes) -> bytes:
        """For the key that has the newest certificate, while that lasts; else a claim is needed."""
        key = certificates.key_of_request(request)
        held = self._held(gateway)
        if held is None or held.key != key or self._registrar.now_s() >= held.until:
            raise enrolment.unauthentic("nothing to renew for this key")
        if self._store.successor(gateway) is not None:
            raise enrolment.unauthentic("this gateway was replaced")
        issued = Issued(self._certificate(gateway, key), self._registrar.authority.certificate)
        return issued.sign(self._registrar.gateways)

    def _renew_credential(self, gateway: str, shown: bytes) -> bytes:
        """The same claims with a later end, for who may renew his certificate; else a claim.

        That whoever asks holds the keys is not asked: to anybody else it is of no use.
        """
        registrar, now_s = self._registrar, self._registrar.now_s()
        old = verify_credential(shown, verify_bundle(registrar.bundle, registrar.root))
        enrolled, held = self._store.credential(gateway), self._held(gateway)
        if enrolled is None or held is None or now_s >= held.until:
            raise enrolment.unauthentic("nothing to renew for this gateway")
        last = credential.unverified(enrolled)
        if not old.due(now_s) or _is(old) != _is(last) or old.gateway != gateway:
            raise enrolment.unauthentic("not due, or not of who enrolled last by this name")
        if self._replaced(old) or registrar.retired(old):
            raise enrolment.unauthentic("retired, or a door of it has a higher generation by now")
        new = replace(old, issued_at=now_s, expires=now_s + registrar.credential_s)
        return issue_gateway_credential(new, registrar.gateways)

    def _replaced(self, old: GatewayCredential) -> bool:
        """Whether somebody has one of its doors with a higher generation."""
        held = generations(self._store.holdings())
        return any(held.get(door, given) > given for door, given in old.doors.items())


def _is(stated: GatewayCredential) -> tuple[object, ...]:
    """What makes a box: its keys. The same name may be another's."""
    return stated.group, stated.key, stated.log_key, stated.receipt_key
