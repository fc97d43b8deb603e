"""`gatewayd keys inspect`: what a file says, and whether it may be believed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cose, credential
from firmware_proto.codes import Action, Fault
from firmware_proto.cose import key_id
from firmware_proto.errors import RemoteProtocolError
from gatewayd import keyfiles
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.core import envelope, keytoken, state, statuslist
from gatewayd.core.claims import Claims, TokenRejected
from gatewayd.core.schedule import Window
from gatewayd.core.trust import (
    TRUST_TYPE,
    Issuer,
    Role,
    Trust,
    verify_bundle,
    verify_credential,
)

Facts = dict[str, object]


@dataclass(frozen=True, slots=True)
class Believed:
    """What the person gave to check signatures with."""

    root: ec.EllipticCurvePublicKey | None
    trust: Trust | None


# --- one function per kind of file --------------------------------------------------
def _token(data: bytes, believed: Believed) -> Facts:
    claims = keytoken.unverified(data).claims
    facts: Facts = {"kind": "key token", **_claims(claims)}
    if believed.trust is None:
        return facts | _unverified("--root and --bundle")
    try:
        keytoken.authenticate(data, believed.trust)
    except TokenRejected as error:
        return facts | {"signature": f"NOT GOOD: {error.reason.name}"}
    return facts | {"signature": f"good, by issuer {claims.issuer}"}


def _claims(claims: Claims) -> Facts:
    facts: Facts = {
        "issuer": claims.issuer,
        "holder": claims.subject,
        "group": claims.audience,
        "id": claims.cti.hex(),
        "doors": {door: _actions(actions) for door, actions in claims.scope},
        "class": claims.key_class.name.lower(),
        "presence": claims.presence.name.lower(),
        "valid from": common.shown_time(claims.not_before),
        "valid until": common.shown_time(claims.expires),
        "issued": common.shown_time(claims.issued_at),
        "phone key": key_id(claims.key).hex(),
    }
    if claims.schedule is not None:
        facts["zone"] = claims.schedule.zone
        facts["allowed"] = [_window(each) for each in claims.schedule.allow]
        facts["denied"] = [_window(each) for each in claims.schedule.deny]
    if claims.status is not None:
        facts["revocation list"] = f"{claims.status.uri}, entry {claims.status.index}"
    if claims.lending is not None:
        facts["may be lent"] = f"for {claims.lending.max_ttl_s} s"
    if claims.once:
        facts["once"] = "valid for one opening"
    return facts


def _credential(data: bytes, believed: Believed) -> Facts:
    if believed.trust is None:
        return {"kind": "gateway credential"} | _unverified("--root and --bundle")
    stated = verify_credential(data, believed.trust)
    return {
        "kind": "gateway credential",
        "gateway": stated.gateway,
        "group": stated.group,
        "doors": {door: f"generation {each}" for door, each in stated.doors.items()},
        "issued": common.shown_time(stated.issued_at),
        "valid until": common.shown_time(stated.expires),
        "handshake key": key_id(stated.key).hex(),
        "receipt key": key_id(stated.receipt_key).hex(),
        "log key": stated.log_key.hex(),
        "signature": "good, by the operator's gateways key",
    }


def _bundle(data: bytes, believed: Believed) -> Facts:
    if believed.root is None:
        return {"kind": "trust bundle"} | _unverified("--root")
    trust = verify_bundle(data, believed.root)
    return {
        "kind": "trust bundle",
        "group": trust.group,
        "serial": trust.serial,
        "roots": [key_id(root).hex() for root in trust.roots],
        "recovery": "none" if trust.recovery is None else key_id(trust.recovery).hex(),
        **{
            f"{role.name.lower()} keys": [key_id(key).hex() for key in trust.keys(role)]
            for role in Role
        },
        "witnesses": sorted(trust.witnesses),
        "issuers": {each.name: _limits(each) for each in trust.issuers.values()},
        "signature": "good, by the root",
    }


def _limits(issuer: Issuer) -> str:
    doors = "every door" if issuer.doors is None else ", ".join(sorted(issuer.doors))
    classes = ", ".join(each.name.lower() for each in sorted(issuer.classes))
    days = issuer.max_lifetime_s // common.DAY_S
    return f"{_actions(issuer.actions)} at {doors}, for {classes}, at most {days} days"


def _status_list(data: bytes, believed: Believed) -> Facts:
    said = statuslist.unverified(data)
    facts: Facts = {
        "kind": "status list",
        "list": said.uri,
        "signed": common.shown_time(said.issued_at),
        "valid until": common.shown_time(said.expires),
        "entries": len(said.statuses) * 8 // said.bits,
        "taken back": said.against,
    }
    if believed.trust is None:
        return facts | _unverified("--root and --bundle")
    try:
        found = statuslist.verify(data, believed.trust)
    except RemoteProtocolError as error:
        return facts | {"signature": f"NOT GOOD: {error.detail}"}
    return facts | {"signature": f"good, by issuer {found.issuer}"}


def _statement(data: bytes, believed: Believed) -> Facts:
    if believed.trust is None:
        return {"kind": "operator's statement"} | _unverified("--root and --bundle")
    try:
        found, signer = envelope.opened(data, believed.trust)
    except RemoteProtocolError as error:
        if error.fault is not Fault.AUTHENTICATION_FAILED:
            raise
        return {"kind": "operator's statement", "signature": _NOT_SIGNED}
    number = {} if found.number is None else {"number": found.number}
    return {
        "kind": f"operator's statement: {found.kind.name.lower()}",
        "for": found.addressee,
        "id": found.id.hex(),
        **number,
        "valid until": common.shown_time(found.expires),
        "signature": f"good, by the operator's key {signer.hex()}",
    }


def _state(data: bytes, believed: Believed) -> Facts:
    if believed.trust is None:
        return {"kind": "operator's state"} | _unverified("--root and --bundle")
    try:
        found, signer = state.verify(data, believed.trust)
    except RemoteProtocolError as error:
        if error.fault is not Fault.AUTHENTICATION_FAILED:
            raise
        return {"kind": "operator's state", "signature": _NOT_SIGNED}
    return {
        "kind": f"operator's state: {found.kind.name.lower()}",
        "for": found.addressee,
        "subject": found.subject or "none",
        "serial": found.serial,
        "size": f"{len(found.body)} bytes",
        "signature": f"good, by the operator's key {signer.hex()}",
    }


_NOT_SIGNED: Final = "NOT GOOD: no key of the bundle's signed"


_KINDS: Final[Mapping[object, Callable[[bytes, Believed], Facts]]] = {
    keytoken.KEY_TYPE: _token,
    credential.CREDENTIAL_TYPE: _credential,
    TRUST_TYPE: _bundle,
    envelope.ENVELOPE_TYPE: _statement,
    state.STATE_TYPE: _state,
    statuslist.LIST_TYPE: _status_list,
}


# --- in words ------------------------------------------------------------------------
def _unverified(needed: str) -> Facts:
    return {"signature": f"NOT CHECKED: give {needed} to know who made it"}


def _actions(actions: Action) -> str:
    return ", ".join(each.name.lower() for each in Action if each in actions and each.name)


def _window(window: Window) -> str:
    days = ",".join(name for day, name in enumerate(common.WEEKDAYS) if window.days >> day & 1)
    end = (window.start + window.duration) % (24 * 60)
    return f"{days} {_clock(window.start)}-{_clock(end)}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _show(facts: Facts, output: Output) -> None:
    width = max(map(len, facts))
    for name, value in facts.items():
        if isinstance(value, dict):
            lines = [f"{each}: {said}" for each, said in value.items()]
        else:
            lines = list(map(str, value)) if isinstance(value, list) else [str(value)]
        for index, line in enumerate(lines or ["none"]):
            output.line(f"{name if index == 0 else '':<{width}}  {line}")
    output.document(facts)


# --- the command -----------------------------------------------------------------------
def _run(arguments: argparse.Namespace, output: Output) -> int:
    with common.files_are_arguments():
        data = keyfiles.read_file(arguments.file, "file", "name a token, credential or list")
    if data.startswith(b"-----BEGIN"):
        _show(_key(arguments.file, data), output)
        return ExitCode.DONE
    believed = _believed(arguments)
    try:
        signed = data.removeprefix(statuslist.SIGN1_TAG)  # only lists have it
        kind = cose.Sign1.parse(signed).protected.get(cose.HEADER_TYP)
        if kind not in _KINDS:
            raise CommandError(f"{arguments.file} is signed, but nothing that is known here")
        facts = _KINDS[kind](data, believed)
    except (RemoteProtocolError, TokenRejected) as error:
        detail = error.detail if isinstance(error, RemoteProtocolError) else error
        raise CommandError(
            f"{arguments.file} cannot be believed: {detail}",
            "is the file whole, and of the operator whose root and bundle you gave?",
        ) from None
    _show(facts, output)
    return ExitCode.FAILED if "NOT GOOD" in str(facts["signature"]) else ExitCode.DONE


def _key(path: Path, data: bytes) -> Facts:
    with common.files_are_arguments():
        if b"PRIVATE KEY" in data:
            return _known_key("private key", keyfiles.read_private(path, "key").public_key())
        return _known_key("public key", keyfiles.read_public(path, "key"))


def _known_key(kind: str, key: keyfiles.PublicKey) -> Facts:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"kind": f"{kind}, P-256", "id": key_id(key).hex()}
    return {"kind": f"{kind}, Ed25519", "log key": key.public_bytes_raw().hex()}


def _believed(arguments: argparse.Namespace) -> Believed:
    with common.files_are_arguments():
        if arguments.root is None:
            if arguments.bundle is not None:
                raise CommandError(
                    "--bundle needs --root", "a bundle is worth what its root is", ExitCode.USAGE
                )
            return Believed(None, None)
        root = keyfiles.read_p256_public(arguments.root, "root key")
        if arguments.bundle is None:
            return Believed(root, None)
        data = keyfiles.read_file(arguments.bundle, "trust bundle")
    try:
        return Believed(root, verify_bundle(data, root))
    except RemoteProtocolError as error:
        raise CommandError(
            f"{arguments.bundle} is not a bundle that {arguments.root} signed: {error.detail}",
            "are they of the same operator?",
            ExitCode.USAGE,
        ) from None


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="what to look at")
    parser.add_argument("--root", metavar="KEY", type=Path, help="the root's public key")
    parser.add_argument("--bundle", metavar="FILE", type=Path, help="the trust bundle")


COMMAND: Final = Command(
    name="inspect",
    summary="show a key, token, credential, list or bundle as a person can read it",
    description="""
    Says what a file is and what is in it. Signatures are checked when --root, and for all but a
    bundle itself --bundle, are given; what was not checked is said to be so, and what fails the
    check makes the command fail. Never prints a private key.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        "gatewayd keys inspect token.cwt --root root.pub.pem --bundle trust.cose",
        "gatewayd keys inspect trust.cose --root root.pub.pem --json",
    ),
)
