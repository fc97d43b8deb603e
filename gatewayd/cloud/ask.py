"""One order that the gateway answers: send it once, wait for what the gateway signed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from firmware_proto import cbor
from firmware_proto.errors import RemoteProtocolError
from gatewayd import status
from gatewayd.cloud.pull import NoAnswerError, Source, UnsealError
from gatewayd.core import answers
from gatewayd.core.answers import MAX_ANSWER_BYTES
from gatewayd.core.envelope import Statement
from gatewayd.core.topics import GatewayTopics
from gatewayd.ports.upstream import Upstream


async def ask(  # noqa: PLR0913, PLR0917 - whom, what, and how long
    upstream: Upstream,
    source: Source,
    order: Statement,
    signed: bytes,
    unseal: Callable[[bytes, bytes], bytes],
    patience_s: float,
    retained: str | None = None,
) -> cbor.Value:
    """The body of the answer. `upstream` is subscribed to `GatewayTopics.for_cloud`.

    What is not retained (on that topic) waits for nobody: the broker forgets an order to
    a gateway that is away. NoAnswerError, UpstreamError.
    """
    topics = GatewayTopics(source.gateway)
    topic = retained or topics.down(order.kind.name.lower())
    await upstream.publish(topic, signed, retain=retained is not None)
    online: bool | None = None
    try:
        async with asyncio.timeout(patience_s):
            while True:
                topic, payload = await upstream.receive()
                if topic == topics.status:
                    online = _says_online(payload)
                elif topic == topics.answer(order.id) and len(payload) <= MAX_ANSWER_BYTES:
                    try:
                        info = answers.seal_info(source.log.name, order.id)
                        return answers.verify(
                            unseal(payload, info), order.kind, order.id, source.log
                        )
                    except (UnsealError, RemoteProtocolError):
                        continue  # anybody's
    except TimeoutError:
        raise NoAnswerError(online) from None


def _says_online(payload: bytes) -> bool:
    """A hint for the error message; anybody may have published it."""
    try:
        return status.decode(payload).online
    except RemoteProtocolError:
        return False
