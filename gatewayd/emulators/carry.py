"""An emulated phone as a courier: brings what somebody signed, and has the time signed.

The phone understands nothing of what it carries. To bring it twice is safe, so
a connection that breaks is simply tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from firmware_proto.codes import FAULTS, ID_BYTES, MAX_PIECE_BYTES, Item, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.phone_messages import Chunk, Collect, Deliver, Result
from gatewayd.core.model import Verdict
from gatewayd.emulators.phone import Phone
from gatewayd.emulators.visit import Answer, TurnedAwayError, Visit
from gatewayd.ports import LinkClosedError, RadioError

_OUT_OF_REACH: Final = Verdict(Outcome.REFUSED, Reason.LOCK_UNREACHABLE)
_CUT_SHORT: Final = Verdict(Outcome.UNKNOWN, Reason.LOCK_SILENT)
_DONE: Final = Verdict(Outcome.CONFIRMED, Reason.OK)
_NOTHING: Final = Verdict(Outcome.REFUSED, Reason.NOT_BELIEVED)
_TURNED_AWAY: Final = Verdict(Outcome.REFUSED, Reason.STRANGER)

TimeService = Callable[
    [str, bytes], AbstractAsyncContextManager[Callable[[], Awaitable[bytes | None]]]
]
"""What a phone reaches over its network, given a gateway's name and its nonce: answers to it,
one by one, None when no more is to be expected. It need not be trusted."""


@dataclass(frozen=True, slots=True)
class Carried:
    """How an errand ended; `gateway` where one was met."""

    verdict: Verdict
    gateway: str | None = None


async def deliver(phone: Phone, door: str, data: bytes, address: str | None = None) -> Carried:
    """Bring `data` (at most MAX_CARRIED_BYTES) to the gateway of a door."""

    async def errand(there: Visit) -> Verdict:
        return await _bring(there, data, phone.entropy.token_bytes(ID_BYTES))

    return await _carry(phone, door, errand, address)


async def prove_time(
    phone: Phone, door: str, service: TimeService, address: str | None = None
) -> Carried:
    """Take the gateway's question to `service`, and bring back the answer."""

    async def errand(there: Visit) -> Verdict:
        asked = await there.collect(
            Collect(phone.entropy.token_bytes(ID_BYTES), Item.TIME_QUESTION, 0)
        )
        if not isinstance(asked, Chunk):
            return _verdict(asked)
        verdict = _CUT_SHORT
        async with service(there.credential.gateway, asked.data) as answers:
            while (data := await answers()) is not None:
                verdict = await _bring(there, data, phone.entropy.token_bytes(ID_BYTES))
                if verdict.outcome is Outcome.CONFIRMED:
                    break
        return verdict

    return await _carry(phone, door, errand, address)


async def _bring(there: Visit, data: bytes, request: bytes) -> Verdict:
    verdict = _NOTHING
    for offset in range(0, len(data), MAX_PIECE_BYTES):
        piece = data[offset : offset + MAX_PIECE_BYTES]
        verdict = _verdict(await there.ask(Deliver(request, offset, len(data), piece)))
        if verdict != _DONE:
            break
    return verdict


def _verdict(answer: Answer) -> Verdict:
    if isinstance(answer, Result):
        return Verdict(answer.outcome, answer.reason)
    if answer is None:
        return _TURNED_AWAY
    may_have = FAULTS[answer.fault].may_have_happened
    return Verdict(Outcome.UNKNOWN if may_have else Outcome.REFUSED, Reason.NOT_BELIEVED)


async def _carry(
    phone: Phone, door: str, errand: Callable[[Visit], Awaitable[Verdict]], address: str | None
) -> Carried:
    """Never raises for what a gateway or the radio does."""
    ended = Carried(_OUT_OF_REACH)
    for _ in range(phone.patience.attempts):
        try:
            there = await phone.arrive(door, address)
        except TurnedAwayError as error:
            return Carried(Verdict(Outcome.REFUSED, error.reason))
        except RadioError:
            continue
        try:
            return Carried(await errand(there), there.credential.gateway)
        except (LinkClosedError, TimeoutError, RemoteProtocolError):
            ended = Carried(_CUT_SHORT, there.credential.gateway)
        finally:
            await there.leave()
    return ended
