"""`gatewayd keys gateway`: the credential that phones and locks ask a gateway for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from firmware_proto.credential import GatewayCredential
from firmware_proto.errors import LocalProtocolError
from gatewayd import keyfiles
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cloud.authority import issue_gateway_credential


def door(text: str) -> tuple[str, int]:
    """NAME or NAME=GENERATION, as argparse types go."""
    name, equals, generation = text.partition("=")
    return common.name(name), common.positive(generation) if equals else 1


def _run(arguments: argparse.Namespace, output: Output) -> int:
    signer = common.read_signer(arguments.signer, "gateways key")
    keys: Path = arguments.keys
    doors = dict(arguments.door)
    if len(doors) < len(arguments.door):
        raise CommandError(
            "a door is named twice", "one --door NAME=GENERATION for each", ExitCode.USAGE
        )
    now_s = common.now_s()
    with common.files_are_arguments():
        stated = GatewayCredential(
            gateway=arguments.id,
            doors=doors,
            group=arguments.group,
            issued_at=now_s,
            expires=now_s + arguments.days * common.DAY_S,
            key=keyfiles.read_p256_public(keys / "gateway.pub.pem", "gateway key"),
            log_key=keyfiles.read_ed25519_public(
                keys / "log.pub.pem", "log key"
            ).public_bytes_raw(),
            receipt_key=keyfiles.read_p256_public(keys / "receipt.pub.pem", "receipt key"),
        )
    try:
        data = issue_gateway_credential(stated, signer)
    except LocalProtocolError as error:
        raise CommandError(str(error), "gatewayd keys gateway --help", ExitCode.USAGE) from None
    common.write(output, {}, {arguments.out: data})
    return ExitCode.DONE


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--id", type=common.name, required=True, help="the gateway's name, as in its configuration"
    )
    parser.add_argument("--group", required=True, help="its door group, as in the trust bundle")
    parser.add_argument(
        "--door", metavar="NAME[=GENERATION]", type=door, action="append", required=True,
        help="a door that it serves (repeat); raise the generation to retire the gateway before",
    )  # fmt: skip
    parser.add_argument(
        "--keys", metavar="DIR", type=Path, required=True,
        help="where gateway.pub.pem, log.pub.pem and receipt.pub.pem are",
    )  # fmt: skip
    parser.add_argument(
        "--signer", metavar="KEY", type=Path, required=True, help="the private gateways key"
    )
    parser.add_argument(
        "--days", type=common.days, default=1095, help="how long it is valid (default: 1095)"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the credential")


COMMAND: Final = Command(
    name="gateway",
    summary="issue a gateway's credential",
    description="""
    Signs what a gateway shows to phones and locks: its name, its three public keys, and the doors
    it serves, each with a generation. Needs the gateway's public keys only; the private ones
    never leave it.

    Phones and locks pin the operator and not the box. To replace a gateway, issue a credential
    for the new one with every door's generation raised by one: locks that have seen it refuse
    the old one from then on.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        (
            "gatewayd keys gateway --id stairwell-7 --group vestergade-7 --door street \\\n"
            "    --keys gateway --signer operator/gateways.pem --out gateway.cwt"
        ),
    ),
)
