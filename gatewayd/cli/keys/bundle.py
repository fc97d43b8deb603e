"""`gatewayd keys bundle`: whom gateways are to believe, and how far."""

from __future__ import annotations

import argparse
from functools import reduce
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from firmware_proto.codes import Action, KeyClass
from firmware_proto.cose import key_id
from gatewayd import keyfiles
from gatewayd.cli import check
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.config.decode import Problem, decode
from gatewayd.core.trust import Issuer, Trust, sign_bundle

_ACTIONS = Literal["open", "unbolt", "bolt"]
_CLASSES = Literal["resident", "service", "delivery", "guest", "emergency"]
_NAME = Annotated[str, Meta(min_length=1, max_length=64, description="1 to 64 letters")]
_KEY = Annotated[Path, Meta(description="a public key: NAME.pub.pem")]


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


class Description(Struct, frozen=True, kw_only=True):
    """The file from which a bundle is made."""

    group: _NAME
    serial: Annotated[int, Meta(ge=1, le=2**63 - 1, description="1, then one more each time")]
    gateways: _KEY = Path("gateways.pub.pem")
    command: _KEY = Path("command.pub.pem")
    time: _KEY = Path("time.pub.pem")
    seal: _KEY = Path("seal.pub.pem")
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
    common.write(output, {}, {arguments.out: sign_bundle(trust, root)})
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
        )
    if len(trust.issuers) != len(issuers):
        raise CommandError(
            "two issuers have one key", "gatewayd keys make issuer --name NAME", ExitCode.USAGE
        )
    return trust


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
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the bundle")


COMMAND: Final = Command(
    name="bundle",
    summary="sign whom gateways are to believe",
    description="""
    Signs a trust bundle from a description in TOML: group, serial, the names of the public keys
    gateways, command, time and seal (NAME.pub.pem beside it, unless said otherwise), and one
    [[issuer]] each with name, key, doors, actions, classes and max_lifetime_days.

    An issuer can grant nothing beyond what is said here, whatever it signs.
    docs/operator.md has an example.
    """,
    run=_run,
    arguments=_arguments,
    examples=("gatewayd keys bundle trust.toml --root operator/root.pem --out trust.cose",),
)
