"""MQTT as the port `Upstream`: one session with one broker, bounded in every direction.

MQTT 5 where the broker speaks it, else 3.1.1; nothing above depends on which.
Sessions are clean: what must survive is in the log, not at the broker. Every
failure, whatever its kind, is an UpstreamError, and the session is then over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from typing import Final, TypeVar

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import MQTT_ERR_SUCCESS, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.client import Client as Paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.adapters.broker_guard import BrokerGuard, Limits
from gatewayd.adapters.broker_settings import MqttSettings
from gatewayd.adapters.broker_wire import Wire, open_wire
from gatewayd.ports import UpstreamError

WINDOW: Final = 16
"""Publishes under way at once; fewer where the server's Receive Maximum says so."""

_GOODBYE_S: Final = 1.0
_UNSUPPORTED_VERSION: Final = 0x84
_SUBACK_FAILURE: Final = 0x80
"""And above: MQTT 3.1.1 section 3.9.3, MQTT 5 section 3.9.3."""
_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Mqtt:
    """Connects again and again to the broker of one operator."""

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        self._protocol = aiomqtt.ProtocolVersion.V5
        self.dropped = 0
        """Messages of all sessions that were dropped unread."""

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[MqttSession]:
        """One session, subscribed. UpstreamError when it does not come about."""
        session = await self._open()
        try:
            for topic in self._settings.subscriptions:
                await session.listen(topic, self._settings.quality)
            yield session
        finally:
            self.dropped += session.dropped
            await session.close()

    async def _open(self) -> MqttSession:
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                try:
                    return await self._attempt()
                except _OtherVersionError:
                    self._protocol = _OTHER_VERSION[self._protocol]
                    return await self._attempt()
        except (TimeoutError, _SilentError) as error:
            # Some old brokers answer a version that they do not know with silence.
            self._protocol = _OTHER_VERSION[self._protocol]
            raise UpstreamError("the broker did not answer our CONNECT") from error

    async def _attempt(self) -> MqttSession:
        settings = self._settings
        try:
            context = None if settings.tls is None else settings.tls.context()
        except OSError as error:
            raise UpstreamError(f"cannot use the certificates: {error}") from error
        guard = BrokerGuard(settings.limits)
        wire = await open_wire(settings.host, settings.port, context, guard)
        session = MqttSession(settings, self._protocol)
        try:
            await session.open(wire)
        except BaseException:
            await session.close()
            raise
        return session


class _OtherVersionError(UpstreamError):
    """The broker says that it does not speak this version of MQTT."""


class _SilentError(UpstreamError):
    """The broker took our CONNECT and closed, or said nothing."""


_OTHER_VERSION: Final = {
    aiomqtt.ProtocolVersion.V5: aiomqtt.ProtocolVersion.V311,
    aiomqtt.ProtocolVersion.V311: aiomqtt.ProtocolVersion.V5,
}


class MqttSession(aiomqtt.Client):
    """A session as the port `Upstream`.

    Differs from its base in who connects (`broker_wire`), in the bound on what
    is held unread, and in noticing at once when the broker goes away.
    """

    def __init__(self, settings: MqttSettings, protocol: aiomqtt.ProtocolVersion) -> None:
        will = settings.will
        super().__init__(
            settings.host,
            settings.port,
            identifier=settings.client_id,
            protocol=protocol,
            clean_session=None if protocol == aiomqtt.ProtocolVersion.V5 else True,
            will=None if will is None else aiomqtt.Will(will.topic, will.payload, 1, retain=True),
            timeout=settings.deadline_s,
            keepalive=settings.keepalive_s,
            max_inflight_messages=WINDOW,
            logger=_log,
            properties=_limits(protocol, settings.limits),
        )
        self._will = will
        self._room = settings.inbox
        self._inbox: deque[tuple[str, bytes]] = deque()
        self._news = asyncio.Event()
        self.dropped = 0
        self._disconnected.add_done_callback(lambda _: self._news.set())

    async def open(self, wire: Wire) -> None:
        """Send CONNECT, await CONNACK."""
        # No public way to hand over a finished socket exists; the tests notice if this one goes.
        self._client._create_socket = lambda: wire  # type: ignore[assignment,return-value,method-assign]  # noqa: SLF001
        try:
            self._client_connect()
            await self._wait_for(asyncio.shield(self._connected), None)
        except MqttConnectError as error:
            raise _refusal(error) from error
        except (aiomqtt.MqttError, OSError) as error:
            raise _SilentError(f"no CONNACK: {error}") from error

    async def listen(self, topic: str, quality: int = 1) -> None:
        """Subscribe. UpstreamError when the broker refuses."""
        try:
            codes = await self.subscribe(topic, qos=quality)
        except (aiomqtt.MqttError, ValueError) as error:
            raise UpstreamError(f"cannot subscribe to {topic}: {error}") from error
        for code in codes:
            value = code.value if isinstance(code, ReasonCode) else code
            if value >= _SUBACK_FAILURE:
                raise UpstreamError(f"the broker refuses a subscription to {topic}")

    async def publish(  # type: ignore[override]  # the port's narrower form of the base's method
        self, topic: str, payload: bytes, *, retain: bool = False
    ) -> None:
        """Return when the broker acknowledged (QoS 1). UpstreamError otherwise."""
        try:
            await super().publish(topic, payload, qos=1, retain=retain)
        except (aiomqtt.MqttError, ValueError) as error:
            raise UpstreamError(f"not acknowledged by the broker: {error}") from error

    async def receive(self) -> tuple[str, bytes]:
        """The next message. UpstreamError when the session is gone."""
        while not self._inbox:
            if self._disconnected.done():
                raise UpstreamError("the broker closed the session")
            self._news.clear()
            await self._news.wait()
        return self._inbox.popleft()

    async def close(self) -> None:
        """Say goodbye where anybody listens, and let the connection go in any case."""
        try:
            if self._connected.done() and not self._disconnected.done():
                await self._say_goodbye()
        finally:
            # Only this closes the socket of a broker that no longer reads.
            self._client._sock_close()  # noqa: SLF001
            for outcome in (self._connected, self._disconnected):
                if not outcome.done():
                    outcome.set_result(None)
                outcome.exception()  # seen: nobody else will ask

    async def _say_goodbye(self) -> None:
        if self._will is not None:  # a clean DISCONNECT discards the will
            self._client.publish(self._will.topic, self._will.payload, 0, retain=True)
        if self._client.disconnect() == MQTT_ERR_SUCCESS:
            await asyncio.wait({self._disconnected}, timeout=_GOODBYE_S)

    async def _wait_for(self, fut: Awaitable[_Result], timeout: float | None) -> _Result:  # noqa: ASYNC109 - the base's signature
        """As the base does, and notice when the session ends meanwhile."""
        waiting = asyncio.ensure_future(fut)
        either: set[asyncio.Future[object]] = {waiting, self._disconnected}  # type: ignore[arg-type]  # Future is invariant, and is only waited for
        try:
            await asyncio.wait(
                either,
                timeout=self.timeout if timeout is None else timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if waiting.done():
                return waiting.result()
            gone = self._disconnected.done()
            raise aiomqtt.MqttError("the broker went away" if gone else "no answer in time")
        finally:
            waiting.cancel()

    def _on_connect(
        self,
        client: Paho,
        userdata: object,
        flags: ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        receive_maximum = getattr(properties, "ReceiveMaximum", WINDOW)
        self._outgoing_calls_sem = asyncio.Semaphore(max(1, min(WINDOW, receive_maximum)))
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: Paho,
        userdata: object,
        flags: DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError("closed before CONNACK"))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_message(self, client: Paho, userdata: object, message: MQTTMessage) -> None:
        del client, userdata
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self.dropped += 1
            return
        if len(self._inbox) >= self._room:
            self.dropped += 1
            return
        self._inbox.append((topic, bytes(message.payload)))
        self._news.set()


def _limits(protocol: aiomqtt.ProtocolVersion, limits: Limits) -> Properties | None:
    """What the guard would end the session for, an honest MQTT 5 broker then never sends.

    One stranger's large message would otherwise end the sessions of all who listen.
    """
    if protocol != aiomqtt.ProtocolVersion.V5:
        return None
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # of the library
    properties.MaximumPacketSize = limits.packet_bytes
    return properties


def _refusal(error: MqttConnectError) -> UpstreamError:
    """CONNACK: 3.1.1 brokers answer code 1 and MQTT 5 brokers 0x84 to a version they lack.

    The library maps both to one reason code.
    """
    if isinstance(error.rc, ReasonCode) and error.rc.value == _UNSUPPORTED_VERSION:
        return _OtherVersionError("the broker does not speak this version of MQTT")
    return UpstreamError(f"the broker refuses us: {error}")
