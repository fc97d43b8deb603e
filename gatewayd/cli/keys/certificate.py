"""`gatewayd keys certificate`: certificates for the broker and for the cloud's own connection."""

from __future__ import annotations

import argparse
import ipaddress
import os
from pathlib import Path
from typing import Final

from cryptography import x509

from firmware_proto.errors import RemoteProtocolError
from gatewayd import keyfiles
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cloud.authority import new_key
from gatewayd.core import certificates
from gatewayd.core.certificates import Authority, Certificate, Use


def read_authority(directory: Path) -> Authority:
    """`ca.pem` and `ca.crt`, as `keys make operator-ca` leaves them. KeyFileError."""
    path = directory / "ca.crt"
    hint = "gatewayd keys make operator-ca makes it"
    data = keyfiles.read_file(path, "authority's certificate", hint)
    key = keyfiles.read_p256_private(directory / "ca.pem", "authority's key", hint)
    try:
        found = Certificate.parse(certificates.from_pem(data)[0])
    except RemoteProtocolError as error:
        raise keyfiles.KeyFileError(f"{path}: {error.detail}", hint) from None
    if found.key != key.public_key():
        raise keyfiles.KeyFileError(f"{path} is not the certificate of ca.pem", hint)
    return Authority(found, key)


def _run(arguments: argparse.Namespace, output: Output) -> int:
    with common.files_are_arguments():
        authority = read_authority(arguments.keys)
    key, names = new_key(), (_address(arguments.name),) if arguments.server else ()
    try:
        made = authority.issue(
            arguments.name,
            key.public_key(),
            use=Use.SERVER if arguments.server else Use.CLIENT,
            now_s=common.now_s(),
            lifetime_s=arguments.days * common.DAY_S,
            serial=os.urandom(16),  # noqa: TID251 - a command at a keyboard is an edge
            addresses=names,
        )
    except ValueError:  # a common name has 64 characters (RFC 5280, appendix A.1)
        raise CommandError("--name is too long", "at most 64 letters", ExitCode.USAGE) from None
    stem = arguments.into / arguments.name
    private, public = stem.with_name(f"{stem.name}.pem"), stem.with_name(f"{stem.name}.crt")
    common.write(output, {private: keyfiles.private_pem(key)}, {public: made.pem()})
    return ExitCode.DONE


def _address(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(text: str) -> str:
    if not text.isascii() or not text.isprintable() or Path(text).name != text or text[0] == ".":
        raise argparse.ArgumentTypeError(f"'{text[:60]}' is no name for a file and a certificate")
    return text


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", type=_name,
        help="cloud, for gatewayd cloud; with --server the broker's host name or address",
    )  # fmt: skip
    parser.add_argument("--server", action="store_true", help="for a broker instead of a client")
    parser.add_argument(
        "--keys", metavar="DIR", type=Path, default=Path(), help="where ca.pem and ca.crt are"
    )
    parser.add_argument(
        "--into", metavar="DIR", type=Path, default=Path(), help="where to (default: here)"
    )
    parser.add_argument(
        "--days", type=common.days, default=365, help="how long it is valid (default: 365)"
    )


COMMAND: Final = Command(
    name="certificate",
    summary="make a certificate for the broker or for the cloud",
    description="""
    Makes a key and has the operator's own authority (keys make operator-ca) sign a certificate for
    it: NAME.pem and NAME.crt. Gateways get theirs by enrolling.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        "gatewayd keys certificate cloud --keys operator",
        "gatewayd keys certificate broker.example --server --keys operator",
    ),
)
