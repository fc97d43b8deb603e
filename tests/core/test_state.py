"""State envelopes, what of them holds, and which numbered orders are missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.cose import key_id
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from gatewayd.core import state
from gatewayd.core.envelope import EVERYBODY, Kind, Statement
from gatewayd.core.orders import (
    MAX_HOLES,
    MAX_REMEMBERED,
    DamagedOrdersError,
    Hole,
    Orders,
)
from gatewayd.core.register import (
    MAX_SLOTS,
    DamagedRegisterError,
    Held,
    Register,
    Slot,
    decode_names,
    encode_names,
)
from gatewayd.core.state import MAX_STATE_BYTES, STATE_TYPE, State, StateKind
from gatewayd.core.trust import Role, Trust

COMMAND, NEXT, OTHER = (ec.derive_private_key(n, ec.SECP256R1()) for n in (31, 32, 33))
TRUST = Trust(
    *(1, "house-7", {}, OTHER.public_key(), COMMAND.public_key()),
    *(OTHER.public_key(), OTHER.public_key()),
    others={Role.COMMAND: (NEXT.public_key(),)},
)
SAID = State(StateKind.SETTINGS, "gw-1", "", 7, b"body")
GOOD = state.sign(SAID, COMMAND)
FIELDS = cbor.decode(cose.Sign1.parse(GOOD).payload)
US = ("gw-1", "house-7", EVERYBODY)


def fault_of(data: bytes) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        state.verify(data, TRUST)
    return caught.value.fault


def signed(fields, typ=STATE_TYPE, key=COMMAND, **headers) -> bytes:
    return cose.sign1(cbor.encode(fields), key, protected={cose.HEADER_TYP: typ}, **headers)


# --- the envelope -------------------------------------------------------------------------
def test_any_command_key_of_the_bundle_signs():
    for key in (COMMAND, NEXT):
        assert state.verify(state.sign(SAID, key), TRUST) == (SAID, key_id(key.public_key()))
    assert fault_of(state.sign(SAID, OTHER)) is Fault.AUTHENTICATION_FAILED


def test_another_type_of_statement_is_refused():
    assert signed(FIELDS) == GOOD
    assert fault_of(signed(FIELDS, typ="application/other")) is Fault.MALFORMED
    assert fault_of(signed(FIELDS, unprotected={4: b"k"})) is Fault.MALFORMED
    assert fault_of(cose.sign1(cbor.encode(FIELDS), COMMAND, protected={})) is Fault.MALFORMED


@pytest.mark.parametrize(
    ("position", "value"),
    [
        *((0, 2), (0, True), (1, 1), (1, True), (1, "1"), (2, b"gw-1"), (2, ""), (2, "x" * 65)),
        *((3, None), (3, "x" * 65), (4, 0), (4, True), (4, 2**63), (5, "body"), (5, [])),
    ],
)
def test_every_field_is_checked(position, value):
    fields = [*FIELDS[:position], value, *FIELDS[position + 1 :]]
    assert fault_of(signed(fields)) is Fault.MALFORMED


def test_truncated_longer_or_too_large_is_refused():
    for length in range(len(GOOD)):
        assert fault_of(GOOD[:length]) is Fault.MALFORMED
    assert fault_of(GOOD + b"\0") is Fault.MALFORMED
    assert fault_of(bytes(MAX_STATE_BYTES + 1)) is Fault.MALFORMED


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(position, change):
    data = bytearray(GOOD)
    data[position] ^= change
    assert fault_of(bytes(data)) in {
        *(Fault.MALFORMED, Fault.AUTHENTICATION_FAILED, Fault.UNSUPPORTED),
    }


def test_what_no_gateway_would_take_is_not_signed():
    for wrong in (replace(SAID, serial=0), replace(SAID, body=bytes(MAX_STATE_BYTES))):
        with pytest.raises(LocalProtocolError):
            state.sign(wrong, COMMAND)


# --- what holds -----------------------------------------------------------------------------
A, B = b"a" * 8, b"b" * 8
EMPTY = Register(US)


def put(register: Register, said: State, signer=A, introduced=1, named=(A, B)) -> Register:
    return register.with_state(said, signer=signer, introduced=introduced, named=named)[1]


def refused(register: Register, said: State, **how) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        put(register, said, **how)
    return caught.value.fault


def body(register: Register, kind=StateKind.SETTINGS, subject="", named=(A, B)) -> bytes | None:
    winner = register.winner(kind, subject, named)
    return None if winner is None else winner.body


def test_the_highest_serial_wins_and_none_comes_back():
    register = put(EMPTY, SAID)
    assert body(register) == b"body"
    assert refused(register, SAID) is Fault.REPLAYED
    assert refused(register, replace(SAID, serial=6)) is Fault.REPLAYED
    assert refused(register, replace(SAID, body=b"other")) is Fault.ID_REUSED
    assert body(put(register, replace(SAID, serial=9, body=b"later"))) == b"later"


def test_a_later_key_begins_anew_however_high_the_serials_of_the_one_before():
    register = put(EMPTY, replace(SAID, serial=2**62, body=b"thief"))
    register = put(register, replace(SAID, serial=1, body=b"after"), signer=B, introduced=2)
    assert body(register) == b"after"
    assert refused(register, replace(SAID, serial=2**63 - 1)) is Fault.REPLAYED


def test_gateway_goes_before_group_before_all():
    register = EMPTY
    for addressee in reversed(US):
        said = replace(SAID, addressee=addressee, body=addressee.encode())
        register = put(register, said)
        assert body(register) == addressee.encode()
    for addressee in US:
        said = replace(SAID, addressee=addressee, serial=9)
        assert body(put(register, said)) == (b"body" if addressee == "gw-1" else b"gw-1")


def test_somebody_else_is_not_us():
    assert refused(EMPTY, replace(SAID, addressee="gw-2")) is Fault.UNEXPECTED


def test_what_a_key_said_that_went_holds_until_its_successor_speaks_at_any_level():
    register = put(EMPTY, replace(SAID, serial=99, body=b"old"))
    assert body(register, named=(B,)) == b"old"
    said = replace(SAID, addressee=EVERYBODY, serial=1, body=b"new")
    assert body(put(register, said, signer=B, introduced=2), named=(B,)) == b"new"


def test_kinds_and_subjects_do_not_touch():
    register = put(EMPTY, SAID)
    for subject in ("x", "y"):
        said = State(StateKind.LIST, "house-7", subject, 1, subject.encode())
        register = put(register, said)
    assert body(register, StateKind.LIST, "y") == b"y"
    assert body(register, StateKind.LIST, "z") is None
    assert register.subjects(StateKind.LIST) == ("x", "y")
    assert register.subjects(StateKind.BINDINGS) == ()
    assert body(register) == b"body"


def test_room_is_bounded_and_made_of_what_keys_said_that_went():
    register = EMPTY
    for number in range(MAX_SLOTS):
        register = put(register, State(StateKind.LIST, "gw-1", str(number), 1, b""))
    assert refused(register, SAID, named=(A,)) is Fault.BUSY
    again = put(register, State(StateKind.LIST, "gw-1", "3", 2, b""), named=(A,))
    assert len(again.held) == MAX_SLOTS
    after = put(register, SAID, signer=B, introduced=2, named=(B,))
    assert list(after.held) == [Slot(StateKind.SETTINGS, "gw-1", "")]


HELD = Held(3, A, 7, b"body")
SLOT = Slot(StateKind.LIST, "house-7", "list")


def test_what_is_held_is_stored_and_read_strictly():
    data = HELD.encode(SLOT)
    assert Held.decode(data) == (SLOT, HELD)
    fields = cbor.decode(data)
    wrong = [data[:-1], data + b"\0", b"", cbor.encode([]), cbor.encode([2, *fields[1:]])]
    for position in range(len(fields)):
        wrong += (
            cbor.encode([*fields[:position], value, *fields[position + 1 :]])
            for value in (None, True, 99 if position == 1 else [])
        )
    for each in wrong:
        with pytest.raises(DamagedRegisterError):
            Held.decode(each)


def test_names_tell_slots_apart_and_are_stored():
    slots = [
        Slot(StateKind.LIST, "a", "b c"),
        Slot(StateKind.LIST, "a b", "c"),
        Slot(StateKind.SETTINGS, "a", ""),
    ]
    assert len({slot.name for slot in slots}) == 3
    data = encode_names(slots)
    assert decode_names(data) == tuple(sorted(slot.name for slot in slots))
    for wrong in (
        b"",
        data[:-1],
        data + b"\0",
        *(cbor.encode(x) for x in ([], [1, [5]], [True, []])),
    ):
        with pytest.raises(DamagedRegisterError):
            decode_names(wrong)


@given(
    st.lists(
        st.tuples(st.sampled_from(US), st.integers(1, 4), st.sampled_from([(A, 1), (B, 2)])),
        max_size=12,
    )
)
def test_in_whatever_order_envelopes_arrive_the_same_holds(arrivals):
    """A courier may bring them in any order, and any of them twice."""

    def after(sequence):
        register = EMPTY
        for addressee, serial, (signer, introduced) in sequence:
            said = replace(SAID, addressee=addressee, serial=serial, body=bytes([serial]) + signer)
            try:
                register = put(register, said, signer=signer, introduced=introduced)
            except RemoteProtocolError as error:
                assert error.fault is Fault.REPLAYED  # noqa: PT017 - either answer is right
        return register

    assert after(arrivals).held == after([*reversed(arrivals), *arrivals]).held


# --- numbered orders -----------------------------------------------------------------------
T = 1_800_000_000


def order(number: int, identity: int | None = None, addressee="gw-1", expires=T + 60) -> Statement:
    name = (number if identity is None else identity).to_bytes(16, "big")
    return Statement(Kind.RETIRE, addressee, name, expires, [0], number)


def done(orders: Orders, *numbers: int, **how) -> Orders:
    for number in numbers:
        orders = orders.carried_out(order(number, **how), 1, T)
    return orders


def order_fault(orders: Orders, statement: Statement, introduced=1) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        orders.carried_out(statement, introduced, T)
    return caught.value.fault


def test_what_was_kept_from_us_is_a_hole_until_it_comes():
    orders = done(Orders(), 3)
    assert orders.holes == (Hole(1, 2),)
    orders = done(orders, 6, 2)
    assert orders.holes == (Hole(1, 1), Hole(4, 5))
    orders = done(orders, 4, 1)
    assert orders.holes == (Hole(5, 5),)
    assert done(orders, 5, 7).holes == ()


def test_a_hole_is_filled_from_any_side():
    orders = done(Orders(), 10)
    assert done(orders, 5).holes == (Hole(1, 4), Hole(6, 9))
    assert done(orders, 1).holes == (Hole(2, 9),)
    assert done(orders, 9).holes == (Hole(1, 8),)


def test_nothing_is_carried_out_twice():
    orders = done(Orders(), 1, 2)
    assert order_fault(orders, order(2)) is Fault.REPLAYED
    assert order_fault(orders, order(3, identity=2)) is Fault.REPLAYED
    assert order_fault(orders, order(2, identity=9)) is Fault.ID_REUSED


def test_ids_are_let_go_of_when_the_floor_has_passed_them_and_not_before():
    orders = done(Orders(), *range(1, MAX_REMEMBERED + 1))
    assert order_fault(orders, order(MAX_REMEMBERED + 1)) is Fault.BUSY
    later = orders.carried_out(order(MAX_REMEMBERED + 1, expires=T + 900), 1, T + 60)
    assert len(later.seen) == 1


def test_every_addressee_is_counted_for_itself():
    orders = done(done(Orders(), 1, 2), 1, identity=99, addressee="house-7")
    assert orders.holes == ()


def test_a_new_key_counts_anew_and_the_old_one_no_more():
    orders = done(Orders(), 2**62)
    orders = orders.carried_out(order(8), 2, T)
    assert orders.holes == ()
    assert orders.carried_out(order(10), 2, T).holes == (Hole(9, 9),)
    assert order_fault(orders, order(9), introduced=1) is Fault.UNEXPECTED


def test_holes_are_bounded():
    orders = done(Orders(), *range(2, 100, 2))
    assert len(orders.holes) == MAX_HOLES
    assert orders.holes[-1] == Hole(97, 97)


def test_the_memory_for_orders_is_stored_and_read_strictly():
    orders = done(Orders(), 3, 9)
    assert Orders.decode(orders.encode()) == orders
    assert Orders.decode(Orders().encode()) == Orders()
    data = orders.encode()
    count = [1, 2, [[1, 1]]]
    wrong = [b"", data[:-1], data + b"\0"]
    wrong += (
        cbor.encode(each)
        for each in (
            *([], [1, {}], [2, {}, {}], [True, {}, {}], [1, {5: 1}, {}], [1, {b"k": "1"}, {}]),
            *([1, {}, {5: count}], [1, {}, {"a": []}], [1, {}, {"a": [1, 2, [[1]]]}]),
            *([1, {}, {"a": [1, 2, [5]]}], [1, {}, {"a": [True, 2, []]}]),
        )
    )
    for each in wrong:
        with pytest.raises(DamagedOrdersError):
            Orders.decode(each)


@given(st.permutations(range(1, 9)))
def test_in_whatever_order_orders_arrive_none_is_missing_at_the_end(numbers):
    assert done(Orders(), *numbers).holes == ()


def test_who_keeps_what_he_signed_reads_it_whichever_key_it_was():
    assert state.stated(state.sign(SAID, OTHER)) == SAID
    for wrong in (GOOD[:-1], GOOD + b"\0", signed(FIELDS, typ="application/other"), signed([1])):
        with pytest.raises(RemoteProtocolError):
            state.stated(wrong)
