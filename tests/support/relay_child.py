"""A daemon with a relay that pulses once and then does what the test wants to see survived."""

from __future__ import annotations

import asyncio
import sys
import time

from gatewayd.adapters.relay.line import RelaySettings
from gatewayd.adapters.relay.relay import Relay
from gatewayd.core.model import CommandId
from tests.support.gpio import KEEPER


async def main(devices: str, milliseconds: int, then: str) -> None:
    relay = Relay(RelaySettings("gpiochip0", "STRIKE", devices=devices), keeper=KEEPER)
    verdict = await relay.unlatch(CommandId(b"1" * 16), milliseconds)
    sys.stdout.write(f"{verdict.outcome.name}\n")
    sys.stdout.flush()
    if then == "hang":
        time.sleep(60)  # noqa: ASYNC251 - the loop hangs: that is the point
    await asyncio.sleep(60)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
