"""The knobs of FakeAir; its promises as a port are in tests/contract."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.ports import LinkClosedError, RadioError
from tests.support.links import Direction, FakeAir, FakeLink, FakePeripheral


async def connect(air: FakeAir) -> tuple[FakeLink, FakeLink]:
    peripheral = air.peripheral("p")
    return await air.central().dial("p"), await peripheral.accept()


async def test_records_direction_time_and_step():
    air = FakeAir()
    phone, gateway = await connect(air)
    await phone.write(b"ask")
    await gateway.write(b"answer")
    assert [(f.step, f.direction, f.data) for f in air.sent] == [
        (0, Direction.TO_PERIPHERAL, b"ask"),
        (1, Direction.TO_CENTRAL, b"answer"),
    ]
    assert air.sent[0].at <= air.sent[1].at
    assert air.fragments(0, Direction.TO_CENTRAL) == [b"answer"]
    assert air.fragments(1) == []


async def test_delay_keeps_order():
    air = FakeAir(delay_s=0.02)
    phone, gateway = await connect(air)
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number in range(50):
        await phone.write(bytes([number]))
    assert [await gateway.read() for _ in range(50)] == [bytes([n]) for n in range(50)]
    assert loop.time() - start >= 0.019


async def test_drop_loses_only_what_it_is_told_to():
    air = FakeAir()
    air.drop = lambda fragment: fragment.step == 1
    phone, gateway = await connect(air)
    for data in (b"a", b"b", b"c"):
        await phone.write(data)
    assert [await gateway.read(), await gateway.read()] == [b"a", b"c"]
    assert air.fragments() == [b"a", b"b", b"c"]


@pytest.mark.parametrize("lost", [False, True])
async def test_cut_at_step(lost: bool):
    air = FakeAir()
    air.cut_at, air.cut_loses_fragment = 2, lost
    phone, gateway = await connect(air)
    await phone.write(b"a")
    await phone.write(b"b")
    assert await gateway.read() == b"a"
    if not lost:
        assert await gateway.read() == b"b"
    with pytest.raises(LinkClosedError):
        await gateway.read()
    with pytest.raises(LinkClosedError):
        await phone.write(b"c")


async def test_cut_right_after_connecting():
    air = FakeAir()
    air.cut_at = 0
    phone, gateway = await connect(air)
    for link in (phone, gateway):
        with pytest.raises(LinkClosedError):
            await link.read()


async def test_vanish_and_appear():
    air = FakeAir()
    air.dial_deadline_s = 0.02
    phone, _ = await connect(air)
    air.vanish("p")
    with pytest.raises(LinkClosedError):
        await phone.read()
    with pytest.raises(RadioError):
        await air.central().dial("p")
    assert await air.central().scan(1) == []
    air.appear("p")
    assert await air.central().scan(1) == ["p"]
    await air.central().dial("p")
    assert air.dials == ["p", "p", "p"]


async def test_cut_inject_and_replay():
    air = FakeAir()
    phone, gateway = await connect(air)
    await phone.write(b"captured")
    assert await gateway.read() == b"captured"
    air.inject(phone, Direction.TO_PERIPHERAL, b"forged")
    assert await gateway.read() == b"forged"
    captured = air.fragments(phone.connection)
    again, peripheral = await air.central().dial("p"), air._peripherals["p"]
    assert isinstance(peripheral, FakePeripheral)
    gateway_again = await peripheral.accept()
    await air.replay(again, captured)
    assert await gateway_again.read() == b"captured"
    air.cut(again)
    await air.replay(again, captured)  # quiet: the peer hung up
    assert air.fragments(again.connection) == [b"captured"]
    air.inject(again, Direction.TO_PERIPHERAL, b"too late")
    with pytest.raises(LinkClosedError):
        await gateway_again.read()
