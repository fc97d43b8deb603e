"""What the holder of a key may ask, and what he is answered; who he is was proved before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, assert_never

from firmware_proto.codes import Fault, Outcome, Presence, Reason
from firmware_proto.messages import FaultMessage, GetResult, Message
from firmware_proto.phone_messages import Open, Prepare, Result
from gatewayd.core.keytoken import KeyToken
from gatewayd.core.model import DoorId, Verdict
from gatewayd.core.requests import request_key
from gatewayd.device_keys import KeyDeviceError
from gatewayd.door import Ask, Door, RequestConflictError, past_answer
from gatewayd.opening import Answer
from gatewayd.ports import StorageError
from gatewayd.receipts import Receipts
from gatewayd.surroundings import Surroundings

UNKNOWN_DOOR: Final = Verdict(Outcome.REFUSED, Reason.UNKNOWN_DOOR)
READY: Final = Verdict(Outcome.CONFIRMED, Reason.OK)

Asked = Prepare | Open | GetResult


class Holders:
    """Their side of all doors of one gateway."""

    def __init__(
        self, doors: Mapping[DoorId, Door], receipts: Receipts, around: Surroundings
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._doors = doors
        self._receipts = receipts
        self._around = around

    async def answer(self, token: KeyToken, message: Asked) -> Message:
        """The answer to one message of the holder of `token`."""
        match message:
            case Prepare(door):
                return self._prepare(token, door)
            case Open():
                return await self._open(token, message)
            case GetResult(request):
                return await self._result(token, request, await self._result_of(token, request))
            case _:
                assert_never(message)

    def _prepare(self, token: KeyToken, door_id: str) -> Result:
        door = self._doors.get(DoorId(door_id))
        if door is None:
            return Result(None, UNKNOWN_DOOR.outcome, UNKNOWN_DOOR.reason)
        decision = door.prepare(token)
        if decision.allowed:
            return Result(None, READY.outcome, READY.reason)
        return Result(None, Outcome.REFUSED, decision.reason)

    async def _open(self, token: KeyToken, message: Open) -> Message:
        door = self._doors.get(DoorId(message.door))
        if door is None:
            refused = await self._around.refusals.write(token, None, Reason.UNKNOWN_DOOR)
            return Result(message.request, refused.outcome, refused.reason)
        try:
            answer = await door.open(
                Ask(token, message.request, message.action, Presence(message.presence))
            )
        except RequestConflictError:
            return FaultMessage(message.request, Fault.ID_REUSED)
        return await self._result(token, message.request, answer)

    async def _result_of(self, token: KeyToken, request_id: bytes) -> Answer:
        """What became of an earlier `Open` of this holder, at whichever door."""
        key = request_key(self._around.secret, token.identity.digest(), request_id)
        for door in self._doors.values():
            opening = door.running(key)
            if opening is not None:
                return await opening.answered()
        try:
            return past_answer(await self._around.log.past_request(key))
        except StorageError as error:
            return Answer(Verdict(Outcome.REFUSED, error.reason))

    async def _result(self, token: KeyToken, request: bytes, answer: Answer) -> Result:
        verdict = answer.verdict
        certified = None
        if verdict.outcome is Outcome.CONFIRMED and answer.record is not None:
            holder = token.identity.digest()
            try:
                certified = await self._receipts.issue(answer.record, holder, verdict.outcome)
            except KeyDeviceError:  # opened is opened; `GetResult` has another chance
                self.counts["no receipt"] += 1
        return Result(request, verdict.outcome, verdict.reason, certified)
