"""`gatewayd keys chain`: trust bundles as one file, for a phone to carry."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from gatewayd import keyfiles
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cloud.outbox import messages
from gatewayd.core.trust import TRUST_TYPE, unverified_bundle


def _run(arguments: argparse.Namespace, output: Output) -> int:
    with common.files_are_arguments():
        root = keyfiles.read_p256_public(arguments.root, "root key")
        data = [keyfiles.read_file(path, "trust bundle") for path in arguments.bundles]
    try:
        newest = [unverified_bundle(each)[1] for each in data][-1]
        (chain,) = messages(data, newest, root)
    except (RemoteProtocolError, ValueError) as error:
        detail = error.detail if isinstance(error, RemoteProtocolError) else error
        raise CommandError(
            f"no gateway would follow these: {detail}",
            f"give all bundles ({TRUST_TYPE}), the oldest first; gatewayd keys inspect shows one",
            ExitCode.USAGE,
        ) from None
    common.write(output, {}, {arguments.out: chain.payload})
    output.line(chain.what)
    return ExitCode.DONE


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundles", metavar="BUNDLE", type=Path, nargs="+",
        help="from one that the gateway may have, without gaps, to the newest",
    )  # fmt: skip
    parser.add_argument(
        "--root", metavar="KEY", type=Path, required=True, help="the root's public key"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the chain")


COMMAND: Final = Command(
    name="chain",
    summary="put trust bundles into one file, for a phone to carry",
    description="""
    Checks that each bundle follows from the one before, and writes all of them as one file, which
    `gatewayd phone deliver` brings to a gateway without a network. Where there is a network,
    `gatewayd cloud publish` does the same.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        "gatewayd keys chain trust-1.cose trust-2.cose --root root.pub.pem --out chain.cose",
    ),
)
