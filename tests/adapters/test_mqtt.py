"""The adapter against brokers that are absent, hang, refuse, kick, lie or flood."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from gatewayd.adapters import broker_wire
from gatewayd.adapters.broker import HOST, Address, serve
from gatewayd.adapters.broker_guard import BrokerGuard, Limits
from gatewayd.adapters.broker_settings import INBOX_MESSAGES, MqttSettings, Tls, Will, broker_at
from gatewayd.adapters.mqtt import WINDOW, Mqtt
from gatewayd.ports import UpstreamError
from tests.support.brokers import free_port
from tests.support.certificates import make_certificates
from tests.support.household import until
from tests.support.rogue_broker import ACCEPTED, frame, publish, rogue_broker


def settings(address, **changes):
    values = {
        "host": address.host,
        "port": address.port,
        "client_id": "gateway",
        "subscriptions": ("in/+",),
        "deadline_s": 0.4,
    }
    return MqttSettings(**{**values, **changes})


async def fails(address, match=None, **changes):
    started = asyncio.get_running_loop().time()
    with pytest.raises(UpstreamError, match=match):
        async with Mqtt(settings(address, **changes)).connect():
            pass
    assert asyncio.get_running_loop().time() - started < 3


async def receives(session, message):
    """Sooner or later: amqtt may repeat a will that it has delivered already."""
    async with asyncio.timeout(3):
        while await session.receive() != message:
            pass


async def accepted(client):
    await client.accept()
    await client.serve()


# --- a broker that works --------------------------------------------------------------
async def test_what_one_publishes_the_other_receives():
    async with (
        serve() as address,
        Mqtt(settings(address, client_id="a")).connect() as one,
        Mqtt(settings(address, client_id="b")).connect() as other,
    ):
        for number in range(20):
            await one.publish("in/1", bytes([number]))
        got = [await other.receive() for _ in range(20)]
        assert got == [("in/1", bytes([number])) for number in range(20)]


async def test_the_will_is_retained_after_a_goodbye_and_after_none():
    async with serve() as address:
        will = Will("in/status", b"gone")
        async with Mqtt(settings(address, client_id="a", will=will)).connect() as one:
            await one.publish("in/status", b"here", retain=True)
        async with Mqtt(settings(address, client_id="b")).connect() as other:
            assert await other.receive() == ("in/status", b"gone")
        async with (
            Mqtt(settings(address, client_id="b")).connect() as other,
            Mqtt(settings(address, client_id="a", will=will)).connect() as one,
        ):
            await one.publish("in/status", b"here", retain=True)
            await receives(other, ("in/status", b"here"))
            one._client._sock._sock.shutdown(socket.SHUT_RDWR)  # the cable is pulled
            await receives(other, ("in/status", b"gone"))


async def test_forty_publishes_at_once_stay_within_the_window():
    most = 0

    async def script(client):
        nonlocal most
        await client.accept()
        waiting = []
        while True:
            try:
                async with asyncio.timeout(0.05):
                    first, body = await client.packet()
            except TimeoutError:
                for identity in waiting:
                    await client.send(frame(0x40, identity))
                waiting.clear()
                continue
            if first >> 4 == 8:
                await client.send(frame(0x90, body[:2] + b"\x01"))
            elif first >> 4 == 3:
                waiting.append(body[3:5])
                most = max(most, len(waiting))

    async with (
        rogue_broker(script) as rogue,
        Mqtt(settings(rogue.address, deadline_s=3)).connect() as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(40):
            group.create_task(session.publish("t", b"x"))
    assert most == WINDOW


async def test_the_servers_receive_maximum_narrows_the_window():
    most = 0

    async def script(client):
        nonlocal most
        await client.packet()
        # CONNACK of MQTT 5 with property 0x21, Receive Maximum, of 2
        await client.send(frame(0x20, bytes.fromhex("000003210002")))
        _, body = await client.packet()
        await client.send(frame(0x90, body[:2] + b"\x00\x01"))
        waiting = []
        while True:
            try:
                async with asyncio.timeout(0.05):
                    _, body = await client.packet()
                waiting.append(body[3:5])
                most = max(most, len(waiting))
            except TimeoutError:
                for identity in waiting:
                    await client.send(frame(0x40, identity))
                waiting.clear()

    async with (
        rogue_broker(script, versions=False) as rogue,
        Mqtt(settings(rogue.address, deadline_s=3)).connect() as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(6):
            group.create_task(session.publish("t", b"x"))
    assert most == 2


# --- a broker that is not there --------------------------------------------------------
async def test_an_absent_broker_is_an_upstream_error():
    await fails(Address(HOST, free_port()), "cannot connect")


@pytest.mark.parametrize(
    "host",
    ["no-such-host.invalid", "no-such-höst.invalid", "empty..label", "also-empty..läbel", "x" * 64],
)
async def test_a_name_that_nobody_knows_is_an_upstream_error(host: str):
    guard = BrokerGuard(Limits())
    with pytest.raises(UpstreamError, match="look up"):
        await broker_wire.open_wire(host, 1, ssl.create_default_context(), guard)


async def test_plain_tcp_goes_to_this_machine_only():
    with pytest.raises(ValueError, match="loopback"):
        MqttSettings(host="192.0.2.1", port=1883, client_id="x")
    with pytest.raises(ValueError, match="loopback"):
        MqttSettings(host="broker.example", port=1883, client_id="x")
    # a hosts file may say that localhost is elsewhere
    with pytest.raises(UpstreamError, match="another machine"):
        await broker_wire.open_wire("192.0.2.1", 1, None, BrokerGuard(Limits()))


async def test_a_broker_that_accepts_and_says_nothing_costs_one_deadline():
    async def script(client):
        await client.silence()

    async with rogue_broker(script, versions=False) as rogue:
        await fails(rogue.address, "did not answer")


async def test_a_hung_connect_can_be_cancelled_at_once():
    async def script(client):
        await client.silence()

    async with rogue_broker(script, versions=False) as rogue:

        async def connect():
            async with Mqtt(settings(rogue.address, deadline_s=30)).connect():
                pass

        task = asyncio.create_task(connect())
        await asyncio.sleep(0.1)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=1)
        assert done
        assert task.cancelled()


# --- a broker that refuses ---------------------------------------------------------------
@pytest.mark.parametrize("code", [2, 3, 4, 5])
async def test_a_refusal_is_an_upstream_error(code):
    async def script(client):
        await client.packet()
        await client.send(bytes([0x20, 2, 0, code]))

    async with rogue_broker(script) as rogue:
        await fails(rogue.address, "refuses|did not answer")
        assert len(rogue.connections) == 1


async def test_a_broker_that_knows_neither_version_is_asked_twice_and_no_more():
    async def script(client):
        await client.packet()
        await client.send(bytes.fromhex("20020001"))

    async with rogue_broker(script) as rogue:
        await fails(rogue.address)
        assert len(rogue.connections) == 1


async def test_after_silence_the_other_version_is_tried_next_time():
    versions = []

    async def script(client):
        _, body = await client.packet()
        versions.append(body[6])
        if body[6] == 5:
            return
        await client.send(ACCEPTED)
        await client.serve()

    async with rogue_broker(script, versions=False) as rogue:
        mqtt = Mqtt(settings(rogue.address))
        with pytest.raises(UpstreamError, match="did not answer"):
            async with mqtt.connect():
                pass
        async with mqtt.connect() as session:
            await session.publish("t", b"x")
        assert versions == [5, 4]


async def test_a_refused_subscription_is_an_upstream_error():
    async def script(client):
        await client.accept()
        _, body = await client.packet()
        await client.send(frame(0x90, body[:2] + b"\x80"))
        await client.silence()

    async with rogue_broker(script) as rogue:
        await fails(rogue.address, "refuses a subscription")


# --- a broker that misbehaves ---------------------------------------------------------------
async def test_no_acknowledgement_of_a_publish_ends_in_an_error_after_the_deadline():
    async def script(client):
        await client.accept()
        await client.serve(acknowledge=False)

    async with rogue_broker(script) as rogue, Mqtt(settings(rogue.address)).connect() as session:
        started = asyncio.get_running_loop().time()
        with pytest.raises(UpstreamError, match="not acknowledged"):
            await session.publish("t", b"x")
        assert 0.3 < asyncio.get_running_loop().time() - started < 1.5


async def test_a_broker_that_goes_away_ends_a_publish_and_a_receive_at_once():
    async def script(client):
        await client.accept()
        _, body = await client.packet()
        await client.send(frame(0x90, body[:2] + b"\x01"))
        await client.packet()

    async with (
        rogue_broker(script) as rogue,
        Mqtt(settings(rogue.address, deadline_s=20)).connect() as session,
        asyncio.timeout(2),
    ):
        with pytest.raises(UpstreamError):
            await session.publish("t", b"x")
        with pytest.raises(UpstreamError, match="closed the session"):
            await session.receive()
        with pytest.raises(UpstreamError):
            await session.publish("t", b"x")


async def test_a_topic_that_cannot_be_is_an_upstream_error_too():
    async with (
        rogue_broker(accepted) as rogue,
        Mqtt(settings(rogue.address)).connect() as session,
    ):
        with pytest.raises(UpstreamError):
            await session.publish("a/#", b"x")
        with pytest.raises(UpstreamError):
            await session.listen("")


async def receive_for_ever(mqtt):
    async with mqtt.connect() as session:
        while True:
            await session.receive()


BAD_STREAMS = {
    "huge": b"\x30\xff\xff\xff\x7f" + bytes(5000),
    "qos 2": publish("in/1", b"x", quality=2),
    "garbage": bytes(range(256)) * 20,
    "cut short": publish("in/1", b"x" * 50)[:20],
    "empty publish": b"\x30\x00",
    "topic beyond the end": b"\x30\x04\xff\xffab",
    "reserved type": b"\x00\x00",
    "puback of nothing": b"\x40\x02\x00\x09",
    "suback of nothing": b"\x90\x03\x00\x09\x01",
    "short puback": b"\x40\x00",
    "pings without end": b"\xd0\x00" * 20_000,
    "connack again": ACCEPTED * 3,
}


@pytest.mark.parametrize("name", BAD_STREAMS)
async def test_whatever_a_broker_sends_the_session_ends_or_goes_on_and_nothing_else(name):
    async def script(client):
        await client.accept()
        _, body = await client.packet()
        await client.send(frame(0x90, body[:2] + b"\x01") + BAD_STREAMS[name])
        client.writer.write_eof()
        await client.silence()

    async with rogue_broker(script) as rogue:
        mqtt = Mqtt(settings(rogue.address))
        async with asyncio.timeout(3):
            with pytest.raises(UpstreamError):
                await receive_for_ever(mqtt)


async def test_a_flood_is_dropped_and_counted_beyond_what_is_held():
    async def script(client):
        await client.accept()
        _, body = await client.packet()
        flood = publish("in/1", b"x") * 200 + publish(b"in/\xff", b"x") + publish("in/2", b"last")
        await client.send(frame(0x90, body[:2] + b"\x01") + flood)
        await client.serve()

    async with rogue_broker(script) as rogue:
        mqtt = Mqtt(settings(rogue.address))
        async with mqtt.connect() as session:
            await until(lambda: session.dropped == 200 - INBOX_MESSAGES + 2)
            for _ in range(INBOX_MESSAGES):
                assert await session.receive() == ("in/1", b"x")
        assert mqtt.dropped == session.dropped == 200 - INBOX_MESSAGES + 2


async def test_a_broker_that_reads_nothing_does_not_keep_us_from_leaving():
    async def script(client):
        await client.accept()
        _, body = await client.packet()
        await client.send(frame(0x90, body[:2] + b"\x01"))
        await asyncio.sleep(30)

    async with rogue_broker(script) as rogue, asyncio.timeout(5):
        with pytest.raises(UpstreamError):
            async with Mqtt(settings(rogue.address)).connect() as session:
                await session.publish("t", bytes(20_000_000))


# --- TLS -----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls"))


def tls_broker(certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return rogue_broker(accepted, tls=context)


async def test_tls_with_a_client_certificate(certificates):
    tls = Tls(certificates.ca, certificates.client, certificates.client_key)
    async with (
        tls_broker(certificates) as rogue,
        Mqtt(settings(rogue.address, tls=tls, deadline_s=3)).connect() as session,
    ):
        await session.publish("t", b"x" * 50_000)
        assert len(rogue.connections) == 1


async def test_tls_refuses_a_stranger_on_either_side(certificates, tmp_path):
    other = make_certificates(tmp_path)
    async with tls_broker(certificates) as rogue:
        for tls in (
            Tls(other.ca, certificates.client, certificates.client_key),
            Tls(certificates.ca, other.client, other.client_key),
            Tls(certificates.ca),
        ):
            await fails(rogue.address, tls=tls, deadline_s=2)
        assert not rogue.connections


async def test_certificates_that_cannot_be_used_are_an_upstream_error(certificates, tmp_path):
    empty = tmp_path / "empty.pem"
    empty.touch()
    async with tls_broker(certificates) as rogue:
        for tls in (
            Tls(tmp_path / "missing.pem"),
            Tls(empty),
            Tls(certificates.ca, certificates.client, certificates.server_key),
        ):
            await fails(rogue.address, "certificates", tls=tls)


async def test_a_server_that_hangs_in_the_handshake_costs_one_deadline():
    async def script(client):
        await client.silence()

    async with rogue_broker(script, versions=False) as rogue:
        await fails(rogue.address, "did not answer", tls=Tls())


# --- addresses ---------------------------------------------------------------------------
def test_the_address_of_a_broker(tmp_path):
    assert broker_at("mqtt://127.0.0.1") == ("127.0.0.1", 1883, None)
    assert broker_at("mqtt://[::1]:99") == ("::1", 99, None)
    tls = Tls(tmp_path, tmp_path, tmp_path)
    assert broker_at("mqtts://b.example", ca=tmp_path, certificate=tmp_path, key=tmp_path) == (
        "b.example",
        8883,
        tls,
    )
    for url in ("", "mqtt:", "http://127.0.0.1", "mqtts://", "127.0.0.1:1883"):
        with pytest.raises(ValueError, match="a broker is"):
            broker_at(url)
