"""Composition root of `gatewayd phone`: the emulated phone with a real clock, on a radio of choice.

The radio is this machine's Bluetooth through bleak, or a virtual controller.
Its library is imported when the radio is opened: ModuleNotFoundError where it
is not installed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gatewayd import addresses
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.core.model import GatewayId
from gatewayd.core.timekeeping import FRESH_S
from gatewayd.core.topics import GatewayTopics
from gatewayd.emulators import carry
from gatewayd.emulators.carry import Carried
from gatewayd.emulators.phone import Phone, Report
from gatewayd.emulators.wallet import Wallet
from gatewayd.emulators.watch import News, Watch, Watcher
from gatewayd.ports.radio import Lookout, Sighting


@dataclass(frozen=True, slots=True)
class Choice:
    """hci: of a virtual controller, `unix:<path>`.

    Otherwise Bluetooth; adapter: the address of one, on Linux. Elsewhere the system chooses.
    """

    hci: str | None = None
    adapter: str | None = None


@asynccontextmanager
async def open_phone_radio(choice: Choice) -> AsyncIterator[Lookout]:
    """The radio chosen. RadioError, mostly with a remedy, when there is none."""
    if choice.hci is not None:
        from gatewayd.adapters.virtual_radio import (  # noqa: PLC0415 - takes a second to load
            PHONE,
            open_radio,
        )

        address = addresses.static_random(SystemEntropy().token_bytes(6))  # anew, as phones do
        async with open_radio(choice.hci, address=address, dials=PHONE) as radio:
            yield radio.central
        return
    from gatewayd.adapters.bleak_radio import BleakOptions, open_bleak  # noqa: PLC0415 - an extra
    from gatewayd.adapters.gatt.client import PHONE as TABLE  # noqa: PLC0415 - an extra

    options = BleakOptions()
    if choice.adapter is not None and sys.platform == "linux":
        from gatewayd.adapters.bluez.adapter import name_of  # noqa: PLC0415 - Linux

        options = BleakOptions(adapter=await name_of(choice.adapter))
    async with open_bleak(TABLE, options) as central:
        yield central


async def look_around(
    choice: Choice, seconds: float, heard: Callable[[Sighting], None]
) -> Sequence[Sighting]:
    """Gateways around, strongest first; `heard` is told of each at once. RadioError."""
    async with open_phone_radio(choice) as central:
        return await central.look(seconds, heard)


async def open_door(
    choice: Choice, wallet: Path, door: str, address: str | None, request: bytes
) -> Report:
    """Walk up and open, as `request` (16 bytes, new), which can be asked about later.

    RadioError without a radio, KeyFileError for a wallet that is none.
    """
    held = Wallet.load(wallet)
    async with open_phone_radio(choice) as central:
        return await _phone(central, held).open_door(door, address=address, request=request)


async def ask_result(
    choice: Choice, wallet: Path, door: str, request: bytes, address: str | None
) -> Report:
    """What became of an earlier request; opens nothing. Errors as `open_door`."""
    held = Wallet.load(wallet)
    async with open_phone_radio(choice) as central:
        return await _phone(central, held).ask_result(door, request, address=address)


async def deliver(
    choice: Choice, wallet: Path, door: str, data: bytes, address: str | None
) -> Carried:
    """Carry `data` to the gateway of a door. Errors as `open_door`."""
    held = Wallet.load(wallet)
    async with open_phone_radio(choice) as central:
        return await carry.deliver(_phone(central, held), door, data, address)


@dataclass(frozen=True, slots=True)
class Broker:
    """The phone's network: where the operator answers. ValueError (when used) for a bad URL."""

    url: str
    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


async def prove_time(
    choice: Choice, wallet: Path, door: str, broker: Broker, address: str | None
) -> Carried:
    """Have the operator sign the time for a gateway. Errors as `open_door`, and UpstreamError."""
    from gatewayd.adapters.broker_settings import MqttSettings, broker_at  # noqa: PLC0415 - not light
    from gatewayd.adapters.mqtt import Mqtt  # noqa: PLC0415 - not light

    host, port, tls = broker_at(
        broker.url, ca=broker.authorities, certificate=broker.certificate, key=broker.key
    )
    held, entropy = Wallet.load(wallet), SystemEntropy()

    @asynccontextmanager
    async def service(
        gateway: str, nonce: bytes
    ) -> AsyncIterator[Callable[[], Awaitable[bytes | None]]]:
        topics = GatewayTopics(GatewayId(gateway))
        settings = MqttSettings(
            host=host,
            port=port,
            tls=tls,
            client_id=f"phone-{entropy.token_bytes(4).hex()}",
            subscriptions=(topics.down("time"),),
            deadline_s=FRESH_S,
        )
        loop = asyncio.get_running_loop()
        until_s = loop.time() + FRESH_S
        async with Mqtt(settings).connect() as session:
            await session.publish(topics.time, nonce)

            async def answer() -> bytes | None:
                try:
                    async with asyncio.timeout_at(until_s):
                        return (await session.receive())[1]
                except TimeoutError:
                    return None

            yield answer

    async with open_phone_radio(choice) as central:
        return await carry.prove_time(_phone(central, held), door, service, address)


@dataclass(frozen=True, slots=True)
class Person:
    """Who carries the phone: told what happens, and taps.

    taps: called once, with what it shall call, in the loop, for every tap.
    """

    news: Callable[[News, str], None]
    ended: Callable[[Report], None]
    taps: Callable[[Callable[[], None]], None]


async def watch_door(choice: Choice, wallet: Path, watch: Watch, person: Person) -> None:
    """Watch until cancelled. Errors as `open_door`."""
    held = Wallet.load(wallet)
    async with open_phone_radio(choice) as central:
        phone = _phone(central, held)
        watcher = Watcher(phone, central, watch, news=person.news, ended=person.ended)
        person.taps(watcher.tapped.set)
        await watcher.run()


def _phone(central: Lookout, wallet: Wallet) -> Phone:
    return Phone(central, wallet, SystemClock(), SystemEntropy())
