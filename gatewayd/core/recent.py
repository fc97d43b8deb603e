"""What was asked in this run and how it ended, for while the log cannot be read."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Final

from gatewayd.core.model import Asked, CommandId, EntryKind, Fact, PastRequest, Record

MOST: Final = 256
"""So many requests are known when a log that was well cannot be read."""


class RecentRequests:
    """The newest requests by their keys."""

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, tuple[Asked, PastRequest]] = OrderedDict()

    def past(self, key: bytes) -> PastRequest | None:
        """What became of a request, as far as this run knows."""
        held = self._held.get(key)
        return None if held is None else held[1]

    def put(self, asked: Asked, past: PastRequest, most: int = MOST) -> None:
        """Remember a request as the newest, and of all `most`."""
        self._held[asked.key] = (asked, past)
        self._held.move_to_end(asked.key)
        while len(self._held) > most:
            self._held.popitem(last=False)

    def remember(
        self,
        fact: Fact,
        asked: Asked | None,
        settles: CommandId | None,
        seq: int | None,
        *,
        most: int = MOST,
    ) -> None:
        """What an entry says of requests; `seq` is None for one that the log does not have yet."""
        record = None
        if seq is not None and fact.door is not None:
            record = Record(seq, fact.door, fact.time.now_s)
        if asked is not None:
            past = PastRequest(asked.content)
            if fact.kind is EntryKind.JOINED:
                past = replace(past, verdict=fact.verdict, record=record)
            self.put(asked, past, most)
        if settles is not None:
            for key, (each, known) in self._held.items():
                if each.command == settles and known.verdict is None:
                    self._held[key] = (each, replace(known, verdict=fact.verdict, record=record))
