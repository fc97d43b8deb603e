"""lock emulate, as a person types it: made once, then a lock for every gateway that comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firmware_proto.claiming import Label, Purpose, nobodys_credential, proof
from firmware_proto.codes import Outcome, Reason
from firmware_proto.cose import key_id
from firmware_proto.edhoc import ccs
from firmware_proto.framing import GattFraming
from firmware_proto.lock_messages import Claim, Done, Identify
from gatewayd import lock_app
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.virtual_radio import (
    INSTANT,
    LOCK,
    UNCLAIMED,
    AirController,
    VirtualAir,
    open_radio,
    serve_hci,
)
from gatewayd.cli.command import ExitCode
from gatewayd.core.model import CommandId, Verdict
from gatewayd.emulators.lock_machine import Machine
from gatewayd.emulators.lock_store import LockStore
from gatewayd.keyfiles import private_pem, public_pem, read_p256_public
from gatewayd.lock_connection import LockIdentity, connect
from gatewayd.locks import RemoteLock
from gatewayd.ports import RadioError
from gatewayd.ports.radio import Link
from tests.support.commands import Ran, completed, finished, run, running
from tests.support.household import DOOR, Dice, Operator, new_key


async def emulate(*words: str | Path) -> Ran:
    return await completed("lock", "emulate", *words)


async def line(process: asyncio.subprocess.Process, wanted: str) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while wanted not in (read := (await process.stdout.readline()).decode()):
            assert read, f"{wanted!r} was not said"
    return read


class Bench:
    """An operator, an air with a gateway's radio on it, and a directory for a lock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "lock"
        self.hci = f"unix:{directory}/lock.hci"
        self.operator = Operator()
        self.gateways = directory / "gateways.pub.pem"
        self.gateways.write_bytes(public_pem(self.operator.key.public_key()))
        self.air = VirtualAir(INSTANT)

    @property
    def make(self) -> tuple[str | Path, ...]:
        return (self.directory, "--door", DOOR, "--gateways", self.gateways)

    @contextlib.asynccontextmanager
    async def gateway(self, address: str) -> AsyncIterator[RemoteLock]:
        controller = AirController(self.air, "00:00:00:00:00:01")
        public = read_p256_public(self.directory / f"{DOOR}.pub.pem", "lock")
        async with open_radio(controller, address="F0:00:00:00:00:0F", dials=LOCK) as radio:
            named = key_id(public)
            lock = RemoteLock(
                radio.central,
                LockIdentity(address, public, ccs(DOOR, public, named), named),
                self.operator.gateway(),
                SystemClock(),
                Dice(),
            )
            try:
                yield lock
            finally:
                await lock.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    async with serve_hci(bench.air, tmp_path / "lock.hci", address="00:00:00:00:00:02"):
        yield bench


async def test_made_once_it_opens_and_remembers(bench: Bench) -> None:
    public = f"{bench.directory}/{DOOR}.pub.pem"
    async with running("lock", "emulate", *bench.make, "--hci", bench.hci) as process:
        await line(process, f"made a lock for {DOOR}; its public key: {public}")
        address = (await line(process, f"{DOOR} is a lock at")).split()[5].rstrip(";")
        assert await line(process, "lock = {") == (
            f'  lock = {{ address = "{address}", key = "{DOOR}.pub.pem" }}\n'
        )
        async with bench.gateway(address) as lock:
            opened = await lock.unlatch(CommandId(bytes(16)), 200)
            assert opened == Verdict(Outcome.CONFIRMED, Reason.OK)
            await line(process, "  the latch is drawn")
            await line(process, "  the latch is home")
        process.send_signal(2)
        ran = await finished(process)
    assert (ran.code, ran.out, ran.err) == (0, f"{DOOR} was opened once\n", "")
    # the directory is enough from now on, and what became of the command is in there
    async with running("lock", "emulate", bench.directory, "--hci", bench.hci) as process:
        assert address in await line(process, f"{DOOR} is a lock at")
        async with bench.gateway(address) as lock:
            assert await lock.result_of(CommandId(bytes(16))) == opened


async def test_for_some_time_as_json(bench: Bench) -> None:
    words = (*bench.make, "--hci", bench.hci, "--address", "F0:00:00:00:00:99", "--json")
    ran = await emulate(*words, "--time", "1.5")
    said = json.loads(ran.out)
    assert (
        Label.parse(said.pop("label")).key
        == LockStore(bench.directory / "lock.json").load().key.public_key()
    )
    assert said == {"door": DOOR, "key": f"{bench.directory}/{DOOR}.pub.pem", "openings": 0}


async def test_one_that_belongs_to_nobody_shows_its_label_and_is_claimed(bench: Bench) -> None:
    words = (bench.directory, "--unclaimed", "--hci", bench.hci)
    async with running("lock", "emulate", *words) as process:
        assert process.stdin is not None
        address = (await line(process, "that belongs to nobody")).split()[3]
        label = Label.parse((await line(process, "GWL1-")).strip())
        for typed, answer in (("", "pressed"), ("open", "is open"), ("close", "closed")):
            process.stdin.write(f"{typed}\n".encode())
            await line(process, answer)
        process.stdin.write(b"jump\n")
        await line(process, "Enter, open or close")
        controller = AirController(bench.air, "00:00:00:00:00:01")
        async with open_radio(controller, address="F0:00:00:00:00:0F", dials=UNCLAIMED) as radio:
            (seen,) = await radio.central.look(0.5)
            assert seen.address == address
            await claimed(await radio.central.dial(address), label, bench.operator)
        assert address in await line(process, f"{DOOR} is a lock at")
        controller = AirController(bench.air, "00:00:00:00:00:03")
        async with open_radio(controller, address="F0:00:00:00:00:0E", dials=LOCK) as radio:
            (seen,) = await radio.central.look(0.5)
            assert seen.address == address
    again = await emulate(bench.directory, "--unclaimed", "--hci", "unix:/nonexistent")
    assert again.code == ExitCode.FAILED  # what it is stands in its memory, and is never replaced
    assert LockStore(bench.directory / "lock.json").load().door == DOOR


async def claimed(link: Link, label: Label, operator: Operator) -> None:
    """As a gateway that blinks it and claims it."""
    nobody = LockIdentity("", label.key, nobodys_credential(label.key), key_id(label.key))
    connection = await connect(
        link, nobody, operator.gateway(), Dice(),
        framing=GattFraming(link.mtu, b"ch"), remembered=None, heard=lambda _: None,
    )  # fmt: skip
    connection.start()
    other = new_key().public_key()
    assert connection.binding is not None
    made = proof(label.secret, connection.binding, Purpose.CLAIM)
    keys = (other, operator.key.public_key(), other)
    answers = [
        await connection.ask(Identify(b"i" * 16, 2_000), 5.0),
        await connection.ask(Claim(b"c" * 16, DOOR, made, *keys, 1), 5.0),
    ]
    await connection.close()
    outcomes = [(each.outcome, each.reason) for each in answers if isinstance(each, Done)]
    assert outcomes == [(Outcome.CONFIRMED, Reason.OK)] * 2


def test_with_a_key_that_was_made_before(tmp_path: Path) -> None:
    key, gateways = new_key(), new_key()
    (tmp_path / "street.pem").write_bytes(private_pem(key))
    (tmp_path / "street.pem").chmod(0o600)
    (tmp_path / "gateways.pub.pem").write_bytes(public_pem(gateways.public_key()))
    ran = run(
        "lock", "emulate", tmp_path / "lock", "--door", "street", "--key", tmp_path / "street.pem",
        "--gateways", tmp_path / "gateways.pub.pem", "--hci", f"unix:{tmp_path}/absent",
    )  # fmt: skip
    assert (ran.code, "error: no controller at" in ran.err) == (ExitCode.FAILED, True)
    assert "hint: --hci names the socket" in ran.err
    memory = LockStore(tmp_path / "lock" / "lock.json").load()
    assert memory.key.public_key() == key.public_key()
    assert memory.gateways_key == gateways.public_key()


def test_what_cannot_begin(tmp_path: Path) -> None:
    ran = run("lock", "emulate", tmp_path)
    assert (ran.code, "there is no lock in" in ran.err) == (ExitCode.USAGE, True)
    assert "hint: make one" in ran.err
    ran = run("lock", "emulate", tmp_path, "--door", "street", "--gateways", tmp_path / "absent")
    assert (ran.code, "ask the operator" in ran.err) == (ExitCode.USAGE, True)
    (tmp_path / "lock.json").write_bytes(b"{}")
    (tmp_path / "lock.json").chmod(0o600)
    ran = run("lock", "emulate", tmp_path)
    assert (ran.code, "is damaged" in ran.err) == (ExitCode.USAGE, True)
    assert (tmp_path / "lock.json").read_bytes() == b"{}"


@pytest.mark.parametrize(
    "words",
    [
        ("--door", "a/b"),
        ("--door", ""),
        ("--door", "d" * 33),
        ("--adapter", "hci0"),
        ("--time", "-3"),
        ("--adapter", "B8:27:EB:00:00:02", "--hci", "unix:x"),
    ],
)
def test_wrong_words(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert run("lock", "emulate", tmp_path, *words).code == ExitCode.USAGE


def test_bluezero_without_a_python_for_it(bench: Bench) -> None:
    ran = run("lock", "emulate", *bench.make, "--python", "/nonexistent/python3")
    assert (ran.code, "/nonexistent/python3 does not exist" in ran.err) == (ExitCode.FAILED, True)
    assert "hint: sudo apt install bluez python3-dbus python3-gi" in ran.err


# --- a radio that comes and goes -------------------------------------------------------------
async def test_a_radio_that_is_lost_is_opened_again(tmp_path: Path, bench: Bench) -> None:
    (await emulate(*bench.make, "--hci", "unix:/nonexistent"))
    store = LockStore(bench.directory / "lock.json")
    seen: asyncio.Queue[str] = asyncio.Queue()
    sees = lock_app.Bystander(
        lambda at, _: seen.put_nowait(at), lambda why: seen.put_nowait(f"lost: {why}")
    )
    hci = tmp_path / "short.hci"
    task: asyncio.Task[None] | None = None
    for _ in range(2):
        async with serve_hci(bench.air, hci, address="00:00:00:00:00:03"):
            task = task or asyncio.create_task(
                lock_app.emulate(lock_app.Choice(f"unix:{hci}"), store, Machine(), sees)
            )
            async with asyncio.timeout(20):
                while (said := await seen.get()).startswith("lost: no controller"):
                    pass
                assert said == lock_app.own_address(store)
        async with asyncio.timeout(20):
            assert (await seen.get()).startswith("lost: the controller is gone")
    assert task is not None
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_no_radio_from_the_beginning_is_an_error(bench: Bench) -> None:
    await emulate(*bench.make, "--hci", "unix:/nonexistent")
    sees = lock_app.Bystander(lambda *_: pytest.fail("served"), pytest.fail)
    store = LockStore(bench.directory / "lock.json")
    with pytest.raises(RadioError, match="no controller"):
        await lock_app.emulate(lock_app.Choice("unix:/nonexistent"), store, Machine(), sees)
