"""`gatewayd setup`: what an installer does at the door, step by step."""

from __future__ import annotations

from typing import Final

from gatewayd.cli.command import Group
from gatewayd.cli.setup import enrol

COMMAND: Final = Group(
    name="setup",
    summary="set up a gateway at its door (installer)",
    description="""
    Every step can be repeated, and goes on where it was cut off.
    """,
    commands=(enrol.COMMAND,),
)
