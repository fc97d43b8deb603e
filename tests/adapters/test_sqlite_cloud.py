"""The operator's store: nothing overwritten, nothing half stored, no other file touched."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from firmware_proto.codes import Outcome, Reason
from gatewayd.adapters.sqlite.schema import Schema, open_writer
from gatewayd.adapters.sqlite_cloud import SCHEMA, open_cloud
from gatewayd.cloud.store import Erasing, Held, OutrunError
from gatewayd.core.audit import Leaf
from gatewayd.core.checkpoint import Checkpoint
from gatewayd.core.erasure import Erase, Run
from gatewayd.core.merkle import CompactRange, leaf_hash
from gatewayd.core.model import ClockState, EntryKind, Fact, TimeReading, Verdict
from gatewayd.core.pull import Alarm, LogAlarmError, Verified
from gatewayd.ports import StorageError

LEAVES = [b"leaf %d" % number for number in range(20)]


def verified(start, end, leaves=LEAVES, unreadable=()):
    tree = CompactRange()
    for leaf in leaves[:end]:
        tree, _ = tree.append(leaf_hash(leaf))
    checkpoint = Checkpoint("log", end, tree.root())
    return Verified(tuple(leaves[start:end]), tree, checkpoint, unreadable)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cloud.sqlite"


@pytest.fixture
def store(path):
    with open_cloud(path) as opened:
        yield opened


def test_what_was_kept_is_there_after_a_restart(path):
    with open_cloud(path) as store:
        assert store.held("log") == Held()
        assert store.keep("log", verified(0, 7), b"note 7") == 7
        assert store.keep("log", verified(7, 20), b"note 20") == 13
    with open_cloud(path) as store:
        assert store.held("log") == Held(verified(0, 20).held, b"note 20")
        assert list(store.leaves("log")) == LEAVES


def test_logs_do_not_mix(store):
    store.keep("log", verified(0, 7), b"note")
    store.keep("other", verified(0, 3), b"note")
    assert list(store.leaves("other")) == LEAVES[:3]
    assert store.held("third") == Held()


def test_the_same_again_is_harmless_whole_or_in_part(store):
    store.keep("log", verified(0, 10), b"note 10")
    assert store.keep("log", verified(0, 10), b"note 10") == 0
    assert store.keep("log", verified(4, 8), b"note 8") == 0
    assert store.held("log").note == b"note 10"
    assert store.keep("log", verified(4, 12), b"note 12") == 2
    assert store.keep("log", verified(12, 12), b"note 12 again") == 0
    assert store.held("log") == Held(verified(0, 12).held, b"note 12 again")
    assert list(store.leaves("log")) == LEAVES[:12]


def test_another_leaf_in_a_place_that_is_taken_is_a_fork_and_nothing_is_stored(store):
    store.keep("log", verified(0, 10), b"note 10")
    other = [*LEAVES[:9], b"another", *LEAVES[10:]]
    with pytest.raises(LogAlarmError) as caught:
        store.keep("log", verified(8, 15, other), b"evidence")
    assert (caught.value.alarm, caught.value.note) == (Alarm.FORKED, b"evidence")
    assert store.held("log") == Held(verified(0, 10).held, b"note 10")
    assert list(store.leaves("log")) == LEAVES[:10]


def test_a_tree_that_is_not_ours_grown_is_a_fork_even_where_the_leaves_agree(store):
    store.keep("log", verified(0, 10), b"note 10")
    other = [b"another", *LEAVES[1:]]
    for end in (10, 15):
        with pytest.raises(LogAlarmError):
            store.keep("log", verified(10, end, other), b"evidence")
    assert store.held("log").note == b"note 10"


def test_a_gap_is_impossible(store):
    store.keep("log", verified(0, 5), b"note")
    with pytest.raises(OutrunError):
        store.keep("log", verified(6, 10), b"note")
    assert list(store.leaves("log")) == LEAVES[:5]


def test_leaves_that_nobody_could_read_are_marked(store, path):
    store.keep("log", verified(0, 5, unreadable=(3,)), b"note")
    with closing(sqlite3.connect(path)) as reader:
        found = reader.execute("SELECT seq FROM leaves WHERE readable = 0").fetchall()
    assert found == [(3,)]


def test_evidence_is_kept_in_order(store):
    for alarm in (Alarm.FORKED, Alarm.GAP):
        store.alarm("log", LogAlarmError(alarm, alarm.name.encode()), 60)
    assert store.alarms("log") == [(60, "FORKED", b"FORKED"), (60, "GAP", b"GAP")]
    assert store.alarms("other") == []


def test_a_failure_in_the_middle_stores_nothing(store):
    store.keep("log", verified(0, 5), b"note")
    broken = replace(verified(5, 10), leaves=(*LEAVES[5:9], "not bytes"))
    with pytest.raises((TypeError, StorageError)):
        store.keep("log", broken, b"note")
    assert store.held("log").range.size == 5
    assert store.keep("log", verified(5, 10), b"note") == 5


# --- erasures that are waited for -----------------------------------------------------------
def erasing(number, *runs, origin="log"):
    return Erasing(origin, bytes([number] * 32), number, 60 * number, Erase(runs))


def entry(seq, kind, name):
    time = TimeReading(ClockState.TRUSTED, 0, 1.0, 0)
    fact = Fact(time, kind, None, Verdict(Outcome.CONFIRMED, Reason.OK), order=name)
    return Leaf.of(fact, seq=seq, salt=bytes(16), commitment=bytes(32)).encode()


def waiting(store):
    return [(each.origin, each.number) for each in store.erasings()]


def test_an_erasure_is_waited_for_until_the_log_says_that_it_was_carried_out(path):
    asked = erasing(3, Run(1, 2), Run(4, 4))
    with open_cloud(path) as store:
        store.keep("log", verified(0, 5), b"note")
        assert store.erase(asked) == 3
        store.erase(erasing(4, Run(1, 1), origin="other"))
    leaves = [
        *LEAVES[:5],
        entry(5, EntryKind.ORDERED, asked.name),  # another kind
        entry(6, EntryKind.ERASED, bytes(32)),  # another order
        entry(7, EntryKind.ERASED, asked.name),
    ]
    with open_cloud(path) as store:
        assert store.erasings() == [asked, erasing(4, Run(1, 1), origin="other")]
        store.keep("log", verified(5, 7, leaves), b"note")
        assert waiting(store) == [("log", 3), ("other", 4)]
        store.keep("log", verified(7, 8, leaves), b"note")
        assert waiting(store) == [("other", 4)]


def test_what_another_order_has_erased_is_not_waited_for(store):
    for each in (
        erasing(1, Run(1, 3)), erasing(2, Run(3, 4)), erasing(3, Run(0, 3)), erasing(4, Run(9, 9)),
    ):  # fmt: skip
        store.erase(each)
    store.erased("log", bytes([9] * 32))  # of an order that nobody knows
    store.erased("other", bytes([3] * 32))
    assert [number for _, number in waiting(store)] == [1, 2, 3, 4]
    store.erased("log", bytes([3] * 32))
    assert [number for _, number in waiting(store)] == [2, 4]


def test_of_a_gateway_that_was_retired_nothing_is_waited_for(store):
    store.erase(erasing(1, Run(1, 3)))
    store.close("log", 5, 60)
    assert waiting(store) == []


def test_a_store_from_before_erasures_were_waited_for(path):
    with closing(open_writer(path, Schema(SCHEMA.application_id, SCHEMA.scripts[:2]))):
        pass
    with open_cloud(path) as store:
        store.erase(erasing(1, Run(1, 3)))
        assert waiting(store) == [("log", 1)]


def test_an_erasure_that_was_damaged(store, path):
    store.erase(erasing(1, Run(1, 3)))
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("UPDATE erasings SET wanted = x'80'")
        writer.commit()
    with pytest.raises(StorageError, match="damaged"):
        store.erasings()
    with pytest.raises(StorageError, match="damaged"):
        store.erased("log", bytes([1] * 32))


def test_a_store_that_was_damaged_inside_says_so(path):
    with open_cloud(path) as store:
        store.keep("log", verified(0, 5), b"note")
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("DROP TABLE logs")
        writer.commit()
    with open_cloud(path) as store, pytest.raises(StorageError, match="logs"):
        store.held("log")


@pytest.mark.parametrize("content", [b"", b"not a database" * 100, b"SQLite format 3\0"])
def test_another_file_is_refused_and_not_touched(path, content):
    path.write_bytes(content)
    with pytest.raises(StorageError), open_cloud(path):
        pass
    assert path.read_bytes() == content


def test_a_newer_store_is_refused(path):
    with open_cloud(path):
        pass
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="newer"), open_cloud(path):
        pass
