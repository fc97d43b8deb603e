"""The power goes, anywhere: the storage comes back by itself, and nothing that was said is lost.

One real run is recorded (making the log, openings, the time floor, the operator's settings, a
log that fails and its reserve, the next schema); then every cut of it is laid out as a disk may
be after it.
`GATEWAYD_CUTS=all` tries every cut in more ways; the test suite takes 240 of them.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from gatewayd.adapters import reserve as reserve_file
from gatewayd.adapters.sqlite.commands import phase_of
from gatewayd.adapters.sqlite.schema import open_writer
from gatewayd.adapters.sqlite.store import LogStore
from gatewayd.core import reserve as slots
from gatewayd.core.merkle import CompactRange, leaf_hash
from gatewayd.core.register import Held
from gatewayd.core.reserve import MERGED_NAME
from gatewayd.mailbox import REGISTER_NAME
from gatewayd.ports import StorageError
from tests.support.disk_trace import Change, Disk, record
from tests.support.storage_child import SECRET, SLOT, YOUNGER

ROOT = Path(__file__).parents[2]
SCRIPT = "\n".join(
    ["open"] * 4
    + ["floor 17", "settings 1", "open", "settings 2"]
    + ["fail", "open", "open", "recover", "floor 18", "settings 3"]
    + ["open"] * 4
    + ["fail", "open", "upgrade", ""]
)
MOST_CUTS = 240


@pytest.fixture(scope="module")
def changes() -> Sequence[Change]:
    if not shutil.which("strace"):
        pytest.skip("strace, which records what a process writes, is not installed")
    with tempfile.TemporaryDirectory() as place:
        state = Path(place).resolve() / "state"
        state.mkdir()
        words = [sys.executable, "-m", "tests.support.storage_child", str(state)]
        return record(words, SCRIPT, state, ROOT)


def cuts(changes: Sequence[Change]) -> list[int]:
    every = range(len(changes) + 1)
    if os.environ.get("GATEWAYD_CUTS") == "all" or len(every) <= MOST_CUTS:
        return list(every)
    return sorted({*random.Random(11).sample(every, MOST_CUTS - 1), len(changes)})


def check(state: Path, said: list[list[str]]) -> None:
    """Start the storage as the daemon does, take the reserve over, and hold all promises."""
    path = state / "log.db"
    if not path.exists():
        assert said == [], "what said that it was ready has a log"
    store = LogStore(open_writer(path, YOUNGER), path, os.urandom)
    descriptor = reserve_file._open(state / "log.db.reserve")
    try:
        whole = os.pread(descriptor, reserve_file._BYTES, 0)
    finally:
        os.close(descriptor)
    cells = [whole[at : at + slots.SLOT_BYTES] for at in range(0, len(whole), slots.SLOT_BYTES)]
    merged = int.from_bytes(store.load(MERGED_NAME) or b"", "big")
    left = slots.found(SECRET, cells, merged)
    if left:
        store.merge(left, left[-1].number, None)
    waiting = {command.id.hex() for command in store.unsettled()}
    _verify(store)
    floor = int(store.load("floor") or b"0")
    held = store.load(SLOT.name)
    serial = 0 if held is None else Held.decode(held)[1].serial
    listed = store.load(REGISTER_NAME)
    assert held is not None or listed is None, "a name that is listed has a body"
    for words in said:
        match words:
            case ["log" | "reserve", kind, command, *_]:
                phase = phase_of(store._connection, bytes.fromhex(command))
                assert phase is not None, "what was said to be recorded is"
                assert kind == "INTENT" or command not in waiting, "and so is its outcome"
            case ["floor", told]:
                assert floor >= int(told)
            case ["settings", told]:
                assert serial >= int(told)
                assert listed is not None
    commands = [words[2] for words in said if words[1:2] == ["INTENT"]]
    seen = [bytes(row[0]).hex() for row in store._connection.execute("SELECT id FROM command")]
    assert len(seen) == len(set(seen))
    assert set(commands) <= set(seen)
    assert len(seen) - len(commands) <= 1, "at most the one that was being written"
    store.close()


def _verify(store: LogStore) -> None:
    tree = CompactRange()
    rows = store._connection.execute("SELECT seq, body, nodes FROM leaf ORDER BY seq").fetchall()
    for number, (seq, body, nodes) in enumerate(rows):
        tree, grown = tree.append(leaf_hash(body))
        assert (seq, nodes) == (number, b"".join(grown))
    assert store.root(store.size()) == tree.root()
    with suppress(asyncio.CancelledError):
        assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_recording_has_what_it_should(changes: Sequence[Change]) -> None:
    kinds = {each.what for each in changes}
    assert kinds >= {"write", "truncate", "sync", "create", "rename", "unlink", "sync names"}
    said = Disk(changes, len(changes)).said()
    assert [words[0] for words in said].count("log") == 18
    assert [words[0] for words in said].count("reserve") == 6
    assert [words[1] for words in said if words[0] == "settings"] == ["1", "2", "3"]
    assert said[-1] == ["upgraded"]
    assert len(cuts(changes)) >= 200


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_the_storage_comes_back_from_every_cut(changes: Sequence[Change], kept: float) -> None:
    again = 5 if os.environ.get("GATEWAYD_CUTS") == "all" and kept == 0.5 else 1
    shared = "/dev/shm"  # noqa: S108 - a directory of its own in it; syncs cost nothing there
    for cut in cuts(changes):
        for seed in range(again):
            place = tempfile.mkdtemp(dir=shared if Path(shared).is_dir() else None)
            with tempfile.TemporaryDirectory(dir=place) as name:
                disk = Disk(changes, cut)
                disk.lay(Path(name), kept, random.Random(cut * 31 + seed))
                try:
                    check(Path(name), disk.said())
                except (StorageError, AssertionError) as error:
                    before = [(each.what, each.name, each.file) for each in changes[:cut]][-4:]
                    raise AssertionError(f"cut {cut}, seed {seed}, after {before}") from error
            Path(place).rmdir()


def test_a_log_that_is_not_synced_would_be_found_out(changes: Sequence[Change]) -> None:
    """The model bites: the same run without its syncs loses what it said."""
    careless = [each for each in changes if each.what != "sync"]
    with tempfile.TemporaryDirectory() as name:
        disk = Disk(careless, len(careless))
        disk.lay(Path(name), 0.0, random.Random(1))
        with pytest.raises((AssertionError, StorageError)):
            check(Path(name), disk.said())
