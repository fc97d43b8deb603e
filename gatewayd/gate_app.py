"""Composition root of `gatewayd selftest`: the daemon's file, and a clock to wait by."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from gatewayd import gate
from gatewayd.adapters.clock import SystemClock
from gatewayd.core.diagnosis import passes
from gatewayd.core.findings import Finding

DIRECTORY: Final = Path("/run/gatewayd")
LOOK_EVERY_S: Final = 1.0


async def examine(
    directory: Path, *, offline: Collection[str], need_uplink: bool, wait_s: float
) -> tuple[Finding, ...]:
    """What there is to say, when all is well or `wait_s` is over."""
    clock = SystemClock()
    ends_s = clock.instant().boottime_s + wait_s
    while True:
        findings = look(directory, clock, offline=offline, need_uplink=need_uplink)
        left_s = ends_s - clock.instant().boottime_s
        if left_s <= 0 or passes(findings, strict=False):
            return findings
        await asyncio.sleep(min(LOOK_EVERY_S, left_s))


def look(
    directory: Path, clock: SystemClock, *, offline: Collection[str], need_uplink: bool
) -> tuple[Finding, ...]:
    """Once, now."""
    path = directory / gate.FILE
    try:
        with path.open("rb") as file:
            data = file.read(gate.MAX_BYTES + 1)
        local, status = gate.read(data)
    except FileNotFoundError:
        return gate.not_there(f"no daemon says how it is: {path} is not there")
    except OSError as error:
        return gate.not_there(f"{path}: {error.strerror}")
    except RemoteProtocolError as error:
        return gate.not_there(f"{path} is not what the daemon writes: {error.detail}")
    now = clock.instant()
    if not gate.is_now(local, now.boot_id, now.boottime_s):
        return gate.not_there(f"{path} is old: the daemon hangs, or has ended")
    return gate.judge(local, status, offline=offline, need_uplink=need_uplink)
