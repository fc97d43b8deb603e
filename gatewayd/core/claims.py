"""What a key token says: its claims, their bounds, and their one encoding.

Every claim is known, or the token is refused; every value has one form, so that
what parses encodes to the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose
from firmware_proto.codes import MAX_DOOR_ID_BYTES, Action, KeyClass, Presence, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.schedule import Schedule, Window
from gatewayd.core.trust import ALL_ACTIONS

CTI_BYTES: Final = 8
MAX_NAME_BYTES: Final = 64
MAX_URI_BYTES: Final = 256
MAX_DOORS: Final = 64
MAX_WINDOWS: Final = 32
MAX_NUMBER: Final = 2**40
"""Beyond any time, duration or index; keeps arithmetic on them plain."""

# RFC 8392 §4, RFC 8747 §3.1, RFC 9200 §8.14, Token Status List; ours below -65536
_ISS, _SUB, _AUD, _EXP, _NBF, _IAT, _CTI, _CNF, _SCOPE = range(1, 10)
_STATUS: Final = 65535
_SCHEDULE, _CLASS, _PRESENCE, _DELEG, _ONCE, _SEAL = range(-65537, -65543, -1)

_REQUIRED: Final = frozenset(
    {_ISS, _SUB, _AUD, _EXP, _NBF, _IAT, _CTI, _CNF, _SCOPE, _CLASS, _PRESENCE}
)
_KNOWN: Final = _REQUIRED | {_STATUS, _SCHEDULE, _DELEG, _ONCE, _SEAL}

_ACTIONS: Final[dict[Any, Action]] = {bits: Action(bits) for bits in range(1, ALL_ACTIONS + 1)}
_CLASSES: Final[dict[Any, KeyClass]] = {int(key_class): key_class for key_class in KeyClass}
_PRESENCES: Final[dict[Any, Presence]] = {int(presence): presence for presence in Presence}

PublicKey = ec.EllipticCurvePublicKey
Member = TypeVar("Member")


class TokenRejected(Exception):  # noqa: N818 - not a failure of ours: one of two answers
    """The token does not do; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class StatusReference(NamedTuple):
    """Where the token stands in which Token Status List."""

    idx: int
    uri: str


class Lending(NamedTuple):
    """`deleg`: with `key` the holder may sign lent keys that live at most `max_ttl_s`."""

    max_ttl_s: int
    key: PublicKey


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says. Times are Unix seconds; `expires` is the first second too late."""

    issuer: str
    subject: str
    """Opaque holder id, meaningless outside the issuer."""
    audience: str
    """The door group."""
    cti: bytes
    """8 random bytes."""
    not_before: int
    expires: int
    issued_at: int
    key: PublicKey
    """`cnf`: the phone's key for EDHOC."""
    scope: tuple[tuple[str, Action], ...]
    """Doors, each once, and what may be done with them (AIF, RFC 9237)."""
    key_class: KeyClass
    presence: Presence = Presence.TAP
    status: StatusReference | None = None
    schedule: Schedule | None = None
    lending: Lending | None = None
    once: bool = False
    seal: PublicKey | None = None
    """The key to which the holder's own log entries are sealed."""


# --- encoding -----------------------------------------------------------------
def encode(claims: Claims) -> bytes:
    """The payload of the token; LocalProtocolError for what CBOR cannot hold."""
    encoded: dict[int, Any] = {
        _ISS: claims.issuer,
        _SUB: claims.subject,
        _AUD: claims.audience,
        _EXP: claims.expires,
        _NBF: claims.not_before,
        _IAT: claims.issued_at,
        _CTI: claims.cti,
        _CNF: {1: cose.public_key_to_cose(claims.key)},
        _SCOPE: cbor.encode([[door, int(actions)] for door, actions in claims.scope]),
        _CLASS: int(claims.key_class),
        _PRESENCE: int(claims.presence),
    }
    if claims.status is not None:
        encoded[_STATUS] = {"status_list": {"idx": claims.status.idx, "uri": claims.status.uri}}
    if claims.schedule is not None:
        schedule = claims.schedule
        encoded[_SCHEDULE] = [schedule.zone, schedule.allow, schedule.deny]
    if claims.lending is not None:
        key = cose.public_key_to_cose(claims.lending.key)
        encoded[_DELEG] = {1: claims.lending.max_ttl_s, 2: key}
    if claims.once:
        encoded[_ONCE] = True
    if claims.seal is not None:
        encoded[_SEAL] = cose.public_key_to_cose(claims.seal)
    return cbor.encode(encoded)


# --- parsing ------------------------------------------------------------------
def parse(payload: bytes) -> Claims:
    """The claims in `payload`; TokenRejected (MALFORMED_TOKEN) for anything else."""
    try:
        claims = cbor.decode(payload)
        if type(claims) is not dict:
            raise TokenRejected(Reason.MALFORMED_TOKEN)
        names = claims.keys()
        if not (names >= _REQUIRED and names <= _KNOWN):
            raise TokenRejected(Reason.MALFORMED_TOKEN)
        return _claims(claims)
    except RemoteProtocolError:
        raise TokenRejected(Reason.MALFORMED_TOKEN) from None


def _claims(claims: dict[cbor.MapKey, cbor.Value]) -> Claims:
    cti = claims[_CTI]
    not_before, expires = _number(claims[_NBF]), _number(claims[_EXP])
    if (
        type(cti) is not bytes
        or len(cti) != CTI_BYTES
        or not_before >= expires
        or claims.get(_ONCE, True) is not True
    ):
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return Claims(
        _name(claims[_ISS]),
        _name(claims[_SUB]),
        _name(claims[_AUD]),
        cti,
        not_before,
        expires,
        _number(claims[_IAT]),
        _key(_members(claims[_CNF], {1})[1]),
        _scope(claims[_SCOPE]),
        _member(_CLASSES, claims[_CLASS]),
        _member(_PRESENCES, claims[_PRESENCE]),
        _status(claims[_STATUS]) if _STATUS in claims else None,
        _schedule(claims[_SCHEDULE]) if _SCHEDULE in claims else None,
        _lending(claims[_DELEG]) if _DELEG in claims else None,
        _ONCE in claims,
        _key(claims[_SEAL]) if _SEAL in claims else None,
    )


def _name(value: cbor.Value, most: int = MAX_NAME_BYTES) -> str:
    if type(value) is not str or not 0 < len(value.encode()) <= most:
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return value


def _number(value: cbor.Value) -> int:
    if type(value) is not int or not 0 <= value < MAX_NUMBER:
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return value


def _member(members: dict[Any, Member], value: cbor.Value) -> Member:
    if type(value) is not int or value not in members:
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return members[value]


def _key(value: cbor.Value) -> PublicKey:
    # one form per key: kty, crv, x and y, both coordinates in full
    if type(value) is not dict or len(value) != 4 or type(value.get(-3)) is not bytes:  # noqa: PLR2004
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return cose.public_key_from_cose(value)


def _scope(value: cbor.Value) -> tuple[tuple[str, Action], ...]:
    pairs = cbor.decode(value) if type(value) is bytes else None
    if type(pairs) is not list or not 0 < len(pairs) <= MAX_DOORS:
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    scope = tuple(map(_permission, pairs))
    if len({door for door, _ in scope}) != len(scope):
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return scope


def _permission(pair: cbor.Value) -> tuple[str, Action]:
    if type(pair) is not list or len(pair) != 2:  # noqa: PLR2004 - door, actions
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return _name(pair[0], MAX_DOOR_ID_BYTES), _member(_ACTIONS, pair[1])


def _status(value: cbor.Value) -> StatusReference:
    reference = _members(value, {"status_list"})["status_list"]
    fields = _members(reference, {"idx", "uri"})
    return StatusReference(_number(fields["idx"]), _name(fields["uri"], MAX_URI_BYTES))


def _schedule(value: cbor.Value) -> Schedule:
    match value:
        case [zone, list(allow), list(deny)] if allow and len(allow) + len(deny) <= MAX_WINDOWS:
            return Schedule(
                _name(zone),
                tuple(_window(window) for window in allow),
                tuple(_window(window) for window in deny),
            )
        case _:
            raise TokenRejected(Reason.MALFORMED_TOKEN)


def _window(value: cbor.Value) -> Window:
    match value:
        case [days, start, duration]:
            window = Window(_number(days), _number(start), _number(duration))
            if window.is_valid():
                return window
    raise TokenRejected(Reason.MALFORMED_TOKEN)


def _lending(value: cbor.Value) -> Lending:
    fields = _members(value, {1, 2})
    return Lending(_number(fields[1]), _key(fields[2]))


def _members(value: cbor.Value, names: set[cbor.MapKey]) -> dict[cbor.MapKey, cbor.Value]:
    if type(value) is not dict or value.keys() != names:
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return value
