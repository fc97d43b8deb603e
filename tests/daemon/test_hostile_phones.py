"""Strangers' bytes in every size, order, repetition, truncation and tempo; links that go away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware_proto.codes import Action, FrameKind, Outcome, Presence
from firmware_proto.framing import GattFraming
from firmware_proto.phone_messages import Open, Result
from firmware_proto.session import ERROR_FRAME
from gatewayd.core.model import EntryKind
from gatewayd.ports import LinkClosedError
from tests.support import strangers
from tests.support.gateway import GATEWAY_ADDRESS, STREET, LoopTime, Site, barge_in, gateway
from tests.support.household import until
from tests.support.links import Direction, FakeAir, FakeLink, Fragment

ASKED = b"0123456789abcdef"


async def knock(site: Site) -> FakeLink:
    return await site.air.central().dial(GATEWAY_ADDRESS)


async def still_serves(site: Site) -> None:
    """A holder comes and the door opens at once, whoever was there before."""
    report = await site.phone().open_door(STREET, address=GATEWAY_ADDRESS)
    assert report.outcome is Outcome.CONFIRMED
    assert report.timings.total_s < 2
    assert site.gateway.phones.counts["our fault"] == 0


def answers(fragments: Sequence[bytes]) -> list[bytes]:
    """The messages in these, whatever their channel."""
    messages: list[bytes] = []
    for fragment in fragments:
        if fragment[2] & 0x80:
            messages.append(fragment[5:])
        else:
            messages[-1] += fragment[3:]
    return messages


def assert_says_nothing(heard: Sequence[bytes], *, message_2: bool = False) -> None:
    """At most message_2 and the constant error."""
    said = answers(heard)
    if message_2 and said and said[0][0] == FrameKind.MESSAGE_2:
        said = said[1:]
    assert said in ([], [ERROR_FRAME]), said


async def captured(site: Site, request: bytes = ASKED) -> list[bytes]:
    """What a holder wrote in a successful exchange."""
    link = await knock(site)
    there = await barge_in(link, site.building.wallet())
    answer = await there.ask(Open(request, STREET, Action.OPEN, Presence.TAP))
    assert isinstance(answer, Result)
    assert answer.outcome is Outcome.CONFIRMED
    await there.leave()
    return site.air.fragments(link.connection, Direction.TO_PERIPHERAL)


# --- garbage ----------------------------------------------------------------------------------
@pytest.mark.parametrize("mtu", [23, 185, 515])
async def test_noise(tmp_path: Path, mtu: int) -> None:
    async with gateway(tmp_path, air=FakeAir(mtu=mtu)) as site:
        for seed in range(40):
            link = await knock(site)
            await strangers.babble(link, seed)
            assert_says_nothing(await strangers.thrown_out(link, 5.0))
        counts = site.gateway.phones.counts
        assert counts == {"stranger: stranger": 40}
        await still_serves(site)


@pytest.mark.parametrize("kind", range(12))
async def test_frames_of_every_kind_at_the_wrong_time(tmp_path: Path, kind: int) -> None:
    async with gateway(tmp_path) as site:
        for first in (b"", strangers.message_1()):
            for size in (0, 1, 60, 2047):
                link = await knock(site)
                mine = strangers.framing(link)
                fragments = mine.cut(first) if first else []
                fragments += mine.cut(bytes([kind]) + bytes(size))
                await strangers.write(link, fragments)
                heard = await strangers.thrown_out(link, 5.0)
                assert_says_nothing(heard, message_2=bool(first))
        assert site.kinds() == []
        await still_serves(site)


async def test_too_much_and_never_enough(tmp_path: Path) -> None:
    time = LoopTime()
    async with gateway(tmp_path) as site:
        flood = await knock(site)
        await strangers.write(flood, [b"\x5a\xa5\x80\xff\xff" + bytes(200)] * 40)
        assert_says_nothing(await strangers.thrown_out(flood, 5.0))
        hoarder = await knock(site)
        await strangers.hoarder(hoarder)
        await time.skip(3.1)
        assert_says_nothing(await strangers.thrown_out(hoarder, 5.0))
        await still_serves(site)


async def test_two_channels_on_one_link(tmp_path: Path) -> None:
    async with gateway(tmp_path, air=FakeAir(mtu=23)) as site:
        link = await knock(site)
        one, two = GattFraming(23, b"\x01\x01"), GattFraming(23, b"\x02\x02")
        message = strangers.message_1()
        mixed = [
            part for pair in zip(one.cut(message), two.cut(message), strict=True) for part in pair
        ]
        await strangers.write(link, mixed)
        assert_says_nothing(await strangers.thrown_out(link, 5.0))
        await still_serves(site)


async def test_many_exchanges_interleave_fragment_by_fragment(tmp_path: Path) -> None:
    """Each of eight phones on its own link, at the least MTU and with delay on the air."""
    air = FakeAir(mtu=23, delay_s=0.001)
    async with gateway(tmp_path, air=air, cap=8) as site:
        reports = await asyncio.gather(
            *(site.phone().open_door(STREET, address=GATEWAY_ADDRESS) for _ in range(8))
        )
        assert {report.outcome for report in reports} == {Outcome.CONFIRMED}
        assert site.openings == 1


# --- tempo ------------------------------------------------------------------------------------
@pytest.mark.parametrize("pause_s", [0.5, 1.4, 2.9])
async def test_whoever_drips_under_every_deadline_gains_nothing(
    tmp_path: Path, pause_s: float
) -> None:
    """Three seconds for message_1, three for message_3, however alive the link looks."""
    time = LoopTime()
    async with gateway(tmp_path) as site:
        link = await knock(site)
        loop = asyncio.get_running_loop()
        small = GattFraming(23, strangers.CHANNEL)
        began_s = loop.time()
        for step, fragment in enumerate(small.cut(strangers.message_1())):
            with contextlib.suppress(LinkClosedError):
                await link.write(fragment)
            await time.skip(pause_s if step < 2 else 0)
        for fragment in small.cut(bytes([FrameKind.MESSAGE_3]) + bytes(1000)):
            try:
                await link.write(fragment)
            except LinkClosedError:
                break
            await time.skip(pause_s)
        assert loop.time() - began_s < 3.0 + 3.0 + 2 * pause_s
        assert_says_nothing(await strangers.thrown_out(link, 1.0), message_2=True)
        assert site.gateway.phones.counts == {"stranger: stranger": 1}


async def test_a_token_without_a_question(tmp_path: Path) -> None:
    """The whole handshake, and then nothing."""
    time = LoopTime()
    async with gateway(tmp_path) as site:
        there = await barge_in(await knock(site), site.building.wallet())
        await there._talk.flush()
        await until(lambda: bool(site.gateway.phones._serving))
        await asyncio.sleep(0.05)
        await time.skip(3.1)
        assert await strangers.thrown_out(there._talk.link, 1.0) == []
        await until(lambda: site.gateway.phones.counts == {"too slow": 1})


async def test_bad_phones_never_delay_a_good_one(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        quiet = [await knock(site) for _ in range(2)]
        half = await knock(site)
        await strangers.half_handshake(half)
        slow = asyncio.create_task(strangers.slow_sender(await knock(site), 0.1))
        await still_serves(site)
        await slow
        for link in (*quiet, half):
            await link.close()


# --- going away -----------------------------------------------------------------------------------
def cut_next(air: FakeAir, step: int) -> None:
    """Cut the next connection at its fragment number `step`, which is lost when even."""
    number = len(air.connections)

    def drop(fragment: Fragment) -> bool:
        if (fragment.connection, fragment.step) == (number, step):
            cut = air.connections[number].cut
            asyncio.get_running_loop().call_soon(cut)
            return step % 2 == 0
        return False

    air.drop = drop


async def test_a_link_that_goes_away_at_any_step(tmp_path: Path) -> None:
    """At every fragment, arriving or not; the phone comes back and the door opened once at most."""
    async with gateway(tmp_path, air=FakeAir(mtu=100), latch_ms=20) as site:
        report = await site.phone().open_door(STREET, address=GATEWAY_ADDRESS)
        assert report.outcome is Outcome.CONFIRMED
        steps = len(site.air.fragments(connection=0))
        outcomes = set()
        for step in range(steps + 1):
            before = site.openings
            await site.latch_home()
            phone = site.phone()
            request = step.to_bytes(16, "big")
            cut_next(site.air, step)
            cut = await phone.open_door(STREET, address=GATEWAY_ADDRESS, request=request)
            site.air.drop = None
            await site.gateway.door.settled()
            again = await phone.open_door(STREET, address=GATEWAY_ADDRESS, request=request)
            assert again.outcome is Outcome.CONFIRMED, (step, cut, again)
            assert site.openings == before + 1, step
            assert cut.outcome is not Outcome.CONFIRMED or step >= steps - 1
            outcomes.add(cut.outcome)
        assert outcomes >= {Outcome.REFUSED, Outcome.UNKNOWN}
        assert site.kinds().count(EntryKind.INTENT) == site.openings
        assert site.gateway.phones.counts["our fault"] == 0


async def test_hanging_up_in_every_state(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        exchange = await captured(site)
        for step in range(len(exchange)):
            link = await knock(site)
            await strangers.write(link, exchange[:step])
            await link.close()
        await until(lambda: not site.gateway.phones._serving)
        await still_serves(site)


# --- repetition -----------------------------------------------------------------------------------
async def test_a_captured_exchange_is_worth_nothing_on_a_new_connection(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        exchange = await captured(site)
        kinds = site.kinds()
        await site.latch_home()
        for tempo_s in (0.0, 0.01):
            link = await knock(site)
            await strangers.write(link, exchange, pause_s=tempo_s)
            assert_says_nothing(await strangers.thrown_out(link, 5.0), message_2=True)
        assert (site.openings, site.kinds()) == (1, kinds)
        assert site.gateway.phones.counts["stranger: stranger"] == 2


async def test_a_captured_exchange_is_worth_nothing_on_the_same_connection(tmp_path: Path) -> None:
    """Each fragment again, as it was and with the number that is due."""
    async with gateway(tmp_path, latch_ms=20) as site:
        exchange = await captured(site)
        for renumbered in (False, True):
            for position in range(len(exchange)):
                await site.latch_home()
                link = await knock(site)
                there = await barge_in(link, site.building.wallet())
                request = bytes([renumbered, position]) * 8
                await there.ask(Open(request, STREET, Action.OPEN, Presence.TAP))
                before = site.openings
                own = site.air.fragments(link.connection, Direction.TO_PERIPHERAL)
                fragment = own[position % len(own)]
                if renumbered:
                    due = (own[-1][2] + 1) & 0x3F
                    fragment = fragment[:2] + bytes([fragment[2] & 0xC0 | due]) + fragment[3:]
                await link.write(fragment)
                await asyncio.sleep(0.05)
                await there.leave()
                assert site.openings == before
        assert site.kinds().count(EntryKind.INTENT) == site.openings
        await until(lambda: not site.gateway.phones._serving)
        assert site.gateway.phones.counts["our fault"] == 0


async def test_a_message_3_for_another_handshake(tmp_path: Path) -> None:
    """A fresh message_1 of the attacker's own, then the holder's captured message_3 and Open."""
    async with gateway(tmp_path) as site:
        exchange = await captured(site)
        link = await knock(site)
        mine = strangers.framing(link)
        first = mine.cut(strangers.message_1())
        rest = [
            strangers.CHANNEL + bytes([fragment[2] & 0xC0 | number]) + fragment[3:]
            for number, fragment in enumerate(exchange[1:], len(first))
        ]
        await strangers.write(link, [*first, *rest])
        assert_says_nothing(await strangers.thrown_out(link, 5.0), message_2=True)
        assert site.openings == 1


# --- anything at all ----------------------------------------------------------------------------
Scene = Callable[[Site], Awaitable[None]]


class Host:
    """One gateway in a loop of its own, for examples that come one after the other."""

    def __init__(self, directory: Path) -> None:
        self._runner = asyncio.Runner()
        self._directory = directory
        self._site: asyncio.Future[Site]
        self._over: asyncio.Event
        self._task: asyncio.Task[None]

    def __enter__(self) -> Self:
        self._runner.__enter__()
        self._runner.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        async def stop() -> None:
            self._over.set()
            await self._task

        self._runner.run(stop())
        self._runner.__exit__(None, None, None)

    def play(self, scene: Scene) -> None:
        async def played() -> None:
            await scene(await self._site)

        self._runner.run(played())

    async def _start(self) -> None:
        self._site = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._host())
        await self._site

    async def _host(self) -> None:
        async with gateway(self._directory, air=FakeAir(mtu=100)) as site:
            self._site.set_result(site)
            await self._over.wait()


def mutate(fragment: bytes, at: int, how: str, value: int) -> bytes:
    at %= len(fragment)
    match how:
        case "flip":
            return fragment[:at] + bytes([fragment[at] ^ (value or 1)]) + fragment[at + 1 :]
        case "cut":
            return fragment[: at + 1]
        case "grow":
            return (fragment + bytes([value]) * 4)[:97]
    return fragment


DEED = st.one_of(
    st.tuples(st.just("noise"), st.binary(min_size=1, max_size=97)),
    st.tuples(
        st.just("captured"),
        st.tuples(
            st.integers(0, 30),
            st.integers(0, 96),
            st.sampled_from(["same", "same", "flip", "cut", "grow"]),
            st.integers(0, 255),
        ),
    ),
    st.tuples(st.just("message_1"), st.just(b"")),
)


def test_arbitrary_fragments_get_nothing_but_the_constant_error(tmp_path: Path) -> None:
    with Host(tmp_path) as host:
        exchange: list[bytes] = []

        async def capture(site: Site) -> None:
            exchange.extend(await captured(site))

        host.play(capture)

        @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(DEED, max_size=12), st.booleans())
        def attack(deeds: list[tuple[str, object]], in_order: bool) -> None:
            fragments = list(exchange[: len(deeds)]) if in_order else []
            for kind, what in deeds:
                if kind == "noise":
                    fragments.append(bytes(what))
                elif kind == "message_1":
                    fragments += GattFraming(100, strangers.CHANNEL).cut(strangers.message_1())
                else:
                    number, at, how, value = what
                    fragments.append(mutate(exchange[number % len(exchange)], at, how, value))

            async def scene(site: Site) -> None:
                link = await knock(site)
                await strangers.write(link, fragments)
                await asyncio.sleep(0)
                await link.close()
                await until(lambda: not site.gateway.phones._serving)
                connection = site.air.connections[link.connection].number
                heard = site.air.fragments(connection, Direction.TO_CENTRAL)
                assert_says_nothing(heard, message_2=True)
                assert site.openings == 1
                assert site.gateway.phones.counts["our fault"] == 0

            host.play(scene)

        attack()

        async def afterwards(site: Site) -> None:
            await site.latch_home()
            await still_serves(site)
            assert site.openings == 2

        host.play(afterwards)
