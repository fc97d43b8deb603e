"""Writes down who was refused, without letting anybody wear out or fill the card.

Strangers are counted into one entry a minute. A holder's refusals are written
one by one, up to `MOST_A_MINUTE` of one holder in a minute; what is beyond is
counted into one entry a minute, too. Everybody gets an answer all the same.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from firmware_proto.codes import Outcome, Reason
from gatewayd import messages
from gatewayd.core.admission import RecentUses, Strangers
from gatewayd.core.keytoken import KeyToken
from gatewayd.core.model import DoorId, EntryKind, Fact, Verdict
from gatewayd.ports import StorageError
from gatewayd.ports.process import Pulse
from gatewayd.ports.storage import AuditLog
from gatewayd.timekeeper import Timekeeper
from gatewayd.vitals import UNWATCHED

_log: Final = logging.getLogger(__name__)

MOST_A_MINUTE: Final = 10
WRITE_S: Final = 30.0
"""More than a look at the counts takes, and writing them down."""


class Refusals:
    """Shared by all doors of a gateway; run `count` as a task."""

    def __init__(self, log: AuditLog, timekeeper: Timekeeper) -> None:
        self._audit = log
        self._time = timekeeper
        self._recent = RecentUses()
        self._uncounted = Strangers()  # refusals of holders beyond the most that are written
        self._strangers = Strangers()

    async def write(self, token: KeyToken, door: DoorId | None, reason: Reason) -> Verdict:
        """A holder was refused; returns the verdict that he is told."""
        now_s = self._now_s()
        holder = token.identity.digest()
        verdict = Verdict(Outcome.REFUSED, reason)
        if self._recent.count(holder, now_s) >= MOST_A_MINUTE:
            self._uncounted = self._uncounted.refused(now_s)
        else:
            self._recent = self._recent.asked(holder, now_s)
            await self._write(EntryKind.REFUSAL, door, verdict)
        return verdict

    def stranger(self) -> None:
        """Somebody was refused who proved nothing."""
        self._strangers = self._strangers.refused(self._now_s())

    async def count(self, pulse: Pulse = UNWATCHED) -> None:
        """Write what was only counted, once a minute; runs for ever."""
        while True:
            pulse.beat(WRITE_S)
            await asyncio.sleep(1)
            self._strangers, strangers = self._strangers.due(self._now_s())
            if strangers:
                stranger = Verdict(Outcome.REFUSED, Reason.STRANGER)
                await self._write(EntryKind.STRANGERS, None, stranger, strangers)
            self._uncounted, uncounted = self._uncounted.due(self._now_s())
            if uncounted:
                limited = Verdict(Outcome.REFUSED, Reason.RATE_LIMITED)
                await self._write(EntryKind.REFUSAL, None, limited, uncounted)

    async def _write(
        self, kind: EntryKind, door: DoorId | None, verdict: Verdict, about: int = 0
    ) -> None:
        try:
            await self._audit.append(Fact(self._time.reading(), kind, door, verdict, about))
        except StorageError as error:
            _log.error(
                "a refusal was not recorded: %s",
                error,
                extra=messages.about(messages.Message.LOG_FAILED),
            )

    def _now_s(self) -> float:
        return self._time.instant().boottime_s
