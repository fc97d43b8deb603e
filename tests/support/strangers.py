"""People without a key: what anybody with a radio can do to a gateway or a lock.

Each takes a link just dialled and returns when it has done its worst or was
thrown out; none raises for being thrown out.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import edhoc
from firmware_proto.codes import FrameKind
from firmware_proto.framing import GattFraming
from gatewayd.ports import LinkClosedError
from gatewayd.ports.radio import Link

CHANNEL = b"\x5a\xa5"


def framing(link: Link) -> GattFraming:
    """A central's framing with a channel of its own."""
    return GattFraming(link.mtu, CHANNEL)


def message_1() -> bytes:
    """A well-formed first message of a handshake nobody will finish."""
    first, _ = edhoc.start(ec.generate_private_key(ec.SECP256R1()), b"\x07")
    return bytes([FrameKind.MESSAGE_1]) + first


async def write(link: Link, fragments: Iterable[bytes], *, pause_s: float = 0.0) -> bool:
    """False when thrown out before all of it was written."""
    try:
        for fragment in fragments:
            await link.write(fragment)
            await asyncio.sleep(pause_s)
    except LinkClosedError:
        return False
    return True


async def babble(link: Link, seed: int, fragments: int = 20) -> None:
    """Random bytes in fragments of random size."""
    dice = random.Random(seed)
    most = min(link.mtu - 3, 512)
    await write(link, (dice.randbytes(dice.randint(1, most)) for _ in range(fragments)))


async def half_handshake(link: Link) -> None:
    """message_1, and then nothing."""
    await write(link, framing(link).cut(message_1()))


async def forged_message_3(link: Link, seed: int) -> None:
    """message_1, then noise where message_3 belongs."""
    mine = framing(link)
    noise = bytes([FrameKind.MESSAGE_3]) + random.Random(seed).randbytes(200)
    await write(link, [*mine.cut(message_1()), *mine.cut(noise)])


async def slow_sender(link: Link, pause_s: float) -> bool:
    """A message_1 in as many fragments as possible, one after each pause. True if it got by."""
    small = GattFraming(23, CHANNEL)
    return await write(link, small.cut(message_1()), pause_s=pause_s)


async def hoarder(link: Link) -> None:
    """Announces a message of the greatest length and never finishes it."""
    whole = framing(link).cut(bytes([FrameKind.MESSAGE_3]) + bytes(2047))
    await write(link, whole[:-1])


async def replayer(link: Link, captured: Sequence[bytes]) -> None:
    """Somebody else's fragments, byte for byte."""
    await write(link, captured)


async def thrown_out(link: Link, within_s: float) -> list[bytes]:
    """What the peer said before it hung up. TimeoutError when it did not."""
    heard: list[bytes] = []
    async with asyncio.timeout(within_s):
        try:
            while True:
                heard.append(await link.read())
        except LinkClosedError:
            return heard
