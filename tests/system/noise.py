"""A street full of devices that are none of our business, and advertise all the time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Final

from bumble import hci

from gatewayd.adapters.virtual_radio import VirtualAir
from gatewayd.adapters.virtual_radio.controller import Advertisement

INTERVAL_S: Final = 1.0
DATA_BYTES: Final = 28  # flags take the first three of 31


class _Nobody:
    """Who sends; the air asks only that it is no station of its own."""


def _advertisement(number: int, chance: random.Random) -> Advertisement:
    """As phones, watches and beacons send it: manufacturer's data that changes all the time."""
    address = hci.Address(f"C0:FE:00:00:00:{number:02X}")
    company = (0x004C).to_bytes(2, "little")
    data = bytes([DATA_BYTES - 1, 0xFF]) + company + chance.randbytes(DATA_BYTES - 4)
    return Advertisement(address, b"\x02\x01\x06" + data, b"", -60 - number % 35)


def passes_by(air: VirtualAir, number: int, name: str) -> str:
    """Somebody who is heard once, calls himself as he likes, and never comes back. His address."""
    address = f"C0:FA:{number.to_bytes(4).hex(':').upper()}"
    text = bytes([len(name) + 1, 0x09]) + name.encode("ascii")
    sent = Advertisement(hci.Address(address), b"\x02\x01\x06" + text, b"", -60)
    air.send_advertising_pdu(_Nobody(), sent)  # type: ignore[arg-type] # see there
    return address


@contextlib.asynccontextmanager
async def advertisers(air: VirtualAir, count: int = 100) -> AsyncIterator[None]:
    """`count` devices around, each heard once a second by whoever listens."""
    chance = random.Random(1)
    nobody = _Nobody()

    async def one(number: int) -> None:
        await asyncio.sleep(number / count * INTERVAL_S)
        while True:
            air.send_advertising_pdu(nobody, _advertisement(number, chance))  # type: ignore[arg-type] # see there
            await asyncio.sleep(INTERVAL_S)

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(number)) for number in range(count)]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
