"""What every log promises its callers, shown on the file and on the one in memory."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware_proto.codes import Outcome, Reason
from gatewayd.adapters.sqlite import open_log
from gatewayd.core import merkle
from gatewayd.core.audit import Leaf
from gatewayd.core.model import (
    Asked,
    ClockState,
    Command,
    CommandId,
    DoorId,
    EntryKind,
    Fact,
    PastRequest,
    Record,
    TimeReading,
    Verdict,
)
from gatewayd.core.reserve import MERGED_NAME, Reserved
from tests.support.memory_log import MemoryLog

NOW_S = 1_800_000_007
DAY_S = 86_400
STREET = DoorId("street")
RUNNING = Verdict(Outcome.UNKNOWN, Reason.OK)
OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
SILENT = Verdict(Outcome.UNKNOWN, Reason.LOCK_SILENT)
ALREADY = Verdict(Outcome.CONFIRMED, Reason.ALREADY_OPEN)
LOST = Verdict(Outcome.UNKNOWN, Reason.COMMAND_NEVER_SEEN)


@pytest.fixture(params=["memory", "sqlite"])
async def log(request, tmp_path):
    if request.param == "memory":
        yield MemoryLog()
    else:
        async with open_log(tmp_path / "log.db") as opened:
            yield opened


def at(now_s=NOW_S, state=ClockState.TRUSTED):
    return TimeReading(state, now_s, 1.0, now_s)


def fact(kind=EntryKind.INTENT, verdict=RUNNING, *, time=None, door=STREET, about=0):
    return Fact(time or at(), kind, door, verdict, about)


def command(number=1):
    return Command(CommandId(number.to_bytes(16, "big")), STREET)


def asked(number=1, *, of=None, content=None):
    """Request `number`, answered by command `of`, the same number unless said otherwise."""
    what = number if content is None else content
    return Asked(b"request %d" % number, b"content %d" % what, command(of or number).id)


async def intend(log, number=1, time=None):
    """The intent of command `number`, which request `number` asked for."""
    return await log.append(fact(time=time), command=command(number), asked=asked(number))


async def past(log, number=1):
    return await log.past_request(asked(number).key)


async def leaf_hashes(log):
    return [merkle.leaf_hash(body) for body in await log.leaves(0, 1 << 30)]


def plain_root(hashes):
    """RFC 9162 §2.1.1, written down as it is defined."""
    if len(hashes) <= 1:
        return hashes[0] if hashes else merkle.EMPTY_ROOT
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return merkle.node_hash(plain_root(hashes[:split]), plain_root(hashes[split:]))


# --- entries and the tree ---------------------------------------------------------
async def test_a_new_log_is_empty(log):
    assert await log.size() == 0
    assert await log.leaves(0, 1000) == []
    assert await log.root(0) == merkle.EMPTY_ROOT
    assert await log.acknowledged() == 0
    assert await log.unsettled() == []
    assert await log.unresolved() == []


async def test_an_entry_says_what_the_fact_said(log):
    written = fact(EntryKind.STRANGERS, Verdict(Outcome.REFUSED, Reason.STRANGER), about=12)
    assert await log.append(written) == 0
    [body] = await log.leaves(0, 1)
    leaf = Leaf.decode(body)
    assert leaf == replace(
        Leaf.of(written, seq=0, salt=leaf.salt, commitment=leaf.commitment),
        time_s=NOW_S - 7,
        about=12,
    )


async def test_every_leaf_has_its_own_salt_and_commitment(log):
    for _ in range(20):
        await log.append(fact())
    leaves = [Leaf.decode(body) for body in await log.leaves(0, 1 << 20)]
    assert len({leaf.salt for leaf in leaves}) == 20
    assert len({leaf.commitment for leaf in leaves}) == 20


async def test_the_tree_is_that_of_the_rfc_at_every_size(log):
    for seq in range(40):
        assert await log.append(fact()) == seq
    hashes = await leaf_hashes(log)
    for size in range(41):
        assert await log.root(size) == plain_root(hashes[:size])


async def test_proofs_from_every_size_to_every_size(log):
    for _ in range(18):
        await log.append(fact())
    hashes = await leaf_hashes(log)
    for new in range(1, 19):
        root = await log.root(new)
        for old in range(1, new + 1):
            proof = await log.consistency(old, new)
            merkle.verify_consistency(old, new, await log.root(old), root, proof)
        for index in range(new):
            path = await log.inclusion(index, new)
            merkle.verify_inclusion(hashes[index], index, new, path, root)


async def test_nothing_is_proved_of_entries_that_are_not_there(log):
    await log.append(fact())
    for asked in (
        log.root(2),
        log.root(-1),
        log.consistency(1, 2),
        log.consistency(0, 1),
        log.inclusion(1, 1),
        log.inclusion(0, 2),
    ):
        with pytest.raises(ValueError, match=r"\d"):
            await asked


async def test_leaves_come_in_order_and_within_the_bytes_asked(log):
    for _ in range(5):
        await log.append(fact())
    every = await log.leaves(0, 1 << 20)
    assert [Leaf.decode(body).seq for body in every] == [0, 1, 2, 3, 4]
    two = len(every[1]) + len(every[2])
    assert await log.leaves(1, two) == every[1:3]
    assert await log.leaves(1, two - 1) == every[1:2]
    assert await log.leaves(1, 0) == every[1:2], "at least one, or the cloud would never get on"
    assert await log.leaves(5, 1000) == []
    assert await log.leaves(-3, 1 << 20) == every


async def test_appends_side_by_side_get_distinct_places(log):
    places = await asyncio.gather(*(log.append(fact()) for _ in range(30)))
    assert sorted(places) == list(range(30))
    assert await log.root(30) == plain_root(await leaf_hashes(log))


# --- requests and commands ----------------------------------------------------------
async def test_a_request_is_remembered_from_record_to_verdict(log):
    assert await past(log) is None
    await log.append(fact(EntryKind.STARTED))
    seq = await intend(log)
    assert await past(log) == PastRequest(asked().content)
    assert await log.unsettled() == [replace(command(), intent_seq=seq)]
    end = await log.append(fact(EntryKind.OUTCOME, OPENED, about=seq), settles=command().id)
    assert await past(log) == PastRequest(asked().content, OPENED, Record(end, STREET, NOW_S))
    assert await log.unsettled() == []
    assert await log.unresolved() == []


async def test_who_shares_in_an_opening_has_an_entry_and_a_verdict_of_his_own(log):
    await intend(log)
    await log.append(fact(EntryKind.OUTCOME, OPENED), settles=command().id)
    later = at(NOW_S + 3)
    seq = await log.append(fact(EntryKind.JOINED, ALREADY, time=later), asked=asked(2, of=1))
    record = Record(seq, STREET, NOW_S + 3)
    assert await past(log, 2) == PastRequest(asked(2).content, ALREADY, record)
    assert (await past(log, 1)).verdict == OPENED


async def test_who_shared_in_an_unknown_learns_what_the_lock_said_later(log):
    await intend(log)
    await log.append(fact(EntryKind.OUTCOME, SILENT), settles=command().id)
    seq = await log.append(fact(EntryKind.JOINED, SILENT), asked=asked(2, of=1))
    assert (await past(log, 2)).verdict == SILENT
    await log.append(fact(EntryKind.RESOLVED, OPENED), settles=command().id)
    assert (await past(log, 2)).verdict == OPENED
    assert (await past(log, 2)).record.seq == seq


async def test_the_same_request_may_be_remembered_twice(log):
    await intend(log)
    assert await log.append(fact(EntryKind.JOINED, OPENED), asked=asked()) == 1
    assert (await past(log)).verdict is None, "the first time counts"


async def test_an_unknown_outcome_waits_until_the_lock_has_been_asked(log):
    seq = await intend(log)
    await log.append(fact(EntryKind.OUTCOME, SILENT, about=seq), settles=command().id)
    assert await log.unsettled() == []
    assert await log.unresolved() == [replace(command(), intent_seq=seq)]
    assert (await past(log)).verdict == SILENT
    await log.append(fact(EntryKind.RESOLVED, OPENED, about=seq), settles=command().id)
    assert await log.unresolved() == []
    assert (await past(log)).verdict == OPENED


async def test_a_lock_that_cannot_tell_is_not_asked_for_ever(log):
    await intend(log)
    await log.append(fact(EntryKind.OUTCOME, SILENT), settles=command().id)
    await log.append(fact(EntryKind.RESOLVED, LOST), settles=command().id)
    assert await log.unresolved() == []
    assert (await past(log)).verdict == LOST


async def test_commands_are_listed_in_the_order_of_their_entries(log):
    for number in (9, 3, 5):
        await intend(log, number)
    assert [each.id[-1] for each in await log.unsettled()] == [9, 3, 5]


@pytest.mark.parametrize(
    "contradiction",
    [
        {"command": command(1)},
        {"command": command(2), "asked": asked(1, of=2)},
        {"command": command(2), "asked": asked(1, of=2, content=9)},
        {"asked": asked(1, content=9)},
        {"asked": asked(3)},
        {"settles": command(7).id},
    ],
    ids=[
        "same command id",
        "same request of another command",
        "same request with all other",
        "same request with other content",
        "request without a command",
        "unknown command",
    ],
)
async def test_what_contradicts_the_record_writes_nothing(log, contradiction):
    await intend(log, 1)
    root = await log.root(1)
    with pytest.raises(ValueError, match="command"):
        await log.append(fact(), **contradiction)
    assert await log.size() == 1
    assert await log.append(fact()) == 1
    assert await log.root(1) == root


async def test_a_verdict_other_than_unknown_is_final(log):
    await intend(log)
    await log.append(fact(EntryKind.OUTCOME, OPENED), settles=command().id)
    with pytest.raises(ValueError, match="awaits"):
        await log.append(fact(EntryKind.RESOLVED, SILENT), settles=command().id)
    assert await log.size() == 2
    assert (await past(log)).verdict == OPENED


# --- forgetting -----------------------------------------------------------------------
async def test_a_request_is_forgotten_after_a_day_of_the_facts_own_time(log):
    await intend(log)
    await log.append(fact(EntryKind.OUTCOME, OPENED), settles=command().id)
    await log.append(fact(EntryKind.STARTED, time=at(NOW_S + DAY_S - 1)))
    assert await past(log) is not None
    await log.append(fact(EntryKind.STARTED, time=at(NOW_S + DAY_S)))
    assert await past(log) is None
    assert await intend(log, time=at(NOW_S + DAY_S)) == 4


async def test_a_command_without_end_outlives_the_memory_of_its_request(log):
    await intend(log, 1)
    await intend(log, 2)
    await log.append(fact(EntryKind.OUTCOME, SILENT), settles=command(2).id)
    await log.append(fact(EntryKind.STARTED, time=at(NOW_S + 2 * DAY_S)))
    for number in (1, 2):
        assert await past(log, number) is None
    assert await log.past_request(b"") is None
    [running] = await log.unsettled()
    [unknown] = await log.unresolved()
    assert (running.id, unknown.id) == (command(1).id, command(2).id)
    later = at(NOW_S + 2 * DAY_S)
    await log.append(fact(EntryKind.RESOLVED, OPENED, time=later), settles=command(2).id)
    await log.append(fact(EntryKind.OUTCOME, OPENED, time=later), settles=command(1).id)
    assert await log.unresolved() == []
    assert await log.unsettled() == []


async def test_time_that_becomes_known_does_not_age_what_was_just_done(log):
    unknown = at(60, ClockState.UNKNOWN)
    await intend(log, time=unknown)
    await log.append(fact(EntryKind.OUTCOME, OPENED, time=unknown), settles=command().id)
    await log.append(fact(EntryKind.CLOCK, time=at(NOW_S)))
    assert (await past(log)).verdict == OPENED
    await log.append(fact(EntryKind.STARTED, time=at(NOW_S + DAY_S - 1)))
    assert await past(log) is not None
    await log.append(fact(EntryKind.STARTED, time=at(NOW_S + DAY_S)))
    assert await past(log) is None


async def test_while_the_time_is_unknown_nothing_is_forgotten(log):
    await intend(log)
    await log.append(fact(EntryKind.OUTCOME, OPENED), settles=command().id)
    future = at(NOW_S + 10 * DAY_S, ClockState.UNKNOWN)
    await log.append(fact(EntryKind.STARTED, time=future))
    assert await past(log) is not None


# --- the cursor and the memory ----------------------------------------------------------
async def test_the_cursor_only_rises_and_never_above_the_size(log):
    for _ in range(3):
        await log.append(fact())
    assert await log.acknowledge(2) == 2
    assert await log.acknowledge(1) == 2
    assert await log.acknowledge(-1) == 2
    assert await log.acknowledged() == 2
    assert await log.acknowledge(99) == 3
    assert await log.acknowledged() == 3


async def test_a_memory_is_replaced_whole(log):
    assert await log.load("floor") is None
    await log.store("floor", b"1234567890")
    await log.store("anchor", b"")
    await log.store("floor", b"12")
    assert await log.load("floor") == b"12"
    assert await log.load("anchor") == b""


# --- both the same -----------------------------------------------------------------------
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["intent", "join", "outcome", "unknown", "resolve", "note", "ack"]),
        st.integers(1, 4),
        st.integers(0, 40_000),
        st.sampled_from(ClockState),
    ),
    max_size=25,
)


async def _do(log, step, number, time):  # noqa: PLR0911 - one per step
    match step:
        case "intent":
            return await intend(log, number, time)
        case "join":
            shared = asked(number, of=number % 3 + 1)
            return await log.append(fact(EntryKind.JOINED, OPENED, time=time), asked=shared)
        case "outcome":
            return await log.append(
                fact(EntryKind.OUTCOME, OPENED, time=time), settles=command(number).id
            )
        case "unknown":
            return await log.append(
                fact(EntryKind.OUTCOME, SILENT, time=time), settles=command(number).id
            )
        case "resolve":
            return await log.append(
                fact(EntryKind.RESOLVED, LOST, time=time), settles=command(number).id
            )
        case "note":
            return await log.append(fact(EntryKind.CLOCK, time=time))
    return await log.acknowledge(number * 3)


async def _outcome_of(log, step, number, time):
    try:
        return await _do(log, step, number, time)
    except ValueError as error:
        return str(error)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_STEPS)
def test_the_file_and_the_memory_answer_alike(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("alike") / f"{os.urandom(4).hex()}.db"

    async def compare():
        memory, now_s = MemoryLog(), NOW_S
        async with open_log(path, randomness=MemoryLog().randomness) as file:
            for step, number, elapsed_s, state in steps:
                now_s += elapsed_s
                time = at(now_s, state)
                assert await _outcome_of(memory, step, number, time) == await _outcome_of(
                    file, step, number, time
                )
                for other in range(1, 5):
                    assert await past(memory, other) == await past(file, other)
                assert await memory.unsettled() == await file.unsettled()
                assert await memory.unresolved() == await file.unresolved()
                assert await memory.acknowledged() == await file.acknowledged()

    asyncio.run(compare())


# --- what lay in the reserve ------------------------------------------------------------------
def shared(number=1):
    return Asked(bytes([number]) * 32, b"h" * 32, command().id)


def opening_in_reserve():
    return (
        Reserved(1, fact(), command(), shared()),
        Reserved(2, fact(EntryKind.OUTCOME, OPENED), settles=command().id),
        Reserved(3, fact(EntryKind.JOINED, OPENED), asked=shared(2)),
    )


GAP = fact(EntryKind.GAP, Verdict(Outcome.CONFIRMED, Reason.LOG_FULL), door=None)


async def test_the_reserve_is_taken_over_once(log):
    for _ in range(2):
        await log.merge(opening_in_reserve(), 3)
        assert await log.size() == 3
    assert await log.unsettled() == []
    for number in (1, 2):
        assert (await log.past_request(shared(number).key)).verdict == OPENED
    await log.merge((), 9, GAP)
    await log.merge((Reserved(9, GAP),), 9)
    assert await log.size() == 4
    assert await log.load(MERGED_NAME) == (9).to_bytes(8, "big")
    await log.merge((), 4)
    assert await log.load(MERGED_NAME) == (9).to_bytes(8, "big")


async def test_what_came_into_the_log_late_is_not_taken_over_again(log):
    intent, outcome, joined = opening_in_reserve()
    await log.append(intent.fact, command=intent.command, asked=intent.asked)
    await log.append(joined.fact, asked=joined.asked)
    await log.append(outcome.fact, settles=outcome.settles)
    await log.merge((intent, outcome, joined), 3)
    assert await log.size() == 3


async def test_an_outcome_is_taken_over_where_the_log_only_knows_of_doubt(log):
    intent, _, _ = opening_in_reserve()
    silent = Reserved(2, fact(EntryKind.OUTCOME, SILENT), settles=command().id)
    certain = Reserved(3, fact(EntryKind.OUTCOME, OPENED), settles=command().id)
    await log.append(intent.fact, command=intent.command, asked=intent.asked)
    await log.append(silent.fact, settles=silent.settles)
    await log.merge((silent, certain), 3)
    assert await log.size() == 3
    assert (await log.past_request(shared().key)).verdict == OPENED


async def test_what_is_about_nothing_known_is_passed_over(log):
    _, outcome, joined = opening_in_reserve()
    await log.merge((outcome, joined), 3)
    assert await log.size() == 0


async def test_an_outcome_names_its_intent_whatever_the_caller_knows(log):
    await log.append(fact())
    await log.append(fact(), command=command())
    await log.append(fact(EntryKind.OUTCOME, OPENED), settles=command().id)
    (body,) = await log.leaves(2, 1)
    assert Leaf.decode(body).about == 1
