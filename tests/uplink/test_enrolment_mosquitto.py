"""Enrolment at a real mosquitto with TLS and access rules, as docs/broker.md has it."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatewayd import enrolment_app
from gatewayd.adapters.broker_settings import MqttSettings, Tls, broker_at
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.core.invitation import Claim
from gatewayd.ports import UpstreamError
from tests.support import commands
from tests.support.mosquitto import PROGRAM, documented_mosquitto
from tests.support.operator_side import invite, operator_in

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="mosquitto is not installed")

STATUS = "gatewayd/v1/gateway/stairwell-7/status"
DOWN = "gatewayd/v1/gateway/stairwell-7/down/pull"


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    return operator_in(tmp_path / "operator")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    (tmp_path / "box").mkdir()
    return tmp_path / "box"


@pytest.fixture
async def ports(tmp_path, operator):
    (tmp_path / "mosquitto").mkdir()
    async with documented_mosquitto(tmp_path / "mosquitto", operator) as found:
        yield found


@asynccontextmanager
async def cloud(operator, ports, *more):
    """`gatewayd cloud enrol` with the cloud's own certificate, found beside its keys, answering."""
    if not (operator / "cloud.crt").exists():
        made = commands.run("keys", "certificate", "cloud", "--keys", operator, "--into", operator)
        assert made.code == 0, made.err
    words = [
        "cloud", "enrol", "--keys", operator, "--store", operator / "invitations.sqlite",
        "--broker", ports.sessions, *more,
    ]  # fmt: skip
    async with commands.running(*words, PYTHONUNBUFFERED="1") as process:
        async with asyncio.timeout(20):
            assert b"answering" in await process.stdout.readline()
        await asyncio.sleep(0.5)
        yield process


def claim_for(operator, ports):
    return invite(
        operator, "--broker", ports.enrolling, "--uplink", ports.sessions,
        "--authorities", operator / "ca.crt",
    )  # fmt: skip


async def enrol(claim, box):
    return await asyncio.to_thread(
        commands.main, ["setup", "enrol", claim, "--into", str(box), "--patience", "30"]
    )


def session(url, *, box=None, ca=None, topics=()):
    host, port, _ = broker_at(url)
    tls = Tls(ca, box / "tls.crt", box / "tls.key") if box else Tls(ca)
    settings = MqttSettings(
        host=host,
        port=port,
        tls=tls,
        client_id=os.urandom(8).hex(),
        subscriptions=topics,
        deadline_s=5,
    )
    return Mqtt(settings).connect()


async def hears(listener, speaker, topic):
    """Whether what `speaker` says on this topic reaches `listener`."""
    await speaker.publish(topic, topic.encode())
    try:
        async with asyncio.timeout(0.7):
            while True:
                if await listener.receive() == (topic, topic.encode()):
                    return True
    except TimeoutError:
        return False


async def test_what_enrolment_brings_lets_the_gateway_in_and_keeps_it_to_its_own(
    operator, box, ports
):
    async with cloud(operator, ports):
        assert await enrol(claim_for(operator, ports), box) == 0
    everything = ("gatewayd/v1/#",)
    cloud_files = operator / "as-cloud"
    cloud_files.mkdir()
    (cloud_files / "tls.crt").write_bytes((operator / "cloud.crt").read_bytes())
    (cloud_files / "tls.key").write_bytes((operator / "cloud.pem").read_bytes())
    ca = box / "broker.crt"
    async with (
        session(ports.sessions, box=box, ca=ca, topics=everything) as gateway,
        session(ports.sessions, box=cloud_files, ca=ca, topics=everything) as ours,
        session(ports.enrolling, ca=ca, topics=everything) as stranger,
    ):
        assert await hears(ours, gateway, STATUS)
        assert await hears(gateway, ours, DOWN)
        assert not await hears(gateway, ours, DOWN.replace("7", "8"))
        assert not await hears(ours, gateway, STATUS.replace("7", "8"))
        assert not await hears(ours, gateway, DOWN)
        assert not await hears(stranger, ours, DOWN)
        assert not await hears(ours, stranger, STATUS)
        assert await hears(ours, stranger, "gatewayd/v1/enrol/00/up")
        assert await hears(stranger, ours, "gatewayd/v1/enrol/00/down")


async def test_what_is_said_to_many_arrives_and_home_assistant_hears_who_may_speak(
    operator, box, ports
):
    async with cloud(operator, ports):
        assert await enrol(claim_for(operator, ports), box) == 0
    for name in ("cloud", "home-assistant"):
        words = ("keys", "certificate", name, "--keys", operator, "--into", operator)
        assert name == "cloud" or commands.run(*words).code == 0
        files = operator / f"as-{name}"
        files.mkdir()
        (files / "tls.crt").write_bytes((operator / f"{name}.crt").read_bytes())
        (files / "tls.key").write_bytes((operator / f"{name}.pem").read_bytes())
    ca = box / "broker.crt"
    status_and_devices = ("gatewayd/v1/#", "homeassistant/#")
    own = "homeassistant/device/gatewayd_stairwell-7/config"
    async with (
        session(ports.sessions, box=box, ca=ca, topics=("gatewayd/v1/#",)) as gateway,
        session(ports.sessions, box=operator / "as-cloud", ca=ca) as ours,
        session(
            ports.sessions, box=operator / "as-home-assistant", ca=ca, topics=status_and_devices
        ) as home,
    ):
        for topic in ("gatewayd/v1/all/settings", "gatewayd/v1/group/vestergade-7/trust"):
            assert await hears(gateway, ours, topic)
            assert not await hears(gateway, gateway, f"{topic}/more")
        assert await hears(home, gateway, own)
        assert await hears(home, gateway, STATUS)
        assert not await hears(home, gateway, own.replace("7", "8"))
        assert not await hears(home, gateway, "homeassistant/lock/street/config")
        assert not await hears(home, ours, DOWN)
        assert not await hears(gateway, home, DOWN.replace("pull", "retire"))


async def test_a_lapsed_certificate_has_a_way_back_with_the_same_keys(operator, box, ports):
    ca = operator / "ca.crt"
    async with cloud(operator, ports, "--lifetime", "3"):
        assert await enrol(claim_for(operator, ports), box) == 0
    keys = {name: (box / name).read_bytes() for name in ("gateway.pem", "tls.key")}
    async with session(ports.sessions, box=box, ca=ca):
        pass
    await asyncio.sleep(4)
    with pytest.raises(UpstreamError):
        async with session(ports.sessions, box=box, ca=ca):
            pass
    async with cloud(operator, ports):
        assert await enrol(claim_for(operator, ports), box) == 0
    assert {name: (box / name).read_bytes() for name in keys} == keys
    async with session(ports.sessions, box=box, ca=ca):
        pass


async def test_without_a_certificate_there_is_no_session(operator, ports):
    with pytest.raises(UpstreamError):
        async with session(ports.sessions, ca=operator / "ca.crt"):
            pass


async def test_a_broker_that_the_claims_key_did_not_sign_is_not_asked(
    operator, box, ports, tmp_path
):
    other = tmp_path / "other"
    other.mkdir()
    assert commands.run("keys", "make", "operator-ca", "--into", other).code == 0
    text = invite(
        operator, "--broker", ports.enrolling, "--uplink", ports.sessions,
        "--authorities", other / "ca.crt",
    )  # fmt: skip
    claim = Claim.parse(text)
    enrolment = enrolment_app.enrolment_in(box)
    begun = enrolment.begin(claim)
    with pytest.raises(UpstreamError, match="not signed by the key that the claim names"):
        await enrolment_app.ask(begun, lambda payload: enrolment.accept(begun, payload))


async def test_a_broker_of_the_system_must_be_believed_by_the_system(operator, box, ports):
    claim = invite(operator, "--broker", ports.enrolling)
    assert await enrol(claim, box) == 1
