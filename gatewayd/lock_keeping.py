"""Hears now and then from a lock whose link is not kept: its battery, and whether it is there.

A cellar that nobody enters for weeks has a battery, too, and after a restart the
gateway knows nothing of any lock until somebody opens.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gatewayd.locks import CONNECTING_S, RemoteLock
from gatewayd.ports.process import Clock, Entropy, Pulse
from gatewayd.vitals import UNWATCHED

FIRST_LOOK_S: Final = 300.0
"""After a start: people first. Up to twice as long, so that a gateway's locks take turns."""
EVERY_S: Final = 86_400.0
AGAIN_S: Final = 3_600.0
"""For a lock that was not there, or whose battery's budget was used up."""


async def look_after(
    lock: RemoteLock, clock: Clock, entropy: Entropy, pulse: Pulse = UNWATCHED
) -> None:
    """Ask the lock how it is, once a day unless it is heard of anyway; until cancelled."""
    wait_s = FIRST_LOOK_S * (1 + entropy.fraction())
    while True:
        pulse.beat(wait_s + CONNECTING_S)
        await asyncio.sleep(wait_s)
        if clock.instant().boottime_s >= lock.heard_s + EVERY_S:
            await lock.look()
        now_s = clock.instant().boottime_s
        wait_s = max(lock.heard_s + EVERY_S - now_s, AGAIN_S)
