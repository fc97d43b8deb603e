"""`gatewayd keys make`: fresh keys."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ed25519

from gatewayd import keyfiles
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cloud.authority import new_key

# What each role holds: one key, one purpose (RFC 9528 §9.2).
ROLES: Final[dict[str, tuple[str, ...]]] = {
    "operator": ("root", "gateways", "command", "time", "seal"),
    "gateway": ("gateway", "log", "receipt"),
    "root": ("root",),
    "recovery": ("recovery",),
    "gateways": ("gateways",),
    "command": ("command",),
    "time": ("time",),
    "seal": ("seal",),
    "witness": ("witness",),
    "issuer": ("issuer",),
    "lock": ("lock",),
    "phone": ("phone",),
}
_ED25519: Final = {"log", "witness"}  # C2SP checkpoints and witnesses know no other curve


def _run(arguments: argparse.Namespace, output: Output) -> int:
    private: dict[Path, bytes] = {}
    public: dict[Path, bytes] = {}
    names = ROLES[arguments.role]
    if arguments.name and len(names) > 1:
        raise CommandError(
            f"--name is for one key, and the role {arguments.role} has {len(names)}",
            f"another place for them: --into {arguments.name}",
            ExitCode.USAGE,
        )
    for name in names:
        key = ed25519.Ed25519PrivateKey.generate() if name in _ED25519 else new_key()
        stem = arguments.name or name
        private[arguments.into / f"{stem}.pem"] = keyfiles.private_pem(key)
        public[arguments.into / f"{stem}.pub.pem"] = keyfiles.public_pem(key.public_key())
    common.write(output, private, public)
    return ExitCode.DONE


def _stem(text: str) -> str:
    if not text or text.startswith(".") or Path(text).name != text:
        raise argparse.ArgumentTypeError(f"'{text[:60]}' is no file name; --into names a directory")
    return text


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("role", metavar="ROLE", choices=ROLES, help=f"one of {', '.join(ROLES)}")
    parser.add_argument(
        "--into", metavar="DIR", type=Path, default=Path(), help="where to (default: here)"
    )
    parser.add_argument(
        "--name",
        type=_stem,
        help="file name without .pem, for roles of one key (default: the role)",
    )


COMMAND: Final = Command(
    name="make",
    summary="make fresh keys for a role",
    description="""
    Makes the keys of a role: NAME.pem is private, NAME.pub.pem is for others. All are P-256, but
    for a gateway's log key and a witness's, which are Ed25519.

    The role operator stands for all of root, gateways, command, time and seal; a large operator
    makes them apart, the root on a machine without a network. The recovery key replaces a root
    that is lost or stolen: make it elsewhere, and keep it there. A gateway has three keys: for
    handshakes, for its log and for receipts.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        "gatewayd keys make operator --into operator",
        "gatewayd keys make issuer --into operator --name housing",
        "gatewayd keys make gateway --into gateway",
    ),
)
