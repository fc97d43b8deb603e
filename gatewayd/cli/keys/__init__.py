"""`gatewayd keys`: what an operator makes, signs and looks at. No network, no daemon."""

from __future__ import annotations

from typing import Final

from gatewayd.cli.command import Group
from gatewayd.cli.keys import (
    bundle,
    certificate,
    chain,
    floor,
    for_locks,
    gateway,
    inspection,
    issue,
    lists,
    make,
    signed_time,
    state,
)

COMMAND: Final = Group(
    name="keys",
    summary="make, issue and inspect keys (operator)",
    description="""
    An operator has a root key, which signs the trust bundle; the bundle names the keys that sign
    gateway credentials, orders and time, and the issuers with what each may grant. Issuers sign
    key tokens for phones.

    Nothing here needs a network or a running gateway. Private keys are created with mode 0600, no
    file is ever overwritten, and a command that fails leaves nothing behind.

    The order in which a site is set up: make operator, make issuer, bundle; make gateway,
    gateway, time; new-list; issue.
    """,
    commands=(
        make.COMMAND,
        bundle.COMMAND,
        chain.COMMAND,
        gateway.COMMAND,
        certificate.COMMAND,
        signed_time.COMMAND,
        state.COMMAND,
        floor.COMMAND,
        for_locks.ANCHOR,
        for_locks.RELEASE,
        issue.COMMAND,
        *lists.COMMANDS,
        inspection.COMMAND,
    ),
)
