"""`gatewayd cloud fleet` as a person and as a program use it, on a real broker."""

from __future__ import annotations

import asyncio
import json
import signal

import msgspec

from gatewayd.adapters.broker_settings import MqttSettings
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.adapters.sqlite_cloud import open_cloud
from gatewayd.cloud.store import Erasing
from gatewayd.core.erasure import Erase, Run
from gatewayd.core.model import GatewayId
from gatewayd.core.topics import GatewayTopics
from gatewayd.status import LockStatus, Status, encode
from tests.support import commands
from tests.support.brokers import free_port

FINE = Status(online=True, version="1.0", clock="trusted", locks={"street": LockStatus()})


def session(address, client_id):
    settings = MqttSettings(host=address.host, port=address.port, client_id=client_id)
    return Mqtt(settings).connect()


async def publish(broker, **statuses):
    async with session(broker.address, "gateways") as upstream:
        for gateway, told in statuses.items():
            payload = told if isinstance(told, bytes) else encode(told)
            await upstream.publish(GatewayTopics(GatewayId(gateway)).status, payload, retain=True)


async def fleet(broker, directory, *more):
    return await commands.completed(
        "cloud", "fleet", "--broker", f"mqtt://127.0.0.1:{broker.address.port}",
        "--file", directory / "fleet.sqlite", "--quiet", "1", *more,
    )  # fmt: skip


async def test_a_table_of_all_gateways(broker, tmp_path):
    await publish(broker, hall=FINE, yard=msgspec.structs.replace(FINE, strangers=2))
    ran = await fleet(broker, tmp_path)
    assert (ran.code, ran.err) == (0, "")
    head, hall, yard, _, summary = ran.out.splitlines()
    assert head.split()[-4:] == ["clock", "disk", "battery", "alarms"]
    assert hall.split()[:6] == ["hall", "100", "now", "1.0", "trusted", "?"]
    assert yard.startswith("yard")
    assert summary == "2 of 2 gateways are connected; alarms: none"


async def test_alarms_and_their_exit_code(broker, tmp_path):
    low = msgspec.structs.replace(FINE, locks={"street": LockStatus(battery_percent=9)})
    await publish(broker, hall=low, yard=FINE, gate=b"\x1b]0;owned\x07")
    ran = await fleet(broker, tmp_path, "--json")
    assert (ran.code, ran.err) == (1, "")
    assert [(each["gateway"], each["alarm"]) for each in ran.json["alarms"]] == [
        ("gate", "unreadable"),
        ("hall", "low_battery"),
    ]
    assert [each["online"] for each in ran.json["gateways"]] == [False, True, True]
    await publish(broker, hall=Status(online=False), yard=FINE, gate=FINE)
    ran = await fleet(broker, tmp_path)
    assert ran.code == 1
    assert "2 of 3 gateways are connected; alarms: 1 offline" in ran.out
    assert "low battery" not in ran.out
    (hall,) = (line for line in ran.out.splitlines() if line.startswith("hall"))
    assert " ago " in hall
    assert "9 %" in hall  # as it was when it was last heard


async def test_erasures_that_are_overdue(broker, tmp_path):
    await publish(broker, hall=FINE)
    store = ("--store", str(tmp_path / "cloud.sqlite"))
    assert (await fleet(broker, tmp_path, *store)).code == 0
    assert not (tmp_path / "cloud.sqlite").exists()
    with open_cloud(tmp_path / "cloud.sqlite") as cloud:
        for number, gateway in enumerate(("hall", "yard"), 1):
            name, wanted = bytes([number] * 32), Erase((Run(1, 1),))
            cloud.erase(Erasing(f"gatewayd/{gateway}", name, number, 0, wanted))
    ran = await fleet(broker, tmp_path, *store)
    assert (ran.code, ran.err) == (1, "")
    hall, yard = (line for line in ran.out.splitlines() if line.startswith(("hall", "yard")))
    assert "erasure overdue (order 1 since" in hall
    assert (hall.split()[0], yard.split()[:3]) == ("hall", ["yard", "100", "never"])
    assert "alarms: 2 erasure overdue" in ran.out
    with open_cloud(tmp_path / "cloud.sqlite") as cloud:
        cloud.erased("gatewayd/hall", bytes([1] * 32))
    told = (await fleet(broker, tmp_path, *store, "--json")).json["alarms"]
    assert [(each["gateway"], each["alarm"]) for each in told] == [("yard", "erasure_overdue")]
    (tmp_path / "cloud.sqlite").write_bytes(b"nonsense")
    assert "--store" in (await fleet(broker, tmp_path, *store)).err


async def test_a_large_stranger_among_them_does_not_blind_the_operator(broker, tmp_path):
    await publish(broker, hall=FINE)
    async with session(broker.address, "stranger") as upstream:
        topic = GatewayTopics(GatewayId("evil")).status
        await upstream.publish(topic, b"[" * 12_000, retain=True)
        await upstream.publish("gatewayd/v1/gateway/a b/status", encode(FINE), retain=True)
    ran = await fleet(broker, tmp_path, "--json")
    assert [each["gateway"] for each in ran.json["gateways"]] == ["evil", "hall"]
    assert [(each["gateway"], each["alarm"]) for each in ran.json["alarms"]] == [
        ("evil", "unreadable")
    ]


async def test_rings_and_what_they_shall_have(broker, tmp_path):
    await publish(broker, hall=FINE, **{FIRST: msgspec.structs.replace(FINE, version="1.1")})
    ran = await fleet(broker, tmp_path, "--expect", "1=1.2", "--expect", "100=1.0", "--json")
    assert [(each["gateway"], each["alarm"]) for each in ran.json["alarms"]] == [
        (FIRST, "other_version")
    ]
    ran = await fleet(broker, tmp_path, "--ring", "1", "--json")
    assert (ran.code, [each["gateway"] for each in ran.json["gateways"]]) == (0, [FIRST])
    for wrong in ("2=1.0", "1", "1="):
        ran = await fleet(broker, tmp_path, "--expect", wrong)
        assert ran.code == 2


FIRST = "gateway-359"
"""Of ring 1."""


async def test_a_gateway_that_is_gone_is_forgotten(broker, tmp_path):
    await publish(broker, hall=FINE, yard=FINE)
    await fleet(broker, tmp_path)
    await publish(broker, yard=b"")
    ran = await fleet(broker, tmp_path)
    assert "missing" in ran.out
    ran = await fleet(broker, tmp_path, "--forget", "yard")
    assert (ran.code, ran.err) == (0, "")
    ran = await fleet(broker, tmp_path)
    assert (ran.code, "yard" in ran.out) == (0, False)
    ran = await fleet(broker, tmp_path, "--forget", "yard")
    assert ran.err.startswith("error: nothing is known of yard\nhint: ")


async def test_watching_tells_what_comes_and_goes(broker, tmp_path):
    await publish(broker, hall=FINE)
    watch = commands.running(
        "cloud", "fleet", "--watch", "--quiet", "0.5",
        "--broker", f"mqtt://127.0.0.1:{broker.address.port}",
        "--file", tmp_path / "fleet.sqlite",
    )  # fmt: skip
    async with watch as process, asyncio.timeout(60):
        await _line(process, "1 of 1 gateways are connected; alarms: none")
        await publish(broker, hall=msgspec.structs.replace(FINE, clock="unknown"))
        assert (await _line(process, "clock unknown")).split()[1:] == ["hall", "clock", "unknown"]
        await publish(broker, hall=FINE)
        await _line(process, "hall  clock unknown: over")
        await broker.stop()
        await _line(process, "the broker is away")
        await broker.start()
        await publish(broker, hall=msgspec.structs.replace(FINE, clock="unknown"))
        await _line(process, "hall  clock unknown")
        process.send_signal(signal.SIGINT)
        ran = await commands.finished(process)
        assert (ran.code, ran.err) == (0, "")


async def _line(process, text):
    while True:
        line = (await process.stdout.readline()).decode()
        assert line, (await process.stderr.read()).decode()
        if text in line:
            return line


async def test_watching_as_a_program(broker, tmp_path):
    await publish(broker, hall=FINE)
    async with commands.running(
        "cloud", "fleet", "--watch", "--json", "--quiet", "0.5",
        "--broker", f"mqtt://127.0.0.1:{broker.address.port}",
        "--file", tmp_path / "fleet.sqlite",
    ) as process:  # fmt: skip
        decoder, text = json.JSONDecoder(), ""
        async with asyncio.timeout(30):
            while "alarms" not in text or not text.endswith("}\n"):
                text += (await process.stdout.readline()).decode()
        first, _ = decoder.raw_decode(text)
        assert first["alarms"] == []


async def test_no_broker_and_no_file(tmp_path):
    ran = await commands.completed(
        "cloud", "fleet", "--broker", f"mqtt://127.0.0.1:{free_port()}",
        "--file", tmp_path / "fleet.sqlite",
    )  # fmt: skip
    assert ran.code == 1
    assert "hint: is the broker running" in ran.err
    (tmp_path / "text").write_text("hello")
    ran = await commands.completed("cloud", "fleet", "--file", tmp_path / "text")
    assert ran.code == 1
    assert "error: " in ran.err
    assert "hint: are --file and --store" in ran.err
    for wrong in ("0", "61", "x", "nan"):
        ran = await commands.completed("cloud", "fleet", "--quiet", wrong)
        assert ran.code == 2
