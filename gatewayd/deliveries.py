"""What may come from anybody, told apart by what it is: status lists, and the time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from gatewayd.core import envelope
from gatewayd.core.envelope import Kind, TimeAnswer
from gatewayd.core.statuslist import SIGN1_TAG
from gatewayd.core.trust import Trust
from gatewayd.lists import StatusLists
from gatewayd.timekeeper import SignedTime, Timekeeper


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Hands everything to whoever judges it."""

    trust: Trust
    addressees: Collection[str]
    lists: StatusLists
    timekeeper: Timekeeper
    times: SignedTime

    async def take(self, data: bytes) -> bool:
        """Judge and keep; False when it was held already.

        Raises RemoteProtocolError, TimeRefusedError, StorageError.
        """
        if data.startswith(SIGN1_TAG):  # nothing else of ours is tagged
            return await self.lists.deliver(data)
        floor_s = self.timekeeper.reading().floor_s
        statement = envelope.verify(
            data, self.trust, kind=Kind.TIME, addressees=self.addressees, floor_s=floor_s
        )
        answer = TimeAnswer.of(statement.body)
        await self.times.answered(answer.nonce, answer.time_s)
        return True
