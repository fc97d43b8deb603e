"""A gateway's radio in a process of its own, to be killed: echoes whatever phones send.

Run as `python hci_child.py <unix socket>`; prints "ready" when it advertises.
"""

from __future__ import annotations

import asyncio
import sys

from gatewayd.adapters.virtual_radio import PHONE, RadioLink, open_radio
from gatewayd.ports import LinkClosedError
from tests.support.worlds import GATEWAY


async def echo(link: RadioLink) -> None:
    try:
        while True:
            await link.write(await link.read())
    except LinkClosedError:
        return


async def main(source: str) -> None:
    async with (
        open_radio(source, address=GATEWAY, serves=PHONE) as radio,
        asyncio.TaskGroup() as group,
    ):
        print("ready", flush=True)  # noqa: T201 - the parent waits for it
        while True:
            group.create_task(echo(await radio.peripheral.accept()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
