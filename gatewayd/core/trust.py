"""Whom a gateway believes, and how far: the bundle that only root keys sign.

Every issuer is constrained here: which doors, actions and classes of key it may
grant, and for how long. A parcel carrier cannot mint emergency keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose
from firmware_proto.codes import Action, Fault, KeyClass
from firmware_proto.errors import RemoteProtocolError

TRUST_TYPE: Final = "application/gatewayd-trust+cbor"
ALL_ACTIONS: Final = Action.OPEN | Action.UNBOLT | Action.BOLT
ALL_CLASSES: Final = frozenset(KeyClass)

MAX_KEY_ID_BYTES: Final = 16

_FORMAT: Final = 1
_HEADERS: Final = {cose.HEADER_ALG, cose.HEADER_TYP}

PublicKey = ec.EllipticCurvePublicKey


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


def sign_bundle(trust: Trust, root: cose.SigningKey) -> bytes:
    """The bundle as a root key states it."""
    return cose.sign1(_encode(trust), root, protected={cose.HEADER_TYP: TRUST_TYPE})


def verify_bundle(data: bytes, root_key: cose.VerifyingKey) -> Trust:
    """The bundle in `data`.

    Raises RemoteProtocolError: AUTHENTICATION_FAILED when `root_key` did not
    sign it, MALFORMED when it is not a bundle.
    """
    signed = cose.Sign1.parse(data)
    signed.verify(root_key)
    if signed.protected.keys() != _HEADERS or signed.protected[cose.HEADER_TYP] != TRUST_TYPE:
        raise _malformed("another type of statement")
    if signed.unprotected:
        raise _malformed("an unprotected header")
    trust = _decode(cbor.decode(signed.payload))
    if _encode(trust) != signed.payload:  # a bundle has one encoding: true is not 1, doors ascend
        raise _malformed("not in the one form that a bundle has")
    return trust


def _encode(trust: Trust) -> bytes:
    keys = (trust.gateways_key, trust.command_key, trust.time_key, trust.seal_key)
    return cbor.encode(
        [
            _FORMAT,
            trust.serial,
            trust.group,
            {key_id: _encode_issuer(issuer) for key_id, issuer in trust.issuers.items()},
            *(cose.public_key_to_cose(key) for key in keys),
        ]
    )


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
        case [_, int(serial), str(group), dict(issuers), gateways, command, time, seal]:
            return Trust(
                serial=int(serial),
                group=group,
                issuers={_key_id(kid): _decode_issuer(issuer) for kid, issuer in issuers.items()},
                gateways_key=cose.public_key_from_cose(gateways),
                command_key=cose.public_key_from_cose(command),
                time_key=cose.public_key_from_cose(time),
                seal_key=cose.public_key_from_cose(seal),
            )
        case _:
            raise _malformed("other fields")


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
