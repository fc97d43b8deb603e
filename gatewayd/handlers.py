"""What each kind of envelope does at this gateway: the table that the mailbox is given.

A further kind of state is one more line in `handlers`, and a `mailbox.StateHandler`.
"""

from __future__ import annotations

from gatewayd.core.envelope import Floor, Kind, Statement, TimeAnswer
from gatewayd.mailbox import Handlers
from gatewayd.timekeeper import SignedTime, Timekeeper


def handlers(timekeeper: Timekeeper, times: SignedTime) -> Handlers:
    """All of them."""

    async def time(order: Statement) -> None:
        answer = TimeAnswer.of(order.body)
        await times.answered(answer.nonce, answer.time_s)

    async def floor(order: Statement) -> None:
        wrong = Floor.of(order.body)
        await timekeeper.lower(wrong.above_s, wrong.to_s)

    return Handlers(orders={Kind.TIME: time, Kind.FLOOR: floor})
