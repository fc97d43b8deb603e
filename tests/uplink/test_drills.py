"""Replace and move, as docs/replace.md has it: real commands, real daemons, no lock visited."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firmware_proto.codes import Outcome, Reason
from gatewayd import setup_app
from gatewayd.cli.command import ExitCode
from gatewayd.emulators.carry import deliver
from gatewayd.ports import RadioError
from tests.support import commands
from tests.support.brokers import Broker
from tests.support.drill import Card, Drill, drill

DOORS = ("street", "cellar", "garage")


@pytest.fixture
async def house(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Drill]:
    monkeypatch.setattr(setup_app, "SCAN_S", 1.0)  # few locks are soon heard
    async with drill(tmp_path, broker, *DOORS) as made:
        yield made


async def mounted(house: Drill, name: str, *doors: str) -> Card:
    """A first gateway, as its installer leaves it: locks claimed, bound and confirmed."""
    words = [word for door in doors for word in ("--door", door)]
    card = await house.card(name)
    await house.enrol(card, await house.invited(name, *words, broker=True))
    for door in doors:
        await house.site(card, "claim-lock", door, house.locks[door].label.text())
        await house.site(card, "bind-door", door)
    await handed_over(house, card)
    return card


async def lost_phone(house: Drill) -> Path:
    """Its key has been taken back, by a list that is at the broker."""
    keys = house.operator
    kept, signed, signer = keys / "housing.list", keys / "list.cwt", keys / "housing.pem"
    made = ("--issuer", "housing", "--uri", "https://lists.example")
    await house.types("keys", "new-list", kept, *made)
    wallet = await house.phone_of("lost", *DOORS, more=("--list", kept, "--days", "30"))
    await house.types("keys", "revoke", kept, "--holder", "lost")
    await house.types("keys", "sign-list", kept, "--signer", signer, "--out", signed)
    await house.types("cloud", "publish", signed, "--keys", keys, "--broker", house.url)
    return wallet


async def handed_over(house: Drill, card: Card) -> None:
    """The installer's report, and the operator's word for it."""
    await house.site(card, "report", "--out", card.directory, code=ExitCode.FAILED)  # no trials
    confirmed = await house.cloud("confirm", card.directory / "handover.json")
    assert "moved by the lock at" in confirmed.out


async def test_a_dead_gateway_is_replaced_without_a_visit_to_any_lock(house: Drill) -> None:
    old = await mounted(house, "stairwell-7", *DOORS)
    await old.starts()
    anna = await house.phone_of("anna", *DOORS)
    for door in DOORS:
        await house.opens(anna, door, old)
    await house.cloud("pull", "stairwell-7")
    await house.opens(anna, "street", old)  # never pulled: its card is gone
    await old.child.kill()
    lost = await lost_phone(house)

    # the operator, and whoever sits where there is a network
    claim = await house.invited("stairwell-8", "--replaces", "stairwell-7")
    new = await house.card("stairwell-8")
    said = await house.enrol_at_the_broker(new, claim)
    assert "what moves them is known" in said.out
    await new.starts()
    await new.child.line(lambda line: "is in force" in line, 20.0)
    assert await new.child.stop() == 0
    await house.broker.stop()  # at the door there is none

    # the caretaker
    await new.starts()
    report = await house.asks(lost, "street", new)
    assert report.reason is Reason.REVOKED
    for door in DOORS:
        await house.opens(anna, door, new)

    # the old one comes back to life
    await old.starts()
    report = await house.asks(anna, "street", old)
    assert (report.outcome, report.reason) == (Outcome.REFUSED, Reason.OLD_GENERATION)
    bo = await house.phone_of("bo", *DOORS)  # who never met the new one
    moved = house.moved
    report = await house.asks(bo, "street", old)
    assert report.outcome is not Outcome.CONFIRMED
    assert house.moved == moved
    # what was said to the old one does nothing at the new one, whoever brings it
    (stated,) = (house.operator / "sent" / "stairwell-7").glob("bindings-*.cose")
    async with house.holding(bo) as phone:
        carried = await deliver(phone, "street", stated.read_bytes(), new.address)
    assert carried.verdict.reason is Reason.NOT_BELIEVED
    await house.opens(bo, "street", new)

    # the network is back: the log of the old one is closed, with a gap, and so is the box
    await house.broker.start()
    closed = await house.cloud("send", "stairwell-7", "retire")
    assert "entries of its log are kept; a gap after them is declared" in closed.out
    verified = await house.cloud("verify", "stairwell-7", broker=False)
    assert "is the gap that was declared" in verified.out
    await old.child.line(lambda line: "retired" in line or "stopped" in line, 90.0)
    async with asyncio.timeout(20):
        await old.child.ended()

    await nothing_is_good_for_two(house, new, claim)


async def nothing_is_good_for_two(house: Drill, new: Card, claim: str) -> None:
    """A claim, a name, a place, a card."""
    thief = await house.card("thief")
    refused = await house.enrol(thief, claim, code=ExitCode.FAILED)
    assert "the claim is used" in refused.err
    assert (await house.cloud("invitations", broker=False, code=ExitCode.FAILED)).code
    again = await house.cloud(
        "invite", "stairwell-9", "--replaces", "stairwell-7", broker=False, code=ExitCode.USAGE
    )
    assert "stairwell-7 has no doors" in again.err
    same = await house.invited("stairwell-8", "--door", "street")
    refused = await house.enrol(await house.card("other"), same, code=ExitCode.FAILED)
    assert "enrolled before, with other keys" in refused.err
    named = await house.types(
        "setup", "enrol", await house.invited("stairwell-6", "--door", "attic"),
        "--into", new.directory, code=ExitCode.USAGE,
    )  # fmt: skip
    assert "this machine is stairwell-8 already" in named.err
    listed = await house.cloud("doors", "--json", broker=False)
    assert {(each["gateway"], each["generation"]) for each in listed.json} == {("stairwell-8", 2)}


async def test_a_door_moves_to_another_gateway_which_opens_it_then(house: Drill) -> None:
    first = await mounted(house, "stairwell-7", "street", "cellar")
    other = await mounted(house, "stairwell-8", "garage")
    await first.starts()
    await other.starts()
    anna = await house.phone_of("anna", *DOORS)
    for card, door in ((first, "street"), (first, "cellar"), (other, "garage")):
        await house.opens(anna, door, card)

    said = await house.cloud("move-door", "cellar", "stairwell-8")
    assert "cellar: stairwell-8, generation 2, moved by the lock at" in said.out
    for card in (first, other):  # systemd would start them again
        await card.child.line(lambda line: "other credentials" in line, 20.0)
        await card.child.line(lambda line: "other bindings" in line, 20.0)
        await card.starts()
    await first.child.line(lambda line: line.endswith("serving street"), 1.0)
    await house.opens(anna, "cellar", other)
    await house.opens(anna, "garage", other)
    await house.opens(anna, "street", first)

    await house.site(other, "report", "--out", other.directory, code=ExitCode.FAILED)
    reported = json.loads((other.directory / "handover.json").read_text())
    named = {each["door"]: each["moved_by"] for each in reported["doors"]}
    assert named.keys() == {"cellar", "garage"}  # which no installer bound here
    assert all(named.values())

    # the one that had it, as it was before: an old card, and a courier with what was said then
    report = await house.asks(anna, "cellar", first)
    assert report.reason is Reason.WRONG_GATEWAY_DOOR
    stated = sorted((house.operator / "sent" / "stairwell-7").glob("bindings-*.cose"))
    assert len(stated) == 2
    async with house.holding(anna) as phone:
        carried = await deliver(phone, "street", stated[0].read_bytes(), first.address)
    assert carried.verdict.reason is Reason.NOTHING_NEW
    with pytest.raises(RadioError):
        await house.meets_lock("cellar", first)
    await house.meets_lock("street", first)


async def test_a_broken_lock_is_swapped_and_no_phone_is_told(house: Drill) -> None:
    card = await mounted(house, "stairwell-7", "street")
    await card.starts()
    anna = await house.phone_of("anna", "street")
    await house.opens(anna, "street", card)
    assert await card.child.stop() == 0

    spare = house.locks["garage"].label.text()
    refused = await house.site(card, "claim-lock", "street", spare, code=ExitCode.FAILED)
    assert "--forget" in refused.err
    await house.site(card, "release-lock", "street", "--forget")
    await house.site(card, "claim-lock", "street", spare)
    await house.site(card, "bind-door", "street")
    broken, house.locks["street"] = house.locks["street"], house.locks["garage"]
    moved = broken.machine.openings
    tried = await house.site(card, "test-open", "street", "--yes")
    assert "leaf closed: opened" in tried.out
    await card.starts()
    await house.opens(anna, "street", card)
    await handed_over(house, card)
    listed = await house.cloud("doors", "--json", broker=False)
    assert [each["generation"] for each in listed.json] == [1]  # of the door, not of its lock

    # a gateway that replaces it knows the new lock, and swaps that one in its turn
    await card.child.kill()
    claim = await house.invited("stairwell-8", "--replaces", "stairwell-7")
    new = await house.card("stairwell-8")
    await house.enrol(new, claim)
    await new.starts()
    await house.opens(anna, "street", new)
    assert await new.child.stop() == 0
    await house.site(new, "claim-lock", "street", house.locks["cellar"].label.text())
    await house.site(new, "bind-door", "street")
    house.locks["street"] = house.locks["cellar"]
    await new.starts()
    await house.opens(anna, "street", new)
    assert broken.machine.openings == moved


async def test_a_restored_card_is_noticed_at_once_and_goes_on_opening(house: Drill) -> None:
    card = await mounted(house, "stairwell-7", "street")
    await card.starts()
    anna = await house.phone_of("anna", "street")
    await house.opens(anna, "street", card)
    assert await card.child.stop() == 0
    spare = house.directory / "spare"
    shutil.copytree(card.directory, spare, ignore=shutil.ignore_patterns("hci"))

    await card.starts()
    for _ in range(2):
        await house.opens(anna, "street", card)
    await house.cloud("pull", "stairwell-7")
    assert await alarms(house) == set()
    await card.child.kill()

    # the old copy is put into the box: the lock's session and commands have gone on
    for name in ("state", "gatewayd.toml"):
        old = card.directory / name
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    shutil.copytree(spare, card.directory, dirs_exist_ok=True)
    kept = await house.cloud("verify", "stairwell-7", "--json", broker=False)
    await card.starts()
    await house.opens(anna, "street", card)
    await house.opens(await house.phone_of("bo", "street"), "street", card)

    # at first contact it knows, and says so; and so does whoever pulls
    await card.child.line(lambda line: "over another log" in line, 60.0)
    async with asyncio.timeout(20):
        while "other_log" not in await alarms(house):
            pass
    pulled = await house.cloud("pull", "stairwell-7", code=ExitCode.FAILED)
    assert "ALARM: the log" in pulled.err
    assert "docs/replace.md" in pulled.err
    after = await house.cloud("verify", "stairwell-7", "--json", broker=False, code=1)
    assert after.json["entries"] == kept.json["entries"]
    assert {each["alarm"] for each in after.json["alarms"]} <= {"ROLLED_BACK", "FORKED"}
    await house.opens(anna, "street", card)


async def alarms(house: Drill) -> set[str]:
    """As the operator sees them."""
    file = house.operator / "fleet.sqlite"
    words = ("cloud", "fleet", "--file", file, "--quiet", "0.5", "--broker", house.url, "--json")
    ran = await asyncio.to_thread(commands.run, *words)
    return {each["alarm"] for each in ran.json["alarms"]}
