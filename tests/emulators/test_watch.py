"""A phone in a pocket before a real gateway session: who prepares, who opens, and who does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from firmware_proto.codes import Outcome, Presence, Reason
from firmware_proto.phone_messages import Open, Prepare
from gatewayd.emulators.phone import Patience, Phone, Report
from gatewayd.emulators.watch import News, Watch, Watcher
from gatewayd.ports import RadioError
from gatewayd.ports.radio import Sighting
from tests.support.doorman import Doorman
from tests.support.household import DOOR, GATEWAY_ADDRESS, Dice, LoopClock, Operator, until
from tests.support.links import FakeAir, FakeCentral, FakeLink

FAR, NEAR = -95, -50
OTHER = "F0:00:00:00:00:0E"


class Walker:
    """A phone whose distance to each gateway is decided by the test."""

    def __init__(self, central: FakeCentral) -> None:
        self._central = central
        self.strengths: dict[str, int] = {}
        self.looks = 0
        self.broken = False

    async def dial(self, address: str) -> FakeLink:
        return await self._central.dial(address)

    async def scan(self, seconds: float) -> Sequence[str]:
        return await self._central.scan(seconds)

    async def look(
        self, seconds: float, heard: Callable[[Sighting], None] = lambda _: None
    ) -> Sequence[Sighting]:
        await asyncio.sleep(seconds)
        if self.broken:
            raise RadioError("the radio is gone")
        self.looks += 1
        return [Sighting(address, dbm) for address, dbm in self.strengths.items()]


class Street:
    def __init__(self, directory: Path, watch: Watch) -> None:
        self.air = FakeAir()
        self.operator = Operator()
        self.doorman = Doorman(self.operator, self.operator.gateway())
        self.walker = Walker(self.air.central())
        self.news: list[tuple[News, str]] = []
        self.reports: list[Report] = []
        phone = Phone(
            self.walker,
            self.operator.wallet(directory / "wallet"),
            LoopClock(),
            Dice(),
            Patience(scan_s=0.01, dial_s=1.0),
        )
        self.watcher = Watcher(
            phone,
            self.walker,
            watch,
            news=lambda what, address: self.news.append((what, address)),
            ended=self.reports.append,
        )

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        async with self.doorman.on_duty(self.air.peripheral(GATEWAY_ADDRESS)):
            task = asyncio.create_task(self.watcher.run())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait({task})
        assert task.cancelled()

    async def looked(self, times: int) -> None:
        wanted = self.walker.looks + times
        await until(lambda: self.walker.looks >= wanted)

    async def come_home(self) -> None:
        self.walker.strengths[GATEWAY_ADDRESS] = FAR
        await self.looked(2)
        self.walker.strengths[GATEWAY_ADDRESS] = NEAR


def quick(**changes: object) -> Watch:
    return Watch(DOOR, look_s=0.01, **changes)  # type: ignore[arg-type] # as the test says


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Watch], Street]:
    return lambda watch: Street(tmp_path, watch)


async def test_arriving_prepares_and_a_tap_opens(make: Callable[[Watch], Street]) -> None:
    street = make(quick())
    async with street.watching():
        await street.come_home()
        await until(lambda: (News.PREPARED, GATEWAY_ADDRESS) in street.news)
        assert street.doorman.opened == []
        street.watcher.tapped.set()
        await until(lambda: bool(street.reports))
        await street.looked(5)  # still near: nothing more happens
    assert [report.outcome for report in street.reports] == [Outcome.CONFIRMED]
    assert [type(message) for message in street.doorman.heard] == [Prepare, Open]
    assert street.doorman.heard[1].presence == Presence.TAP
    assert [what for what, _ in street.news] == [News.ARRIVED, News.PREPARED]


async def test_nobody_taps_so_nothing_opens(make: Callable[[Watch], Street]) -> None:
    street = make(quick(tap_s=0.05))
    async with street.watching():
        await street.come_home()
        await until(lambda: (News.LEFT, GATEWAY_ADDRESS) in street.news)
        await street.looked(5)
    assert [type(message) for message in street.doorman.heard] == [Prepare]
    assert street.reports == []
    assert not any(connection.alive for connection in street.air.connections)


async def test_a_late_tap_opens_all_the_same(make: Callable[[Watch], Street]) -> None:
    street = make(quick(tap_s=0.01))
    async with street.watching():
        await street.come_home()
        await until(lambda: (News.LEFT, GATEWAY_ADDRESS) in street.news)
        street.watcher.tapped.set()
        await until(lambda: bool(street.reports))
    assert len(street.doorman.opened) == 1


async def test_a_tap_needs_no_arrival(make: Callable[[Watch], Street]) -> None:
    street = make(Watch(DOOR, look_s=60))  # it does not wait for the end of a look either
    async with street.watching():
        await asyncio.sleep(0)
        street.watcher.tapped.set()
        await until(lambda: bool(street.reports))
    assert [report.outcome for report in street.reports] == [Outcome.CONFIRMED]
    assert street.news == []


async def test_opening_on_arrival_says_so_and_does_it_once(
    make: Callable[[Watch], Street],
) -> None:
    street = make(quick(arrival=True))
    async with street.watching():
        await street.come_home()
        await until(lambda: bool(street.reports))
        await street.looked(5)
    (asked,) = street.doorman.heard
    assert isinstance(asked, Open)
    assert asked.presence == Presence.ARRIVAL
    assert len(street.reports) == 1


async def test_the_gateway_of_another_door_is_visited_once(
    make: Callable[[Watch], Street],
) -> None:
    street = make(quick(arrival=True))
    other = Doorman(street.operator, street.operator.gateway(doors={"cellar": 1}))
    async with other.on_duty(street.air.peripheral(OTHER)), street.watching():
        for _ in range(2):
            street.walker.strengths[OTHER] = FAR
            await street.looked(2)
            street.watcher._approaches._gateways.clear()  # as if the cool-down had passed
            await street.looked(1)
            street.walker.strengths[OTHER] = NEAR
            await street.looked(3)
    assert [report.reason for report in street.reports] == [Reason.WRONG_GATEWAY_DOOR]
    assert [what for what, _ in street.news] == [News.ARRIVED]
    assert other.heard == []


async def test_who_is_stopped_while_he_opens_does_not_know(make: Callable[[Watch], Street]) -> None:
    street = make(quick(arrival=True))
    street.doorman.silent = True
    async with street.watching():
        await street.come_home()
        await until(lambda: bool(street.doorman.opened))
    (report,) = street.reports
    assert (report.outcome, report.reason) == (Outcome.UNKNOWN, Reason.LOCK_SILENT)
    assert [report.request] == street.doorman.opened


@pytest.mark.parametrize("tapped", [False, True])
async def test_who_is_stopped_before_he_tapped_has_asked_for_nothing(
    make: Callable[[Watch], Street], tapped: bool
) -> None:
    street = make(quick())
    async with street.watching():
        await street.come_home()
        await until(lambda: (News.PREPARED, GATEWAY_ADDRESS) in street.news)
        street.doorman.silent = True
        if tapped:
            street.watcher.tapped.set()
            await until(lambda: bool(street.doorman.opened))
    assert [report.request for report in street.reports] == street.doorman.opened
    assert bool(street.reports) == tapped


async def test_a_radio_that_ends_ends_the_watch(make: Callable[[Watch], Street]) -> None:
    street = make(quick())
    street.walker.broken = True
    with pytest.raises(RadioError):
        await street.watcher.run()
