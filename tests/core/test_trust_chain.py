"""How bundles follow one another: rotation with overlap, recovery, and every way back refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor
from firmware_proto.codes import Fault
from firmware_proto.cose import Sign1, key_id
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.trust import Role, Trust, sign_bundle
from gatewayd.core.trust_chain import (
    MAX_LINKS,
    Chain,
    DamagedChainError,
    installed,
    pack,
    unpack,
)
from tests.support.parsing import parsed_or_refused

ROOT, NEXT, RECOVERY, COMMAND, SECOND, THIEF, *ROLES = (
    ec.derive_private_key(n, ec.SECP256R1()) for n in range(301, 310)
)


def trust(serial: int, *roots, recovery=RECOVERY, command=COMMAND, **changes) -> Trust:
    gateways, time, seal = (key.public_key() for key in ROLES)
    bundle = Trust(
        *(serial, "house-7", {}, gateways, command.public_key(), time, seal),
        roots=tuple(root.public_key() for root in roots or (ROOT,)),
        recovery=None if recovery is None else recovery.public_key(),
    )
    return replace(bundle, **changes)


def bundles(first: int, last: int, **changes) -> list[bytes]:
    return [sign_bundle(trust(serial, **changes), ROOT) for serial in range(first, last + 1)]


FIRST = bundles(1, 1)[0]
START = Chain.anchored(FIRST, ROOT.public_key())


def fault_of(chain: Chain, *data: bytes) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        chain.extended(data)
    return caught.value.fault


# --- forwards -----------------------------------------------------------------------------
def test_a_chain_is_followed_step_by_step_however_many_were_missed():
    chain = START.extended(bundles(1, 5))
    assert chain.trust == trust(5)
    assert chain.extended(bundles(1, 5)) is chain
    assert chain.extended(bundles(4, 7)).trust.serial == 7
    assert chain.extended(bundles(6, 6)).bundles == tuple(bundles(1, 6))


def test_only_the_root_that_was_installed_begins():
    with pytest.raises(RemoteProtocolError):
        Chain.anchored(FIRST, NEXT.public_key())


def test_a_serial_is_neither_skipped_nor_repeated():
    assert fault_of(START) is Fault.OUT_OF_ORDER
    assert fault_of(START, *bundles(3, 4)) is Fault.OUT_OF_ORDER
    two, three, four = bundles(2, 4)
    for wrong in ([two, four], [two, two], [three, two]):
        assert fault_of(START, *wrong) is Fault.OUT_OF_ORDER


def test_nothing_goes_back():
    chain = START.extended(bundles(1, 4))
    for end in range(1, 4):
        assert fault_of(chain, *bundles(1, end)) is Fault.REPLAYED
    other = sign_bundle(trust(4, command=SECOND), ROOT)
    assert fault_of(chain, other) is Fault.ID_REUSED
    assert fault_of(START, sign_bundle(trust(1, command=SECOND), ROOT)) is Fault.ID_REUSED


def test_a_root_hands_over_with_overlap():
    both = sign_bundle(trust(2, ROOT, NEXT), ROOT)
    alone = sign_bundle(trust(3, NEXT), NEXT)
    chain = START.extended([both, alone])
    assert chain.trust.roots == (NEXT.public_key(),)
    # from then on the old one is worth nothing
    assert fault_of(chain, sign_bundle(trust(4, ROOT), ROOT)) is Fault.AUTHENTICATION_FAILED
    # and the new one was worth nothing before
    assert fault_of(START, sign_bundle(trust(2), NEXT)) is Fault.AUTHENTICATION_FAILED


def test_no_other_key_of_the_operator_signs_a_bundle():
    for key in (COMMAND, THIEF, *ROLES):
        assert fault_of(START, sign_bundle(trust(2), key)) is Fault.AUTHENTICATION_FAILED


def test_a_bundle_of_another_group_does_not_follow():
    assert fault_of(START, sign_bundle(trust(2, group="house-8"), ROOT)) is Fault.UNEXPECTED


# --- recovery -----------------------------------------------------------------------------
def test_the_recovery_key_names_new_roots_and_another_recovery_key():
    rescued = sign_bundle(trust(2, NEXT, recovery=SECOND), RECOVERY)
    chain = START.extended([rescued])
    assert chain.newest.recovered
    assert fault_of(chain, sign_bundle(trust(3), ROOT)) is Fault.AUTHENTICATION_FAILED
    assert chain.extended([sign_bundle(trust(3, NEXT, recovery=SECOND), NEXT)]).trust.serial == 3


def test_a_root_cannot_name_another_recovery_key_nor_take_it_away():
    for other in (SECOND, None):
        wrong = sign_bundle(trust(2, recovery=other), ROOT)
        assert fault_of(START, wrong) is Fault.AUTHENTICATION_FAILED
    without = Chain.anchored(sign_bundle(trust(1, recovery=None), ROOT), ROOT.public_key())
    named = sign_bundle(trust(2), ROOT)
    assert fault_of(without, named) is Fault.AUTHENTICATION_FAILED


def test_recovery_overtakes_what_a_thief_signed_with_a_stolen_root():
    stolen = [sign_bundle(trust(n, THIEF), ROOT if n == 2 else THIEF) for n in (2, 3)]
    taken = START.extended(stolen)
    assert taken.trust.roots == (THIEF.public_key(),)
    rescue = [sign_bundle(trust(2, NEXT), RECOVERY)]
    # as long as it is not longer it changes nothing
    assert fault_of(taken, *rescue) is Fault.REPLAYED
    rescue.append(sign_bundle(trust(3, NEXT), NEXT))
    assert fault_of(taken, *rescue) is Fault.ID_REUSED
    rescue.append(sign_bundle(trust(4, NEXT), NEXT))
    free = taken.extended([FIRST, *rescue])
    assert free.trust.roots == (NEXT.public_key(),)
    # gateways that the thief never reached end up with the same
    assert START.extended(rescue).bundles == free.bundles
    # and the thief does not come back, however long he makes his
    longer = [*stolen, *(sign_bundle(trust(n, THIEF), THIEF) for n in range(4, 9))]
    assert fault_of(free, *longer) is Fault.ID_REUSED


def test_two_recoveries_of_one_serial_do_not_alternate():
    one = START.extended([sign_bundle(trust(2, NEXT), RECOVERY)])
    other = [sign_bundle(trust(2, SECOND), RECOVERY), sign_bundle(trust(3, SECOND), SECOND)]
    assert fault_of(one, *other) is Fault.ID_REUSED


# --- when a key was introduced ---------------------------------------------------------------
def test_a_command_key_is_as_old_as_its_unbroken_run():
    both = {Role.COMMAND: (SECOND.public_key(),)}
    steps = [
        trust(2, others=both),
        trust(3, command=SECOND),
        trust(4, command=SECOND, others={Role.COMMAND: (COMMAND.public_key(),)}),
    ]
    chain = START.extended([sign_bundle(each, ROOT) for each in steps])
    first, second = key_id(COMMAND.public_key()), key_id(SECOND.public_key())
    assert [link.introduced for link in chain.links] == [
        {first: 1},
        {first: 1, second: 2},
        {second: 2},
        {second: 2, first: 4},
    ]
    assert Chain.decode(chain.encode()) == chain


def test_a_chain_that_grows_too_long_lets_go_of_its_beginning_and_forgets_nothing_else():
    chain = START.extended(bundles(2, MAX_LINKS + 3))
    assert chain.links[0].trust.serial == 4
    assert chain.newest.introduced == {key_id(COMMAND.public_key()): 1}
    assert Chain.decode(chain.encode()) == chain
    assert chain.extended(bundles(1, MAX_LINKS + 4)).trust.serial == MAX_LINKS + 4


# --- what was installed and what was held ------------------------------------------------------
def test_the_chain_that_is_held_goes_on_from_what_was_installed():
    held = START.extended(bundles(2, 4))
    root = ROOT.public_key()
    assert installed(None, FIRST, root) == START
    for data in bundles(1, 4):
        assert installed(held, data, root) is held
    assert installed(held, bundles(5, 5)[0], root).trust.serial == 5
    assert installed(Chain(held.links[2:]), FIRST, root).trust.serial == 4


def test_a_bundle_that_does_not_fit_was_installed_on_purpose_and_makes_no_key_newer():
    held = START.extended(bundles(2, 4))
    fork = sign_bundle(trust(3, command=SECOND), ROOT)
    assert installed(held, fork, ROOT.public_key()).trust.command_key == SECOND.public_key()
    later = installed(held, bundles(9, 9)[0], ROOT.public_key())
    assert later.newest.introduced == {key_id(COMMAND.public_key()): 1}
    elsewhere = sign_bundle(trust(1, group="house-8"), ROOT)
    assert installed(held, elsewhere, ROOT.public_key()).trust.group == "house-8"
    with pytest.raises(RemoteProtocolError):
        installed(held, FIRST, NEXT.public_key())


def test_what_recovery_replaced_stays_replaced_though_it_is_still_installed():
    stolen = sign_bundle(trust(2, THIEF), ROOT)
    rescue = [sign_bundle(trust(2, NEXT), RECOVERY), sign_bundle(trust(3, NEXT), NEXT)]
    held = START.extended([stolen]).extended(rescue)
    assert installed(held, stolen, ROOT.public_key()) is held


# --- parsing ----------------------------------------------------------------------------------
def test_a_packed_chain_comes_back_and_nothing_else_is_one():
    data = pack(bundles(1, 3))
    assert unpack(data) == tuple(bundles(1, 3))
    for other in (cbor.encode([]), cbor.encode([b"", 1]), cbor.encode({}), FIRST):
        assert unpack(other) is None
    for length in range(0, len(data), 11):
        assert unpack_refused(data[:length])
    assert unpack_refused(data + b"\0")


def unpack_refused(data: bytes) -> bool:
    try:
        return unpack(data) is None
    except RemoteProtocolError:
        return True


def test_an_ecdsa_signature_written_anew_is_the_same_bundle():
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    chain = START.extended(bundles(2, 3))
    signed = Sign1.parse(chain.newest.data)
    other = order - int.from_bytes(signed.signature[32:], "big")
    again = signed.signature[:32] + other.to_bytes(32, "big")
    header, _, payload, _ = cbor.decode(chain.newest.data)
    data = cbor.encode([header, {}, payload, again])
    assert data != chain.newest.data
    assert chain.extended([data]) is chain


@given(st.integers(0, 1), st.integers(0, 5000), st.integers(1, 255))
def test_no_changed_byte_gets_in(which, position, change):
    two = bundles(2, 3)
    data = bytearray(two[which])
    data[position % len(data)] ^= change
    two[which] = bytes(data)
    with pytest.raises(RemoteProtocolError):
        START.extended(two)


@given(st.lists(st.binary(max_size=40) | st.sampled_from(bundles(1, 4)), max_size=4))
def test_anything_extends_or_is_refused(data):
    parsed_or_refused(lambda _: START.extended(data), b"")


STORED = START.extended(bundles(2, 3)).encode()


def test_what_is_stored_is_read_strictly():
    assert Chain.decode(STORED).trust.serial == 3
    body = cbor.decode(STORED)
    wrong = [
        b"",
        STORED[:-1],
        STORED + b"\0",
        *(cbor.encode(each) for each in ([], {}, [1, False, {}, []], [1, 0, {}, body[3]])),
        *(cbor.encode([1, False, table, body[3]]) for table in ({1: 1}, {b"k": True}, [])),
        cbor.encode([2, *body[1:]]),
        cbor.encode([*body[:3], [*body[3], 5]]),
        cbor.encode([*body[:3], [body[3][0], body[3][2]]]),
        cbor.encode([*body[:3], [b"", *body[3]]]),
    ]
    for data in wrong:
        with pytest.raises(DamagedChainError):
            Chain.decode(data)


def test_what_nobody_signed_is_not_looked_into():
    """A broker may send such chains without end: what they hold must cost nothing."""
    body = cbor.decode(Sign1.parse(bundles(2, 2)[0]).payload)
    header, _, _, signature = cbor.decode(bundles(2, 2)[0])
    for field, value in ((5, "no issuers"), (3, [])):
        payload = cbor.encode([*body[:field], value, *body[field + 1 :]])
        made_up = cbor.encode([header, {}, payload, signature])
        assert fault_of(START, made_up) is Fault.AUTHENTICATION_FAILED
    for payload in (cbor.encode([2]), cbor.encode([2, "2"]), b""):
        made_up = cbor.encode([header, {}, payload, signature])
        assert fault_of(START, made_up) is Fault.MALFORMED
