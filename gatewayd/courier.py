"""What holders' phones bring and fetch for the operator. The shell of `core.carrying`.

A phone is believed in nothing: what it brings is judged by who signed it, the
same as if it had come from the broker.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from firmware_proto.codes import Fault, Item, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.messages import FaultMessage, Message
from firmware_proto.phone_messages import Chunk, Collect, Deliver, Result
from gatewayd.core.carrying import OF_A_CONNECTION, Parcel, Quota, cost
from gatewayd.core.model import Verdict
from gatewayd.core.timekeeping import TimeRefusedError
from gatewayd.ports import StorageError

_log: Final = logging.getLogger(__name__)

Carried = Deliver | Collect

TAKEN: Final = Verdict(Outcome.CONFIRMED, Reason.OK)
NOTHING_NEW: Final = Verdict(Outcome.CONFIRMED, Reason.NOTHING_NEW)
NOT_BELIEVED: Final = Verdict(Outcome.REFUSED, Reason.NOT_BELIEVED)
NOT_KEPT: Final = Verdict(Outcome.REFUSED, Reason.LOG_UNAVAILABLE)
TOO_MUCH: Final = Verdict(Outcome.REFUSED, Reason.RATE_LIMITED)

_BY_FAULT: Final = {
    Fault.REPLAYED: NOTHING_NEW,
    Fault.BUSY: Verdict(Outcome.REFUSED, Reason.BUSY),
}


class Courier:
    """Shared by all phones of a gateway; `counts` says what became of what they brought.

    take: judges something whole, from anybody, and keeps it; RemoteProtocolError
    (REPLAYED: nothing new), TimeRefusedError, StorageError.
    question: a fresh nonce that wants a signed time, or None.
    """

    def __init__(
        self,
        take: Callable[[bytes], Awaitable[None]],
        question: Callable[[], bytes | None],
        now_s: Callable[[], float],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._take = take
        self._question = question
        self._now_s = now_s
        self._quota = Quota()

    def collect(self, asked: Collect) -> Message:
        """Answer to one `Collect`."""
        if asked.offset:
            return FaultMessage(asked.request, Fault.UNEXPECTED)
        data = {Item.TIME_QUESTION: self._question}[asked.item]()
        if data is None:
            return _result(asked.request, NOTHING_NEW)
        self.counts["collected"] += 1
        return Chunk(asked.request, 0, len(data), data)

    def spend(self, holder: bytes, amount: int) -> bool:
        """May this holder bring so much more?"""
        quota = self._quota.spent(holder, amount, self._now_s())
        if quota is not None:
            self._quota = quota
        return quota is not None

    async def judge(self, data: bytes) -> Verdict:
        """What became of something whole."""
        try:
            await self._take(data)
            verdict = TAKEN
        except RemoteProtocolError as error:
            _log.info("a phone brought what is not taken: %s", error)
            verdict = _BY_FAULT.get(error.fault, NOT_BELIEVED)
        except TimeRefusedError as error:
            _log.info("a phone brought a time that is not taken: %s", error)
            verdict = NOT_BELIEVED
        except StorageError as error:
            _log.error("what a phone brought could not be kept: %s", error)
            verdict = NOT_KEPT
        self.counts[f"delivered: {verdict.reason.name.lower()}"] += 1
        return verdict


class Bag:
    """What one connected phone has handed over so far."""

    def __init__(self, courier: Courier, holder: bytes) -> None:
        self._courier = courier
        self._holder = holder
        self._parcel = Parcel()
        self._spent = 0

    async def answer(self, message: Carried) -> Message:
        """The one answer to each message."""
        if isinstance(message, Collect):
            return self._courier.collect(message)
        return await self._deliver(message)

    async def _deliver(self, piece: Deliver) -> Message:
        parcel, self._parcel = self._parcel, Parcel()
        self._spent += cost(piece)
        if self._spent > OF_A_CONNECTION or not self._courier.spend(self._holder, cost(piece)):
            return _result(piece.request, TOO_MUCH)
        try:
            parcel = parcel.with_piece(piece)
        except RemoteProtocolError as error:
            return FaultMessage(piece.request, error.fault)
        if not parcel.is_whole:
            self._parcel = parcel
            return _result(piece.request, TAKEN)
        return _result(piece.request, await self._courier.judge(parcel.data))


def _result(request: bytes, verdict: Verdict) -> Result:
    return Result(request, verdict.outcome, verdict.reason)
