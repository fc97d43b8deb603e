"""`gatewayd doctor --walk`: how well each lock is reached from where the gateway hangs."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from gatewayd.cli.command import CommandError, ExitCode, Output
from gatewayd.cli.screen import Tint
from gatewayd.cli.setup import common
from gatewayd.core.handover import walk_document
from gatewayd.core.walk import Reach

if TYPE_CHECKING:
    from gatewayd.setup_site import Site


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Dial them all, one after the other, and say what that came to."""

    async def work(site: Site) -> dict[str, Reach]:
        from gatewayd import setup_report, setup_trials  # noqa: PLC0415 - help stays quick

        found = {}
        for door in setup_trials.walkable(site):
            output.line(f"{door}:")
            told = partial(_told, output, arguments.dials)
            found[door] = setup_report.reach(
                await setup_trials.walk(site, door, arguments.dials, told)
            )
            _tell(found[door], output)
        return found

    found = common.on_site(arguments, work, output)
    if not found:
        raise CommandError("no door has a lock to dial", "gatewayd setup bind-door binds one")
    output.document({door: walk_document(reach) for door, reach in found.items()})
    return ExitCode.FAILED if any(reach.faults for reach in found.values()) else ExitCode.DONE


def _told(output: Output, dials: int, number: int, took_ms: int | None) -> None:
    ended = "not reached" if took_ms is None else f"{took_ms} ms"
    text = f"  {number:>{len(str(dials))}} of {dials}  {ended}"
    output.line(text, step=(number, dials))


def _tell(reach: Reach, output: Output) -> None:
    output.line(
        f"  {reach.succeeded} of {reach.dials} succeeded",
    )
    if reach.took_ms:
        half, most = reach.percentile_ms(50), reach.percentile_ms(95)
        output.line(f"  p50 {half} ms, p95 {most} ms")
    if reach.median_dbm is not None:
        output.line(f"  heard with {reach.median_dbm} dBm, {reach.margin_db} dB to spare")
    for fault in reach.faults:
        output.line(f"  -> {fault}", tint=Tint.BAD, hang=5)
