"""Who shares an opening that another one began is recorded all the same."""

from __future__ import annotations

from firmware_proto.codes import Outcome
from gatewayd.core.model import Asked, Fact, Record, Verdict, WithoutLog
from gatewayd.opening import Answer
from gatewayd.ports import StorageError
from gatewayd.recorder import Recorder


async def note(log: Recorder, fact: Fact, shared: Asked, without_log: WithoutLog) -> Answer:
    """Write `fact`, a JOINED; the answer is its verdict, if that could be written."""
    try:
        seq = await log.append(fact, asked=shared)
    except StorageError as error:
        if error.reason not in without_log.reserve:
            return Answer(Verdict(Outcome.REFUSED, error.reason))
        return await _note_in_reserve(log, fact, shared, emergency=without_log.unrecorded)
    assert fact.door is not None  # noqa: S101 - openings are of doors
    return Answer(fact.verdict, Record(seq, fact.door, fact.time.now_s))


async def _note_in_reserve(log: Recorder, fact: Fact, shared: Asked, *, emergency: bool) -> Answer:
    try:
        await log.reserve(fact, asked=shared, emergency=emergency)
    except StorageError as error:
        if not emergency:
            return Answer(Verdict(Outcome.REFUSED, error.reason))
        log.unrecorded(shared)
    return Answer(fact.verdict)
