"""A gateway whose keys are in a secure element: enrolled with commands, run as a process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from firmware_proto.codes import Outcome
from gatewayd import keyfiles, setup_web
from gatewayd.adapters.web import wire
from gatewayd.demo.child import Child
from gatewayd.demo.world import GATEWAY, GENERATION, STAIRS, STREET, World, build
from gatewayd.emulators.phone import Report
from gatewayd.keyfiles import create_files, private_pem, public_pem
from gatewayd.ports import RadioError
from gatewayd.radio_app import radio_address
from tests.support import commands, softhsm
from tests.support.household import until
from tests.support.operator_side import invite, operator_in
from tests.support.softhsm import Token

pytestmark = softhsm.needed
OURS = ("gateway.pem", "log.pem", "receipt.pem", "gateway.cwt")


def enrol(world: World, token: Token) -> Path:
    """The world's gateway, enrolled anew by its operator, with keys in `token`."""
    operator, box = world.directory / "operator", world.directory
    operator.mkdir()
    authority = world.authority
    create_files(
        {
            operator / "root.pub.pem": public_pem(authority.root.public_key()),
            operator / "trust.cose": authority.bundle(),
            operator / "gateways.pem": private_pem(authority.gateways),
            operator / "time.pem": private_pem(authority.time),
        }
    )
    said = commands.run("keys", "make", "operator-ca", "--into", operator)
    assert said.code == 0, said.err
    for name in OURS:
        (box / name).unlink()
    store = ("--keys", operator, "--store", operator / "invitations.sqlite")
    said = commands.run(
        "cloud", "invite", GATEWAY, "--door", f"{STREET}={GENERATION}",
        "--door", f"{STAIRS}={GENERATION}", "--broker", "mqtt://127.0.0.1:1", *store, "--json",
    )  # fmt: skip
    assert said.code == 0, said.err
    asked, answered = operator / "request", operator / "answer"
    for words in (
        ("setup", "enrol", said.json["claim"], "--into", box, "--request", asked,
         "--key-in", token.uri.text()),
        ("cloud", "enrol", *store, "--request", asked, "--answer", answered),
        ("setup", "enrol", "--into", box, "--answer", answered),
    ):  # fmt: skip
        ran = commands.run(*words)
        assert ran.code == 0, ran.err
    return box


@dataclass
class House:
    world: World
    token: Token
    child: Child

    async def opens(self, holder: str) -> Report:
        async with self.world.phone(self.world.wallet(holder)) as phone:
            return await phone.open_door(STREET, address=radio_address(GATEWAY))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with build(tmp_path, 1) as world:
        token = softhsm.fresh(tmp_path)
        enrol(world, token)
        child = Child(world.config)
        try:
            yield House(world, token, child)
        finally:
            await child.kill()


async def test_it_opens_a_door_and_gives_a_receipt(house: House) -> None:
    for name in ("gateway.pem", "receipt.pem"):
        data = (house.world.directory / name).read_bytes()
        assert data.startswith(b"pkcs11:token=token")
        assert b"PRIVATE KEY" not in data
        assert softhsm.PIN.encode() not in data
    assert commands.run("check", "-c", house.world.config).code == 0
    await house.child.start()
    report = await house.opens("one")
    assert report.outcome is Outcome.CONFIRMED, house.child.last_words()
    assert report.receipt is not None
    assert await house.child.stop() == 0
    assert "Traceback" not in "\n".join(house.child.lines)


async def test_while_it_is_away_nobody_is_let_in_and_afterwards_everybody(house: House) -> None:
    await house.child.start()
    assert (await house.opens("one")).outcome is Outcome.CONFIRMED
    with house.token.unplugged():
        for holder in ("two", "three"):
            with contextlib.suppress(RadioError):
                assert (await house.opens(holder)).outcome is Outcome.REFUSED
        assert house.world.locks[STREET].machine.openings == 1
    report = await house.opens("four")
    assert report.outcome is Outcome.CONFIRMED, house.child.last_words()
    await until(lambda: house.world.locks[STREET].machine.openings == 2, 5.0)
    journal = "\n".join(house.child.lines)
    assert "Traceback" not in journal
    assert journal.count(" error ") == 1, journal


async def test_a_wrong_pin_keeps_it_from_starting_and_is_tried_once(house: House) -> None:
    house.token.pin.write_text("0000\n")
    config = house.world.config
    first = await commands.completed("run", "-c", config)
    assert first.code == 2
    assert "does not take the PIN" in first.err
    house.token.pin.write_text(f"{softhsm.PIN}\n")
    again = await commands.completed("run", "-c", config)  # as systemd does, for ever
    assert (again.code, "a wrong PIN was tried" in again.err) == (2, True)
    assert "hint: put the right PIN into its file, then say gatewayd check --try-pin" in again.err
    softhsm.forget()
    found = await asyncio.to_thread(commands.run, "doctor", "-c", config, "--json")
    assert "a wrong PIN was tried" in found.out
    softhsm.forget()
    assert commands.run("check", "-c", config, "--try-pin").code == 0
    await house.child.start()


def test_keys_in_files_are_not_left_lying_about(tmp_path: Path) -> None:
    token = softhsm.fresh(tmp_path)
    ran = commands.run("keys", "make", "gateway", "--into", tmp_path)
    assert ran.code == 0, ran.err
    operator = tmp_path / "operator"

    claim = invite(operator_in(operator), "--broker", "mqtt://127.0.0.1:1")
    words = ("setup", "enrol", claim, "--into", tmp_path, "--request", tmp_path / "request")
    ran = commands.run(*words, "--key-in", token.uri.text())
    assert (ran.code, "is there already, in a file" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("pkcs11:token=a", "module-path is missing"),
        ("pkcs11:token=a;object=b?module-path=/c", "leave object out"),
        ("pkcs11:token=a?module-path=/c&pin-value=1", "a PIN does not stand in a URI"),
    ],
)
def test_a_uri_that_is_none_is_wrong_usage(tmp_path: Path, uri: str, said: str) -> None:
    ran = commands.run("setup", "enrol", "-", "--into", tmp_path, "--key-in", uri)
    assert (ran.code, said in ran.err) == (2, True)


def test_an_element_that_is_not_there_is_told(tmp_path: Path) -> None:

    claim = invite(operator_in(tmp_path / "operator"), "--broker", "mqtt://127.0.0.1:1")
    softhsm.cabinet()
    uri = f"pkcs11:token=nobodys?module-path={softhsm.LIBRARY}"
    ran = commands.run("setup", "enrol", claim, "--into", tmp_path, "--key-in", uri)
    assert (ran.code, "error: secure element nobodys: it is not there" in ran.err) == (2, True)
    assert not (tmp_path / "enrolment.state").exists()


def test_cut_off_after_the_keys_were_made_it_goes_on_with_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    token = softhsm.fresh(tmp_path)
    claim = invite(operator_in(tmp_path / "operator"), "--broker", "mqtt://127.0.0.1:1")
    words = (
        "setup", "enrol", claim, "--into", tmp_path, "--request", tmp_path / "request",
        "--key-in", token.uri.text(),
    )  # fmt: skip

    class PowerCut(BaseException):
        pass

    def cut(*_: object, **__: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(keyfiles, "keep_file", cut)
        with pytest.raises(PowerCut):
            commands.run(*words)
    before = objects(token)
    assert len(before) == 4  # two pairs
    assert commands.run(*words).code == 0
    assert objects(token) == before


def objects(token: Token) -> set[bytes]:
    return {path.name.encode() for path in token.directory.glob("*.object")} - {b"token.object"}


async def test_the_installers_page_makes_them_there_where_its_terminal_says_so(
    tmp_path: Path,
) -> None:
    token, box = softhsm.fresh(tmp_path), tmp_path / "box"
    box.mkdir()
    operator = operator_in(tmp_path / "operator")
    claim = invite(operator, "--broker", "mqtt://127.0.0.1:1")
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=theirs, limit=wire.MAX_TOLD_BYTES)
    page = wire.Peer(reader, writer, wire.telling())
    async with setup_web.peer(ours) as ear, asyncio.TaskGroup() as group:
        conductor = setup_web.Conductor(box / "gatewayd.toml", ear, print, token.uri.text())
        group.create_task(conductor.run(wire.Begin("code", (), 60.0)))
        page.say(wire.WriteRequest(claim))
        asked, answered = tmp_path / "request", tmp_path / "answer"
        asked.write_bytes((await _ended(page)).files["enrolment.request"])
        store = ("--keys", operator, "--store", operator / "invitations.sqlite")
        words = ("cloud", "enrol", *store, "--request", asked, "--answer", answered)
        assert (await asyncio.to_thread(commands.run, *words)).code == 0
        page.say(wire.TakeAnswer(answered.read_bytes()))
        assert (await _ended(page)).code == 0
        page.say(wire.End("finished"))
    await page.close()
    for name in ("gateway.pem", "receipt.pem"):
        assert (box / name).read_text().startswith("pkcs11:"), name


async def _ended(page: wire.Peer[wire.Told]) -> wire.Ended:
    async for word in page.hear():
        if isinstance(word, wire.Ended):
            return word
    raise AssertionError("whoever runs the steps is gone")
