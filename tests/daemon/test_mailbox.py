"""Everything the operator says, by whatever courier: hostile ones, late ones, cut power."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto import cbor
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.adapters.sqlite import open_log
from gatewayd.cloud.authority import Authority, IssuerKey, new_key
from gatewayd.core import envelope, state
from gatewayd.core.envelope import EVERYBODY, Kind, Retire, Statement
from gatewayd.core.state import State, StateKind
from gatewayd.core.trust import sign_bundle
from gatewayd.core.trust_chain import pack
from gatewayd.mailbox import MAX_ENVELOPE_BYTES, ORDERS_NAME, REGISTER_NAME, Handlers, Mailbox
from gatewayd.ports import StorageError
from gatewayd.trusted import MEMORY_NAME, Trusted
from tests.support.memory_log import MemoryLog

NOW = 1_790_000_000
GATEWAY = "stairwell-7"
OPERATOR = Authority(
    "vestergade-7",
    *(ec.derive_private_key(number, ec.SECP256R1()) for number in range(2001, 2006)),
    issuers=(IssuerKey.create("housing"),),
)
ROOT = OPERATOR.root.public_key()


@dataclass
class Desk:
    """A handler of states and orders that writes down what it is told."""

    told: list[tuple[str, bytes]] = field(default_factory=list)
    obeyed: list[Statement] = field(default_factory=list)
    fails: bool = False

    def check(self, subject: str, body: bytes) -> None:
        if body.startswith(b"bad"):
            raise RemoteProtocolError(Fault.MALFORMED, "told to be bad")

    async def take(self, subject: str, body: bytes) -> None:
        if self.fails:
            raise StorageError("told to fail")
        self.told.append((subject, body))

    async def obey(self, order: Statement) -> None:
        if self.fails:
            raise StorageError("told to fail")
        self.obeyed.append(order)

    @property
    def handlers(self) -> Handlers:
        kinds = (StateKind.LIST, StateKind.SETTINGS)
        return Handlers(states=dict.fromkeys(kinds, self), orders={Kind.RETIRE: self.obey})


async def mailbox(memory: Any, desk: Desk, bundle: bytes | None = None) -> Mailbox:
    trusted = await Trusted.load(memory, bundle or OPERATOR.bundle(), ROOT)
    loaded = await Mailbox.load(GATEWAY, trusted, memory, lambda: NOW, desk.handlers)
    await loaded.start()
    return loaded


def says(serial: int, body: bytes = b"body", key=OPERATOR.command, **changes: Any) -> bytes:
    said = State(StateKind.SETTINGS, GATEWAY, "", serial, body)
    return state.sign(replace(said, **changes), key)


def retire(number: int = 1, key=OPERATOR.command, **changes: Any) -> bytes:
    order = Statement(
        Kind.RETIRE, GATEWAY, os.urandom(16), NOW + 60, Retire(0, bytes(32)).body(), number
    )
    return envelope.sign(replace(order, **changes), key)


def chain(*trusts, root=OPERATOR.root) -> bytes:
    return pack([sign_bundle(each, root) for each in trusts])


async def refused(box: Mailbox, data: bytes) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        await box.deliver(data)
    return caught.value.fault


# --- what arrives -----------------------------------------------------------------------------
async def test_a_state_is_told_once_and_again_at_the_next_start(tmp_path) -> None:
    async with open_log(tmp_path / "log.db") as log:
        desk = Desk()
        box = await mailbox(log, desk)
        await box.deliver(says(1))
        assert await refused(box, says(1)) is Fault.REPLAYED
        await box.deliver(says(3, b"later"))
        assert await refused(box, says(2, b"earlier")) is Fault.REPLAYED
        assert desk.told == [("", b"body"), ("", b"later")]
    async with open_log(tmp_path / "log.db") as log:
        again = Desk()
        box = await mailbox(log, again)
        assert again.told == [("", b"later")]
        assert box.holds(StateKind.SETTINGS) == b"later"
        assert box.holds(StateKind.BINDINGS) is None
        assert await refused(box, says(3, b"later")) is Fault.REPLAYED
        assert box.report().states == {"settings stairwell-7": 3}


async def test_only_what_wins_is_told() -> None:
    desk = Desk()
    box = await mailbox(MemoryLog(), desk)
    await box.deliver(says(1, b"ours"))
    await box.deliver(says(9, b"for all", addressee=EVERYBODY))
    await box.deliver(says(9, b"group", addressee="vestergade-7"))
    assert desk.told == [("", b"ours")]
    for kind, subject in ((StateKind.LIST, "x"), (StateKind.LIST, "y")):
        await box.deliver(says(1, subject.encode(), kind=kind, subject=subject))
    assert desk.told[1:] == [("x", b"x"), ("y", b"y")]


async def test_a_bad_body_is_not_stored_and_uses_no_serial_up() -> None:
    desk, memory = Desk(), MemoryLog()
    box = await mailbox(memory, desk)
    assert await refused(box, says(1, b"bad")) is Fault.MALFORMED
    assert await refused(box, says(1, kind=StateKind.BINDINGS)) is Fault.UNSUPPORTED
    assert await memory.load(REGISTER_NAME) is None
    await box.deliver(says(1, b"good"))
    assert desk.told == [("", b"good")]


async def test_a_handler_that_failed_is_told_again() -> None:
    desk = Desk(fails=True)
    box = await mailbox(MemoryLog(), desk)
    with pytest.raises(StorageError):
        await box.deliver(says(1, b"one"))
    desk.fails = False
    await box.deliver(says(1, b"other", kind=StateKind.LIST, subject="x"))
    assert sorted(desk.told) == [("", b"one"), ("x", b"other")]


async def test_what_is_for_somebody_else_or_of_somebody_else_is_not_for_us() -> None:
    box = await mailbox(MemoryLog(), Desk())
    assert await refused(box, says(1, addressee="stairwell-8")) is Fault.UNEXPECTED
    assert await refused(box, says(1, key=OPERATOR.time)) is Fault.AUTHENTICATION_FAILED
    assert await refused(box, retire(addressee="stairwell-8")) is Fault.UNEXPECTED
    assert await refused(box, retire(key=OPERATOR.root)) is Fault.AUTHENTICATION_FAILED
    assert await refused(box, retire(expires=NOW)) is Fault.CLOCK_EXPIRED
    assert await refused(box, bytes(MAX_ENVELOPE_BYTES + 1)) is Fault.TOO_LARGE


# --- orders -------------------------------------------------------------------------------------
async def test_an_order_is_carried_out_once_also_after_a_restart(tmp_path) -> None:
    order = retire()
    async with open_log(tmp_path / "log.db") as log:
        desk = Desk()
        box = await mailbox(log, desk)
        await box.deliver(order)
        assert await refused(box, order) is Fault.REPLAYED
    async with open_log(tmp_path / "log.db") as log:
        box = await mailbox(log, Desk())
        assert await refused(box, order) is Fault.REPLAYED
        assert await refused(box, retire(1)) is Fault.ID_REUSED
        assert box.report().orders == 1


async def test_an_order_that_was_cut_short_is_carried_out_again() -> None:
    desk, memory = Desk(fails=True), MemoryLog()
    box = await mailbox(memory, desk)
    order = retire()
    with pytest.raises(StorageError):
        await box.deliver(order)
    assert await memory.load(ORDERS_NAME) is None
    desk.fails = False
    await box.deliver(order)
    assert len(desk.obeyed) == 1


async def test_suppressed_and_reordered_orders_are_noticed_and_lose_nothing() -> None:
    desk = Desk()
    box = await mailbox(MemoryLog(), desk)
    orders = [retire(number) for number in (1, 2, 3, 4)]
    for at in (3, 1):
        await box.deliver(orders[at])
    assert box.report().orders_missing == ((1, 1), (3, 3))
    for at in (2, 0):
        await box.deliver(orders[at])
    assert box.report().orders_missing == ()
    assert len(desk.obeyed) == 4


async def test_what_only_a_carrier_can_answer_is_not_lost_on_another() -> None:
    box = await mailbox(MemoryLog(), Desk())
    pull = Statement(Kind.PULL, GATEWAY, bytes(16), NOW + 60, [0, 1])
    data = envelope.sign(pull, OPERATOR.command)
    assert await refused(box, data) is Fault.UNSUPPORTED
    answered: list[Statement] = []

    async def answer(order: Statement) -> None:
        answered.append(order)

    await box.deliver(data, {Kind.PULL: answer})
    assert answered == [pull]
    with pytest.raises(RemoteProtocolError):
        await box.deliver(data, {Kind.PULL: answer})


# --- trust ----------------------------------------------------------------------------------------
async def test_a_chain_is_followed_and_survives_and_an_old_file_does_not_bring_the_past_back(
    tmp_path,
) -> None:
    later = replace(OPERATOR.trust(3), issuers={})
    async with open_log(tmp_path / "log.db") as log:
        box = await mailbox(log, Desk())
        await box.deliver(chain(OPERATOR.trust(2), later))
        assert box.trusted.now == later
        assert await refused(box, chain(OPERATOR.trust(2), later)) is Fault.REPLAYED
        assert await refused(box, chain(OPERATOR.trust(1), OPERATOR.trust(2))) is Fault.REPLAYED
    async with open_log(tmp_path / "log.db") as log:  # the bundle on file is still the first
        box = await mailbox(log, Desk())
        assert box.trusted.now == later
        assert box.trusted.now.serial == 3


async def test_a_stolen_command_key_loses_to_its_successor_whatever_it_said() -> None:
    desk = Desk()
    box = await mailbox(MemoryLog(), desk)
    await box.deliver(says(2**63 - 1, b"thief"))
    heir = new_key()
    await box.deliver(chain(replace(OPERATOR.trust(2), command_key=heir.public_key())))
    assert await refused(box, says(2**63 - 1, b"more")) is Fault.AUTHENTICATION_FAILED
    assert await refused(box, retire(7)) is Fault.AUTHENTICATION_FAILED
    await box.deliver(says(1, b"owner", key=heir, addressee="vestergade-7"))
    assert desk.told == [("", b"thief"), ("", b"owner")]
    await box.deliver(retire(1, key=heir))
    assert box.report().orders_missing == ()


async def test_a_bundle_that_cannot_be_stored_does_not_count() -> None:
    memory = MemoryLog()
    box = await mailbox(memory, Desk())
    memory.failing = True
    for data in (chain(OPERATOR.trust(2)), says(1)):
        with pytest.raises(StorageError):
            await box.deliver(data)
    assert box.trusted.now.serial == 1
    memory.failing = False
    await box.deliver(chain(OPERATOR.trust(2)))
    await box.deliver(says(1))


async def test_another_bundle_that_is_installed_by_hand_counts() -> None:
    memory = MemoryLog()
    box = await mailbox(memory, Desk())
    await box.deliver(chain(OPERATOR.trust(2)))
    fork = sign_bundle(replace(OPERATOR.trust(2), issuers={}), OPERATOR.root)
    box = await mailbox(memory, Desk(), fork)
    assert box.trusted.now.issuers == {}


async def test_without_memory_trust_stays_what_it_is() -> None:
    trusted = Trusted(OPERATOR.trust(4))
    assert not await trusted.extend([OPERATOR.bundle(5)])
    assert trusted.introduced(b"any") == 4


# --- what a hostile courier brings -----------------------------------------------------------
@pytest.mark.parametrize("name", [REGISTER_NAME, ORDERS_NAME, MEMORY_NAME])
async def test_damage_is_said_and_not_taken_for_nothing(name) -> None:
    memory = MemoryLog()
    await mailbox(memory, Desk())
    await memory.store(name, b"\xff")
    with pytest.raises(StorageError, match="damaged"):
        await mailbox(memory, Desk())


GOOD = (says(1), retire(), chain(OPERATOR.trust(2)))


@pytest.mark.parametrize("data", GOOD, ids=["state", "order", "chain"])
async def test_cut_changed_or_longer_it_does_nothing(data) -> None:
    desk = Desk()
    box = await mailbox(MemoryLog(), desk)
    wrong = [data[:cut] for cut in range(0, len(data), 3)] + [data + b"\0"]
    wrong += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(0, len(data), 3)]
    for each in wrong:
        await refused(box, each)
    assert (desk.told, desk.obeyed, box.trusted.now.serial) == ([], [], 1)
    await box.deliver(data)


@given(
    st.lists(
        st.binary(max_size=60)
        | st.sampled_from(GOOD)
        | st.recursive(
            st.none() | st.binary(max_size=9) | st.integers(-9, 9) | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=5),
        ).map(cbor.encode),
        max_size=6,
    )
)
@settings(max_examples=60, deadline=None)
async def test_any_bytes_are_taken_or_refused(arrivals) -> None:
    desk = Desk()
    box = await mailbox(MemoryLog(), desk)
    for data in arrivals:
        try:
            await box.deliver(data)
        except RemoteProtocolError:
            continue
        assert data in GOOD
    assert len(desk.told) == (GOOD[0] in arrivals)
    assert len(desk.obeyed) == (GOOD[1] in arrivals)
