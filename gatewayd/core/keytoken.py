"""Key tokens: a CBOR Web Token (RFC 8392) in COSE_Sign1 that lets a phone open doors.

Verification has two halves. `authenticate` checks the wrapper and the issuer's
signature, before the peer has proved to hold the token's key; whatever fails
there is one constant answer on the air. `grants` asks, once MAC_3 has verified,
whether the token allows this door and action now; its reasons go to the holder.

A token is named by its issuer and `cti`. ECDSA signatures are malleable, so
nothing may ever be keyed on the bytes of a token.

Lent keys (a chain of parent and child) have their place in the types; presenting
one is refused as MALFORMED_TOKEN until lending exists. `deleg` is parsed and
grants nothing by itself. `once` is parsed and refused as USED_UP, since this
gateway cannot yet prove across restarts that a one-time key is unused.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose
from firmware_proto.codes import Action, KeyClass, Presence, Reason
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from gatewayd.core.claims import (
    Claims,
    Lending,
    ParsedClaims,
    StatusReference,
    TokenRejected,
    encode,
    parse,
)
from gatewayd.core.model import ClockState, TimeReading
from gatewayd.core.statuslist import Lists, believed
from gatewayd.core.trust import Issuer, Trust

KEY_TYPE: Final = "application/gatewayd-key+cwt"
MAX_TOKEN_BYTES: Final = 1024

UNLISTED_LIFETIME_S: Final = 48 * 3600
"""A token without `status` cannot be revoked, so it may not live longer (exp - nbf)."""

MOST_SKEW_S: Final = 60
"""`nbf` may lie ahead by how wrong our clock may be, but never by more than this."""

_HEADERS: Final = frozenset({cose.HEADER_ALG, cose.HEADER_KID, cose.HEADER_TYP})

_NO_LISTS: Final[Lists] = {}

PublicKey = ec.EllipticCurvePublicKey

__all__ = [
    "KEY_TYPE",
    "MAX_TOKEN_BYTES",
    "UNLISTED_LIFETIME_S",
    "Claims",
    "Grant",
    "KeyToken",
    "Lending",
    "StatusReference",
    "TokenIdentity",
    "TokenRejected",
    "authenticate",
    "grants",
    "issue",
    "unverified",
]


class TokenIdentity(NamedTuple):
    """What names a token, whatever its bytes: the issuer (for a lent key, its parent) and `cti`."""

    issuer: str | TokenIdentity
    cti: bytes

    def digest(self) -> bytes:
        """SHA-256 over the CBOR of this identity; what receipts and request keys use."""
        return hashlib.sha256(cbor.encode(self)).digest()


class KeyToken(NamedTuple):
    """A token; `authenticate` returns it only with a genuine signature."""

    parsed: ParsedClaims
    key_id: bytes
    """Names the issuer's key in the trust bundle."""
    parent: KeyToken | None = None
    """The token that this one was lent from; always None for now."""

    @property
    def identity(self) -> TokenIdentity:
        """What to key replay, revocation and receipts on."""
        lender = self.parsed.issuer if self.parent is None else self.parent.identity
        return TokenIdentity(lender, self.parsed.cti)

    @property
    def key(self) -> PublicKey:
        """The key that the peer must prove to hold (MAC_3)."""
        return self.parsed.key()

    @property
    def claims(self) -> Claims:
        """Everything that the token says."""
        return self.parsed.claims()


class Grant(NamedTuple):
    """One link of a key says yes; what policy must know of it."""

    identity: TokenIdentity
    key_class: KeyClass
    presence: Presence
    scheduled: bool
    list_age_s: float
    """Age of the status list consulted: infinite when none is held, 0 when none is needed."""


# --- issuing ----------------------------------------------------------------------
def issue(claims: Claims, signer: ec.EllipticCurvePrivateKey, key_id: bytes) -> bytes:
    """The token, signed. ValueError when `authenticate` would call it malformed."""
    try:
        payload = encode(claims)
        parsed = parse(payload).claims()
    except (LocalProtocolError, TokenRejected) as error:
        raise ValueError("claims out of range") from error
    if parsed != claims:
        raise ValueError("claims that a token cannot carry")
    protected = {cose.HEADER_KID: key_id, cose.HEADER_TYP: KEY_TYPE}
    token = cose.sign1(payload, signer, protected=protected)
    if len(token) > MAX_TOKEN_BYTES:
        raise ValueError(f"a token of {len(token)} bytes; at most {MAX_TOKEN_BYTES} are allowed")
    return token


# --- verifying: wrapper and issuer ---------------------------------------------------
def authenticate(presented: bytes, trust: Trust) -> KeyToken:
    """The token in `presented`, signed by an issuer that `trust` names.

    Says nothing about what the token allows, nor that the peer holds its key.

    Raises TokenRejected: MALFORMED_TOKEN, UNTRUSTED_ISSUER or BAD_SIGNATURE;
    never anything else, whatever the bytes.
    """
    signed, key_id = _unwrap(presented)
    issuer = trust.issuers.get(key_id)
    if issuer is None:
        raise TokenRejected(Reason.UNTRUSTED_ISSUER)
    try:
        signed.verify(issuer.key)
    except RemoteProtocolError:
        raise TokenRejected(Reason.BAD_SIGNATURE) from None
    claims = parse(signed.payload)
    if claims.issuer != issuer.name:
        raise TokenRejected(Reason.UNTRUSTED_ISSUER)
    return KeyToken(claims, key_id)


def unverified(presented: bytes) -> KeyToken:
    """The token in `presented`, for people to look at: nobody may have signed it.

    Raises TokenRejected (MALFORMED_TOKEN).
    """
    signed, key_id = _unwrap(presented)
    return KeyToken(parse(signed.payload), key_id)


def _unwrap(presented: bytes) -> tuple[cose.Sign1, bytes]:
    if len(presented) > MAX_TOKEN_BYTES:
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    try:
        signed = cose.Sign1.parse(presented)
    except RemoteProtocolError:
        raise TokenRejected(Reason.MALFORMED_TOKEN) from None
    protected = signed.protected
    if protected.keys() != _HEADERS or protected[cose.HEADER_TYP] != KEY_TYPE:
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    key_id = protected[cose.HEADER_KID]
    # the unprotected header is where a lent key will bring its parent
    if type(key_id) is not bytes or signed.unprotected:
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return signed, key_id


# --- verifying: meaning -----------------------------------------------------------------
def grants(  # noqa: PLR0913 - every one is a separate fact about the situation
    token: KeyToken,
    trust: Trust,
    *,
    audience: str,
    door: str,
    action: Action,
    time: TimeReading,
    zone: ZoneInfo | None = None,
    lists: Lists = _NO_LISTS,
) -> tuple[Grant, ...]:
    """What each link of `token` grants; policy then decides (`policy.decide`).

    Args:
        token: from `authenticate`, its holder proved by MAC_3.
        trust: the bundle in force now; it may be newer than at `authenticate`.
        audience: this gateway's door group.
        door: the door asked for.
        action: exactly one bit.
        time: the reading of now.
        zone: the door's time zone; without it a scheduled key is OUTSIDE_SCHEDULE.
        lists: the status lists held; a key of a list that is not held is infinitely stale.

    Raises TokenRejected, in this order: issuer constraints (UNTRUSTED_ISSUER,
    ISSUER_EXCEEDED), time (EXPIRED, NOT_YET_VALID), WRONG_AUDIENCE, scope
    (WRONG_DOOR, ACTION_NOT_GRANTED), OUTSIDE_SCHEDULE, revocation (REVOKED, USED_UP).

    While the clock is UNKNOWN only the floor is certain: start and schedule
    are left to policy, which refuses the keys that depend on them. For the
    emergency class the floor alone counts in every clock state, and no schedule.
    """
    if token.parent is not None:
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    claims = token.parsed
    granted = _granted(claims.scope, door)
    allowed = granted & int(action)  # plain numbers: arithmetic on flags takes microseconds
    _check_issuer(claims, trust.issuers.get(token.key_id), door, allowed)
    clock_counts = (
        time.state is not ClockState.UNKNOWN and claims.key_class is not KeyClass.EMERGENCY
    )
    _check_time(claims, time, clock_counts=clock_counts)
    if claims.audience != audience:
        raise TokenRejected(Reason.WRONG_AUDIENCE)
    if not granted:
        raise TokenRejected(Reason.WRONG_DOOR)
    if not allowed:
        raise TokenRejected(Reason.ACTION_NOT_GRANTED)
    schedule = claims.schedule
    if (
        schedule is not None
        and clock_counts
        and (zone is None or not schedule.is_open(time.now_s, zone))
    ):
        raise TokenRejected(Reason.OUTSIDE_SCHEDULE)
    list_age_s = _list_age_s(claims, trust, lists, time)
    if claims.once:
        raise TokenRejected(Reason.USED_UP)
    identity = token.identity
    return (Grant(identity, claims.key_class, claims.presence, schedule is not None, list_age_s),)


def _granted(scope: tuple[tuple[str, Action], ...], door: str) -> int:
    for name, actions in scope:
        if name == door:
            return int(actions)
    return 0


def _list_age_s(claims: ParsedClaims, trust: Trust, lists: Lists, time: TimeReading) -> float:
    """What a list says against a key counts however old the list is; what it says for it ages."""
    if claims.status is None:
        return 0.0
    held = believed(lists, (claims.issuer, claims.status.uri), trust)
    if held is None:
        return math.inf
    if not held.vouches_for(claims.status.index):
        raise TokenRejected(Reason.REVOKED)
    return held.age_s(time)


def _check_issuer(claims: ParsedClaims, issuer: Issuer | None, door: str, actions: int) -> None:
    """The token's other doors are not looked at: taking one from an issuer spares the rest."""
    if issuer is None:
        raise TokenRejected(Reason.UNTRUSTED_ISSUER)
    lifetime_s = claims.expires - claims.not_before
    if (
        claims.key_class not in issuer.classes
        or actions & int(issuer.actions) != actions
        or (actions and issuer.doors is not None and door not in issuer.doors)
        or lifetime_s > issuer.max_lifetime_s
        or (claims.status is None and lifetime_s > UNLISTED_LIFETIME_S)
    ):
        raise TokenRejected(Reason.ISSUER_EXCEEDED)


def _check_time(claims: ParsedClaims, time: TimeReading, *, clock_counts: bool) -> None:
    if time.floor_s >= claims.expires or (clock_counts and time.now_s >= claims.expires):
        raise TokenRejected(Reason.EXPIRED)
    if clock_counts and time.now_s + min(time.bound_s, MOST_SKEW_S) < claims.not_before:
        raise TokenRejected(Reason.NOT_YET_VALID)
