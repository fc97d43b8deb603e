"""What every radio promises: Peripheral, Central and Link, whatever stands behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from firmware_proto.codes import MAX_ATT_MTU, MAX_MESSAGE_BYTES
from gatewayd.ports import LinkClosedError, RadioError
from gatewayd.ports.radio import Central, Link, Peripheral
from tests.support.worlds import (
    CANCELLED_AFTER,
    GATEWAY,
    LOCK_1,
    LOCK_2,
    PHONE_1,
    WORLDS,
    World,
)

BOTH_SIDES = pytest.mark.parametrize("side", ["central", "peripheral"])


@pytest.fixture(params=WORLDS)
async def world(request) -> AsyncIterator[World]:
    world = request.param(mtu=100)
    loop = asyncio.get_running_loop()
    problems: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _loop, context: problems.append(context))
    before = asyncio.all_tasks()
    watchdog = loop.call_later(
        10 * world.pace, lambda: [task.cancel() for task in asyncio.all_tasks(loop)]
    )
    yield world
    watchdog.cancel()
    await world.close()
    await asyncio.sleep(0)
    assert world.links() == 0
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
    assert problems == []


async def connect(world: World) -> tuple[Link, Link]:
    """One phone at one gateway: the central's end and the peripheral's."""
    peripheral, _ = await world.gateway(GATEWAY)
    central = await world.phone(PHONE_1)
    return await meet(central, peripheral)


async def meet(central: Central, peripheral: Peripheral) -> tuple[Link, Link]:
    """Phones speak first: a radio may learn who has come only by what he writes (BlueZ)."""
    dialled = await central.dial(GATEWAY)
    await dialled.write(b"good evening")
    served = await peripheral.accept()
    assert await served.read() == b"good evening"
    return dialled, served


async def read_all(link: Link, count: int) -> list[bytes]:
    return [await link.read() for _ in range(count)]


async def flood(link: Link) -> None:
    for _ in range(10_000):
        await link.write(bytes(97))


async def expect_closed(link: Link) -> None:
    with pytest.raises(LinkClosedError) as caught:
        await link.read()
    assert caught.value.may_have_happened
    with pytest.raises(LinkClosedError):
        await link.write(b"x")


async def eventually_no_links(world: World) -> None:
    for _ in range(400):
        if not world.links():
            return
        await asyncio.sleep(0.005 * world.pace)
    pytest.fail(f"{world.links()} ends of connections are left")


async def test_order_is_kept_both_ways(world: World):
    phone, gateway = await connect(world)
    up = [b"up %d" % n for n in range(300)]
    down = [b"down %d" % n for n in range(300)]

    async def write_all(link: Link, fragments: list[bytes]) -> None:
        for fragment in fragments:
            await link.write(fragment)

    async with asyncio.TaskGroup() as group:
        group.create_task(write_all(phone, up))
        group.create_task(write_all(gateway, down))
        at_gateway = group.create_task(read_all(gateway, 300))
        at_phone = group.create_task(read_all(phone, 300))
    assert at_gateway.result() == up
    assert at_phone.result() == down


@pytest.mark.parametrize("mtu", [23, 185, 247, 517])
async def test_every_size_up_to_the_mtu(world: World, mtu: int):
    world.mtu = mtu
    if world.mtu != mtu != MAX_ATT_MTU:
        pytest.skip("the MTU cannot be chosen here; once is enough")
    phone, gateway = await connect(world)
    assert phone.mtu == min(world.mtu, world.max_mtu)
    assert max(23, phone.mtu - world.cut_off) <= gateway.mtu <= phone.mtu
    for sender, receiver in ((phone, gateway), (gateway, phone)):
        most = sender.mtu - 3
        for size in sorted({*range(1, 21), *range(1, most, 17), most - 1, most}):
            data = bytes(number % 251 for number in range(size))
            await sender.write(data)
            assert await receiver.read() == data
        for wrong in (b"", bytes(most + 1)):
            with pytest.raises(ValueError, match="fragment"):
                await sender.write(wrong)


async def test_what_was_unread_at_the_end_is_still_read(world: World):
    phone, gateway = await connect(world)
    await phone.write(b"last words")
    await asyncio.sleep(0.05 * world.pace)
    await phone.close()
    assert await gateway.read() == b"last words"
    await expect_closed(gateway)


@BOTH_SIDES
@pytest.mark.parametrize("step", range(5))
async def test_close_at_every_step(world: World, side: str, step: int):
    phone, gateway = await connect(world)
    for number in range(step):
        writer, reader = (phone, gateway) if number % 2 == 0 else (gateway, phone)
        await writer.write(bytes([number]))
        assert await reader.read() == bytes([number])
    closer, other = (phone, gateway) if side == "central" else (gateway, phone)
    await closer.close()
    await expect_closed(other)
    await expect_closed(closer)
    await closer.close()
    await other.close()
    await eventually_no_links(world)


@BOTH_SIDES
async def test_both_close_at_once(world: World, side: str):
    phone, gateway = await connect(world)
    first, second = (phone, gateway) if side == "central" else (gateway, phone)
    await asyncio.gather(first.close(), second.close())
    await expect_closed(first)
    await expect_closed(second)


@BOTH_SIDES
@pytest.mark.parametrize("closed_by", ["itself", "the other"])
async def test_a_waiting_reader_wakes(world: World, side: str, closed_by: str):
    phone, gateway = await connect(world)
    waiting, other = (phone, gateway) if side == "central" else (gateway, phone)
    reader = asyncio.create_task(waiting.read())
    await asyncio.sleep(0.01 * world.pace)
    await (waiting if closed_by == "itself" else other).close()
    with pytest.raises(LinkClosedError):
        await reader


async def test_a_cancelled_read_loses_nothing(world: World):
    phone, gateway = await connect(world)
    reader = asyncio.create_task(gateway.read())
    await asyncio.sleep(0.01 * world.pace)
    reader.cancel()
    await asyncio.wait({reader})
    await phone.write(b"first")
    await phone.write(b"second")
    assert await read_all(gateway, 2) == [b"first", b"second"]


async def test_links_do_not_mix(world: World):
    peripheral, _ = await world.gateway(GATEWAY, link_cap=10)
    phones = [await world.phone(f"F0:00:00:00:01:{n:02X}") for n in range(10)]

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in phones:
                group.create_task(echo(await peripheral.accept()))

    async def echo(link: Link) -> None:
        for _ in range(20):
            await link.write(await link.read())

    async def talk(central: Central, name: int) -> list[bytes]:
        link = await central.dial(GATEWAY)
        answers = []
        for number in range(20):
            await link.write(bytes([name, number]))
            answer = await link.read()
            while world.notifies_everybody and answer[0] != name:
                answer = await link.read()
            answers.append(answer)
        return answers

    async with asyncio.TaskGroup() as group:
        group.create_task(serve())
        talks = [group.create_task(talk(phone, name)) for name, phone in enumerate(phones)]
    for name, talked in enumerate(talks):
        assert talked.result() == [bytes([name, number]) for number in range(20)]


async def test_a_phone_and_two_locks_at_once(world: World):
    peripheral, central = await world.gateway(GATEWAY)
    locks = {address: await world.lock(address) for address in (LOCK_1, LOCK_2)}
    phone = await world.phone(PHONE_1)
    from_phone, to_phone = await meet(phone, peripheral)
    dialled = await asyncio.gather(*(central.dial(address) for address in locks))
    accepted = [await lock.accept() for lock in locks.values()]
    for near, far in zip(dialled, accepted, strict=True):
        await near.write(b"unlatch")
        assert await far.read() == b"unlatch"
        await far.write(b"done")
        assert await near.read() == b"done"
    await to_phone.write(b"opened")
    assert await from_phone.read() == b"opened"
    await dialled[0].close()
    await expect_closed(accepted[0])
    await dialled[1].write(b"still here")
    assert await accepted[1].read() == b"still here"


async def test_a_full_gateway_takes_the_next_when_one_leaves(world: World):
    peripheral, _ = await world.gateway(GATEWAY, link_cap=2)
    phones = [await world.phone(f"F0:00:00:00:01:{n:02X}") for n in range(2)]
    first, _ = await meet(phones[0], peripheral)
    second, second_served = await meet(phones[1], peripheral)
    world.dial_s = 0.3 * world.pace
    hasty = await world.phone("F0:00:00:00:01:0E")
    with pytest.raises(RadioError):
        await hasty.dial(GATEWAY)
    world.dial_s = 5.0 * world.pace
    patient = await world.phone("F0:00:00:00:01:0F")
    waiting = asyncio.create_task(patient.dial(GATEWAY))
    await asyncio.sleep(0.05 * world.pace)
    assert not waiting.done()
    await first.close()
    third = await waiting
    await third.write(b"third")
    served = await peripheral.accept()
    assert await served.read() == b"third"
    await second.write(b"second")
    assert await second_served.read() == b"second"


async def test_both_sides_notice_when_one_vanishes(world: World):
    phone, gateway = await connect(world)
    world.vanish(GATEWAY)
    async with asyncio.TaskGroup() as group:
        for link in (phone, gateway):
            group.create_task(expect_closed(link))
    world.appear(GATEWAY)


async def test_writing_into_silence_ends(world: World):
    phone, _ = await connect(world)
    world.vanish(GATEWAY)
    with pytest.raises(LinkClosedError):
        await flood(phone)


@BOTH_SIDES
async def test_a_slow_reader_is_dropped(world: World, side: str):
    phone, gateway = await connect(world)
    slow, fast = (phone, gateway) if side == "central" else (gateway, phone)
    size = 64
    for _ in range(MAX_MESSAGE_BYTES // size):
        await fast.write(bytes(size))
    await asyncio.sleep(0.05 * world.pace)
    await slow.write(b"a full inbox is no fault")
    assert await fast.read() == b"a full inbox is no fault"
    await fast.write(b"x")
    with pytest.raises(LinkClosedError):
        await fast.read()
    await expect_closed(slow)


async def test_one_dropped_link_leaves_the_others(world: World):
    peripheral, _ = await world.gateway(GATEWAY)
    wild, _ = await meet(await world.phone(PHONE_1), peripheral)
    calm, served = await meet(await world.phone("F0:00:00:00:01:02"), peripheral)
    with pytest.raises(LinkClosedError):
        await flood(wild)
    await calm.write(b"calm")
    assert await served.read() == b"calm"


async def test_dialling_nobody_fails_in_time(world: World):
    world.dial_s = 0.3 * world.pace
    phone = await world.phone(PHONE_1)
    with pytest.raises(RadioError) as caught:
        async with asyncio.timeout(2 * world.pace):
            await phone.dial(GATEWAY)
    assert not caught.value.may_have_happened
    await eventually_no_links(world)


async def test_dialling_the_wrong_relation_fails(world: World):
    world.dial_s = 0.3 * world.pace
    await world.lock(GATEWAY)
    phone = await world.phone(PHONE_1)
    with pytest.raises(RadioError):
        await phone.dial(GATEWAY)
    await eventually_no_links(world)


async def test_a_dial_out_of_reach_does_not_hold_up_another(world: World):
    world.dial_s = 0.6 * world.pace
    _, central = await world.gateway(GATEWAY)
    await world.lock(LOCK_1)
    nobody = asyncio.create_task(central.dial("F0:00:00:00:02:99"))
    await asyncio.sleep(0)
    link = await central.dial(LOCK_1)
    await link.close()
    with pytest.raises(RadioError):
        await nobody


@pytest.mark.parametrize("iterations", CANCELLED_AFTER)
async def test_a_cancelled_dial_leaves_nothing(world: World, iterations: int):
    peripheral, _ = await world.gateway(GATEWAY)
    phone = await world.phone(PHONE_1)
    dial = asyncio.create_task(phone.dial(GATEWAY))
    for _ in range(iterations):
        await asyncio.sleep(0)
    dial.cancel()
    done, _ = await asyncio.wait({dial})
    assert done == {dial}
    if not dial.cancelled():
        await dial.result().close()
    await eventually_no_links(world)
    phone_end = await phone.dial(GATEWAY)
    await phone_end.write(b"as if nothing had been")
    served = await peripheral.accept()
    while True:
        try:
            assert await served.read() == b"as if nothing had been"
            break
        except LinkClosedError:  # the cancelled one had subscribed
            served = await peripheral.accept()


@BOTH_SIDES
async def test_dial_again_after_every_kind_of_end(world: World, side: str):
    peripheral, _ = await world.gateway(GATEWAY)
    phone = await world.phone(PHONE_1)
    for number in range(5):
        near, far = await meet(phone, peripheral)
        await near.write(bytes([number]))
        assert await far.read() == bytes([number])
        await (near if side == "central" else far).close()
        await expect_closed(far if side == "central" else near)


async def test_dial_again_after_it_vanished(world: World):
    peripheral, _ = await world.gateway(GATEWAY)
    phone = await world.phone(PHONE_1)
    near, far = await meet(phone, peripheral)
    world.vanish(GATEWAY)
    await expect_closed(near)
    await expect_closed(far)
    world.dial_s = 0.2 * world.pace
    with pytest.raises(RadioError):
        await (await world.phone("F0:00:00:00:01:02")).dial(GATEWAY)
    world.dial_s = 5.0 * world.pace
    world.appear(GATEWAY)
    near, far = await meet(phone, peripheral)
    await far.write(b"back")
    assert await near.read() == b"back"


async def test_scan_finds_only_this_relation(world: World):
    phone = await world.phone(PHONE_1)
    assert list(await phone.scan(0.03 * world.pace)) == []
    await world.gateway(GATEWAY)
    await world.lock(LOCK_1)
    assert list(await phone.scan(0.1 * world.pace)) == [GATEWAY]
