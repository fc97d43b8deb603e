"""`gatewayd setup`: the installer's steps, in their order."""

from __future__ import annotations

from typing import Final

from gatewayd.cli.command import Group
from gatewayd.cli.setup import doors, enrol, locks, report, web

COMMAND: Final = Group(
    name="setup",
    summary="set a gateway up on site: enrol, locks, doors, trials",
    description="""
    The installer's steps at a door, in this order: enrol, claim-lock, bind-door, test-open, and
    `gatewayd doctor --walk`, then report. Each can be repeated and undone, goes on after a power
    cut, and says what it changed. Those that touch locks, doors or the radio take the daemon's
    place: one that systemd runs is stopped meanwhile, and started again. `setup web` is the same
    path as a page, for a phone or a tablet.
    """,
    commands=(
        web.COMMAND,
        enrol.COMMAND,
        report.STATUS,
        locks.SCAN,
        locks.CLAIM,
        locks.RELEASE,
        locks.ANCHOR,
        doors.BIND,
        doors.UNBIND,
        doors.TEST_OPEN,
        report.REPORT,
    ),
)
