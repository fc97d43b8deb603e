"""Enrolment through a broker that may say whatever it likes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gatewayd import enrolment_app
from gatewayd.adapters.broker_settings import MqttSettings
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.core.enrolment_progress import Step
from gatewayd.core.invitation import Claim
from gatewayd.core.topics import EnrolTopics
from tests.support import commands
from tests.support.operator_side import invite, operator_in


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    return operator_in(tmp_path / "operator")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    (tmp_path / "box").mkdir()
    return tmp_path / "box"


def cloud_enrol(operator: Path, url: str, *more: str | Path) -> list[str | Path]:
    return [
        "cloud", "enrol", "--keys", operator, "--store", operator / "invitations.sqlite",
        "--broker", url, *more,
    ]  # fmt: skip


async def in_thread(*words: str | Path) -> int:
    ran = await asyncio.to_thread(commands.main, [str(word) for word in words])
    return int(ran)


async def test_a_gateway_enrols_with_a_cloud_that_comes_later(broker, operator, box, capsys):
    url = f"mqtt://127.0.0.1:{broker.address.port}"
    claim = invite(operator, "--broker", url)
    asking = asyncio.create_task(in_thread("setup", "enrol", claim, "--into", box))
    await asyncio.sleep(1)
    assert await in_thread(*cloud_enrol(operator, url, "--once")) == 0
    assert await asking == 0
    told = capsys.readouterr().out
    assert "stairwell-7: enrolled" in told
    assert "this is stairwell-7 of vestergade-7 now" in told
    assert (box / "gateway.cwt").exists()


async def test_strangers_at_the_broker_neither_answer_nor_disturb(broker, operator, box):
    url = f"mqtt://127.0.0.1:{broker.address.port}"
    claim = Claim.parse(invite(operator, "--broker", url))
    enrolment = enrolment_app.enrolment_in(box)
    begun = enrolment.begin(claim)
    topics = EnrolTopics(claim.id)
    settings = MqttSettings(
        host="127.0.0.1",
        port=broker.address.port,
        client_id="stranger",
        subscriptions=("gatewayd/v1/enrol/+/up", "gatewayd/v1/enrol/+/down"),
    )
    async with Mqtt(settings).connect() as stranger:
        asking = asyncio.create_task(
            enrolment_app.ask(begun, lambda payload: enrolment.accept(begun, payload))
        )
        topic, request = await stranger.receive()
        assert (topic, request) == (topics.request, begun.request)
        for nonsense in (b"", b"\xff" * 4000, request, request[:-1]):
            await stranger.publish(topics.answer, nonsense)
        words = cloud_enrol(operator, url)
        async with commands.running(*words, PYTHONUNBUFFERED="1") as process:
            async with asyncio.timeout(20):
                while b"answering" not in await process.stdout.readline():
                    pass
            await asyncio.sleep(0.5)
            for nonsense in (b"", b"\xff" * 4000, request[:-1]):
                await stranger.publish(topics.request, nonsense)
                await stranger.publish("gatewayd/v1/gateway/stairwell-7/up/renew", nonsense)
            async with asyncio.timeout(20):
                granted = await asking
            assert granted.step is Step.ANSWERED
            # a request that is sent again gets the same once more, and nobody else can read it
            answers = set()
            await stranger.publish(topics.request, request)
            async with asyncio.timeout(20):
                while len(answers) < 2:
                    topic, payload = await stranger.receive()
                    if topic == topics.answer and len(payload) > 500 and payload != request:
                        answers.add(payload)
            credential = enrolment.install(granted)[0].grant.credential
            assert all(credential not in each for each in answers)


async def test_nobody_answers_and_it_can_be_said_again(broker, operator, box, capsys):
    url = f"mqtt://127.0.0.1:{broker.address.port}"
    claim = invite(operator, "--broker", url)
    code = await in_thread("setup", "enrol", claim, "--into", box, "--patience", "1")
    assert code == 3
    assert "gatewayd setup enrol goes on, without the claim" in capsys.readouterr().err
    assert (box / "enrolment.state").exists()
