"""A daemon with a relay on the bridge, to be killed or to hang in the middle of a pulse."""

from __future__ import annotations

import asyncio
import sys
import time

from gatewayd.adapters.relay.line import RelaySettings
from gatewayd.adapters.relay.relay import Relay
from gatewayd.core.model import CommandId
from tests.system.mcp2221 import LABEL


async def main(milliseconds: int) -> None:
    relay = Relay(RelaySettings(LABEL, 2))
    verdict = await relay.unlatch(CommandId(b"9" * 16), milliseconds)
    sys.stdout.write(f"{verdict.outcome.name}\n")
    sys.stdout.flush()
    time.sleep(60)  # noqa: ASYNC251 - the loop hangs: that is the point


asyncio.run(main(int(sys.argv[1])))
