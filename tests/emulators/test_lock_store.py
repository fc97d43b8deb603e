"""A lock's memory: what survives, what is refused, and that nothing half-written ever counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from firmware_proto.codes import EventKind, Outcome, Reason
from firmware_proto.resumption import ResumptionSecret
from gatewayd.core.model import Verdict
from gatewayd.emulators.lock_battery import Battery
from gatewayd.emulators.lock_memory import EVENTS_KEPT, RESULTS_KEPT, LockMemory, StoredCommand
from gatewayd.emulators.lock_state import Turn
from gatewayd.emulators.lock_store import LockStore
from gatewayd.keyfiles import MAX_FILE_BYTES, KeyFileError, replace_file
from tests.support.household import DOOR, new_key

DONE = Verdict(Outcome.CONFIRMED, Reason.OK)


def fresh() -> LockMemory:
    return LockMemory(new_key(), b"\x17", DOOR, new_key().public_key())


def same(one: LockMemory, other: LockMemory) -> bool:
    """Private keys compare by identity: compare their numbers."""
    numbers = [m.key.private_numbers() for m in (one, other)]
    return numbers[0] == numbers[1] and replace(one, key=other.key) == other


def full() -> LockMemory:
    memory = replace(
        fresh(),
        generation=7,
        epoch=3,
        secret=ResumptionSecret(b"s" * 8, b"k" * 32),
        clock_ms=123,
        offset_ms=-5,
        battery=Battery(99),
        jammed=True,
    )
    for number in range(RESULTS_KEPT + 5):
        command = StoredCommand(number.to_bytes(16), bytes(32), Turn.UNLATCH)
        memory = memory.begun(command).settled(command.id, DONE)
    memory = memory.begun(StoredCommand(b"r" * 16, bytes(32), Turn.BOLT))
    for number in range(EVENTS_KEPT + 5):
        memory = memory.noted(EventKind.DOOR, 1, number)
    return memory


@pytest.mark.parametrize("memory", [fresh(), full()], ids=["fresh", "full"])
def test_survives(tmp_path: Path, memory: LockMemory) -> None:
    store = LockStore(tmp_path / "lock.json")
    store.create(memory)
    assert same(store.load(), memory)
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.stat().st_size < MAX_FILE_BYTES
    assert list(tmp_path.iterdir()) == [store.path]


def test_is_never_overwritten_by_create(tmp_path: Path) -> None:
    store = LockStore(tmp_path / "lock.json")
    memory = fresh()
    store.create(memory)
    with pytest.raises(KeyFileError, match="never overwritten"):
        store.create(fresh())
    assert same(store.load(), memory)


def test_every_truncation_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = LockStore(tmp_path / "lock.json")
    store.create(fresh())
    whole = store.path.read_bytes()
    for length in range(len(whole)):
        store.path.write_bytes(whole[:length])
        with pytest.raises(KeyFileError, match=r"damaged|empty"):
            store.load()
    assert store.path.read_bytes() == whole[:-1]
    store.path.write_bytes(whole + b"x")
    with pytest.raises(KeyFileError, match="damaged"):
        store.load()


def test_a_memory_of_version_1_is_read(tmp_path: Path) -> None:
    store = LockStore(tmp_path / "lock.json")
    store.create(fresh())
    document = json.loads(store.path.read_bytes())
    for name in ("claim_secret", "root_key", "command_key", "serial", "ajar_ms"):
        del document[name]
    store.path.write_text(json.dumps({**document, "version": 1}))
    found = store.load()
    assert found.claimed
    assert (found.claim_secret, found.root_key, found.serial) == (None, None, 0)


def damaged(change: dict[str, object]) -> object:
    return pytest.param(change, id=next(iter(change)))


ED25519 = ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    "change",
    [
        damaged({"surprise": 1}),
        damaged({"private_key": "AAAA"}),
        damaged({"gateways_key": "AAAA"}),
        damaged({"gateways_key": None}),
        damaged({"door": ""}),
        damaged({"generation": "three"}),
        damaged({"secret": {"session": "AA==", "secret": "AA=="}}),
        damaged({"events": [{"index": 1, "clock_ms": 1, "kind": 99, "value": 1}]}),
        damaged(
            {
                "commands": [
                    {"id": "", "content": "", "turn": "JUMP", "outcome": None, "reason": None}
                ]
            }
        ),
        damaged(
            {
                "private_key": __import__("base64")
                .b64encode(
                    ED25519.private_bytes(
                        serialization.Encoding.DER,
                        serialization.PrivateFormat.PKCS8,
                        serialization.NoEncryption(),
                    )
                )
                .decode()
            }
        ),
    ],
)
def test_damage_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    store = LockStore(tmp_path / "lock.json")
    store.create(fresh())
    document = json.loads(store.path.read_bytes())
    store.path.write_text(json.dumps({**document, **change}))
    before = store.path.read_bytes()
    with pytest.raises(KeyFileError, match="damaged"):
        store.load()
    assert store.path.read_bytes() == before


def test_another_version_a_missing_file_and_open_modes_are_named(tmp_path: Path) -> None:
    store = LockStore(tmp_path / "lock.json")
    with pytest.raises(KeyFileError, match="does not exist"):
        store.load()
    store.create(fresh())
    document = json.loads(store.path.read_bytes())
    store.path.write_text(json.dumps({**document, "version": 3, "new": True}))
    with pytest.raises(KeyFileError, match="version 3"):
        store.load()
    store.path.chmod(0o640)
    with pytest.raises(KeyFileError, match="can be read by others"):
        store.load()


def test_a_leftover_of_a_power_loss_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".lock.json.new").write_bytes(b"half")
    store = LockStore(tmp_path / "lock.json")
    memory = fresh()
    store.save(memory)
    assert same(store.load(), memory)
    assert list(tmp_path.iterdir()) == [store.path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    (target / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        replace_file(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


# --- the rules of memory --------------------------------------------------------------
def test_results_are_a_ring() -> None:
    memory = full()
    assert len(memory.commands) == RESULTS_KEPT
    assert memory.command((0).to_bytes(16)) is None
    last = memory.command((RESULTS_KEPT + 4).to_bytes(16))
    assert last is not None
    assert last.verdict == DONE
    assert memory.running is not None
    assert memory.running.id == b"r" * 16


def test_events_keep_their_indexes_until_acknowledged() -> None:
    memory = full()
    first = memory.events[0].index
    assert first == 6
    assert [e.index for e in memory.events_after(first, 2)] == [first + 1, first + 2]
    after = memory.acknowledged(memory.next_index - 2)
    assert [e.index for e in after.events] == [memory.next_index - 1]
    assert after.noted(EventKind.DOOR, 1, 0).events[-1].index == memory.next_index


def test_a_higher_generation_and_a_new_epoch_end_sessions() -> None:
    memory = full()
    raised = memory.raised(8, 1)
    assert (raised.generation, raised.secret) == (8, None)
    assert raised.events[-1].kind is EventKind.NEW_GENERATION
    forgot = memory.forgot_sessions()
    assert (forgot.epoch, forgot.secret) == (memory.epoch + 1, None)
