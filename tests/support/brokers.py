"""The broker under the uplink tests: amqtt in this process, or Debian's mosquitto as a child.

`GATEWAYD_TEST_BROKER=mosquitto` chooses the second; then it must be there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from contextlib import AsyncExitStack
from pathlib import Path

from gatewayd.adapters.broker import Address, serve
from tests.support.commands import end

HOST = "127.0.0.1"
_START_S = 10.0
_MOSQUITTO = """\
listener {port} {host}
allow_anonymous true
persistence false
log_dest none
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Amqtt:
    """Started and stopped at will, always on the same port."""

    def __init__(self) -> None:
        self.address = Address(HOST, free_port())
        self._running: AsyncExitStack | None = None

    async def start(self) -> None:
        self._running = AsyncExitStack()
        await self._running.enter_async_context(serve(self.address.port))

    async def stop(self) -> None:
        if self._running is not None:
            await self._running.aclose()
            self._running = None


class Mosquitto:
    """The same, as a child process; stopping it is SIGKILL, as a power cut would be."""

    def __init__(self, program: str, directory: Path) -> None:
        self.address = Address(HOST, free_port())
        self._program = program
        self._config = directory / "mosquitto.conf"
        self._config.write_text(_MOSQUITTO.format(port=self.address.port, host=HOST))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(self._program, "-c", self._config)
        async with asyncio.timeout(_START_S):
            while not await _answers(self.address):  # noqa: ASYNC110 - a process gives no event
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        if self._process is not None:
            await end(self._process)
            self._process = None


Broker = Amqtt | Mosquitto


def make_broker(directory: Path) -> Broker:
    chosen = os.environ.get("GATEWAYD_TEST_BROKER", "amqtt")
    if chosen == "amqtt":
        return Amqtt()
    if chosen != "mosquitto":
        raise ValueError(f"GATEWAYD_TEST_BROKER={chosen}: amqtt or mosquitto")
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise FileNotFoundError("mosquitto is not installed, and these tests are asked to use it")
    return Mosquitto(program, directory)


async def _answers(address: Address) -> bool:
    try:
        _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
