"""Debian's mosquitto, set up as docs/broker.md says."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support import commands
from tests.support.brokers import free_port

PAGE = Path(__file__).parents[2] / "docs/broker.md"
PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/sbin")
HOST = "127.0.0.1"


class Ports(NamedTuple):
    sessions: str
    """URL where gateways and the cloud are."""
    enrolling: str


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@asynccontextmanager
async def documented_mosquitto(directory: Path, keys: Path) -> AsyncIterator[Ports]:
    """The broker of the page, with certificates of the authority in `keys`."""
    (config,) = blocks("conf")
    gateways, enrolling = blocks("acl")
    (directory / "gateways.acl").write_text(gateways)
    (directory / "enrolling.acl").write_text(enrolling)
    made = commands.run(
        "keys", "certificate", HOST, "--server", "--keys", keys, "--into", directory
    )
    assert made.code == 0, made.err
    (directory / f"{HOST}.crt").rename(directory / "broker.crt")
    (directory / f"{HOST}.pem").rename(directory / "broker.pem")
    shutil.copy(keys / "ca.crt", directory)
    ports = free_port(), free_port()
    for number, port in zip(("8883", "8884"), ports, strict=True):
        config = config.replace(f"listener {number}", f"listener {port} {HOST}")
    config = config.replace("/etc/mosquitto/gatewayd", str(directory))
    (directory / "mosquitto.conf").write_text(f"{config}user root\nlog_dest none\n")
    assert PROGRAM is not None
    process = await asyncio.create_subprocess_exec(PROGRAM, "-c", directory / "mosquitto.conf")
    try:
        async with asyncio.timeout(10):
            while not await _answers(ports[1]):  # noqa: ASYNC110 - a process gives no event
                await asyncio.sleep(0.05)
        yield Ports(*(f"mqtts://{HOST}:{port}" for port in ports))
    finally:
        await commands.end(process)


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
