"""One side of a pull as a process of its own, to be killed: `cloud` or `gateway`, port, file, n."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from gatewayd.adapters.broker import Address
from gatewayd.adapters.sqlite import open_log
from gatewayd.adapters.sqlite_cloud import open_cloud
from gatewayd.sync import run
from tests.support.uplink import (
    SOURCE,
    cloud_session,
    fill,
    gateway_mqtt,
    make_operator,
    make_uplink,
    small_puller,
)


async def be_the_cloud(address: Address, path: Path) -> None:
    async with cloud_session(address, f"cloud-{os.getpid()}") as session:
        with open_cloud(path) as store:
            await small_puller(session, SOURCE, make_operator()).pull(store)


async def be_the_gateway(address: Address, path: Path, entries: int) -> None:
    async with open_log(path, randomness=os.urandom) as log:
        await fill(log, entries - await log.size())
        # another client id per process: the broker may not have noticed the death of the last
        mqtt = gateway_mqtt(address, client_id=f"gateway-{os.getpid()}")
        await run(make_uplink(log, mqtt.connect), asyncio.Event())


def main() -> None:
    role, port, path, number = sys.argv[1:]
    address = Address("127.0.0.1", int(port))
    if role == "cloud":
        asyncio.run(be_the_cloud(address, Path(path)))
    else:
        asyncio.run(be_the_gateway(address, Path(path), int(number)))


if __name__ == "__main__":
    main()
