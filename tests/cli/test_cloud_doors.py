"""cloud doors, confirm and move-door, and claims whose generations the operator's store counts."""

from __future__ import annotations

import json
import sqlite3
from base64 import b64encode
from contextlib import closing
from pathlib import Path

import pytest

from firmware_proto import cbor, credential
from gatewayd import config
from gatewayd.adapters import sqlite_invitations
from gatewayd.adapters.sqlite.schema import Schema, open_writer
from gatewayd.adapters.sqlite_invitations import open_invitations
from gatewayd.cli.command import ExitCode
from gatewayd.cloud.authority import new_key
from gatewayd.config import stated
from gatewayd.config.model import Door, LockFiles, Relay
from gatewayd.core import state
from gatewayd.core.model import DoorId
from gatewayd.core.state import StateKind
from gatewayd.core.trust import verify_bundle
from gatewayd.keyfiles import read_p256_public
from tests.support import commands
from tests.support.commands import Ran
from tests.support.operator_side import operator_in

LOCKS = {"street": "F0:00:00:00:00:01", "cellar": "F0:00:00:00:00:02", "gate": "F0:00:00:00:00:03"}
NOWHERE = "mqtt://127.0.0.1:1"


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    return operator_in(tmp_path / "operator")


def cloud(operator: Path, *words: str | Path) -> Ran:
    store = operator / "invitations.sqlite"
    return commands.run("cloud", *words, "--keys", operator, "--store", store)


def done(ran: Ran) -> Ran:
    assert ran.code == 0, ran
    return ran


def claim(operator: Path, name: str, *words: str | Path) -> str:
    text: str = done(cloud(operator, "invite", name, *words, "--json")).json["claim"]
    return text


def enrol(operator: Path, name: str, text: str, code: int = 0) -> Path:
    box = operator.parent / name
    box.mkdir(exist_ok=True)
    request, answer = box / "request", box / "answer"
    done(commands.run("setup", "enrol", text, "--into", box, "--request", request))
    answer.unlink(missing_ok=True)
    assert cloud(operator, "enrol", "--request", request, "--answer", answer).code == code
    assert commands.run("setup", "enrol", "--into", box, "--answer", answer).code == code
    return box


def enrolled(operator: Path, name: str, *words: str | Path) -> Path:
    return enrol(operator, name, claim(operator, name, *words))


def bound(*doors: str) -> bytes:
    keys = {DoorId(door): new_key().public_key() for door in doors}
    named = [
        Door(id=door, zone="Europe/Copenhagen", lock=LockFiles(key=Path("k"), address=LOCKS[door]))
        for door in doors
    ]
    return stated.body(named, keys)


def handover(operator: Path, gateway: str, body: bytes | None) -> Path:
    path = operator / "handover.json"
    text = None if body is None else b64encode(body).decode()
    path.write_text(json.dumps({"gateway": gateway, "bindings": text, "doors": []}))
    return path


def confirmed(operator: Path, gateway: str, *doors: str) -> None:
    path = handover(operator, gateway, bound(*doors))
    done(cloud(operator, "confirm", path, "--keep"))


def states(operator: Path, gateway: str) -> dict[StateKind, bytes]:
    """What the newest statements to it say; each as a gateway believes it."""
    root = read_p256_public(operator / "root.pub.pem", "root")
    trust = verify_bundle((operator / "trust.cose").read_bytes(), root)
    found = [
        state.verify(path.read_bytes(), trust)[0]
        for path in (operator / "sent" / gateway).glob("*.cose")
    ]
    assert {each.addressee for each in found} == {gateway}
    return {each.kind: each.body for each in sorted(found, key=lambda each: each.serial)}


def doors_of(operator: Path, gateway: str) -> dict[str, int]:
    listed = done(cloud(operator, "doors", "--json")).json
    return {each["door"]: each["generation"] for each in listed if each["gateway"] == gateway}


# --- generations are counted ---------------------------------------------------------
def test_nobody_types_a_generation(operator: Path) -> None:
    broker = ("--broker", NOWHERE)
    enrolled(operator, "a", "--door", "street", "--door", "cellar=7", *broker)
    assert doors_of(operator, "a") == {"street": 1, "cellar": 7}
    enrolled(operator, "a", "--door", "street")  # for the same box, say for a lapsed certificate
    assert doors_of(operator, "a") == {"street": 1, "cellar": 7}
    confirmed(operator, "a", "street")
    box = enrolled(operator, "b", "--replaces", "a", "--door", "gate")
    assert doors_of(operator, "b") == {"street": 2, "cellar": 8, "gate": 1}
    assert credential.unverified((box / "gateway.cwt").read_bytes()).doors == {
        "street": 2, "cellar": 8, "gate": 1
    }  # fmt: skip
    by_name = {door.id: door for door in config.load(box / "gatewayd.toml", unbound=True).doors}
    assert by_name["cellar"].lock is None  # nobody had confirmed it
    street = by_name["street"]
    assert street.lock is not None
    assert (street.lock.address, street.zone) == (LOCKS["street"], "Europe/Copenhagen")
    assert street.lock.key == box / "lock-street.pub.pem"
    enrolled(operator, "c", "--replaces", "b")
    assert doors_of(operator, "c") == {"street": 3, "cellar": 9, "gate": 2}


def test_two_claims_for_one_place_and_the_first_to_come_has_it(operator: Path) -> None:
    enrolled(operator, "a", "--door", "street", "--broker", NOWHERE)
    first, second = (claim(operator, name, "--replaces", "a") for name in ("b", "c"))
    late = claim(operator, "a", "--door", "street")
    enrol(operator, "b", first)
    enrol(operator, "c", second, ExitCode.FAILED)
    enrol(operator, "a", late, ExitCode.FAILED)  # its door is gone meanwhile
    assert doors_of(operator, "b") == {"street": 2}
    assert "a has no doors" in cloud(operator, "invite", "d", "--replaces", "a").err


def test_what_cannot_be_invited_is_said(operator: Path) -> None:
    nobody = cloud(operator, "invite", "a", "--door", "street")
    assert (nobody.code, "--broker URL" in nobody.err) == (ExitCode.USAGE, True)
    enrolled(operator, "a", "--door", "street", "--broker", NOWHERE)
    for words, said in (
        (("b", "--door", "street"), "street is served by a"),
        (("b",), "no door is named"),
        (("a", "--replaces", "a"), "cannot replace itself"),
        (("b", "--replaces", "nobody"), "nobody has no doors"),
        (("b", "--door", "gate", "--uplink", NOWHERE), "go with --broker"),
    ):
        ran = cloud(operator, "invite", *words)
        assert (ran.code != 0, said in ran.err) == (True, True), ran
        assert "hint: " in ran.err
    assert doors_of(operator, "b") == {}


# --- confirming ----------------------------------------------------------------------
def test_what_was_bound_on_site_is_stated_with_a_serial_that_only_rises(operator: Path) -> None:
    enrolled(operator, "a", "--door", "street", "--door", "cellar", "--broker", NOWHERE)
    confirmed(operator, "a", "street")
    confirmed(operator, "a", "cellar")  # the other stays as it was
    (last,) = [body for kind, body in states(operator, "a").items() if kind is StateKind.BINDINGS]
    assert [door.id for door in stated.bindings(last).doors] == ["cellar", "street"]
    names = [path.name for path in (operator / "sent" / "a").iterdir()]
    assert len(set(names)) == 2
    listed = done(cloud(operator, "doors"))
    assert "street: a, generation 1, moved by the lock at F0:00:00:00:00:01" in listed.out


def test_a_statement_is_kept_when_the_broker_is_away(operator: Path) -> None:
    enrolled(operator, "a", "--door", "street", "--broker", NOWHERE)
    path = handover(operator, "a", bound("street"))
    ran = cloud(operator, "confirm", path, "--broker", NOWHERE)
    assert (ran.code, NOWHERE in ran.err) == (ExitCode.FAILED, True)
    assert StateKind.BINDINGS in states(operator, "a")


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[" * 60_000, b"\xff", b'{"gateway":"a","bindings":"?"}', b'{"gateway":1}'],
)
def test_what_is_no_handover_is_wrong_usage(operator: Path, data: bytes) -> None:
    path = operator / "handover.json"
    path.write_bytes(data)
    ran = cloud(operator, "confirm", path, "--keep")
    assert (ran.code, "is no handover" in ran.err or "empty" in ran.err) == (ExitCode.USAGE, True)


def test_one_lock_is_not_confirmed_for_two_doors(operator: Path) -> None:
    enrolled(operator, "a", "--door", "street", "--door", "cellar", "--broker", NOWHERE)
    confirmed(operator, "a", "street")
    wrong = bound("cellar").replace(LOCKS["cellar"].encode(), LOCKS["street"].encode())
    ran = cloud(operator, "confirm", handover(operator, "a", wrong), "--keep")
    assert (ran.code, "is door[" in ran.err) == (ExitCode.FAILED, True)
    assert '"moved_by": null' in cloud(operator, "doors", "--json").out


def test_what_cannot_be_confirmed_is_said_and_changes_nothing(operator: Path) -> None:
    enrolled(operator, "a", "--door", "street", "--broker", NOWHERE)
    body = bound("street")
    relays = [Door(id="street", relay=Relay(chip="c", line="l"))] * 2
    for gateway, wrong, said in (
        ("a", None, "nothing is bound at a"),
        ("b", body, "no gateway b has enrolled"),
        ("a", bound("street", "cellar"), "cellar is no door of a"),
        ("a", stated.body(relays, {}), "the bindings cannot be so"),
        *(("a", body[:end], "cannot be so") for end in range(0, len(body), 25)),
        ("a", body + b"\x00", "cannot be so"),
    ):
        ran = cloud(operator, "confirm", handover(operator, gateway, wrong), "--keep")
        assert (ran.code, said in ran.err) == (ExitCode.FAILED, True), ran
    assert not (operator / "sent").exists()


# --- moving --------------------------------------------------------------------------
def test_a_door_moves_and_both_gateways_are_told(operator: Path) -> None:
    enrolled(operator, "a", "--door", "street", "--door", "cellar", "--broker", NOWHERE)
    enrolled(operator, "b", "--door", "gate")
    ran = cloud(operator, "move-door", "street", "b", "--keep")
    assert (ran.code, "what moves cellar of a is not known" in ran.err) == (ExitCode.FAILED, True)
    confirmed(operator, "a", "street", "cellar")
    confirmed(operator, "b", "gate")
    for _ in range(2):  # said again it is said again, and nothing else happens
        done(cloud(operator, "move-door", "street", "b", "--keep"))
        assert doors_of(operator, "a") == {"cellar": 1}
        assert doors_of(operator, "b") == {"gate": 1, "street": 2}
    for gateway, doors in (("a", {"cellar": 1}), ("b", {"gate": 1, "street": 2})):
        told = states(operator, gateway)
        shown = credential.unverified(told[StateKind.CREDENTIAL])
        before = credential.unverified((operator.parent / gateway / "gateway.cwt").read_bytes())
        assert (shown.gateway, shown.doors, shown.key) == (gateway, doors, before.key)
        named = stated.bindings(told[StateKind.BINDINGS]).doors
        assert {door.id for door in named} == doors.keys()
    for words, said in (
        (("attic", "b"), "no gateway has a door attic"),
        (("street", "c"), "no gateway c has enrolled"),
    ):
        ran = cloud(operator, "move-door", *words, "--keep")
        assert (ran.code, said in ran.err) == (ExitCode.FAILED, True)


def test_the_only_door_of_a_gateway_moves_and_its_box_is_done(operator: Path) -> None:
    enrolled(operator, "a", "--door", "street", "--broker", NOWHERE)
    enrolled(operator, "b", "--door", "gate")
    confirmed(operator, "a", "street")
    confirmed(operator, "b", "gate")
    before = states(operator, "a")
    done(cloud(operator, "move-door", "street", "b", "--keep"))
    assert doors_of(operator, "b") == {"gate": 1, "street": 2}
    assert states(operator, "a") == before
    ran = cloud(operator, "move-door", "street", "a", "--keep")
    assert (ran.code, "a was replaced by b" in ran.err) == (ExitCode.FAILED, True)


def test_a_store_that_is_damaged_is_an_error_and_stays_as_it_is(operator: Path) -> None:
    enrolled(operator, "a", "--door", "street", "--broker", NOWHERE)
    path = operator / "invitations.sqlite"
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("UPDATE invitations SET doors = x'ff'")
    before = path.read_bytes()
    for words in (("invitations",), ("invite", "b", "--replaces", "a")):
        ran = cloud(operator, *words)
        assert (ran.code, f"{path}: damaged; keep it" in ran.err) == (1, True)
    assert path.read_bytes() == before


# --- files of before -----------------------------------------------------------------
def test_a_store_that_did_not_count_yet_is_taken_over(operator: Path) -> None:
    path = operator / "old.sqlite"
    schema = Schema(sqlite_invitations.SCHEMA.application_id, sqlite_invitations.SCHEMA.scripts[:1])
    connection = open_writer(path, schema)
    for number, gateway, generation in (
        (1, b"a", 4),
        (2, b"b", 3),
    ):  # b was replaced, and enrolled again
        row = (
            gateway * 16, b"k" * 32, gateway.decode(), cbor.encode({"street": generation}),
            NOWHERE, cbor.encode([]), 9, number,
        )  # fmt: skip
        connection.execute(
            "INSERT INTO invitations (claim, key, gateway, doors, broker, authorities, expires,"
            " used_s, request, credential) VALUES (?, ?, ?, ?, ?, ?, ?, ?, x'00', x'c0')",
            row,
        )
    connection.close()
    for _ in range(2):
        with open_invitations(path) as store:
            (held,) = store.holdings()
            assert (held.gateway, held.door, held.generation) == ("a", "street", 4)
            assert store.credential("a") == b"\xc0"
    with sqlite3.connect(path) as again:
        assert again.execute("SELECT count(*) FROM gateways").fetchone() == (2,)
