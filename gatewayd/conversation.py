"""A protocol session over a link: bytes in, events out, and the session's own deadlines kept.

The one place where sans-IO sessions meet asyncio; used by every end that waits
for its peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.errors import RemoteProtocolError
from firmware_proto.framing import CHANNEL_BYTES, UNASSIGNED_CHANNEL
from firmware_proto.messages import Message
from firmware_proto.session import Session, SessionEvent
from firmware_proto.session_tables import SessionState
from gatewayd.device_keys import apart
from gatewayd.ports import LinkClosedError
from gatewayd.ports.process import Entropy
from gatewayd.ports.radio import Link

_S = TypeVar("_S", bound=Session)

WRITE_S: Final = 3.0
"""How long a peer may take over one fragment of ours; its radio acknowledges within 0.1 s."""


class NotSentError(LinkClosedError):
    """The link went before the last fragment of a message was handed over: it cannot have arrived.

    The protocol knows no message without its last fragment, so nothing happened.
    """

    may_have_happened = False


class WatchedLink:
    """A link that tells when a fragment came or went, and that does not wait for ever to write."""

    def __init__(self, link: Link, active: Callable[[], None]) -> None:
        self._link = link
        self._active = active

    @property
    def mtu(self) -> int:
        """See `ports.radio.Link`."""
        return self._link.mtu

    async def read(self) -> bytes:
        """See `ports.radio.Link`."""
        fragment = await self._link.read()
        self._active()
        return fragment

    async def write(self, fragment: bytes) -> None:
        """See `ports.radio.Link`. LinkClosedError also after `WRITE_S`."""
        try:
            async with asyncio.timeout(WRITE_S):
                await self._link.write(fragment)
        except TimeoutError as error:
            raise LinkClosedError("the peer takes nothing any more") from error
        self._active()

    async def close(self) -> None:
        """See `ports.radio.Link`."""
        await self._link.close()


class Conversation(Generic[_S]):
    """One connection. One task reads (`next_event`); any task may `send`.

    `round_trips` counts how often this side wrote and then had to wait. `key`: the session's own.
    """

    def __init__(
        self, link: Link, session: _S, key: ec.EllipticCurvePrivateKey | None = None
    ) -> None:
        self.link = link
        self.session = session
        self._key = key
        self.round_trips = 0
        self._writing = asyncio.Lock()
        self._wrote = False
        self._since = asyncio.get_running_loop().time()
        self._state = session.state

    async def next_event(self, *, patient: bool = False) -> SessionEvent:
        """Wait for what happens next. Whatever the session has queued is written first.

        `patient`: ignore the session's deadline, because the caller keeps its own.

        Raises:
            TimeoutError: the peer took longer than the session allows.
            LinkClosedError: the connection is gone.
            RemoteProtocolError: final; the constant error, where due, has been written.
        """
        while True:
            event = await self._session_event()
            await self.flush()
            if event is not None:
                return event
            if self.session.state is SessionState.CLOSED:
                raise LinkClosedError("the session has ended")
            async with asyncio.timeout_at(None if patient else self._deadline()):
                fragment = await self.link.read()
            if self._wrote:
                self._wrote = False
                self.round_trips += 1
            self.session.receive_data(fragment)

    async def send(self, *messages: Message) -> None:
        """Seal and write messages, in one flight with whatever is queued.

        Raises NotSentError when nothing of use arrived, LinkClosedError when it may have.
        """
        for message in messages:
            self.session.send(message)
        self.started()
        await self.flush()

    async def flush(self) -> None:
        """Write what the session has queued. Cancelling this half way closes the link."""
        async with self._writing:
            fragments = self.session.data_to_send()
            written = 0
            try:
                for fragment in fragments:
                    await self.link.write(fragment)
                    written += 1
            except LinkClosedError as error:
                if written < len(fragments) - 1 or not error.may_have_happened:
                    raise NotSentError(*error.args) from error
                raise
            finally:
                self._wrote = self._wrote or written > 0
                if written < len(fragments):  # the peer could never follow again
                    await asyncio.shield(self.link.close())

    def started(self) -> None:
        """The peer's time begins to run now."""
        self._since = asyncio.get_running_loop().time()

    async def _session_event(self) -> SessionEvent | None:
        try:
            event = await self._advanced()
        except RemoteProtocolError:
            await self.flush()
            raise
        if event is not None or self.session.state is not self._state:
            self.started()
        self._state = self.session.state
        return event

    async def _advanced(self) -> SessionEvent | None:
        """A responder's key is used by what it hears first, and never again."""
        if self.session.state is SessionState.AWAITING_MESSAGE_1:
            return await apart(self._key, self.session.next_event)
        return self.session.next_event()

    def _deadline(self) -> float | None:
        seconds = self.session.deadline_s
        return None if seconds is None else self._since + seconds


def open_for_sending(session: Session) -> bool:
    """True while this end may still send sealed messages."""
    return session.state in {
        SessionState.KEYED,
        SessionState.SPOKEN,
        SessionState.HEARD,
        SessionState.ESTABLISHED,
    }


def random_channel(entropy: Entropy) -> bytes:
    """What a central draws for one connection; 0000 belongs to peripherals without a channel."""
    channel = entropy.token_bytes(CHANNEL_BYTES)
    return channel if channel != UNASSIGNED_CHANNEL else b"\x00\x01"
