"""Strangers with a radio: whatever they send, a phone with a key opens the door soon after.

And beside them. What they learn is in here, too, and that nobody is paired.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import Awaitable, Callable
from typing import Final

import pytest
from bumble import att
from bumble.l2cap import L2CAP_LE_SIGNALING_CID
from bumble.smp import SMP_CID

from gatewayd.adapters.bluez.gatt_table import FIRST_HANDLE
from gatewayd.adapters.virtual_radio.gatt import AttRefusedError
from gatewayd.ports import RadioError
from tests.system.house import House
from tests.system.strangers import Stranger, resident_kb, stranger
from tests.system.times import Stopwatch

pytestmark = pytest.mark.system
MOST_S: Final = 10.0
MOST_KB: Final = 8192
"""How much memory bluetoothd or the daemon may take for one attack."""
REQUEST, INFO = FIRST_HANDLE + 2, FIRST_HANDLE + 7
DEVICE_NAME: Final = 0x2A00
ERRORS: Final = (RadioError, AttRefusedError, TimeoutError)


async def still_opens(house: House, stopwatch: Stopwatch, after: str) -> None:
    stopwatch.lap_s()
    await house.opens("anna")
    seconds = stopwatch.lap_s()
    stopwatch.recovered(after, seconds)
    assert seconds <= MOST_S


def write_command(value: bytes) -> bytes:
    return struct.pack("<BH", 0x52, REQUEST) + value


async def write_before_subscribing(caller: Stranger) -> None:
    for number in range(5):
        caller.send(att.ATT_CID, write_command(bytes([0, number]) + b"x" * 10))
        await asyncio.sleep(0.1)


async def write_500_bytes_without_pause(caller: Stranger) -> None:
    await caller.set_up(517)
    for _ in range(400):
        if caller.closed:
            return
        caller.send(att.ATT_CID, write_command(bytes(500)))
        await asyncio.sleep(0.005)


async def write_nothing_over_and_over(caller: Stranger) -> None:
    await caller.set_up(517)
    for _ in range(1000):
        caller.send(att.ATT_CID, write_command(b""))
        await asyncio.sleep(0.001)


async def prepare_writes(caller: Stranger) -> None:
    await caller.set_up(64)
    for offsets in ((0, 40, 80), (0, 500, 511, 512, 65535), ()):
        for offset in offsets:
            prepare = struct.pack("<BHH", 0x16, REQUEST, offset) + bytes(40)
            caller.send(att.ATT_CID, prepare)
            await asyncio.sleep(0.05)
        caller.send(att.ATT_CID, b"\x18\x01")
        await asyncio.sleep(0.2)


async def prepare_writes_without_end(caller: Stranger) -> None:
    await caller.set_up(517)
    for _ in range(1000):
        caller.send(att.ATT_CID, struct.pack("<BHH", 0x16, REQUEST, 0) + bytes(500))
        await asyncio.sleep(0.002)


async def read_anywhere(caller: Stranger) -> None:
    await caller.set_up(23)
    for handle in (INFO, REQUEST, 0, 0xFFFF):
        for offset in (0, 1, 600, 65535):
            caller.send(att.ATT_CID, struct.pack("<BHH", 0x0C, handle, offset))
            await asyncio.sleep(0.02)


async def subscribe_and_unsubscribe(caller: Stranger) -> None:
    handles = await caller.set_up(517)
    values = [bytes([number & 1, 0]) for number in range(200)]
    for value in (*values, b"", b"\x01", b"\xff\xff", bytes(30)):
        caller.send(att.ATT_CID, struct.pack("<BH", 0x12, handles.subscription) + value)
        await asyncio.sleep(0.01)


async def hang_up_within_a_message(caller: Stranger) -> None:
    await caller.set_up(517)
    caller.send(att.ATT_CID, write_command(b"\x00\x01\xc0\x00\x10half a message"))
    await asyncio.sleep(0.05)
    caller.drop()


async def change_the_mtu(caller: Stranger) -> None:
    for size in (0, 65535, 23):
        caller.send(att.ATT_CID, struct.pack("<BH", 0x02, size))
        caller.send(att.ATT_CID, write_command(bytes([0, 1, 1])))
        await asyncio.sleep(0.1)


async def babble(caller: Stranger) -> None:
    chance = random.Random(7)
    for number in range(600):
        channel = (att.ATT_CID, L2CAP_LE_SIGNALING_CID, SMP_CID)[number % 3]
        caller.send(channel, chance.randbytes(chance.randrange(1, 60)))
        await asyncio.sleep(0.002)


Attack = Callable[[Stranger], Awaitable[None]]


@pytest.mark.parametrize(
    "attack",
    [
        write_before_subscribing,
        write_500_bytes_without_pause,
        write_nothing_over_and_over,
        prepare_writes,
        prepare_writes_without_end,
        read_anywhere,
        subscribe_and_unsubscribe,
        hang_up_within_a_message,
        change_the_mtu,
        babble,
    ],
)
async def test_a_door_opens_beside_and_after_strangers_who(
    settled: House, stopwatch: Stopwatch, attack: Attack
):
    processes = settled.daemon.pid, settled.bluetoothd.pid
    before_kb = [resident_kb(process) for process in processes]
    for number in range(2):
        async with stranger(settled.place.air, number) as caller:
            await caller.dial(settled.gateway)
            with contextlib.suppress(*ERRORS):
                await attack(caller)
            if number:
                await still_opens(settled, stopwatch, f"beside strangers who {attack.__name__}")
    await still_opens(settled, stopwatch, f"after strangers who {attack.__name__}")
    assert (settled.daemon.pid, settled.bluetoothd.pid) == processes
    for process, was_kb in zip(processes, before_kb, strict=True):
        assert resident_kb(process) < was_kb + MOST_KB


async def test_strangers_with_ever_other_addresses(settled: House, stopwatch: Stopwatch):
    connected = 0

    async def come_and_go(first: int) -> None:
        nonlocal connected
        for number in range(first, first + 10):
            with contextlib.suppress(*ERRORS):
                async with stranger(settled.place.air, number) as caller:
                    await caller.dial(settled.gateway)
                    connected += 1
                    await asyncio.sleep(random.random())

    async with asyncio.TaskGroup() as group:
        for first in range(0, 600, 100):
            group.create_task(come_and_go(first))
        await asyncio.sleep(3)
        await still_opens(settled, stopwatch, "among strangers with ever other addresses")
    assert connected > 30
    await still_opens(settled, stopwatch, "after strangers with ever other addresses")


async def test_nobody_is_paired(settled: House, stopwatch: Stopwatch):
    """With every wish there is for protection and means of asking (Core Vol 3 Part H 3.5.1)."""
    number = 0
    for wish in (0x00, 0x01, 0x05, 0x08, 0x0D, 0x2D):
        for means in (0x00, 0x03, 0x04):
            number += 1
            async with stranger(settled.place.air, number) as caller:
                await caller.dial(settled.gateway)
                caller.send(SMP_CID, bytes([1, means, 0, wish, 16, 7, 7]))
                await asyncio.sleep(0.3)
    assert number == 18
    assert not await settled.place.bus.devices(Paired=True)
    assert not await settled.place.bus.devices(Bonded=True)
    await still_opens(settled, stopwatch, "after 18 wishes to pair")


async def test_a_stranger_learns_what_the_advertisement_says_and_no_more(settled: House):
    async with stranger(settled.place.air, 1) as caller:
        await caller.dial(settled.gateway)
        mtu = att.ATT_Exchange_MTU_Request(client_rx_mtu=517)
        await caller.ask(mtu, att.ATT_Exchange_MTU_Response)
        read = att.ATT_Read_By_Type_Request(
            starting_handle=1,
            ending_handle=0xFFFF,
            attribute_type=att.UUID.from_16_bits(DEVICE_NAME),
        )
        answer = await caller.ask(read, att.ATT_Read_By_Type_Response)
        name = bytes(answer.attributes[0][1]).decode()
    assert name.startswith("gatewayd ")
