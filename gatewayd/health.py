"""The composition root's view of how this gateway is: what its status is made of.

What is slow or would change at every opening is looked at once an hour, beside
the daemon that serves; the rest is read when it is asked for.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec

from firmware_proto.errors import RemoteProtocolError
from gatewayd import __version__
from gatewayd.conditions import Conditions
from gatewayd.core.audit import Leaf
from gatewayd.core.model import ClockState, DoorId, TimeReading
from gatewayd.credential_renewal import Terms
from gatewayd.lists import StatusLists
from gatewayd.logs import printable
from gatewayd.mailbox import Mailbox
from gatewayd.ports import StorageError
from gatewayd.ports.process import Entropy, Pulse
from gatewayd.ports.storage import LogReader, Memory
from gatewayd.recorder import Recorder
from gatewayd.status import LockStatus, Status, StorageStatus, coarse
from gatewayd.timekeeper import Timekeeper

_log: Final = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 3600.0
LOOK_S: Final = 120.0
"""For one look; a disk that takes longer is broken, and then the watchdog may know."""
MEMORY_NAME: Final = "health"
"""Under this name a random number is stored and read back at each look."""
STRENGTH_STEP_DBM: Final = 10
"""How far a lock's strength must have come to be told anew: each dial gives another one."""
_DAY_S: Final = 86_400
_MB: Final = 10**6
_GB: Final = 10**9


class Log(LogReader, Memory, Protocol):
    """The log's file: both sides of it that are looked at."""


@dataclass(frozen=True, slots=True)
class Around:
    """The radio, as far as a status tells of it; see `radio_app.Radio`."""

    health: Callable[[], Mapping[str, str | int | bool]] = dict
    strengths: Callable[[], Mapping[str, int]] = dict
    """How strongly locks were received when they were last dialled, in dBm, by address."""
    adapters: Callable[[], Awaitable[Mapping[str, Any]]] | None = None


NO_AROUND: Final = Around()
"""Of a radio that has nothing to tell: a simulation."""


@dataclass(slots=True)
class Health:
    """See `status`."""

    log: Log
    recorder: Recorder
    state: Path
    entropy: Entropy
    timekeeper: Timekeeper
    counts: Mapping[str, int]
    """Of `phones.Phones`."""
    conditions: Conditions
    mailbox: Mailbox
    lists: StatusLists
    lock_addresses: Mapping[DoorId, str]
    radio: Around = NO_AROUND
    root: Path = Path("/")
    has_broker: bool = True
    terms: Terms = field(default_factory=Terms)
    _slow: dict[str, Any] = field(default_factory=dict)
    _disk: StorageStatus = field(default_factory=StorageStatus)
    _strengths: dict[DoorId, int] = field(default_factory=dict)

    def status(self) -> Status:
        """How it is now, in what may leave the building."""
        radio = {
            name: coarse(value) if type(value) is int else value
            for name, value in self.radio.health().items()
        }
        strangers = sum(n for name, n in self.counts.items() if name.startswith("stranger"))
        return Status(
            online=True,
            version=__version__,
            clock=_CLOCKS[self.timekeeper.reading().state],
            trust_serial=self.mailbox.trusted.now.serial,
            operator=self.mailbox.report(),
            lists=self.lists.report(),
            strangers=coarse(strangers),
            faults=coarse(self.counts.get("our fault", 0)),
            locks={
                door: self._lock(DoorId(door), report)
                for door, report in self.conditions.report().items()
            },
            storage=self._recording(),
            credential=self.terms.credential(),
            certificate=self.terms.certificate(),
            **self._slow,
            **radio,  # type: ignore[arg-type] # names and types as BluezRadio.health has them
        )

    def _recording(self) -> StorageStatus:
        """What the last look found, and how the log is now."""
        recorder = self.recorder
        return msgspec.structs.replace(
            self._disk,
            log=recorder.trouble.name.lower(),
            log_troubles=recorder.counts["troubles"],
            missing=recorder.missing,
            unrecorded=recorder.counts["unrecorded"],
        )

    def _lock(self, door: DoorId, report: object) -> LockStatus:
        told = msgspec.convert(report, LockStatus)
        return msgspec.structs.replace(told, rssi_dbm=self._strengths.get(door))

    async def keep(self, pulse: Pulse) -> None:
        """Look at once and every hour, until cancelled."""
        while True:
            pulse.beat(LOOK_S + LOOK_EVERY_S)
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - whatever it is, doors matter more
                _log.exception("this machine's health could not be looked at")
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """See the module."""
        versions = await self._versions()
        waits = await self._unpulled_days() if self.has_broker else None
        self._disk = await self._storage()
        self._slow = {**versions, "unpulled_days": waits}
        received = self.radio.strengths()
        for door, address in self.lock_addresses.items():
            dbm, told = received.get(address), self._strengths.get(door)
            if dbm is not None and (told is None or abs(dbm - told) >= STRENGTH_STEP_DBM):
                self._strengths[door] = dbm - dbm % 5

    async def _versions(self) -> dict[str, str]:
        from gatewayd.adapters.machine import ThisMachine, upkeep  # noqa: PLC0415 - not to start

        slot = printable(await asyncio.to_thread(upkeep.slot, self.root))
        if self.radio.adapters is None:  # a simulation
            return {"kernel": printable(os.uname().release), "slot": slot}
        seen = await ThisMachine(self.root, ask=self.radio.adapters).versions()
        return {"kernel": printable(seen.kernel), "bluez": printable(seen.bluez), "slot": slot}

    async def _storage(self) -> StorageStatus:
        from gatewayd.adapters.machine import upkeep  # noqa: PLC0415 - as above

        kept = await self._keeps()
        try:
            room = await asyncio.to_thread(os.statvfs, self.state)
            wear = await asyncio.to_thread(upkeep.wear, self.state, self.root)
        except OSError:
            return StorageStatus(kept=kept)
        return StorageStatus(
            free_percent=100 * room.f_bavail // max(room.f_blocks, 1),
            free_mb=coarse(room.f_bavail * room.f_frsize // _MB),
            kept=kept,
            read_only=bool(room.f_flag & os.ST_RDONLY),
            written_gb=None if wear.written_bytes is None else wear.written_bytes // _GB,
            own_mb=None if wear.own_bytes is None else coarse(wear.own_bytes // _MB),
            life_used_percent=wear.life_used_percent,
        )

    async def _keeps(self) -> bool:
        """Whether the log's file takes something, and gives it back."""
        number = self.entropy.token_bytes(16)
        try:
            await self.log.store(MEMORY_NAME, number)
            return await self.log.load(MEMORY_NAME) == number
        except StorageError:
            return False

    async def _unpulled_days(self) -> int | None:
        """None where the entry does not say when it was written."""
        try:
            waiting = await self.log.leaves(await self.log.acknowledged(), 1)
            oldest = Leaf.decode(waiting[0]) if waiting else None
        except (StorageError, RemoteProtocolError):
            return None
        return 0 if oldest is None else _days_since(oldest, self.timekeeper.reading())


def _days_since(leaf: Leaf, now: TimeReading) -> int | None:
    if ClockState.UNKNOWN in {leaf.clock, now.state}:
        return None
    return max(0, now.now_s - leaf.time_s) // _DAY_S


_CLOCKS: Final[Mapping[ClockState, Literal["trusted", "holdover", "unknown"]]] = {
    ClockState.TRUSTED: "trusted",
    ClockState.HOLDOVER: "holdover",
    ClockState.UNKNOWN: "unknown",
}
