"""`gatewayd keys make`: fresh keys."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from gatewayd import keyfiles
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cloud.authority import new_key
from gatewayd.core.certificates import Authority

# What each role holds: one key, one purpose (RFC 9528 §9.2).
ROLES: Final[dict[str, tuple[str, ...]]] = {
    "operator-ca": ("ca",),
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
_AUTHORITY: Final = "gatewayd operator"
_AUTHORITY_S: Final = 20 * 365 * common.DAY_S
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
        if name == "ca":
            public[arguments.into / f"{stem}.crt"] = _authority(key)
    common.write(output, private, public)
    return ExitCode.DONE


def _authority(key: keyfiles.PrivateKey) -> bytes:
    """The certificate with which an operator's own authority is believed."""
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - no role but log has another
    made = Authority.create(
        _AUTHORITY, key,
        now_s=common.now_s(), lifetime_s=_AUTHORITY_S, serial=os.urandom(16),  # noqa: TID251
    )  # fmt: skip
    return made.certificate.pem()


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

    The role operator-ca is what signs gateways' certificates for the broker: ca.crt is its own.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        "gatewayd keys make operator --into operator",
        "gatewayd keys make issuer --into operator --name housing",
        "gatewayd keys make gateway --into gateway",
    ),
)
