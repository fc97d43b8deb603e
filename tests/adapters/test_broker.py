"""The embedded broker: what its users need of it, and what bad clients do to it."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.adapters.broker import HOST, serve
from gatewayd.adapters.broker_settings import MqttSettings
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.ports import UpstreamError


def mqtt(address, client_id):
    return Mqtt(
        MqttSettings(
            host=address.host,
            port=address.port,
            client_id=client_id,
            subscriptions=("t/#",),
            deadline_s=3,
        )
    )


async def test_it_takes_a_port_that_is_free_or_the_one_it_is_told():
    async with serve() as one, serve() as other:
        assert one.port != other.port
        port = other.port
    async with serve(port) as again:
        assert (again.host, again.port) == (HOST, port)


async def test_it_is_gone_when_its_context_is_and_so_are_its_clients():
    async with serve() as address:
        session = mqtt(address, "a").connect()
        connected = await session.__aenter__()
    with pytest.raises(UpstreamError):
        async with asyncio.timeout(3):
            await connected.receive()
    await session.__aexit__(None, None, None)
    with pytest.raises(UpstreamError):
        async with mqtt(address, "b").connect():
            pass


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x10",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(100),
        bytes.fromhex("100c00044d51545404020000") + b"\x00\x00",
        bytes.fromhex("101000044d51545404020000") + b"\x00\xff",
        bytes.fromhex("100e00044d51545404020000000161") + b"\xff" * 50,
    ],
)
async def test_a_client_that_speaks_no_mqtt_disturbs_nobody(data):
    async with (
        serve() as address,
        mqtt(address, "a").connect() as one,
        mqtt(address, "b").connect() as other,
    ):
        _, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(data)
        await writer.drain()
        await one.publish("t/1", b"x")
        assert await other.receive() == ("t/1", b"x")
        writer.close()
        await writer.wait_closed()
        await one.publish("t/1", b"y")
        assert await other.receive() == ("t/1", b"y")


async def test_an_mqtt_5_client_is_told_so_at_once():
    async with serve() as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(bytes.fromhex("100e00044d5154540502001e0000000161"))
        async with asyncio.timeout(2):
            assert await reader.read() == bytes.fromhex("2003008400")
        writer.close()
        await writer.wait_closed()
