"""A daemon with a relay, to be killed or stopped in the middle of a pulse."""

from __future__ import annotations

import asyncio
import sys
import time

from gatewayd.adapters.relay.line import RelaySettings
from gatewayd.adapters.relay.relay import Relay
from gatewayd.core.model import CommandId


async def main(chip: str, milliseconds: int) -> None:
    relay = Relay(RelaySettings(chip, "STRIKE"))
    verdict = await relay.unlatch(CommandId(b"9" * 16), milliseconds)
    sys.stdout.write(f"{verdict.outcome.name}\n")
    sys.stdout.flush()
    time.sleep(60)  # noqa: ASYNC251 - the loop hangs: that is the point


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
