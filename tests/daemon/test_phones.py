"""What holders get, what strangers get, and that no link ever waits for another one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_proto import cbor
from firmware_proto.codes import Action, Fault, Outcome, Presence, Reason
from firmware_proto.messages import FaultMessage, GetResult
from firmware_proto.phone_messages import Open, Prepare, Result
from firmware_proto.session import ERROR_FRAME
from gatewayd.cloud.authority import IssuerKey
from gatewayd.core import receipt
from gatewayd.core.model import DoorId, EntryKind, Verdict
from gatewayd.emulators.visit import Answer, Visit
from gatewayd.emulators.wallet import Wallet
from gatewayd.ports import LinkClosedError
from tests.support import strangers
from tests.support.gateway import GATEWAY_ADDRESS, STREET, LoopTime, Site, barge_in, gateway
from tests.support.household import NOW, new_key, until
from tests.support.links import Direction, FakeLink

ASKED = b"0123456789abcdef"


def opening(request: bytes = ASKED, door: str = STREET) -> Open:
    return Open(request, door, Action.OPEN, Presence.TAP)


@contextlib.asynccontextmanager
async def visiting(site: Site, wallet: Wallet | None = None) -> AsyncIterator[Visit]:
    link = await site.air.central().dial(GATEWAY_ADDRESS)
    there = await barge_in(link, wallet or site.building.wallet())
    try:
        yield there
    finally:
        await there.leave()


def said(answer: Answer) -> tuple[Outcome, Reason]:
    assert isinstance(answer, Result)
    return answer.outcome, answer.reason


async def constant_error(link: FakeLink) -> None:
    """The link ends, and all it carried was the one constant error."""
    heard = await strangers.thrown_out(link, 5.0)
    framing = strangers.framing(link)
    framing.cut(b"x")
    messages = [message for fragment in heard for message in framing.receive(fragment)]
    assert messages[-1:] == [ERROR_FRAME], messages
    assert all(message[0] == 2 for message in messages[:-1])


# --- holders ------------------------------------------------------------------------------
async def test_one_connection_serves_prepare_open_and_get_result(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site, visiting(site) as there:
        assert said(await there.ask(Prepare(STREET))) == (Outcome.CONFIRMED, Reason.OK)
        opened = await there.ask(opening())
        assert isinstance(opened, Result)
        assert said(opened) == (Outcome.CONFIRMED, Reason.OK)
        again = await there.ask(GetResult(ASKED, None))
        assert again == opened
        signed = receipt.verify(opened.receipt, site.building.keys.receipt.public_key())
        entry = site.log.entries[signed.seq]
        assert (entry.kind, signed.door, signed.origin) == (
            EntryKind.OUTCOME,
            STREET,
            "example.org/log",
        )
        assert site.openings == 1


async def test_what_is_refused_is_refused_for_its_reason(tmp_path: Path) -> None:
    building_kinds = []
    async with gateway(tmp_path, doors=("street", "cellar")) as site:
        keys = site.building
        expired = keys.wallet(expires=NOW - 1)
        elsewhere = keys.wallet(doors=("cellar",))
        foreign = keys.wallet(audience="another house")
        for wallet, reason in (
            (expired, Reason.EXPIRED),
            (elsewhere, Reason.WRONG_DOOR),
            (foreign, Reason.WRONG_AUDIENCE),
        ):
            async with visiting(site, wallet) as there:
                assert said(await there.ask(Prepare(STREET))) == (Outcome.REFUSED, reason)
                assert said(await there.ask(opening())) == (Outcome.REFUSED, reason)
                building_kinds.append(EntryKind.REFUSAL)
        assert site.openings == 0
        assert site.kinds() == building_kinds


async def test_a_door_that_nobody_knows(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site, visiting(site) as there:
        unknown = (Outcome.REFUSED, Reason.UNKNOWN_DOOR)
        assert said(await there.ask(Prepare("attic"))) == unknown
        assert said(await there.ask(opening(door="attic"))) == unknown
        assert [entry.verdict for entry in site.log.entries] == [Verdict(*unknown)]


async def test_a_result_that_nobody_asked_for(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site, visiting(site) as there:
        never = (Outcome.REFUSED, Reason.NEVER_ASKED)
        assert said(await there.ask(GetResult(ASKED, None))) == never
        await there.ask(opening())
        async with visiting(site) as another:
            assert said(await another.ask(GetResult(ASKED, None))) == never


async def test_a_result_while_it_runs_and_while_the_log_cannot_be_read(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        wallet = site.building.wallet()
        site.building.locks[STREET].machine.motor_ms = 300
        async with visiting(site, wallet) as first, visiting(site, wallet) as second:
            running = asyncio.create_task(first.ask(opening()))
            await until(lambda: EntryKind.INTENT in site.kinds())
            asked = await second.ask(GetResult(ASKED, None))
            assert asked == await running
            site.log.unreadable = True
            asked = await second.ask(GetResult(ASKED, None))
            assert said(asked) == (Outcome.CONFIRMED, Reason.OK), "this run remembers"
            site.gateway.around.log._recent._held.clear()  # as the next one does not
            asked = await second.ask(GetResult(ASKED, None))
            assert said(asked) == (Outcome.REFUSED, Reason.LOG_UNAVAILABLE)


async def test_a_known_request_with_other_content_is_a_fault(tmp_path: Path) -> None:
    async with gateway(tmp_path, doors=("street", "cellar")) as site, visiting(site) as there:
        await there.ask(opening())
        fault = await there.ask(opening(door="cellar"))
        assert fault == FaultMessage(ASKED, Fault.ID_REUSED)
        assert site.building.locks["cellar"].machine.openings == 0


async def test_a_fault_is_not_answered_with_a_fault(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site, visiting(site) as there:
        await there._talk.send(FaultMessage(None, Fault.MALFORMED))
        with pytest.raises(LinkClosedError):
            await there._talk.next_event()
        await until(lambda: site.gateway.phones.counts == {"refused us": 1})


async def test_an_idle_holder_is_let_go_after_ten_seconds(tmp_path: Path) -> None:
    time = LoopTime()
    async with gateway(tmp_path) as site, visiting(site) as there:
        await there.ask(Prepare(STREET))
        await time.skip(9.5)
        assert said(await there.ask(Prepare(STREET))) == (Outcome.CONFIRMED, Reason.OK)
        await time.skip(10.1)
        assert await strangers.thrown_out(there._talk.link, 5.0) == []
        await until(lambda: site.gateway.phones.counts == {"too slow": 1})


# --- strangers -------------------------------------------------------------------------------
async def test_every_stranger_gets_the_same_answer(tmp_path: Path) -> None:
    """Who has a forged token, a damaged or a stolen one, cannot tell which it was."""
    async with gateway(tmp_path) as site:
        building = site.building
        holder = building.wallet()
        signature = cbor.decode(holder.token)[3]
        damaged = holder.token.replace(signature, signature[:-1] + bytes([signature[-1] ^ 1]))
        for wallet, reason in (
            (building.wallet(issuer=IssuerKey.create("housing")), "untrusted_issuer"),
            (replace(holder, key=new_key()), "bad_proof"),
            (replace(holder, token=cbor.encode([b"", {}, b"", b""])), "malformed_token"),
            (replace(holder, token=damaged), "bad_signature"),
        ):
            async with visiting(site, wallet) as there:
                assert await there.ask(opening()) is None
                heard = site.air.fragments(there._talk.link.connection, Direction.TO_CENTRAL)
                assert heard[-1][5:] == ERROR_FRAME
            assert site.gateway.phones.counts[f"stranger: {reason}"] == 1
        link = await site.air.central().dial(GATEWAY_ADDRESS)
        await strangers.forged_message_3(link, seed=1)
        await constant_error(link)
        assert site.gateway.phones.counts["our fault"] == 0
        assert site.kinds() == []


async def test_a_phone_that_refuses_the_gateway_is_no_stranger(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        for with_message_3 in (False, True):
            link = await site.air.central().dial(GATEWAY_ADDRESS)
            there = await barge_in(link, site.building.wallet())
            if with_message_3:
                await there._talk.flush()
            await strangers.write(link, there._talk.session._framing.cut(ERROR_FRAME))
            await strangers.thrown_out(link, 5.0)
        await until(lambda: site.gateway.phones.counts == {"refused us": 2})


async def test_strangers_are_counted_into_one_entry_a_minute(tmp_path: Path) -> None:
    time = LoopTime()
    async with gateway(tmp_path) as site:
        counting = asyncio.create_task(site.gateway.around.refusals.count())
        for seed in range(7):
            link = await site.air.central().dial(GATEWAY_ADDRESS)
            await strangers.babble(link, seed)
            await strangers.thrown_out(link, 5.0)
        assert site.kinds() == []
        await time.skip(61)
        await until(lambda: len(site.kinds()) == 1)
        await time.skip(61)
        await time.skip(1.1)
        (entry,) = site.log.entries
        assert (entry.kind, entry.about, entry.verdict.reason) == (
            EntryKind.STRANGERS,
            7,
            Reason.STRANGER,
        )
        counting.cancel()


async def test_a_log_that_fails_does_not_stop_the_counting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    time = LoopTime()
    async with gateway(tmp_path) as site:
        counting = asyncio.create_task(site.gateway.around.refusals.count())
        await asyncio.sleep(0)
        site.log.failing = True
        link = await site.air.central().dial(GATEWAY_ADDRESS)
        await strangers.babble(link, 1)
        await strangers.thrown_out(link, 5.0)
        await time.skip(61)
        await until(lambda: "not recorded" in caplog.text)
        assert not counting.done()
        counting.cancel()


# --- links -------------------------------------------------------------------------------------
async def test_a_link_that_does_not_close_delays_nobody(tmp_path: Path) -> None:
    """Hanging up on a phone out of reach takes a second; others are served meanwhile."""

    async def hanging() -> None:
        await asyncio.sleep(60)

    async with gateway(tmp_path, cap=1) as site:
        for _ in range(3):
            link = await site.air.central().dial(GATEWAY_ADDRESS)
            site.air.connections[link.connection].peripheral_end.close = hanging
            await strangers.babble(link, 1)
        report = await site.phone().open_door(STREET, address=GATEWAY_ADDRESS)
        assert report.outcome is Outcome.CONFIRMED
        assert report.timings.total_s < 5


async def test_a_phone_that_takes_nothing_any_more_is_let_go(tmp_path: Path) -> None:
    time = LoopTime()
    async with gateway(tmp_path) as site:
        link = await site.air.central().dial(GATEWAY_ADDRESS)

        async def stalled(_fragment: bytes) -> None:
            await asyncio.sleep(60)

        site.air.connections[link.connection].peripheral_end.write = stalled
        await strangers.half_handshake(link)
        await asyncio.sleep(0.05)
        await time.skip(3.1)
        assert await strangers.thrown_out(link, 5.0) == []
        await until(lambda: site.gateway.phones.counts["left"] == 1)


async def test_a_holder_is_not_evicted_while_his_door_moves(tmp_path: Path) -> None:
    async with gateway(tmp_path, cap=1) as site:
        site.building.locks[STREET].machine.motor_ms = 1500
        async with visiting(site) as there:
            asking = asyncio.create_task(there.ask(opening()))
            await until(lambda: EntryKind.INTENT in site.kinds())
            site.building.clock.skip_s += 30  # long idle, by the clock
            async with visiting(site) as second:
                ready = await second.ask(Prepare(STREET))
                assert ready.outcome is Outcome.CONFIRMED
                assert (await asking).outcome is Outcome.CONFIRMED


async def test_an_idle_holder_yields_to_the_next_one(tmp_path: Path) -> None:
    async with gateway(tmp_path, cap=1) as site:
        async with visiting(site) as first:
            await first.ask(Prepare(STREET))
            site.building.clock.skip_s += 9.8
            async with visiting(site) as second:
                ready = await second.ask(Prepare(STREET))
                assert ready.outcome is Outcome.CONFIRMED
                assert await strangers.thrown_out(first._talk.link, 5.0) == []
        assert site.gateway.phones.counts["evicted"] == 1


async def test_beyond_the_cap_links_wait_for_their_turn(tmp_path: Path) -> None:
    """Where the radio accepts more than the gateway serves."""
    async with gateway(tmp_path, cap=2) as site:
        links = [await site.air.central().dial(GATEWAY_ADDRESS) for _ in range(6)]
        await asyncio.sleep(0.05)
        assert len(site.gateway.phones._links.held) == 3
        report = await site.phone().open_door(STREET, address=GATEWAY_ADDRESS)
        assert report.outcome is Outcome.CONFIRMED
        for link in links:
            await link.close()
        await until(lambda: not site.gateway.phones._serving)


async def test_a_fault_of_ours_costs_one_link_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path) as site:
        door = site.gateway.doors[DoorId(STREET)]
        door._rights = None  # nonsense, as a bug would leave it
        identity = site.building.wallet()
        async with visiting(site, identity) as there:
            with pytest.raises(LinkClosedError):
                await there.ask(Prepare(STREET))
        await until(lambda: site.gateway.phones.counts["our fault"] == 1)
        assert "a fault of ours" in caplog.text
        async with visiting(site) as there:
            answer = await there.ask(GetResult(ASKED, None))
            assert answer.reason is Reason.NEVER_ASKED
        caplog.clear()


async def test_replaying_a_holders_record_on_the_same_link_is_logged_and_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with gateway(tmp_path) as site, visiting(site) as there:
        await there.ask(opening())
        link = there._talk.link
        await there._talk.send(Prepare(STREET))
        record = site.air.fragments(link.connection, Direction.TO_PERIPHERAL)[-1]
        await there._talk.next_event()
        flags = (record[2] + 1) & 0x3F | record[2] & 0xC0
        await link.write(record[:2] + bytes([flags]) + record[3:])
        await strangers.thrown_out(link, 5.0)
        assert site.gateway.phones.counts["broken: replayed"] == 1
        assert site.kinds() == [EntryKind.INTENT, EntryKind.OUTCOME, EntryKind.REFUSAL]
        assert site.openings == 1
