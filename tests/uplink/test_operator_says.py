"""A real gateway hears the operator through a real broker: keys withdrawn, doors bound, retired."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from firmware_proto.codes import Outcome, Reason
from gatewayd.adapters.broker_settings import MqttSettings
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.adapters.sealing import unseal
from gatewayd.cli import main
from gatewayd.cli.command import ExitCode
from gatewayd.cloud.authority import Authority, IssuerKey
from gatewayd.core import answers, envelope, receipt
from gatewayd.core.answers import Opened
from gatewayd.core.checkpoint import Verifier
from gatewayd.core.envelope import Kind
from gatewayd.core.model import EntryKind, origin_of
from gatewayd.core.topics import GatewayTopics
from gatewayd.demo.child import Child
from gatewayd.demo.world import GATEWAY, STAIRS, STREET, World, build
from gatewayd.emulators.carry import deliver
from gatewayd.emulators.phone import Report
from gatewayd.emulators.wallet import Wallet
from gatewayd.keyfiles import private_pem, public_pem
from gatewayd.logbook import entries, open_logbook
from gatewayd.radio_app import radio_address
from tests.support.brokers import free_port
from tests.support.commands import Ran, run, spawn

OTHERS = """\
group = "{group}"
serial = 2
root = "root.pub.pem"

[[issuer]]
name = "other"
key = "other.pub.pem"
classes = ["resident"]
max_lifetime_days = 400
"""
DOORS = """\
[[door]]
id = "street"
zone = "Europe/Copenhagen"
latch_ms = 900
lock.address = "{address}"
lock.key = "lock-street.pub.pem"
"""


@dataclass
class Place:
    """The staircase, its operator's directory, and the broker between."""

    world: World
    port: int
    operator: Path
    child: Child

    async def says(self, *words: object) -> None:
        """`gatewayd …`, as a person would."""
        code = await asyncio.to_thread(main, [str(word) for word in words])
        assert code == 0, words

    async def begins(self) -> None:
        """As systemd starts it again; whatever still runs is killed."""
        await self.child.kill()
        self.child = Child(self.world.config)
        await self.child.start()

    async def publishes(self, *files: Path) -> None:
        keys = ("--keys", self.operator, "--broker", f"mqtt://127.0.0.1:{self.port}")
        await self.says("cloud", "publish", *files, *keys)

    async def opens(self, issuer: IssuerKey | None = None) -> Report:
        wallet = self.world.wallet(f"holder-{self.world.phones}", issuer=issuer)
        async with self.world.phone(wallet) as phone:
            return await phone.open_door(STREET, address=radio_address(GATEWAY))

    async def opens_with(self, wallet: Path) -> Report:
        async with self.world.phone(Wallet.load(wallet)) as phone:
            return await phone.open_door(STREET, address=radio_address(GATEWAY))

    async def status(self, wanted: str, seconds: float = 10.0) -> dict[str, object]:
        """The gateway's status once it holds `wanted`."""
        topic = GatewayTopics(GATEWAY).status
        where = {"host": "127.0.0.1", "port": self.port}
        settings = MqttSettings(**where, client_id="watching", subscriptions=(topic,))  # type: ignore[arg-type] # JSON
        async with asyncio.timeout(seconds), Mqtt(settings).connect() as session:
            while True:
                about, payload = await session.receive()
                if about == topic and wanted in payload.decode():
                    found: dict[str, object] = json.loads(payload)
                    return found


@asynccontextmanager
async def place(
    directory: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    """systemd listens, so that the daemon ends by itself when it is to start anew."""
    address = directory / "notify"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(address))
    monkeypatch.setenv("NOTIFY_SOCKET", str(address))
    operator = directory / "operator"
    operator.mkdir()
    async with build(directory, port) as world:
        for role in ("root", "gateways", "command", "time", "seal"):
            key = getattr(world.authority, role)
            (operator / f"{role}.pem").write_bytes(private_pem(key))
            (operator / f"{role}.pem").chmod(0o600)
            (operator / f"{role}.pub.pem").write_bytes(public_pem(key.public_key()))
        (operator / "trust.cose").write_bytes(world.authority.bundle())
        (operator / "lock-street.pub.pem").write_bytes(
            (directory / "lock-street.pub.pem").read_bytes()
        )
        made = Place(world, port, operator, Child(world.config))
        try:
            yield made
        finally:
            await made.child.kill()
            listening.close()


async def test_the_keys_of_a_stolen_issuer_die_with_the_next_bundle(
    broker, tmp_path, monkeypatch
) -> None:
    async with place(tmp_path, broker.address.port, monkeypatch) as at:
        await at.child.start()
        assert (await at.opens()).outcome is Outcome.CONFIRMED
        other = IssuerKey.create("other")
        (at.operator / "other.pub.pem").write_bytes(public_pem(other.limits.key))
        (at.operator / "trust.toml").write_text(OTHERS.format(group=at.world.authority.group))
        keys = at.operator
        await at.says(
            *("keys", "bundle", keys / "trust.toml", "--root", keys / "root.pem"),
            *("--after", keys / "trust.cose", "--out", keys / "trust-2.cose"),
        )
        await at.publishes(keys / "trust.cose", keys / "trust-2.cose")
        assert (await at.status('"trust_serial":2'))["online"]
        assert (await at.opens()).reason is Reason.STRANGER
        assert (await at.opens(other)).outcome is Outcome.CONFIRMED
        # a power cut and the file of the first day do not bring the thief back
        await at.begins()
        assert (await at.opens()).reason is Reason.STRANGER
        assert (await at.opens(other)).outcome is Outcome.CONFIRMED


async def test_doors_bound_by_envelope_open_after_a_start_of_the_daemons_own(
    broker, tmp_path, monkeypatch
) -> None:
    async with place(tmp_path, broker.address.port, monkeypatch) as at:
        await at.child.start()
        await at.status('"online":true')
        (at.operator / "doors.toml").write_text(DOORS.format(address="F0:00:00:00:0B:AD"))
        keys = at.operator
        await at.says(
            *("keys", "state", "bindings", keys / "doors.toml", "--for", GATEWAY, "--serial", 1),
            *("--signer", keys / "command.pem", "--out", keys / "doors-1.cose"),
        )
        await at.publishes(keys / "doors-1.cose")
        await at.child.line(lambda line: "other bindings" in line, 10.0)
        async with asyncio.timeout(20):
            await at.child.ended()
        await at.begins()
        assert at.child.lines[-1].endswith("serving street")
        held = await at.status(f"bindings {GATEWAY}")
        assert held["operator"]["states"] == {f"bindings {GATEWAY}": 1}  # type: ignore[index, call-overload] # JSON
        report = await at.opens()
        assert report.reason is Reason.LOCK_UNREACHABLE


async def test_a_retired_gateway_is_off_the_air_for_good_and_its_log_can_be_pulled(
    broker, tmp_path, monkeypatch
) -> None:
    async with place(tmp_path, broker.address.port, monkeypatch) as at:
        await at.child.start()
        assert (await at.opens()).outcome is Outcome.CONFIRMED
        await at.status('"online":true')
        store = ("--store", tmp_path / "cloud.sqlite")
        broker_ = ("--broker", f"mqtt://127.0.0.1:{at.port}", "--keys", at.operator)
        credential = at.world.directory / "gateway.cwt"
        await at.says("cloud", "send", credential, "retire", "--kept", 3, *broker_)
        assert [path.name for path in (at.operator / "sent" / GATEWAY).iterdir()] == [
            "000001-retire.cose"
        ]
        async with asyncio.timeout(20):
            await at.child.ended()
        for _ in range(2):
            await at.begins()
            await at.status('"orders":1')
        assert (await at.opens()).outcome is not Outcome.CONFIRMED
        assert at.world.locks[STREET].machine.openings == 1
        await at.says("cloud", "pull", credential, *broker_, *store)
        assert await at.child.stop() == 0
        with open_logbook(at.world.database) as book:
            kinds = [entry.leaf.kind for entry in entries(book) if entry.leaf]
        assert kinds.count(EntryKind.RETIRED) == 1
        assert kinds[-1] is EntryKind.RETIRED


@pytest.mark.parametrize("enclosed", [False, True])
async def test_a_key_dies_with_the_next_list_and_stays_dead(
    broker, tmp_path, monkeypatch, enclosed: bool
) -> None:
    async with place(tmp_path, broker.address.port, monkeypatch) as at:
        await at.child.start()
        issuer, keys, group = at.world.issuer, at.operator, at.world.authority.group
        signer = keys / "housing.pem"
        signer.write_bytes(private_pem(issuer.key))
        signer.chmod(0o600)
        kept, name = keys / "kept", issuer.limits.name
        await at.says("keys", "new-list", kept, "--issuer", name, "--uri", "https://lists.example")
        for holder in ("lost", "good"):
            await at.says(
                *("keys", "issue", "--issuer", name, "--signer", signer, "--group", group),
                *("--door", STREET, "--holder", holder, "--list", kept, "--days", 30),
                *("--wallet", keys / holder, "--gateways", keys / "gateways.pub.pem"),
            )
        assert (await at.opens_with(keys / "lost")).outcome is Outcome.CONFIRMED
        await at.says("keys", "revoke", kept, "--holder", "lost")
        signed = keys / "list.cwt"
        await at.says("keys", "sign-list", kept, "--signer", signer, "--out", signed)
        if enclosed:
            inside, signed = signed, keys / "list.cose"
            await at.says(
                *("keys", "state", "list", inside, "--for", group, "--subject", "housing"),
                *("--serial", 1, "--signer", keys / "command.pem", "--out", signed),
            )
        await at.publishes(signed)
        await at.child.line(lambda line: "is in force" in line, 10.0)
        assert (await at.opens_with(keys / "lost")).reason is Reason.REVOKED
        assert (await at.opens_with(keys / "good")).outcome is Outcome.CONFIRMED
        await at.begins()  # after a power cut
        (held,) = (await at.status("https://lists.example"))["lists"]  # type: ignore[misc] # JSON
        assert (held["issuer"], held["uri"]) == (name, "https://lists.example")
        assert (await at.opens_with(keys / "lost")).reason is Reason.REVOKED


async def test_a_phone_carries_a_chain_to_a_gateway_without_a_network(
    tmp_path, monkeypatch
) -> None:
    async with place(tmp_path, free_port(), monkeypatch) as at:  # nobody listens there
        await at.child.start()
        assert (await at.opens()).outcome is Outcome.CONFIRMED
        other, keys = IssuerKey.create("other"), at.operator
        (keys / "other.pub.pem").write_bytes(public_pem(other.limits.key))
        (keys / "trust.toml").write_text(OTHERS.format(group=at.world.authority.group))
        await at.says(
            *("keys", "bundle", keys / "trust.toml", "--root", keys / "root.pem"),
            *("--after", keys / "trust.cose", "--out", keys / "trust-2.cose"),
        )
        await at.says(
            *("keys", "chain", keys / "trust.cose", keys / "trust-2.cose"),
            *("--root", keys / "root.pub.pem", "--out", keys / "chain.cose"),
        )
        chain = (keys / "chain.cose").read_bytes()
        stolen = at.world.wallet("thief")  # his own phone may carry what ends him
        async with at.world.phone(stolen) as phone:
            for reason in (Reason.OK, Reason.STRANGER):
                carried = await deliver(phone, STREET, chain, radio_address(GATEWAY))
                assert carried.verdict.reason is reason
        async with at.world.phone(at.world.wallet("new", issuer=other)) as phone:
            carried = await deliver(phone, STREET, chain, radio_address(GATEWAY))
            assert carried.verdict.reason is Reason.NOTHING_NEW
        assert (await at.opens()).reason is Reason.STRANGER
        assert (await at.opens(other)).outcome is Outcome.CONFIRMED


def test_what_is_no_chain_is_not_made(tmp_path) -> None:
    authority = Authority.create("g", IssuerKey.create("housing"))
    (tmp_path / "root.pub.pem").write_bytes(public_pem(authority.root.public_key()))
    for serial in (1, 2, 3):
        (tmp_path / str(serial)).write_bytes(authority.bundle(serial))
    (tmp_path / "none").write_bytes(b"none")
    root, out = ("--root", tmp_path / "root.pub.pem"), ("--out", tmp_path / "chain")
    for names in (["1", "3"], ["2", "1"], ["none"], ["1", "none"], ["1", "absent"]):
        ran = run("keys", "chain", *(tmp_path / name for name in names), *root, *out)
        assert ran.code == ExitCode.USAGE
        assert "hint: " in ran.err
        assert not (tmp_path / "chain").exists()
    assert run("keys", "chain", tmp_path / "1", tmp_path / "2", *root, *out).code == 0


# --- the helpdesk ---------------------------------------------------------------------------
async def orders_open(at: Place, *more: object, door: str = STREET) -> Ran:
    where = ("--broker", f"mqtt://127.0.0.1:{at.port}", "--keys", at.operator)
    words = ("cloud", "send", at.world.directory / "gateway.cwt", "open", "--door", door)
    return await asyncio.to_thread(spawn, *map(str, (*words, *where, *more)))


async def brings_again(at: Place, order: bytes) -> Opened:
    """The broker delivers an order that was sent before; what the gateway answers."""
    topics, trust = GatewayTopics(GATEWAY), at.world.authority.trust()
    stated, _ = envelope.opened(order, trust)
    where = {"host": "127.0.0.1", "port": at.port, "client_id": "broker"}
    log = Verifier(origin_of(GATEWAY), (at.world.keys.log.public_key()).public_bytes_raw())
    answer = topics.answer(stated.id)
    async with (
        asyncio.timeout(15),
        Mqtt(MqttSettings(**where, subscriptions=(answer,))).connect() as session,
    ):  # type: ignore[arg-type] # all is one mapping
        await session.publish(topics.down("open"), order)
        topic = ""
        while topic != answer:  # amqtt hands on what is retained elsewhere, too
            topic, sealed = await session.receive()
    plain = unseal(sealed, answers.seal_info(log.name, stated.id), at.world.authority.seal)
    return Opened.of(answers.verify(plain, Kind.OPEN, stated.id, log))


async def test_the_helpdesk_opens_the_doors_that_the_configuration_names(
    broker, tmp_path, monkeypatch
) -> None:
    async with place(tmp_path, broker.address.port, monkeypatch) as at:
        machine = at.world.locks[STREET].machine
        with at.world.config.open("a") as config:
            config.write('\n[helpdesk]\ndoors = ["street"]\n')
        await at.child.start()
        await at.status('"online":true')
        receipt_file = tmp_path / "receipt"
        ran = await orders_open(at, "--json", "--receipt", receipt_file)
        assert ran.code == ExitCode.DONE, ran
        assert (ran.json["outcome"], ran.json["reason"], ran.json["door"]) == (
            "confirmed",
            "ok",
            STREET,
        )
        assert machine.openings == 1
        certified = receipt.verify(receipt_file.read_bytes(), at.world.keys.receipt.public_key())
        kept = (at.operator / "sent" / GATEWAY / Path(ran.json["kept"]).name).read_bytes()
        stated, _ = envelope.opened(kept, at.world.authority.trust())
        assert (certified.token, certified.seq) == (stated.name, ran.json["entry"])
        # the broker once more, also after a power cut
        again = await brings_again(at, kept)
        assert (again.verdict.outcome, again.seq) == (Outcome.CONFIRMED, ran.json["entry"])
        await at.begins()
        await at.status('"online":true')
        assert (await brings_again(at, kept)).seq == ran.json["entry"]
        assert machine.openings == 1
        # a door that is not named, and a lock that is silent from when it turns
        ran = await orders_open(at, door=STAIRS)
        assert (ran.code, "action not granted" in ran.out) == (ExitCode.FAILED, True), ran
        faults = at.world.locks[STREET].faults
        machine.on_turning = lambda _: setattr(faults, "mute", True)
        ran = await orders_open(at)
        assert (ran.code, "it may have opened" in ran.out) == (ExitCode.UNKNOWN, True), ran
        # the same daemon says how it is, and forgets
        credential = at.world.directory / "gateway.cwt"
        where = ("--broker", f"mqtt://127.0.0.1:{at.port}", "--keys", at.operator)
        words = ("cloud", "send", credential, "diagnose", "--json", *where)
        ran = await asyncio.to_thread(spawn, *map(str, words))
        assert ran.json["facts"]["status"]["clock"] == "trusted", ran
        assert ran.json["facts"]["messages"]["ordered_open"] >= 1
        store = ("--store", tmp_path / "cloud.sqlite")
        await at.says("cloud", "pull", credential, *where, *store)
        await at.says("cloud", "send", credential, "erase", "--entries", "2", *where, *store)
        await at.says("cloud", "verify", credential, "--keys", at.operator, *store)
        with open_logbook(at.world.database) as book:
            found = [entry.leaf for entry in entries(book) if entry.leaf]
        ordered = [leaf for leaf in found if leaf.kind is EntryKind.ORDERED]
        # carried out, refused, of a silent lock
        assert [leaf.commitment == stated.name for leaf in ordered] == [True, False, False]
        assert EntryKind.ERASED in {leaf.kind for leaf in found}
        assert 2 not in {leaf.seq for leaf in found}


async def test_a_daemon_killed_while_it_opens_says_unknown_and_opens_no_second_time(
    broker, tmp_path, monkeypatch
) -> None:
    async with place(tmp_path, broker.address.port, monkeypatch) as at:
        with at.world.config.open("a") as config:
            config.write('\n[helpdesk]\ndoors = ["street"]\n')
        await at.child.start()
        await at.opens()  # from here on the link to the lock stands
        await at.status('"online":true')
        await asyncio.sleep(1.0)  # the latch is home
        at.world.locks[STREET].faults.mute = True
        asking = asyncio.create_task(orders_open(at, "--lives", 20))
        await at.child.line(lambda line: "orders it open" in line, 15.0)
        async with asyncio.timeout(10):
            while at.world.locks[STREET].machine.openings < 2:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        at.world.locks[STREET].faults.mute = False
        await at.begins()
        await at.status('"online":true')
        (kept,) = (at.operator / "sent" / GATEWAY).iterdir()
        told = await brings_again(at, kept.read_bytes())
        assert told.verdict.outcome is not Outcome.REFUSED
        ran = await asking
        assert ran.code in {ExitCode.UNKNOWN, ExitCode.DONE}  # it may have heard the second one
        assert at.world.locks[STREET].machine.openings == 2
