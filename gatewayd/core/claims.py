"""What a key token says: its claims, their bounds, and their one encoding.

Every claim is known, or the token is refused; every value has one form, so that
what parses encodes to the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose
from firmware_proto.codes import MAX_DOOR_ID_BYTES, Action, KeyClass, Presence, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.schedule import Schedule, Window
from gatewayd.core.trust import ALL_ACTIONS

Names: TypeAlias = frozenset[cbor.MapKey]

CTI_BYTES: Final = 8
MAX_NAME_BYTES: Final = 64
MAX_URI_BYTES: Final = 256
MAX_DOORS: Final = 64
MAX_WINDOWS: Final = 32
_SCOPES_REMEMBERED: Final = 64
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

_COSE_KEY: Final[Names] = frozenset({1})
_STATUS_LIST: Final[Names] = frozenset({"status_list"})
_STATUS_MEMBERS: Final[Names] = frozenset({"idx", "uri"})
_DELEG_MEMBERS: Final[Names] = frozenset({1, 2})
_EC2_MEMBERS: Final[Names] = frozenset({1, -1, -2, -3})
_KTY_EC2: Final = 2
_CRV_P256: Final = 1
_COORDINATE_BYTES: Final = 32
_P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B

PublicKey = ec.EllipticCurvePublicKey
Member = TypeVar("Member")


class TokenRejected(Exception):  # noqa: N818 - not a failure of ours: one of two answers
    """The token does not do; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class StatusReference:
    """Where the token stands in which Token Status List."""

    index: int
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


class ParsedClaims(NamedTuple):
    """The same in the order of `Claims`, but for the phone's key, which is a point still.

    Making a key object of a point takes as long as all the other claims
    together, and nobody needs it before MAC_3; that the point lies on the
    curve has been checked.
    """

    issuer: str
    subject: str
    audience: str
    cti: bytes
    not_before: int
    expires: int
    issued_at: int
    point: bytes
    scope: tuple[tuple[str, Action], ...]
    key_class: KeyClass
    presence: Presence
    status: StatusReference | None
    schedule: Schedule | None
    lending: Lending | None
    once: bool
    seal: PublicKey | None

    def key(self) -> PublicKey:
        """The phone's key."""
        return cose.public_key_from_point(self.point)

    def claims(self) -> Claims:
        """For people, and for issuing again."""
        fields = dict(self._asdict())
        del fields["point"]
        return Claims(key=self.key(), **fields)


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
        encoded[_STATUS] = {"status_list": {"idx": claims.status.index, "uri": claims.status.uri}}
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
def parse(payload: bytes) -> ParsedClaims:
    """The claims in `payload`; TokenRejected (MALFORMED_TOKEN) for anything else."""
    try:
        claims = cbor.decode(payload)
        if type(claims) is not dict:
            raise TokenRejected(Reason.MALFORMED_TOKEN)
        names = claims.keys()
        if names != _REQUIRED and not (names >= _REQUIRED and names <= _KNOWN):
            raise TokenRejected(Reason.MALFORMED_TOKEN)
        return _claims(claims)
    except RemoteProtocolError:
        raise TokenRejected(Reason.MALFORMED_TOKEN) from None


def _claims(claims: dict[cbor.MapKey, cbor.Value]) -> ParsedClaims:
    cti = claims[_CTI]
    not_before, expires = _number(claims[_NBF]), _number(claims[_EXP])
    if (
        type(cti) is not bytes
        or len(cti) != CTI_BYTES
        or not_before >= expires
        or claims.get(_ONCE, True) is not True
    ):
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return ParsedClaims(
        _name(claims[_ISS]),
        _name(claims[_SUB]),
        _name(claims[_AUD]),
        cti,
        not_before,
        expires,
        _number(claims[_IAT]),
        _point(_members(claims[_CNF], _COSE_KEY)[1]),
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
    return cose.public_key_from_point(_point(value))


def _point(value: cbor.Value) -> bytes:
    """The SEC 1 form of a COSE_Key; one form per key: both coordinates in full, and no kid."""
    members = _members(value, _EC2_MEMBERS)
    x_bytes, y_bytes = members[-2], members[-3]
    if (
        members[1] != _KTY_EC2
        or members[-1] is True  # which is 1 to Python
        or members[-1] != _CRV_P256
        or type(x_bytes) is not bytes
        or type(y_bytes) is not bytes
        or not len(x_bytes) == len(y_bytes) == _COORDINATE_BYTES
    ):
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    x, y = int.from_bytes(x_bytes, "big"), int.from_bytes(y_bytes, "big")
    # y^2 = x^3 - 3x + b, SP 800-186 §3.2.1.3; the group has no small subgroup to check for
    if x >= _P or y >= _P or (y * y - (x * x - 3) * x - _B) % _P:
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return b"\x04" + x_bytes + y_bytes


def _scope(value: cbor.Value) -> tuple[tuple[str, Action], ...]:
    if type(value) is not bytes:
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return _permissions(value)


# Everybody in a house has one of a few scopes; strangers push none of them out, since
# a payload is parsed after its signature has been verified.
@lru_cache(_SCOPES_REMEMBERED)
def _permissions(encoded: bytes) -> tuple[tuple[str, Action], ...]:
    pairs = cbor.decode(encoded)
    if type(pairs) is not list or not 0 < len(pairs) <= MAX_DOORS:
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    scope = tuple(map(_permission, pairs))
    if len(dict(scope)) != len(scope):  # a door named twice
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return scope


def _permission(pair: cbor.Value) -> tuple[str, Action]:
    if type(pair) is not list or len(pair) != 2:  # noqa: PLR2004 - door, actions
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return _name(pair[0], MAX_DOOR_ID_BYTES), _member(_ACTIONS, pair[1])


def _status(value: cbor.Value) -> StatusReference:
    reference = _members(value, _STATUS_LIST)["status_list"]
    fields = _members(reference, _STATUS_MEMBERS)
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
    fields = _members(value, _DELEG_MEMBERS)
    return Lending(_number(fields[1]), _key(fields[2]))


def _members(value: cbor.Value, names: Names) -> dict[cbor.MapKey, cbor.Value]:
    if type(value) is not dict or value.keys() != names:
        raise TokenRejected(Reason.MALFORMED_TOKEN)
    return value
