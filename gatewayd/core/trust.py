"""Whom a gateway believes, and how far: the bundle that only root keys sign.

Every issuer is constrained here: which doors, actions and classes of key it may
grant, and for how long. A parcel carrier cannot mint emergency keys.

A bundle also names who may sign the next one: `roots`, or `recovery` when those
are lost or stolen. How one follows another is `core.trust_chain`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose, credential
from firmware_proto.codes import Action, Fault, KeyClass
from firmware_proto.credential import GatewayCredential
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError

TRUST_TYPE: Final = "application/gatewayd-trust+cbor"
ALL_ACTIONS: Final = Action.OPEN | Action.UNBOLT | Action.BOLT
ALL_CLASSES: Final = frozenset(KeyClass)

MAX_KEY_ID_BYTES: Final = 16
MAX_NAME_BYTES: Final = 64
MAX_ROOTS: Final = 8
MAX_ROLE_KEYS: Final = 4
"""Of one role at a time: the one in use, and others while gateways learn of it."""
MAX_WITNESSES: Final = 8
WITNESS_KEY_BYTES: Final = 32
MAX_BUNDLE_BYTES: Final = 16 * 1024
"""Some eighty issuers."""

_FORMAT: Final = 2
_MAX_NUMBER: Final = 2**63 - 1

PublicKey = ec.EllipticCurvePublicKey


class Role(IntEnum):
    """Whose keys may overlap while one follows another."""

    GATEWAYS = 1  # signs gateway credentials
    COMMAND = 2  # signs orders and what is to hold
    TIME = 3  # answers questions about time


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer key. The algorithm belongs to `key`; no header chooses it."""

    name: str
    """What its tokens must say in `iss`."""
    key: PublicKey
    doors: frozenset[str] | None
    """None: every door of the group."""
    actions: Action
    classes: frozenset[KeyClass]
    max_lifetime_s: int
    """Longest exp - nbf."""


@dataclass(frozen=True, slots=True)
class Trust:
    """A trust bundle, verified and parsed once; the same object serves every token."""

    serial: int
    group: str
    """The door group: the audience of key tokens for this building."""
    issuers: Mapping[bytes, Issuer]
    """By the `kid` in the token's header."""
    gateways_key: PublicKey
    command_key: PublicKey
    time_key: PublicKey
    seal_key: PublicKey
    """What gateways seal their logs to."""
    roots: tuple[PublicKey, ...] = ()
    """Who may sign the next bundle."""
    recovery: PublicKey | None = None
    """Who may sign it, too, and alone may name another recovery key."""
    witnesses: Mapping[str, bytes] = field(default_factory=dict)
    """Name to raw Ed25519 key: whose cosignature an acknowledgement must bear, if there are any."""
    others: Mapping[Role, tuple[PublicKey, ...]] = field(default_factory=dict)
    """Keys that are believed beside the one in use: those to come, or those going."""

    def keys(self, role: Role) -> tuple[PublicKey, ...]:
        """Every key of a role, the one in use first."""
        in_use = {
            Role.GATEWAYS: self.gateways_key,
            Role.COMMAND: self.command_key,
            Role.TIME: self.time_key,
        }
        return (in_use[role], *self.others.get(role, ()))


def sign_bundle(trust: Trust, root: cose.SigningKey) -> bytes:
    """The bundle as a root key states it. LocalProtocolError for what no gateway would take."""
    payload = _encode(trust)
    data = cose.sign1(payload, root, protected={cose.HEADER_TYP: TRUST_TYPE})
    try:
        unverified_bundle(data)
    except RemoteProtocolError as error:
        raise LocalProtocolError(error.detail) from None
    return data


def verify_bundle(data: bytes, *keys: cose.VerifyingKey) -> Trust:
    """The bundle in `data`.

    Raises RemoteProtocolError: AUTHENTICATION_FAILED when none of `keys`
    signed it, MALFORMED when it is not a bundle.
    """
    signed = parse_bundle(data)
    if not any(signed_by(signed, key) for key in keys):
        raise RemoteProtocolError(Fault.AUTHENTICATION_FAILED, "no root of ours signed it")
    return decode_payload(signed.payload)


def unverified_bundle(data: bytes) -> tuple[cose.Sign1, Trust]:
    """What `data` says; whether to believe it is for whoever knows the bundle before it.

    Raises RemoteProtocolError (MALFORMED, UNSUPPORTED).
    """
    signed = parse_bundle(data)
    return signed, decode_payload(signed.payload)


def signed_by(signed: cose.Sign1, key: cose.VerifyingKey) -> bool:
    """Whether `key` signed this."""
    try:
        signed.verify(key)
    except RemoteProtocolError:
        return False
    return True


def verify_credential(data: bytes, trust: Trust) -> GatewayCredential:
    """A gateway's credential, signed by any of the keys that may. RemoteProtocolError else."""
    signed = cose.Sign1.parse(data)
    signers = (key for key in trust.keys(Role.GATEWAYS) if signed_by(signed, key))
    return credential.verify(data, next(signers, trust.gateways_key))


def later(data: bytes, ours: GatewayCredential, trust: Trust) -> GatewayCredential | None:
    """The credential in `data` when it is `ours` with a later end; None with no later one.

    RemoteProtocolError when it is another, or not this operator's.
    """
    new = verify_credential(data, trust)
    if replace(new, issued_at=ours.issued_at, expires=ours.expires) != ours:
        raise RemoteProtocolError(Fault.UNEXPECTED, "credential: renewed, but with other claims")
    return new if new.expires > ours.expires else None


def decode_payload(payload: bytes) -> Trust:
    """What a root signed or is to sign. RemoteProtocolError (MALFORMED)."""
    trust = _decode(cbor.decode(payload))
    if _encode(trust) != payload:  # a bundle has one encoding: true is not 1, doors ascend
        raise _malformed("not in the one form that a bundle has")
    return trust


def serial_of(payload: bytes) -> int:
    """The serial that a bundle's payload claims, no more looked at. RemoteProtocolError."""
    match cbor.decode(payload):
        case [_, serial, *_] if type(serial) is int:
            return serial
        case _:
            raise _malformed("no serial")


def parse_bundle(data: bytes) -> cose.Sign1:
    """The wrapper of a bundle; nothing in it is believed. RemoteProtocolError."""
    if len(data) > MAX_BUNDLE_BYTES:
        raise _malformed("too large")
    signed = cose.Sign1.parse(data)
    if not signed.is_typed(TRUST_TYPE):
        raise _malformed("another type of statement")
    return signed


def _encode(trust: Trust) -> bytes:
    recovery = trust.recovery
    return cbor.encode(
        [
            _FORMAT,
            trust.serial,
            trust.group,
            _encode_keys(trust.roots),
            None if recovery is None else cose.public_key_to_cose(recovery),
            {key_id: _encode_issuer(issuer) for key_id, issuer in trust.issuers.items()},
            *(_encode_keys(trust.keys(role)) for role in Role),
            cose.public_key_to_cose(trust.seal_key),
            trust.witnesses,
        ]
    )


def _encode_keys(keys: Sequence[PublicKey]) -> list[cbor.Encodable]:
    return [cose.public_key_to_cose(key) for key in keys]


def _encode_issuer(issuer: Issuer) -> list[cbor.Encodable]:
    return [
        issuer.name,
        cose.public_key_to_cose(issuer.key),
        None if issuer.doors is None else sorted(issuer.doors),
        int(issuer.actions),
        sorted(int(key_class) for key_class in issuer.classes),
        issuer.max_lifetime_s,
    ]


def _decode(body: cbor.Value) -> Trust:
    match body:
        case [
            _, int(serial), str(group), list(roots), recovery, dict(issuers),
            list(gateways), list(command), list(time), seal, dict(witnesses),
        ] if 0 < serial <= _MAX_NUMBER:  # fmt: skip
            roles = {
                Role.GATEWAYS: _keys(gateways, MAX_ROLE_KEYS),
                Role.COMMAND: _keys(command, MAX_ROLE_KEYS),
                Role.TIME: _keys(time, MAX_ROLE_KEYS),
            }
            return Trust(
                serial=int(serial),
                group=_name(group),
                issuers={_key_id(kid): _decode_issuer(issuer) for kid, issuer in issuers.items()},
                gateways_key=roles[Role.GATEWAYS][0],
                command_key=roles[Role.COMMAND][0],
                time_key=roles[Role.TIME][0],
                seal_key=cose.public_key_from_cose(seal),
                roots=_keys(roots, MAX_ROOTS),
                recovery=None if recovery is None else cose.public_key_from_cose(recovery),
                witnesses=_witnesses(witnesses),
                others={role: keys[1:] for role, keys in roles.items() if keys[1:]},
            )
        case _:
            raise _malformed("other fields")


def _keys(keys: list[cbor.Value], most: int) -> tuple[PublicKey, ...]:
    if not 0 < len(keys) <= most:
        raise _malformed(f"not 1 to {most} keys of one role")
    found = tuple(cose.public_key_from_cose(key) for key in keys)
    if any(key in found[:at] for at, key in enumerate(found)):
        raise _malformed("the same key twice")
    return found


def _witnesses(values: dict[cbor.MapKey, cbor.Value]) -> dict[str, bytes]:
    found = {
        _name(name): key
        for name, key in values.items()
        if isinstance(key, bytes) and len(key) == WITNESS_KEY_BYTES
    }
    if len(found) != len(values) or len(found) > MAX_WITNESSES:
        raise _malformed(f"not up to {MAX_WITNESSES} witnesses with raw Ed25519 keys")
    return found


def _name(name: cbor.Value) -> str:
    if not isinstance(name, str) or not 0 < len(name.encode()) <= MAX_NAME_BYTES:
        raise _malformed("a name that is no text, empty or too long")
    return name


def _decode_issuer(body: cbor.Value) -> Issuer:
    match body:
        case [str(name), key, None | list() as doors, int(actions), list(classes), int(lifetime)]:
            return Issuer(
                name=name,
                key=cose.public_key_from_cose(key),
                doors=None if doors is None else _doors(doors),
                actions=_actions(actions),
                classes=frozenset(_class(number) for number in classes),
                max_lifetime_s=int(lifetime),
            )
        case _:
            raise _malformed("another form of issuer")


def _key_id(key_id: cbor.MapKey) -> bytes:
    if not isinstance(key_id, bytes) or not 0 < len(key_id) <= MAX_KEY_ID_BYTES:
        raise _malformed("a key id that is not 1 to 16 bytes")
    return key_id


def _doors(doors: list[cbor.Value]) -> frozenset[str]:
    names = frozenset(door for door in doors if isinstance(door, str))
    if len(names) != len(doors):
        raise _malformed("doors that are not different names")
    return names


def _actions(bits: int) -> Action:
    if not 0 < bits <= ALL_ACTIONS:
        raise _malformed("unknown actions")
    return Action(bits)


def _class(number: cbor.Value) -> KeyClass:
    try:
        return KeyClass(number)  # type: ignore[arg-type] # anything else raises ValueError, too
    except ValueError:
        raise _malformed("an unknown class of key") from None


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"trust bundle: {detail}")
