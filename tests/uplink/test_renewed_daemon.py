"""A real daemon renews certificate and credential by itself, at a mosquitto with TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from firmware_proto import credential
from firmware_proto.codes import ID_BYTES, Outcome
from gatewayd import enrolment_app
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.virtual_radio import PHONE, AirController, open_radio
from gatewayd.core import certificates, provisioned_time
from gatewayd.core.certificates import Certificate
from gatewayd.core.model import Instant
from gatewayd.demo.child import Child
from gatewayd.demo.world import GATEWAY, GENERATION, STREET, World, build
from gatewayd.emulators.phone import Phone, Report
from gatewayd.keyfiles import create_files, private_pem, public_pem
from gatewayd.radio_app import radio_address
from tests.support import commands
from tests.support.mosquitto import PROGRAM, Ports, documented_mosquitto

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="mosquitto is not installed")

DAY_S = 86_400
LIFE = str(90 * DAY_S)
NEARLY = 89.5
"""Days after enrolment when both are nearly over: in twelve hours."""
TOMORROW = 20


class Ahead:
    """A phone's clock, some hours ahead."""

    def __init__(self, hours: int) -> None:
        self._s = hours * 3600

    def instant(self) -> Instant:
        now = SystemClock().instant()
        return replace(now, wall_s=now.wall_s + self._s)


@dataclass
class House:
    world: World
    operator: Path
    ports: Ports
    child: Child

    async def opens(self, holder: str, hours: int = 0) -> Report:
        """For a phone whose clock is so far ahead; it minds a gateway that lapsed."""
        world = self.world
        wallet = world.wallet(holder)
        world.phones += 1
        address = f"E0:00:00:00:00:{world.phones:02X}"
        controller = AirController(world.air, address)
        async with open_radio(controller, address=address, dials=PHONE) as radio:
            phone = Phone(radio.central, wallet, Ahead(hours), SystemEntropy())
            return await phone.open_door(STREET, address=radio_address(GATEWAY))

    @asynccontextmanager
    async def cloud(self) -> AsyncIterator[None]:
        """`gatewayd cloud enrol`, answering."""
        keys = self.operator
        if not (keys / "cloud.crt").exists():
            made = commands.run("keys", "certificate", "cloud", "--keys", keys, "--into", keys)
            assert made.code == 0, made.err
        async with commands.running(
            "cloud", "enrol", "--keys", keys, "--store", keys / "invitations.sqlite",
            "--broker", self.ports.sessions, "--authorities", keys / "ca.crt",
            "--certificate", keys / "cloud.crt", "--key", keys / "cloud.pem",
            "--credential-lifetime", LIFE, PYTHONUNBUFFERED="1",
        ) as process:  # fmt: skip
            assert process.stdout is not None
            async with asyncio.timeout(20):
                assert b"answering" in await process.stdout.readline()
            await asyncio.sleep(0.5)
            yield

    def enrol(self, days_ago: float, monkeypatch: pytest.MonkeyPatch) -> None:
        """As it was done then; whoever has keys keeps them."""
        box, keys = self.world.directory, self.operator
        store = ("--keys", keys, "--store", keys / "invitations.sqlite")
        now_s = enrolment_app.now_s() - int(days_ago * DAY_S)
        with monkeypatch.context() as patch:
            patch.setattr(enrolment_app, "now_s", lambda: now_s)
            invited = commands.run(
                "cloud", "invite", GATEWAY, "--door", f"{STREET}={GENERATION}",
                "--door", f"stairs={GENERATION}", "--authorities", keys / "ca.crt",
                "--broker", self.ports.enrolling, "--uplink", self.ports.sessions, *store, "--json",
            )  # fmt: skip
            assert invited.code == 0, invited.err
            asked, answered = keys / f"{days_ago}.request", keys / f"{days_ago}.answer"
            for words in (
                ("setup", "enrol", invited.json["claim"], "--into", box, "--request", asked),
                ("cloud", "enrol", *store, "--request", asked, "--answer", answered,
                 "--credential-lifetime", LIFE),
                ("setup", "enrol", "--into", box, "--answer", answered),
            ):  # fmt: skip
                ran = commands.run(*words)
                assert ran.code == 0, ran.err
        fresh = provisioned_time.sign(
            GATEWAY, enrolment_app.now_s(), SystemEntropy().token_bytes(ID_BYTES),
            self.world.authority.time,
        )  # fmt: skip
        (box / "time.cose").write_bytes(fresh)

    def certificate(self) -> Certificate:
        path = self.world.directory / "state" / "tls.crt"
        return Certificate.parse(certificates.from_pem(path.read_bytes())[0])

    async def renewed(self) -> None:
        for what in ("certificate", "credential"):
            await self.child.line(lambda line: f"our {what} was renewed" in line, 20)  # noqa: B023


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with build(tmp_path, 1) as world:
        operator = tmp_path / "operator"
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
        (tmp_path / "mosquitto").mkdir()
        async with documented_mosquitto(tmp_path / "mosquitto", operator) as ports:
            text = world.config.read_text()
            plain = 'broker = "mqtt://127.0.0.1:1"'
            assert text.count(plain) == 1
            secure = (
                f'broker = "{ports.sessions}"\nauthorities = "broker.crt"\n'
                'certificate = "tls.crt"\nkey = "tls.key"'
            )
            world.config.write_text(text.replace(plain, secure))
            child = Child(world.config)
            try:
                yield House(world, operator, ports, child)
            finally:
                await child.kill()


async def test_both_are_renewed_while_phones_are_served_and_nothing_restarts(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.enrol(NEARLY, monkeypatch)
    old = credential.unverified((house.world.directory / "gateway.cwt").read_bytes())
    assert old.expires < enrolment_app.now_s() + TOMORROW * 3600
    async with house.cloud():
        await house.child.start()
        pid = house.child.pid
        serving = asyncio.create_task(house.opens("meanwhile"))
        await house.renewed()
        assert (await serving).outcome is Outcome.CONFIRMED, house.child.last_words()
        report = await house.opens("tomorrow", TOMORROW)
        assert report.outcome is Outcome.CONFIRMED, house.child.last_words()
    assert house.child.pid == pid
    assert house.certificate().until > enrolment_app.now_s() + 80 * DAY_S


async def test_killed_meanwhile_it_ends_renewed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.enrol(NEARLY, monkeypatch)
    async with house.cloud():
        for moment in ("connected to the broker", "was renewed"):
            await house.child.start()
            await house.child.line(lambda line: moment in line, 20)  # noqa: B023
            await house.child.kill()
            house.child.lines.clear()
        await house.child.start()
        async with asyncio.timeout(20):
            while (await house.opens("tomorrow", TOMORROW)).outcome is not Outcome.CONFIRMED:
                pass
    assert house.certificate().until > enrolment_app.now_s() + 80 * DAY_S
    assert "Traceback" not in "\n".join(house.child.lines)


async def test_what_lapsed_has_a_way_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.enrol(100, monkeypatch)
    shown = credential.unverified((house.world.directory / "gateway.cwt").read_bytes())
    assert shown.expires < enrolment_app.now_s()
    await house.child.start()
    assert (await house.opens("now")).outcome is not Outcome.CONFIRMED
    await house.child.line(lambda line: "certificate" in line, 20)  # no session, either
    await house.child.stop()
    keys = (house.world.directory / "gateway.pem").read_bytes()
    house.enrol(0, monkeypatch)
    assert (house.world.directory / "gateway.pem").read_bytes() == keys
    house.child.lines.clear()
    await house.child.start()
    assert (await house.opens("afterwards")).outcome is Outcome.CONFIRMED
    await house.child.line(lambda line: "connected to the broker" in line, 20)
