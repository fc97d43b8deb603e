"""Whose a lock is: claimed once, with label and button; anchored in order; reset by right only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.claiming import Purpose, proof
from firmware_proto.codes import LOCK_SERVICE_UUID, EventKind, Fault, Outcome, Reason
from firmware_proto.cose import key_id
from firmware_proto.framing import GattFraming
from firmware_proto.lock_messages import (
    Anchor,
    Bolt,
    Claim,
    Configure,
    Done,
    FactoryReset,
    GetState,
    Identify,
    State,
    Unbolt,
    Unlatch,
)
from firmware_proto.messages import FaultMessage, Message
from firmware_proto.statements import Anchoring, Reset
from gatewayd.core.model import Verdict
from gatewayd.emulators.lock import lock_credential
from gatewayd.emulators.lock_faults import PowerCut
from gatewayd.emulators.lock_memory import LockMemory, StoredCommand
from gatewayd.emulators.lock_owner import Introduction
from gatewayd.emulators.lock_state import Turn
from gatewayd.lock_connection import GatewayIdentity, LockConnection, LockIdentity, connect
from gatewayd.ports import LinkClosedError, RadioError
from tests.support import strangers
from tests.support.household import (
    DOOR,
    LOCK_ADDRESS,
    QUICK,
    LockSite,
    Operator,
    new_key,
    until,
)
from tests.support.links import FakeAir

SECRET = bytes(range(16))
ASKED = b"q" * 16
LATER = 2**40
CONFIRMED = (Outcome.CONFIRMED, Reason.OK)


class NewLock(LockSite):
    """A lock as it leaves the factory, and an operator with all its keys."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, FakeAir(), Operator())
        key = new_key()
        self.store.save(LockMemory(key, key_id(key.public_key()), "", None, claim_secret=SECRET))
        self.root, self.command = new_key(), new_key()
        self.gateway = self.operator.gateway()

    @property
    def memory(self) -> LockMemory:
        return self.store.load()

    def whom(self) -> LockIdentity:
        memory = self.memory
        credential = lock_credential(memory)
        return LockIdentity(LOCK_ADDRESS, memory.key.public_key(), credential, memory.key_id)

    def claim(self, binding: bytes, *, secret: bytes = SECRET, door: str = DOOR) -> Claim:
        return Claim(
            ASKED,
            door,
            proof(secret, binding, Purpose.CLAIM),
            self.root.public_key(),
            self.operator.key.public_key(),
            self.command.public_key(),
            4,
        )

    def anchor(self, serial: int, gateways: ec.EllipticCurvePrivateKey | None = None) -> Anchoring:
        gateways = gateways or self.operator.key
        return Anchoring(serial, gateways.public_key(), self.command.public_key())

    def claimed(self) -> None:
        """As after a claim."""
        memory = replace(
            self.memory,
            door=DOOR,
            gateways_key=self.operator.key.public_key(),
            root_key=self.root.public_key(),
            command_key=self.command.public_key(),
            serial=4,
            epoch=7,
        )
        self.store.save(memory)


@pytest.fixture
def site(tmp_path: Path) -> NewLock:
    return NewLock(tmp_path)


@contextlib.asynccontextmanager
async def connected(
    site: NewLock, gateway: GatewayIdentity | None = None
) -> AsyncIterator[LockConnection]:
    link = await site.air.central(LOCK_SERVICE_UUID).dial(LOCK_ADDRESS)
    connection = await connect(
        link,
        site.whom(),
        gateway or site.gateway,
        site.dice,
        framing=GattFraming(link.mtu, strangers.CHANNEL),
        remembered=None,
        heard=lambda _: None,
    )
    connection.start()
    try:
        yield connection
    finally:
        await connection.close()


async def told(connection: LockConnection, message: Message) -> tuple[Outcome, Reason]:
    answer = await connection.ask(message, 5.0)
    assert isinstance(answer, Done), answer
    return (answer.outcome, answer.reason)


def refused(reason: Reason) -> tuple[Outcome, Reason]:
    return (Outcome.REFUSED, reason)


def binding(connection: LockConnection) -> bytes:
    assert connection.binding is not None
    return connection.binding


# --- claiming ---------------------------------------------------------------------------------
async def test_label_and_button_make_it_the_lock_of_a_door(site: NewLock) -> None:
    async with site.power() as lock, connected(site) as link:
        lock.owner.press()
        assert await told(link, site.claim(binding(link))) == CONFIRMED
    memory = site.memory
    assert (memory.door, memory.epoch, memory.serial, memory.generation) == (DOOR, 2, 4, 3)
    assert memory.secret is None
    assert memory.events[-1].kind is EventKind.CLAIMED
    async with site.power(), connected(site) as link:
        assert await told(link, Unlatch(b"l" * 16, LATER, 1)) == CONFIRMED
        assert site.memory.secret is not None
    assert site.machine.openings == 1


async def test_it_hangs_up_after_a_claim_and_is_nobodys_no_more(site: NewLock) -> None:
    async with site.power() as lock, connected(site) as link:
        lock.owner.press()
        await told(link, site.claim(binding(link)))
        async with asyncio.timeout(3):
            await link.gone()
    async with site.power() as lock, connected(site) as link:
        lock.owner.press()
        again = await told(link, site.claim(binding(link)))
        assert again == refused(Reason.ALREADY_CLAIMED)


async def test_a_captured_claim_is_of_one_connection(site: NewLock) -> None:
    async with site.power() as lock:
        async with connected(site) as link:
            captured = site.claim(binding(link))
        async with connected(site) as link:
            lock.owner.press()
            assert await told(link, captured) == refused(Reason.BAD_CLAIM)
    assert not site.memory.claimed


async def test_what_is_missing_is_said_in_order(site: NewLock) -> None:
    foreign = site.operator.gateway(signer=new_key())
    elsewhere = site.operator.gateway(doors={"cellar": 1})
    async with site.power() as lock:
        async with connected(site) as link:
            wrong = site.claim(binding(link), secret=bytes(16))
            assert await told(link, wrong) == refused(Reason.BAD_CLAIM)
            assert await told(link, site.claim(binding(link))) == refused(Reason.BUTTON_NEEDED)
            lock.owner.press()
            site.clock.skip_s += 121
            assert await told(link, site.claim(binding(link))) == refused(Reason.BUTTON_NEEDED)
            lock.owner.press()
        for gateway, reason in (
            (foreign, Reason.UNTRUSTED_GATEWAY),
            (elsewhere, Reason.WRONG_GATEWAY_DOOR),
        ):
            async with connected(site, gateway) as link:
                assert await told(link, site.claim(binding(link))) == refused(reason)
        assert not site.memory.claimed
        async with connected(site) as link:
            assert await told(link, site.claim(binding(link))) == CONFIRMED


async def test_nobodys_lock_moves_for_nobody_and_remembers_no_session(site: NewLock) -> None:
    stranger = Operator().gateway()
    async with site.power(), connected(site, stranger) as link:
        assert isinstance(await link.ask(GetState(ASKED), 5.0), State)
        assert link.remembered is not None
        for message in (
            *(Unlatch(ASKED, LATER, 1), Unbolt(ASKED, LATER), Bolt(ASKED, LATER)),
            *(Configure(ASKED, 5_000), Anchor(ASKED, b"a"), FactoryReset(ASKED, bytes(32))),
        ):
            assert await told(link, message) == refused(Reason.UNCLAIMED)
        assert link.hello.session is None
    assert site.memory.secret is None
    assert site.machine.ledger == []


async def test_nobodys_lock_refuses_what_is_no_credential(site: NewLock) -> None:
    gateway = GatewayIdentity(site.gateway.key, site.operator.token(site.gateway.key))
    async with site.power():
        with pytest.raises((RadioError, LinkClosedError)):
            async with connected(site, gateway) as link:
                await link.ask(GetState(ASKED), 2.0)


@pytest.mark.parametrize(
    ("cut", "stored"),
    [
        (PowerCut.BEFORE_STORING, False),
        (PowerCut.AFTER_STORING, True),
        (PowerCut.BEFORE_ANSWER, True),
    ],
)
async def test_power_may_go_at_any_point_of_a_claim(
    site: NewLock, cut: PowerCut, stored: bool
) -> None:
    site.faults.power_cut = cut
    async with site.power() as lock, connected(site) as link:
        lock.owner.press()
        with pytest.raises(LinkClosedError):
            await told(link, site.claim(binding(link)))
    assert site.memory.claimed is stored
    async with site.power() as lock, connected(site) as link:
        if stored:
            assert await told(link, Unlatch(b"l" * 16, LATER, 1)) == CONFIRMED
        else:
            assert await told(link, site.claim(binding(link))) == refused(Reason.BUTTON_NEEDED)
            lock.owner.press()
            assert await told(link, site.claim(binding(link))) == CONFIRMED


# --- anchors ----------------------------------------------------------------------------------
async def test_anchors_follow_each_other(site: NewLock) -> None:
    site.claimed()
    newer = new_key()
    replacement = site.operator.gateway(signer=newer, doors={DOOR: 9})
    async with site.power():
        async with connected(site) as link:
            for serial, reason in ((4, Reason.OLD_STATEMENT), (6, Reason.OLD_STATEMENT)):
                statement = site.anchor(serial).sign(site.root)
                assert await told(link, Anchor(ASKED, statement)) == refused(reason)
            foreign = site.anchor(5).sign(new_key())
            assert await told(link, Anchor(ASKED, foreign)) == refused(Reason.BAD_SIGNATURE)
            other = Reset(site.memory.key_id, 7).sign(site.root)
            assert await told(link, Anchor(ASKED, other)) == refused(Reason.MALFORMED_TOKEN)
            good = site.anchor(5, newer).sign(site.root)
            assert await told(link, Anchor(ASKED, good)) == CONFIRMED
            assert await told(link, Anchor(ASKED, good)) == refused(Reason.OLD_STATEMENT)
        with pytest.raises((RadioError, LinkClosedError)):
            async with connected(site) as link:  # signed by the key that went
                await link.ask(GetState(ASKED), 2.0)
        async with connected(site, replacement) as link:
            assert await told(link, Unlatch(b"l" * 16, LATER, 1)) == CONFIRMED
    assert (site.memory.serial, site.memory.generation) == (5, 9)
    kinds = [event.kind for event in site.memory.events]
    assert EventKind.ANCHORED in kinds


async def test_a_lock_that_was_made_claimed_knows_no_root(site: NewLock) -> None:
    site.claimed()
    site.store.save(replace(site.memory, root_key=None, command_key=None))
    async with site.power(), connected(site) as link:
        statement = site.anchor(5).sign(site.root)
        assert await told(link, Anchor(ASKED, statement)) == refused(Reason.BAD_SIGNATURE)
        reset = Reset(site.memory.key_id, 7).sign(site.command)
        asked = FactoryReset(ASKED, statement=reset)
        assert await told(link, asked) == refused(Reason.BAD_SIGNATURE)


# --- resets -----------------------------------------------------------------------------------
async def test_label_and_button_make_it_nobodys(site: NewLock) -> None:
    site.claimed()
    async with site.power() as lock, connected(site) as link:
        reset = FactoryReset(ASKED, proof(SECRET, binding(link), Purpose.RESET))
        claim = FactoryReset(ASKED, proof(SECRET, binding(link), Purpose.CLAIM))
        assert await told(link, reset) == refused(Reason.BUTTON_NEEDED)
        lock.owner.press()
        assert await told(link, claim) == refused(Reason.BAD_CLAIM)
        assert await told(link, Configure(ASKED, 5_000)) == CONFIRMED
        assert site.memory.ajar_ms == 5_000
        assert await told(link, reset) == CONFIRMED
    memory = site.memory
    assert (memory.claimed, memory.epoch, memory.serial, memory.generation) == (False, 8, 0, 0)
    assert memory.gateways_key is memory.root_key is memory.command_key is memory.secret is None
    assert (memory.commands, memory.events, memory.ajar_ms) == ((), (), None)
    assert memory.claim_secret == SECRET


async def test_the_operator_resets_without_a_visit_once(site: NewLock) -> None:
    site.claimed()
    named = Reset(site.memory.key_id, 7)
    good = FactoryReset(ASKED, statement=named.sign(site.command))
    async with site.power(), connected(site) as link:
        for statement, reason in (
            (named.sign(site.root), Reason.BAD_SIGNATURE),
            (Reset(named.key_id, 6).sign(site.command), Reason.OLD_STATEMENT),
            (Reset(bytes(8), 7).sign(site.command), Reason.OLD_STATEMENT),
        ):
            asked = FactoryReset(ASKED, statement=statement)
            assert await told(link, asked) == refused(reason)
        assert await told(link, good) == CONFIRMED
    assert not site.memory.claimed
    async with site.power() as lock, connected(site) as link:
        lock.owner.press()
        assert await told(link, site.claim(binding(link))) == CONFIRMED
    async with site.power(), connected(site) as link:
        assert await told(link, good) == refused(Reason.OLD_STATEMENT)
    assert site.memory.claimed


async def test_a_reset_takes_one_proof_and_no_running_command(site: NewLock) -> None:
    site.claimed()
    async with site.power() as lock, connected(site) as link:
        for asked in (FactoryReset(ASKED), FactoryReset(ASKED, bytes(32), b"both")):
            answer = await link.ask(asked, 5.0)
            assert answer == FaultMessage(ASKED, Fault.MALFORMED)
        running = StoredCommand(b"r" * 16, bytes(32), Turn.UNLATCH)
        lock.body.keep(lock.body.memory.begun(running))
        answer = await link.ask(FactoryReset(ASKED, bytes(32)), 5.0)
        assert answer == FaultMessage(ASKED, Fault.BUSY)
        lock.body.keep(lock.body.memory.settled(running.id, Verdict(*CONFIRMED)))


# --- settings, lamp, store ----------------------------------------------------------------------
async def test_it_blinks_and_keeps_its_settings(site: NewLock) -> None:
    site.claimed()
    blinked: list[int] = []
    async with site.power() as lock, connected(site) as link:
        lock.owner.on_identify = blinked.append
        assert await told(link, Identify(ASKED, 3_000)) == CONFIRMED
        assert await told(link, Configure(ASKED, 1_000)) == CONFIRMED
        lock.body.move_door(is_open=True)
        await until(lambda: lock.body.mechanics.ajar_due_ms is not None)
        due = lock.body.mechanics.ajar_due_ms
        assert due is not None
        assert 0 < due - lock.body.now_ms <= 1_000
    assert blinked == [3_000]
    assert site.memory.ajar_ms == 1_000


async def test_the_store_keeps_an_owner(site: NewLock) -> None:
    assert site.memory.gateways_key is None
    assert site.memory.claim_secret == SECRET
    site.claimed()
    found = site.memory
    assert found.root_key == site.root.public_key()
    assert found.command_key == site.command.public_key()


# --- several links at once ----------------------------------------------------------------------
TWO = replace(QUICK, links=2)


async def moved_nothing(connection: LockConnection, lock_site: LockSite) -> bool:
    """Whether a command on this connection comes to nothing, and the lock hangs up."""
    with contextlib.suppress(LinkClosedError, TimeoutError):
        await connection.ask(Unlatch(b"x" * 16, LATER, 1), 5.0)
    async with asyncio.timeout(3):
        await connection.gone()
    return lock_site.machine.openings == 0


async def test_whoever_came_before_the_claim_commands_nothing_after_it(site: NewLock) -> None:
    thief = Operator().gateway()
    async with (
        site.power(TWO) as lock, connected(site, thief) as early, connected(site) as link,
    ):  # fmt: skip
        assert await told(early, Unlatch(ASKED, LATER, 1)) == refused(Reason.UNCLAIMED)
        lock.owner.press()
        assert await told(link, site.claim(binding(link))) == CONFIRMED
        assert await moved_nothing(early, site)


async def test_two_at_once_claim_it_once(site: NewLock) -> None:
    async with site.power(TWO) as lock, connected(site) as one, connected(site) as two:
        lock.owner.press()
        both = (told(each, site.claim(binding(each))) for each in (one, two))
        ends = await asyncio.gather(*both, return_exceptions=True)
    assert ends.count(CONFIRMED) == 1
    assert site.memory.epoch == 2


async def test_a_lower_generation_loses_its_open_link_and_its_new_session(site: NewLock) -> None:
    site.claimed()
    old, new = site.operator.gateway(), site.operator.gateway(doors={DOOR: 4})
    async with site.power(TWO), connected(site, old) as stolen:
        assert isinstance(await stolen.ask(GetState(ASKED), 5.0), State)
        async with connected(site, new) as link:
            assert isinstance(await link.ask(GetState(ASKED), 5.0), State)
            secret = site.memory.secret
            assert await moved_nothing(stolen, site)
            assert site.memory.secret == secret
    assert site.memory.generation == 4


async def test_a_session_of_a_lower_generation_is_not_remembered(site: NewLock) -> None:
    site.claimed()
    old, new = site.operator.gateway(), site.operator.gateway(doors={DOOR: 4})
    async with site.power(TWO), connected(site, old) as slow:
        site.faults.answer_after_s = 0.5
        asking = asyncio.create_task(slow.ask(GetState(ASKED), 5.0))
        await until(lambda: site.memory.generation == 3)  # it is believed, and not answered yet
        await asyncio.sleep(0.05)
        site.faults.answer_after_s = 0
        async with connected(site, new) as link:
            assert isinstance(await link.ask(GetState(ASKED), 5.0), State)
            secret = site.memory.secret
            with contextlib.suppress(LinkClosedError):
                await asking
            assert link.remembered is not None
            assert secret == site.memory.secret == link.remembered.secret


async def test_an_anchor_ends_the_links_of_the_old_keys(site: NewLock) -> None:
    site.claimed()
    async with site.power(TWO), connected(site) as thief, connected(site) as link:
        assert isinstance(await thief.ask(GetState(ASKED), 5.0), State)
        anchor = Anchor(ASKED, site.anchor(5, new_key()).sign(site.root))
        assert await told(link, anchor) == CONFIRMED
        assert await moved_nothing(thief, site)
        assert isinstance(await link.ask(GetState(ASKED), 5.0), State)


async def test_one_press_serves_once(site: NewLock) -> None:
    site.claimed()
    async with site.power() as lock, connected(site) as link:
        lock.owner.press()
        reset = FactoryReset(ASKED, proof(SECRET, binding(link), Purpose.RESET))
        assert await told(link, reset) == CONFIRMED
        introduced = Introduction(site.gateway.credential, b"b" * 32)
        again = lock.owner.answer(site.claim(b"b" * 32), introduced)
        assert again == Done(ASKED, *refused(Reason.BUTTON_NEEDED), lock.body.now_ms)
