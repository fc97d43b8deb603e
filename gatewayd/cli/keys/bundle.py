"""`gatewayd keys bundle`: whom gateways are to believe, and how far."""

from __future__ import annotations

import argparse
from functools import reduce
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from firmware_proto.codes import Action, KeyClass
from firmware_proto.cose import key_id
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from gatewayd import keyfiles
from gatewayd.cli import check
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.config.decode import Problem, decode
from gatewayd.core.trust import (
    Issuer,
    PublicKey,
    Role,
    Trust,
    sign_bundle,
    unverified_bundle,
)
from gatewayd.core.trust_chain import check_step

_ACTIONS = Literal["open", "unbolt", "bolt"]
_CLASSES = Literal["resident", "service", "delivery", "guest", "emergency"]
_NAME = Annotated[str, Meta(min_length=1, max_length=64, description="1 to 64 letters")]
_KEY = Annotated[Path, Meta(description="a public key: NAME.pub.pem")]
_KEYS = Annotated[tuple[Path, ...], Meta(description="public keys that overlap with the one")]


class IssuerEntry(Struct, frozen=True, kw_only=True):
    """One issuer, and what it may grant at most."""

    name: _NAME
    key: _KEY
    doors: Annotated[
        tuple[str, ...] | None, Meta(description="door names; every door when left out")
    ] = None
    actions: Annotated[
        tuple[_ACTIONS, ...], Meta(min_length=1, description="of open, unbolt, bolt")
    ] = ("open",)
    classes: Annotated[
        tuple[_CLASSES, ...],
        Meta(min_length=1, description="of resident, service, delivery, guest, emergency"),
    ]
    max_lifetime_days: Annotated[
        int, Meta(ge=1, le=3660, description="how long its keys may be valid, 1 to 3660 days")
    ]


class WitnessEntry(Struct, frozen=True, kw_only=True):
    """Somebody who cosigns what is acknowledged."""

    name: _NAME
    key: Annotated[Path, Meta(description="an Ed25519 public key: witness.pub.pem")]


class Description(Struct, frozen=True, kw_only=True):
    """The file from which a bundle is made."""

    group: _NAME
    serial: Annotated[int, Meta(ge=1, le=2**63 - 1, description="1, then one more each time")]
    gateways: _KEY = Path("gateways.pub.pem")
    command: _KEY = Path("command.pub.pem")
    time: _KEY = Path("time.pub.pem")
    seal: _KEY = Path("seal.pub.pem")
    root: _KEY = Path("root.pub.pem")
    other_root: _KEYS = ()
    recovery: Annotated[
        Path | None, Meta(description="a public key that is kept apart from the root")
    ] = None
    other_gateways: _KEYS = ()
    other_command: _KEYS = ()
    other_time: _KEYS = ()
    witness: Annotated[
        tuple[WitnessEntry, ...], Meta(description="[[witness]] with name and key")
    ] = ()
    issuer: Annotated[
        tuple[IssuerEntry, ...], Meta(min_length=1, description="at least one [[issuer]]")
    ]


def _run(arguments: argparse.Namespace, output: Output) -> int:
    root = common.read_signer(arguments.root, "root key")
    described = _description(arguments.description)
    if isinstance(described, list):
        check.report(arguments.description, described, output)
        return ExitCode.USAGE
    trust = _trust(described)
    try:
        data = sign_bundle(trust, root)
    except LocalProtocolError as error:
        raise CommandError(str(error), "gatewayd keys bundle --help", ExitCode.USAGE) from None
    if arguments.after is not None:
        _check_follows(data, arguments.after)
    common.write(output, {}, {arguments.out: data})
    output.line(f"group {trust.group}, serial {trust.serial}, {len(trust.issuers)} issuer(s)")
    return ExitCode.DONE


def _description(path: Path) -> Description | list[Problem]:
    with common.files_are_arguments():
        data = keyfiles.read_file(path, "description of the bundle", "see docs/operator.md")
    found, report = decode(data.decode("utf-8", "replace"), Description, path.parent)
    return sorted(report.problems) if found is None else found


def _trust(described: Description) -> Trust:
    with common.files_are_arguments():
        issuers = [_issuer(each) for each in described.issuer]
        trust = Trust(
            serial=described.serial,
            group=described.group,
            issuers={key_id(each.key): each for each in issuers},
            gateways_key=keyfiles.read_p256_public(described.gateways, "gateways key"),
            command_key=keyfiles.read_p256_public(described.command, "command key"),
            time_key=keyfiles.read_p256_public(described.time, "time key"),
            seal_key=keyfiles.read_p256_public(described.seal, "seal key"),
            roots=tuple(
                keyfiles.read_p256_public(path, "root key")
                for path in (described.root, *described.other_root)
            ),
            recovery=None
            if described.recovery is None
            else keyfiles.read_p256_public(described.recovery, "recovery key"),
            witnesses={
                each.name: keyfiles.read_ed25519_public(each.key, "witness key").public_bytes_raw()
                for each in described.witness
            },
            others=_others(described),
        )
    if len(trust.issuers) != len(issuers):
        raise CommandError(
            "two issuers have one key", "gatewayd keys make issuer --name NAME", ExitCode.USAGE
        )
    return trust


def _others(described: Description) -> dict[Role, tuple[PublicKey, ...]]:
    paths = {
        Role.GATEWAYS: described.other_gateways,
        Role.COMMAND: described.other_command,
        Role.TIME: described.other_time,
    }
    return {
        role: tuple(keyfiles.read_p256_public(path, f"{role.name.lower()} key") for path in each)
        for role, each in paths.items()
        if each
    }


def _check_follows(data: bytes, path: Path) -> None:
    """Gateways would not take it otherwise, one by one, in the field."""
    with common.files_are_arguments():
        before = keyfiles.read_file(path, "the bundle before")
    try:
        _, held = unverified_bundle(before)
        signed, trust = unverified_bundle(data)
        if trust.serial != held.serial + 1:
            raise CommandError(
                f"serial {trust.serial} does not follow {held.serial}",
                f"serial = {held.serial + 1}",
                ExitCode.USAGE,
            )
        check_step(held, signed)
    except RemoteProtocolError as error:
        raise CommandError(
            f"it would not follow {path}: {error.detail}",
            "sign with a root that the bundle before names, or with the recovery key",
            ExitCode.USAGE,
        ) from None


def _issuer(entry: IssuerEntry) -> Issuer:
    return Issuer(
        name=entry.name,
        key=keyfiles.read_p256_public(entry.key, "issuer key"),
        doors=None if entry.doors is None else frozenset(entry.doors),
        actions=reduce(Action.__or__, (Action[each.upper()] for each in entry.actions)),
        classes=frozenset(KeyClass[each.upper()] for each in entry.classes),
        max_lifetime_s=entry.max_lifetime_days * common.DAY_S,
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("description", metavar="FILE", type=Path, help="what it is to say (TOML)")
    parser.add_argument(
        "--root", metavar="KEY", type=Path, required=True, help="the root's private key"
    )
    parser.add_argument(
        "--after", metavar="FILE", type=Path,
        help="the bundle before; checks that gateways which hold that take this one",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the bundle")


COMMAND: Final = Command(
    name="bundle",
    summary="sign whom gateways are to believe",
    description="""
    Signs a trust bundle from a description in TOML: group, serial, the names of the public keys
    root, gateways, command, time and seal (NAME.pub.pem beside it, unless said otherwise), and one
    [[issuer]] each with name, key, doors, actions, classes and max_lifetime_days. recovery names a
    key that is kept apart; it can sign the next bundle when the root is lost or stolen.

    While a key is replaced, both are named: other_root, other_gateways, other_command and
    other_time are lists. With a [[witness]] (name and Ed25519 key) gateways take the log's
    acknowledgements only with its cosignature; witness.pub.pem of `gatewayd cloud` is one.

    An issuer can grant nothing beyond what is said here, whatever it signs. A bundle's serial is
    one more than that of the bundle before; keep them all, for gateways follow them one by one.
    docs/operator.md has an example, and how to replace keys.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        "gatewayd keys bundle trust.toml --root operator/root.pem --out trust.cose",
        (
            "gatewayd keys bundle trust.toml --root operator/root.pem --after trust-1.cose "
            "--out trust-2.cose"
        ),
    ),
)
