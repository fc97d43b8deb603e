"""An ear on a phone's link: what was written and read, to be sent again by a thief."""

from __future__ import annotations

from firmware_proto.framing import CHANNEL_BYTES, GattFraming
from gatewayd.ports import LinkClosedError
from gatewayd.ports.radio import Link


class Wiretap:
    """A link that remembers every fragment of both directions."""

    def __init__(self, link: Link) -> None:
        self.written: list[bytes] = []
        self.heard: list[bytes] = []
        self._link = link

    @property
    def mtu(self) -> int:
        """Of the link underneath."""
        return self._link.mtu

    async def read(self) -> bytes:
        """The next fragment."""
        fragment = await self._link.read()
        self.heard.append(fragment)
        return fragment

    async def write(self, fragment: bytes) -> None:
        """One fragment out."""
        await self._link.write(fragment)
        self.written.append(fragment)

    async def close(self) -> None:
        """Disconnect."""
        await self._link.close()

    def last_again(self) -> list[bytes]:
        """The last message that was written, cut anew, so that its fragments look like new ones."""
        listener = GattFraming(self.mtu, None)
        thief = GattFraming(self.mtu, self.written[0][:CHANNEL_BYTES])
        messages = [message for fragment in self.written for message in listener.receive(fragment)]
        for message in messages:
            thief.cut(message)
        return thief.cut(messages[-1])


async def answer_to(link: Link, *fragments: bytes) -> tuple[bytes, ...]:
    """Everything that a gateway says to these fragments before it hangs up, as whole messages."""
    said: list[bytes] = []
    framing = GattFraming(link.mtu, fragments[0][:CHANNEL_BYTES])
    try:
        for fragment in fragments:
            await link.write(fragment)
        while True:
            said.extend(framing.receive(await link.read()))
    except LinkClosedError:
        return tuple(said)
    finally:
        await link.close()
