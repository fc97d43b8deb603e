"""The emulated phone against a real gateway session: whom it trusts, and what it says happened."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from firmware_proto.codes import Fault, Outcome, Reason
from firmware_proto.framing import GattFraming
from firmware_proto.messages import GetResult
from firmware_proto.phone_messages import Open, Prepare
from firmware_proto.session import ERROR_FRAME
from gatewayd.core.model import Verdict
from gatewayd.emulators.phone import Patience, Phone, Report
from gatewayd.emulators.wallet import Wallet
from gatewayd.lock_connection import GatewayIdentity
from tests.support.doorman import OPENED, Doorman
from tests.support.household import DOOR, GATEWAY_ADDRESS, NOW, Dice, LoopClock, Operator, until
from tests.support.links import Direction, FakeAir

UNKNOWN = Verdict(Outcome.UNKNOWN, Reason.LOCK_SILENT)


class Street:
    """A phone before a door."""

    def __init__(self, directory: Path) -> None:
        self.air = FakeAir()
        self.operator = Operator()
        self.wallet = self.operator.wallet(directory / "wallet")
        self.clock = LoopClock()
        self.phone = Phone(
            self.air.central(), self.wallet, self.clock, Dice(), Patience(scan_s=0.01, dial_s=1.0)
        )

    def doorman(
        self, identity: GatewayIdentity | None = None, address: str = GATEWAY_ADDRESS
    ) -> tuple[Doorman, object]:
        doorman = Doorman(self.operator, identity or self.operator.gateway())
        return doorman, doorman.on_duty(self.air.peripheral(address))


@pytest.fixture
def street(tmp_path: Path) -> Street:
    return Street(tmp_path)


def verdict(report: Report) -> Verdict:
    return Verdict(report.outcome, report.reason)


@pytest.mark.parametrize("mtu", [23, 185, 517])
async def test_opens_in_two_round_trips(street: Street, mtu: int) -> None:
    street.air.mtu = mtu
    doorman, duty = street.doorman()
    async with duty:
        report = await street.phone.open_door(DOOR, address=GATEWAY_ADDRESS)
    assert verdict(report) == OPENED
    assert (report.exchanges, report.attempts, report.gateway) == (2, 1, "stairwell-7")
    assert doorman.opened == [report.request]
    assert report.receipt is not None
    assert street.wallet.receipt(report.request) == report.receipt
    assert street.wallet.generations == {DOOR: 3}
    assert Wallet.load(street.wallet.path).generations == {DOOR: 3}
    assert report.timings.answer_s is not None
    assert report.timings.total_s >= report.timings.answer_s


async def test_a_tap_after_prepare_needs_one_round_trip_more(street: Street) -> None:
    doorman, duty = street.doorman()
    tapped = asyncio.Event()

    async def tap() -> None:
        await tapped.wait()

    async with duty:
        opening = asyncio.create_task(street.phone.open_door(DOOR, tap=tap()))
        await until(lambda: len(doorman.heard) == 1)
        assert isinstance(doorman.heard[0], Prepare)
        assert doorman.opened == []
        tapped.set()
        report = await opening
    assert (verdict(report), report.exchanges) == (OPENED, 3)
    assert report.timings.prepare_s is not None


# --- whom it trusts -------------------------------------------------------------------
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("operator", Reason.UNTRUSTED_GATEWAY),
        ("door", Reason.WRONG_GATEWAY_DOOR),
        ("expired", Reason.UNTRUSTED_GATEWAY),
        ("generation", Reason.OLD_GENERATION),
        ("key", Reason.UNTRUSTED_GATEWAY),
    ],
)
async def test_a_gateway_that_may_not_learns_nothing(
    street: Street, wrong: str, reason: Reason
) -> None:
    operator = street.operator
    good = operator.gateway()
    identity = {
        "operator": Operator().gateway(),
        "door": operator.gateway(doors={"cellar": 3}),
        "expired": operator.gateway(expires=NOW),
        "generation": good,
        "key": GatewayIdentity(Dice().private_key(), good.credential),
    }[wrong]
    if wrong == "generation":
        street.wallet.raise_generation(DOOR, 4)
    before = dict(street.wallet.generations)
    doorman, duty = street.doorman(identity)
    async with duty:
        report = await street.phone.open_door(DOOR, address=GATEWAY_ADDRESS)
    assert verdict(report) == Verdict(Outcome.REFUSED, reason)
    assert doorman.heard == []
    assert street.wallet.token not in b"".join(street.air.fragments())
    assert street.wallet.generations == before


async def test_a_scan_passes_over_gateways_of_other_doors(street: Street) -> None:
    _, other = street.doorman(street.operator.gateway(doors={"cellar": 3}), "F0:00:00:00:00:09")
    doorman, duty = street.doorman()
    async with other, duty:
        report = await street.phone.open_door(DOOR)
    assert verdict(report) == OPENED
    assert doorman.opened == [report.request]


async def test_a_scan_that_finds_only_others_says_the_worst_of_them(street: Street) -> None:
    _, other = street.doorman(street.operator.gateway(doors={"cellar": 3}), "F0:00:00:00:00:09")
    _, false = street.doorman(Operator().gateway())
    async with other, false:
        report = await street.phone.open_door(DOOR)
    assert verdict(report) == Verdict(Outcome.REFUSED, Reason.UNTRUSTED_GATEWAY)


# --- what it is told ------------------------------------------------------------------
async def test_an_answer_that_nobody_signed_is_certain_only_before_an_open(street: Street) -> None:
    doorman, duty = street.doorman()
    doorman.strangers = True
    async with duty:
        asked = await street.phone.open_door(DOOR)
        prepared = await street.phone.open_door(DOOR, tap=asyncio.sleep(0))
    assert verdict(asked) == Verdict(Outcome.UNKNOWN, Reason.STRANGER)
    assert verdict(prepared) == Verdict(Outcome.REFUSED, Reason.STRANGER)


async def test_a_gateway_of_another_group_is_another_door(street: Street) -> None:
    _, duty = street.doorman(street.operator.gateway(group="vestergade-9"))
    async with duty:
        report = await street.phone.open_door(DOOR)
    assert verdict(report) == Verdict(Outcome.REFUSED, Reason.WRONG_GATEWAY_DOOR)


async def test_a_gateway_that_refuses_at_once(street: Street) -> None:
    peripheral = street.air.peripheral(GATEWAY_ADDRESS)
    asking = asyncio.create_task(street.phone.open_door(DOOR))
    link = await peripheral.accept()
    framing = GattFraming(link.mtu, None)
    framing.receive(await link.read())
    for fragment in framing.cut(ERROR_FRAME):
        await link.write(fragment)
    assert verdict(await asking) == Verdict(Outcome.REFUSED, Reason.STRANGER)


@pytest.mark.parametrize("told", [Verdict(Outcome.REFUSED, Reason.EXPIRED), UNKNOWN])
async def test_the_true_reason_reaches_the_holder(street: Street, told: Verdict) -> None:
    doorman, duty = street.doorman()
    doorman.verdict = told
    async with duty:
        report = await street.phone.open_door(DOOR)
        assert verdict(report) == told
        doorman.known[report.request] = OPENED
        assert verdict(await street.phone.ask_result(DOOR, report.request)) == OPENED
        never = await street.phone.ask_result(DOOR, b"n" * 16)
    assert verdict(never) == Verdict(Outcome.REFUSED, Reason.NEVER_ASKED)
    assert doorman.opened == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.BUSY, Verdict(Outcome.REFUSED, Reason.BUSY)),
        (Fault.ID_REUSED, Verdict(Outcome.UNKNOWN, Reason.REPLAYED)),
        (Fault.MALFORMED, Verdict(Outcome.REFUSED, Reason.LOCK_FAULT)),
    ],
)
async def test_faults(street: Street, fault: Fault, expected: Verdict) -> None:
    doorman, duty = street.doorman()
    doorman.fault = fault
    async with duty:
        assert verdict(await street.phone.open_door(DOOR)) == expected


@pytest.mark.parametrize("lie", ["key", "door"])
async def test_a_false_receipt_is_not_kept(street: Street, lie: str) -> None:
    doorman, duty = street.doorman()
    doorman.receipt_key_differs = lie == "key"
    doorman.receipt_door = "cellar" if lie == "door" else None
    async with duty:
        report = await street.phone.open_door(DOOR)
    assert (verdict(report), report.receipt) == (OPENED, None)
    assert street.wallet.receipt(report.request) is None


# --- when the radio fails ----------------------------------------------------------------
async def test_nobody_there(street: Street) -> None:
    out_of_reach = Verdict(Outcome.REFUSED, Reason.LOCK_UNREACHABLE)
    report = await street.phone.open_door(DOOR)
    assert (verdict(report), report.attempts) == (out_of_reach, 3)
    assert verdict(await street.phone.open_door(DOOR, address="elsewhere")) == out_of_reach
    asked = await street.phone.ask_result(DOOR, b"r" * 16)
    assert verdict(asked) == UNKNOWN


async def test_a_dial_that_never_ends_is_given_up(street: Street) -> None:
    street.air.dial_s = 100
    street.phone.patience = Patience(attempts=1, dial_s=0.02)
    report = await street.phone.open_door(DOOR, address=GATEWAY_ADDRESS)
    assert verdict(report) == Verdict(Outcome.REFUSED, Reason.LOCK_UNREACHABLE)


@pytest.mark.parametrize("prepared", [False, True], ids=["open", "prepare"])
@pytest.mark.parametrize("loses", [False, True], ids=["arrives", "lost"])
async def test_cut_at_every_step(street: Street, loses: bool, prepared: bool) -> None:
    street.air.mtu = 100
    street.air.cut_loses_fragment = loses
    doorman, duty = street.doorman()
    outcomes = set()
    async with duty:
        for step in range(40):
            street.air.cut_at = step
            tap = asyncio.sleep(0) if prepared else None
            report = await street.phone.open_door(DOOR, tap=tap)
            street.air.cut_at = None
            outcomes.add(report.outcome)
            opened = doorman.opened.count(report.request)
            assert opened <= 1
            if report.outcome is Outcome.REFUSED:
                assert opened == 0
            if report.outcome is Outcome.UNKNOWN:
                later = await street.phone.ask_result(DOOR, report.request)
                assert (later.outcome is Outcome.CONFIRMED) == (opened == 1)
            if report.outcome is Outcome.CONFIRMED and report.attempts == 1:
                break
        else:
            pytest.fail("never got through")
    assert outcomes == {Outcome.CONFIRMED, Outcome.REFUSED, Outcome.UNKNOWN}


async def test_a_link_lost_once_is_repaired_without_opening_twice(street: Street) -> None:
    doorman, duty = street.doorman()

    def lose_first_result(fragment) -> bool:
        if fragment.connection == 0 and doorman.opened:
            street.air.connections[0].cut()
            return True
        return False

    street.air.drop = lose_first_result
    async with duty:
        report = await street.phone.open_door(DOOR)
    assert (verdict(report), report.attempts) == (OPENED, 2)
    assert doorman.opened == [report.request]
    assert [type(message) for message in doorman.heard] == [Open, GetResult]


def lose_the_open(street: Street) -> None:
    """The first connection dies while message_3 and Open are on the air."""
    steps = {"up": 0}

    def drop(fragment) -> bool:
        if fragment.connection or fragment.direction is Direction.TO_CENTRAL:
            return False
        steps["up"] += 1
        if fragment.data[2] & 0x80 and fragment.data[5] == 5:  # a record begins
            street.air.connections[0].cut()
            return True
        return False

    street.air.drop = drop


async def test_an_open_that_never_arrived_is_sent_again_with_the_same_id(street: Street) -> None:
    doorman, duty = street.doorman()
    lose_the_open(street)
    async with duty:
        report = await street.phone.open_door(DOOR)
    assert verdict(report) == OPENED
    assert [type(message) for message in doorman.heard] == [GetResult, Open]
    assert doorman.opened == [report.request]


async def test_but_not_long_after_the_tap(street: Street) -> None:
    doorman, duty = street.doorman()
    lose_the_open(street)
    street.phone.patience = Patience(scan_s=0.01, tap_valid_s=-1.0)
    async with duty:
        report = await street.phone.open_door(DOOR)
    assert verdict(report) == Verdict(Outcome.REFUSED, Reason.NEVER_ASKED)
    assert doorman.opened == []


async def test_turned_away_while_asking_again_stays_unknown(street: Street) -> None:
    doorman, duty = street.doorman()

    def vanish(fragment) -> bool:
        if fragment.connection == 0 and doorman.opened:
            doorman.identity = Operator().gateway()
            street.air.connections[0].cut()
        return False

    street.air.drop = vanish
    street.air.cut_loses_fragment = True
    async with duty:
        report = await street.phone.open_door(DOOR)
    assert verdict(report) in (UNKNOWN, OPENED)
    assert len(doorman.opened) == 1


async def test_captured_bytes_open_nothing_again(street: Street) -> None:
    doorman, duty = street.doorman()
    async with duty:
        await street.phone.open_door(DOOR)
        sent = street.air.fragments(0, Direction.TO_PERIPHERAL)
        link = await street.air.central().dial(GATEWAY_ADDRESS)
        await street.air.replay(link, sent)
        await until(lambda: link.closed)
    assert len(doorman.opened) == 1
    assert len(doorman.heard) == 1


async def test_cancelling_leaves_no_link(street: Street) -> None:
    doorman, duty = street.doorman()
    doorman.silent = True
    async with duty:
        opening = asyncio.create_task(street.phone.open_door(DOOR))
        await until(lambda: len(doorman.heard) == 1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        street.air.delay_s = 0.05
        opening = asyncio.create_task(street.phone.open_door(DOOR))
        await until(lambda: len(street.air.connections) == 2)
        await asyncio.sleep(0.01)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await until(lambda: not any(c.alive for c in street.air.connections))
