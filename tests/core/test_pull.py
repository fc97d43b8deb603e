"""What the cloud checks before it keeps anything, and what a gateway checks in an Ack."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import checkpoint as notes
from gatewayd.core import merkle
from gatewayd.core.audit import Leaf
from gatewayd.core.checkpoint import Checkpoint, SignatureType, Verifier
from gatewayd.core.model import ClockState, DoorId, EntryKind, GatewayId, Verdict, origin_of
from gatewayd.core.pull import (
    MAX_BATCH_BYTES,
    MIN_BATCH_BYTES,
    Ack,
    Alarm,
    Batch,
    LogAlarmError,
    Pull,
    seal_info,
    verify_batch,
)
from gatewayd.core.topics import TRUST, GatewayTopics, everybody_topic, group_topic

ORIGIN = origin_of(GatewayId("stairwell-7"))
KEY = Ed25519PrivateKey.from_private_bytes(b"log key".ljust(32))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"another key".ljust(32))
LOG = Verifier(ORIGIN, KEY.public_key().public_bytes_raw())
WITNESS = Verifier("w", OTHER_KEY.public_key().public_bytes_raw(), SignatureType.COSIGNATURE_V1)
REQUEST = bytes(range(16))


def leaf(seq: int, salt: int = 0) -> bytes:
    return Leaf(
        seq=seq,
        time_s=60 * seq,
        clock=ClockState.TRUSTED,
        kind=EntryKind.INTENT,
        door=DoorId("street"),
        verdict=Verdict(Outcome.CONFIRMED, Reason.OK),
        about=0,
        salt=bytes([salt]) * 16,
        commitment=bytes(32),
    ).encode()


class Tree:
    """A log as the gateway has it."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.range = merkle.CompactRange()
        for seq, data in enumerate(leaves):
            self.range, completed = self.range.append(merkle.leaf_hash(data))
            for level, node in enumerate(completed):
                self.nodes[level, seq >> level] = node

    def get(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def held(self, size: int) -> merkle.CompactRange:
        return merkle.CompactRange.load(size, self.get)

    def note(self, size: int, key: Ed25519PrivateKey = KEY, origin: str = ORIGIN) -> bytes:
        return notes.sign(Checkpoint(origin, size, merkle.root(size, self.get)), key)

    def batch(self, start: int, end: int) -> Batch:
        return Batch(
            request=REQUEST,
            from_size=start,
            log_size=len(self.leaves),
            leaves=tuple(self.leaves[start:end]),
            checkpoint=self.note(end),
            consistency=merkle.consistency_proof(start, end, self.get) if start else (),
        )


TREE = Tree([leaf(seq) for seq in range(20)])


def refused(batch: Batch, held: merkle.CompactRange) -> Alarm:
    with pytest.raises(LogAlarmError) as caught:
        verify_batch(batch, held, LOG)
    assert caught.value.note == batch.checkpoint
    return caught.value.alarm


# --- verification -----------------------------------------------------------------
def test_every_way_of_cutting_a_log_into_two_batches_ends_in_the_same_root():
    for middle in range(21):
        first = verify_batch(TREE.batch(0, middle), merkle.CompactRange(), LOG)
        second = verify_batch(TREE.batch(middle, 20), first.held, LOG)
        assert second.held == TREE.range
        assert first.leaves + second.leaves == tuple(TREE.leaves)
        assert second.checkpoint.root == TREE.range.root()
        assert first.unreadable == second.unreadable == ()


def test_what_was_erased_comes_as_its_hash_which_must_be_the_right_one():
    batch = TREE.batch(10, 20)
    hashes = (merkle.leaf_hash(batch.leaves[0]), *batch.leaves[1:])
    verified = verify_batch(replace(batch, leaves=hashes), TREE.held(10), LOG)
    assert (verified.erased, verified.held) == ((10,), TREE.range)
    wrong = (bytes(32), *batch.leaves[1:])
    assert refused(replace(batch, leaves=wrong), TREE.held(10)) is Alarm.ALTERED


def test_a_shorter_log_is_a_rollback():
    batch = replace(TREE.batch(0, 5), from_size=10, leaves=())
    assert refused(batch, TREE.held(10)) is Alarm.ROLLED_BACK


def test_another_past_is_a_fork_whether_longer_or_of_the_same_size():
    other = Tree([leaf(seq, salt=seq == 3) for seq in range(20)])
    assert refused(other.batch(10, 20), TREE.held(10)) is Alarm.FORKED
    assert refused(other.batch(10, 10), TREE.held(10)) is Alarm.FORKED
    assert refused(replace(TREE.batch(10, 20), consistency=()), TREE.held(10)) is Alarm.FORKED


def test_leaves_that_the_root_does_not_stand_for_are_refused():
    batch = TREE.batch(10, 20)
    swapped = (*batch.leaves[:-1], leaf(19, salt=1))
    assert refused(replace(batch, leaves=swapped), TREE.held(10)) is Alarm.ALTERED


def test_a_leaf_in_the_wrong_place_is_a_gap_even_when_the_root_says_so():
    other = Tree([*TREE.leaves[:5], leaf(6), *TREE.leaves[6:]])
    assert refused(other.batch(0, 20), merkle.CompactRange()) is Alarm.GAP


def test_leaves_missing_or_too_many_or_from_elsewhere_are_unproven():
    batch, held = TREE.batch(10, 20), TREE.held(10)
    assert refused(replace(batch, leaves=batch.leaves[:-1]), held) is Alarm.UNPROVEN
    assert refused(replace(batch, leaves=(*batch.leaves, leaf(20))), held) is Alarm.UNPROVEN
    assert refused(replace(batch, from_size=9), held) is Alarm.UNPROVEN


def test_a_checkpoint_of_another_key_or_log_or_none_is_unproven():
    batch, held = TREE.batch(0, 5), merkle.CompactRange()
    for note in (TREE.note(5, key=OTHER_KEY), b"", b"\x00", TREE.note(5)[:-9]):
        assert refused(replace(batch, checkpoint=note), held) is Alarm.UNPROVEN
    elsewhere = Verifier("gatewayd/other", LOG.key)
    foreign = TREE.note(5, origin="gatewayd/other")
    assert notes.verify(foreign, elsewhere).size == 5
    assert refused(replace(batch, checkpoint=foreign), held) is Alarm.UNPROVEN


def test_the_key_of_this_log_under_a_checkpoint_of_another_is_unproven():
    text = TREE.note(5).decode().split("\n\n")[0] + "\n"
    foreign = text.replace(ORIGIN, "gatewayd/other")
    signature = LOG.key_id + KEY.sign(foreign.encode())
    note = notes.Note(foreign, ((ORIGIN, signature),)).encode()
    assert notes.verify(note, LOG).origin == "gatewayd/other"
    batch = replace(TREE.batch(0, 5), checkpoint=note)
    assert refused(batch, merkle.CompactRange()) is Alarm.UNPROVEN


def test_leaves_of_a_newer_gateway_are_kept_and_block_nothing():
    newer = cbor.encode([2, 5, "in a form that nobody knows yet"])
    other = Tree([*TREE.leaves[:5], newer, *TREE.leaves[6:]])
    verified = verify_batch(other.batch(0, 20), merkle.CompactRange(), LOG)
    assert verified.unreadable == (5,)
    assert verified.leaves == tuple(other.leaves)


# --- the signed batch -----------------------------------------------------------------
def test_a_batch_comes_back_as_it_was_signed():
    batch = TREE.batch(3, 9)
    assert Batch.open(batch.sign(ORIGIN, KEY), LOG, REQUEST) == batch


@given(st.integers(0, 20), st.integers(0, 20), st.binary(min_size=16, max_size=16))
@settings(max_examples=20)
def test_any_batch_comes_back(one, other, request_id):
    batch = replace(TREE.batch(min(one, other), max(one, other)), request=request_id)
    assert Batch.open(batch.sign(ORIGIN, KEY), LOG, request_id) == batch


def test_truncated_extended_or_changed_anywhere_a_batch_is_refused():
    data = TREE.batch(3, 5).sign(ORIGIN, KEY)
    wrong = [data[:cut] for cut in range(len(data))]
    wrong += [data[:i] + bytes([data[i] ^ 4]) + data[i + 1 :] for i in range(len(data))]
    wrong.append(data + b"\0")
    for each in wrong:
        with pytest.raises(RemoteProtocolError):
            Batch.open(each, LOG, REQUEST)


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_garbage_is_never_a_batch(data):
    with pytest.raises(RemoteProtocolError):
        Batch.open(data, LOG, REQUEST)


def test_the_answer_to_another_order_is_a_replay():
    data = TREE.batch(0, 5).sign(ORIGIN, KEY)
    with pytest.raises(RemoteProtocolError) as caught:
        Batch.open(data, LOG, bytes(16))
    assert caught.value.fault is Fault.REPLAYED


def test_a_batch_of_another_log_or_key_is_not_ours():
    for data in (
        TREE.batch(0, 5).sign(ORIGIN, OTHER_KEY),
        TREE.batch(0, 5).sign("gatewayd/other", KEY),
    ):
        with pytest.raises(RemoteProtocolError) as caught:
            Batch.open(data, LOG, REQUEST)
        assert caught.value.fault is Fault.AUTHENTICATION_FAILED


GOOD = [1, REQUEST, 0, 5, [b"leaf"], b"note", []]


@pytest.mark.parametrize(
    "payload",
    [
        [],
        "text",
        GOOD[:-1],
        [*GOOD, 1],
        [2, *GOOD[1:]],
        [True, *GOOD[1:]],
        [1, "text", *GOOD[2:]],
        [1, REQUEST, -1, *GOOD[3:]],
        [1, REQUEST, True, *GOOD[3:]],
        [1, REQUEST, 0, 2**63, *GOOD[4:]],
        [1, REQUEST, 0, False, *GOOD[4:]],
        [*GOOD[:4], [1], b"note", []],
        [*GOOD[:4], {}, b"note", []],
        [*GOOD[:5], "note", []],
        [*GOOD[:6], ["hash"]],
    ],
)
def test_a_signed_batch_of_another_form_is_malformed(payload):
    aad = cbor.encode(["gatewayd pull batch", ORIGIN])

    def signed(value):
        return cose.sign1(cbor.encode(value), KEY, protected={}, external_aad=aad)

    assert Batch.open(signed(GOOD), LOG, REQUEST).leaves == (b"leaf",)
    with pytest.raises(RemoteProtocolError) as caught:
        Batch.open(signed(payload), LOG, REQUEST)
    assert caught.value.fault is Fault.MALFORMED


def test_the_seal_is_bound_to_log_and_order():
    infos = {
        seal_info(ORIGIN, REQUEST),
        seal_info(ORIGIN, bytes(16)),
        seal_info("gatewayd/other", REQUEST),
    }
    assert len(infos) == 3


# --- orders ---------------------------------------------------------------------------
def test_orders_come_back_from_their_bodies():
    assert Pull.of(Pull(7, 100).body()) == Pull(7, 100)
    assert Ack.of(Ack(7, b"note").body()) == Ack(7, b"note")


@pytest.mark.parametrize(
    "body", [None, [], [1], [1, 2, 3], ["1", 2], [-1, 2], [1, True], [2**63, 1]]
)
def test_other_bodies_are_no_pull(body):
    with pytest.raises(RemoteProtocolError):
        Pull.of(body)


@pytest.mark.parametrize("body", [None, [], [1], [1, b"", 3], [1, "note"], [-1, b""], [True, b""]])
def test_other_bodies_are_no_acknowledgement(body):
    with pytest.raises(RemoteProtocolError):
        Ack.of(body)


def test_the_gateway_bounds_what_it_sends_at_once():
    asked = [0, MIN_BATCH_BYTES + 1, 2**62]
    assert [Pull(0, each).leaf_bytes for each in asked] == [
        MIN_BATCH_BYTES,
        MIN_BATCH_BYTES + 1,
        MAX_BATCH_BYTES,
    ]


def cosigned(size: int, **how) -> bytes:
    return notes.cosign(TREE.note(size, **how), "w", OTHER_KEY, 1_790_000_000)


def test_an_acknowledgement_bears_a_checkpoint_that_this_gateway_signed():
    order = Ack(5, cosigned(5))
    assert order.verify(LOG, (WITNESS,)).root == merkle.root(5, TREE.get)
    assert order.verify(LOG, ()).size == 5


@pytest.mark.parametrize(
    ("order", "fault"),
    [
        (Ack(6, cosigned(5)), Fault.MALFORMED),
        (Ack(5, b""), Fault.MALFORMED),
        (Ack(5, cosigned(5, key=OTHER_KEY)), Fault.AUTHENTICATION_FAILED),
        (Ack(5, cosigned(5, origin="gatewayd/other")), Fault.AUTHENTICATION_FAILED),
        (Ack(5, TREE.note(5)), Fault.AUTHENTICATION_FAILED),
    ],
)
def test_any_other_acknowledgement_is_refused(order, fault):
    with pytest.raises(RemoteProtocolError) as caught:
        order.verify(LOG, (WITNESS,))
    assert caught.value.fault is fault


# --- topics ---------------------------------------------------------------------------
def test_each_gateway_has_topics_of_its_own():
    topics = GatewayTopics(GatewayId("stairwell-7"))
    base = "gatewayd/v1/gateway/stairwell-7"
    assert topics.status == f"{base}/status"
    assert topics.checkpoint == f"{base}/checkpoint"
    assert topics.time == f"{base}/up/time"
    assert topics.answer(b"\x0a" * 16) == f"{base}/up/{'0a' * 16}"
    assert topics.down("pull") == f"{base}/down/pull"
    assert topics.for_gateway == (
        *(f"{base}/down/+", f"{base}/down/+/+"),
        *("gatewayd/v1/all/+", "gatewayd/v1/all/+/+"),
    )
    assert topics.for_cloud == (f"{base}/up/+", f"{base}/status")


def test_groups_and_everybody_have_topics_that_gateways_hear():
    topics = GatewayTopics(GatewayId("stairwell-7"), "vestergade-7")
    assert topics.for_gateway[4:] == (
        *("gatewayd/v1/group/vestergade-7/+", "gatewayd/v1/group/vestergade-7/+/+"),
    )
    assert group_topic("vestergade-7", TRUST) == "gatewayd/v1/group/vestergade-7/trust"
    assert everybody_topic("settings") == "gatewayd/v1/all/settings"
    about = "https://lists.example/housing"
    names = {group_topic("g", "list", about), group_topic("g", "list", "other")}
    names |= {everybody_topic("list", about), topics.down("list", about), topics.down("list")}
    assert len(names) == 5
    assert all(re.fullmatch(r"gatewayd/v1/[a-z]+(/[a-z0-9-]+){1,4}", name) for name in names)


def test_a_group_of_any_name_has_a_topic_of_its_own():
    strange = ["+", "#", "a/b", "Vestergade 7, København", "x" * 65]
    topics = {group_topic(name, "list") for name in strange}
    assert len(topics) == len(strange)
    assert all(len(topic.split("/")) == 5 for topic in topics)
    assert not any(set("+# ") & set(topic) for topic in topics)


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "a b", "æ", "x" * 65, "a\n"])
def test_a_name_cannot_reach_into_other_topics(name):
    with pytest.raises(ValueError, match="broker"):
        GatewayTopics(GatewayId(name))
    with pytest.raises(ValueError, match="broker"):
        GatewayTopics(GatewayId("good")).down(name)
