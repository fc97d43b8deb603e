"""A gateway on the operator's command line: by its name, or by the file of its credential."""

from __future__ import annotations

import argparse
from pathlib import Path

from gatewayd import enrolment_app, keyfiles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """GATEWAY, and where names are looked up."""
    parser.add_argument(
        "gateway", metavar="GATEWAY",
        help="its name, if it enrolled here, or the file of its credential: of several boxes that "
        "had its name, which",
    )  # fmt: skip
    parser.add_argument(
        "--enrolled", metavar="FILE", type=Path, default=Path("invitations.sqlite"),
        help="where names are looked up; cloud invite made it (default: invitations.sqlite)",
    )  # fmt: skip


def credential(arguments: argparse.Namespace) -> bytes:
    """Of that gateway, not verified yet. KeyFileError, StorageError."""
    path = Path(arguments.gateway)
    if not path.is_file() and arguments.enrolled.exists():
        found = enrolment_app.credential_of(arguments.enrolled, arguments.gateway)
        if found is not None:
            return found
    return keyfiles.read_file(
        path, "gateway credential", f"or a name: {arguments.enrolled} knows none such"
    )
