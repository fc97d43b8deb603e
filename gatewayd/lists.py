"""The shell of `core.statuslist`: takes lists from anywhere, keeps the newest for good.

Who brings a list does not matter: it is what its issuer signed, or it is nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import statuslist
from gatewayd.core.statuslist import Lists, StatusList, believed
from gatewayd.core.trust import Trust
from gatewayd.ports.storage import Memory
from gatewayd.status import ListStatus
from gatewayd.timekeeper import Timekeeper

_log: Final = logging.getLogger(__name__)

PLACES: Final = 32
"""Lists held at most, 4 MB of memory. Each has a value of its own, so that one write keeps it."""
OF_ONE_ISSUER: Final = 8
"""So that whoever has got hold of one issuer's key cannot push out the lists of others."""


def memory_name(place: int) -> str:
    """Under which name `ports.storage.Memory` keeps a list."""
    return f"status list {place}"


class StatusLists:
    """What this gateway holds; `held` is for `keytoken.grants`."""

    def __init__(self, trust: Callable[[], Trust], memory: Memory, timekeeper: Timekeeper) -> None:
        self._trust = trust
        self._memory = memory
        self._timekeeper = timekeeper
        self._places: dict[int, StatusList] = {}
        self._unsaved: set[int] = set()
        self._keeping = asyncio.Lock()  # so that what is stored last is the newest
        self.held: Lists = {}

    @classmethod
    async def load(
        cls, trust: Callable[[], Trust], memory: Memory, timekeeper: Timekeeper
    ) -> StatusLists:
        """What was kept, as far as the bundle of today believes who signed it. StorageError."""
        lists = cls(trust, memory, timekeeper)
        for place in range(PLACES):
            data = await memory.load(memory_name(place))
            if data is None:
                continue
            try:
                kept = statuslist.verify(data, trust())
            except RemoteProtocolError as error:
                _log.warning("a kept list is no longer believed: %s", error.detail)
                continue
            other = lists.held.get(kept.name)  # where a bundle dropped a key and took it back
            if other is None or other.issued_at < kept.issued_at:
                lists._take(place, kept)
        return lists

    async def deliver(self, data: bytes) -> bool:
        """Believe and keep this list; False when it was held already.

        In force at once, durable when it returns. StorageError: in force, and
        not durable; deliver it again.

        Raises RemoteProtocolError as `statuslist.verify` and `judge`, and BUSY
        where there is no place for one list more.
        """
        new = statuslist.verify(data, self._trust())
        async with self._keeping:
            held = believed(self.held, new.name, self._trust())
            is_news = statuslist.judge(new, held, self._timekeeper.reading())
            place = self._place(new)
            if is_news:
                self._take(place, new)
                self._unsaved.add(place)
                _log.info("list %s of %s is in force", new.uri, new.issuer)
            if place in self._unsaved:
                await self._memory.store(memory_name(place), data)
                self._unsaved.discard(place)
        return is_news

    def report(self) -> tuple[ListStatus, ...]:
        """When each list was signed."""
        return tuple(
            ListStatus(issuer=each.issuer, uri=each.uri, issued_at=each.issued_at)
            for each in self.held.values()
        )

    def _take(self, place: int, new: StatusList) -> None:
        others = {at: each for at, each in self._places.items() if each.name != new.name}
        self._places = {**others, place: new}
        self.held = {each.name: each for each in self._places.values()}

    def _place(self, new: StatusList) -> int:
        """Its own, a free one, or that of a list of the same issuer that is certainly over."""
        for place, each in self._places.items():
            if each.name == new.name:
                return place
        issuers = self._trust().issuers
        taken = {place: each for place, each in self._places.items() if each.signer in issuers}
        own = {place: each for place, each in taken.items() if each.issuer == new.issuer}
        free = set(range(PLACES)) - taken.keys()
        if free and len(own) < OF_ONE_ISSUER:
            return min(free)
        floor_s = self._timekeeper.reading().floor_s
        over = {each.expires: place for place, each in own.items() if each.expires <= floor_s}
        if not over:
            raise RemoteProtocolError(Fault.BUSY, "status list: no place for one more")
        return over[min(over)]
